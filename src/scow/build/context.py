"""Build contexts: a hostile tar, a URL or a folder → a root to copy from, and the Dockerfile in it.

An archive is unpacked while it arrives: one that is small (the usual case) into a memory file system that nobody else
sees, since making and removing thousands of files on a disk takes longer than the rest of a cached build; any other
into a folder of this build that is removed with it. Symlinks in it mean nothing outside. Everything in it belongs to
root: owners in a context are whoever sent it.
"""

import asyncio
import io
import os
import posixpath
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, cast

from scow.api import ignore
from scow.build import archives
from scow.build.dockerfile.lexer import MAX_SIZE
from scow.build.feed import pump
from scow.build.tree import Tree
from scow.errors import InvalidArgument, NoSpace
from scow.linux.fds import open_regular
from scow.linux.mount import new_mount
from scow.snapshots.apply import apply
from scow.snapshots.compression import unpacked

DEFAULT_NAME = "Dockerfile"

#: Bytes of an archive, as sent, up to which it is unpacked in memory, and what it may take there.
SMALL = 32 << 20
MEMORY = 256 << 20
MEMORY_FILES = 100_000


class Context:
    """An open context: `tree` to copy from, `dockerfile` as bytes, `name` of it for messages.

    `folder` is where its files are on this machine, None when they are in memory.
    """

    def __init__(self, root_fd: int, folder: Path | None, dockerfile: str) -> None:
        """Take over `root_fd`, whose files do not change any more.

        Raises:
            InvalidArgument: there is no such Dockerfile, or it or the ignore file cannot be used.
        """
        self._root_fd = root_fd
        self.folder = folder
        try:
            self.name, self.dockerfile = _find_dockerfile(self._root_fd, dockerfile or DEFAULT_NAME)
            self.tree = Tree(self._root_fd, _ignore_file(self._root_fd, self.name), owners=False, context=True)
        except BaseException:
            os.close(self._root_fd)
            raise

    @classmethod
    def at(cls, folder: Path, dockerfile: str) -> "Context":
        """The context in a folder; the errors of the constructor."""
        return cls(_open(folder), folder, dockerfile)

    def close(self) -> None:
        """Let go of the files; removing a folder is its maker's part."""
        os.close(self._root_fd)


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


async def receive(chunks: AsyncIterator[bytes], folder: Path) -> tuple[int, Path | None]:
    """Unpack an archive that arrives in `chunks`: its root's descriptor, and `folder` if that was used.

    Raises:
        InvalidArgument: not a tar, or one with entries a context must not have.
        NoSpace: it does not fit the disk.
        Cancelled: the sender went away.
    """
    head: list[bytes] = []
    size = 0
    iterator = aiter(chunks)
    async for chunk in iterator:
        head.append(bytes(chunk))
        size += len(chunk)
        if size > SMALL:
            await pump(_joined(head, iterator), lambda stream: unpack_stream(stream, folder))
            return _open(folder), folder
    data = b"".join(head)
    return await asyncio.to_thread(_unpack_small, data, folder)


async def _joined(head: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in head:
        yield chunk
    head.clear()
    async for chunk in rest:
        yield chunk


def _unpack_small(data: bytes, folder: Path) -> tuple[int, Path | None]:
    """In memory if that can be had and is enough, else in the folder."""
    try:
        options = [("size", str(MEMORY)), ("nr_inodes", str(MEMORY_FILES)), ("mode", "755")]
        root_fd = new_mount("tmpfs", options)
    except OSError:
        root_fd = -1
    if root_fd >= 0:
        try:
            _unpack(io.BytesIO(data), root_fd)
        except NoSpace:
            os.close(root_fd)
        except BaseException:
            os.close(root_fd)
            raise
        else:
            return root_fd, None
    unpack_stream(io.BytesIO(data), folder)
    return _open(folder), folder


def unpack_stream(stream: BinaryIO, folder: Path) -> None:
    """Unpack an archive into the empty `folder`; the errors of `receive`. Blocking."""
    root_fd = _open(folder)
    try:
        _unpack(stream, root_fd)
    finally:
        os.close(root_fd)


def _unpack(stream: BinaryIO, root_fd: int) -> None:
    apply(cast("BinaryIO", unpacked(stream)), root_fd, whiteouts=False, devices=False, owner=(0, 0))


def unpack_file(path: Path, folder: Path, name: str) -> None:
    """A downloaded file as context: a tar is unpacked, anything else is taken for a Dockerfile called `name`.

    Blocking.
    """
    with path.open("rb") as file:
        tar = archives.is_archive(file)
    if tar:
        with path.open("rb") as file:
            unpack_stream(file, folder)
        return
    if path.stat().st_size > MAX_SIZE:
        raise InvalidArgument("the remote context is neither a tar archive nor a Dockerfile")
    shutil.copyfile(path, folder / (posixpath.basename(name) or DEFAULT_NAME))


def _find_dockerfile(root_fd: int, name: str) -> tuple[str, bytes]:
    """The Dockerfile's name and content; without an explicit name a lower-case one does too."""
    path = posixpath.normpath("/" + name).lstrip("/")
    candidates = (path, path.lower()) if path == DEFAULT_NAME else (path,)
    for candidate in candidates:
        data = read_file(root_fd, candidate, MAX_SIZE)
        if data is not None:
            if not data.strip():
                raise InvalidArgument(f"the Dockerfile ({name}) cannot be empty")
            return candidate, data
    raise InvalidArgument(f"Cannot locate specified Dockerfile: {name}")


def _ignore_file(root_fd: int, dockerfile: str) -> ignore.Ignore:
    """``<Dockerfile>.dockerignore`` if there is one, else ``.dockerignore``."""
    for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
        data = read_file(root_fd, name, ignore.MAX_SIZE)
        if data is not None:
            return ignore.parse(data)
    return ignore.Ignore()


def read_file(root_fd: int, path: str, limit: int) -> bytes | None:
    """A regular file below the root, or None if there is none of that name.

    Raises:
        InvalidArgument: larger than `limit`.
    """
    try:
        fd = open_regular(root_fd, path)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise InvalidArgument(f"{path} in the build context is larger than {limit} bytes")
    return data
