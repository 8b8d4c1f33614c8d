"""Build contexts: a hostile tar, a URL or a folder → a root to copy from, and the Dockerfile in it.

An archive is unpacked while it arrives, into a folder of this build that is removed with it; symlinks in it mean
nothing outside that folder. Everything in it belongs to root: owners in a context are whoever sent it.
"""

import os
import posixpath
import shutil
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, cast

from scow.build import archives, ignore
from scow.build.dockerfile.lexer import MAX_SIZE
from scow.build.feed import pump
from scow.build.steps.tree import Tree
from scow.errors import InvalidArgument
from scow.linux.fds import open_in_root
from scow.snapshots.apply import apply
from scow.snapshots.compression import unpacked

DEFAULT_NAME = "Dockerfile"


class Context:
    """An open context: `tree` to copy from, `dockerfile` as bytes, `name` of it for messages."""

    def __init__(self, folder: Path, dockerfile: str) -> None:
        """Open the unpacked `folder`; its content does not change any more.

        Raises:
            InvalidArgument: there is no such Dockerfile, or it or the ignore file cannot be used.
        """
        self._root_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.name, self.dockerfile = _find_dockerfile(self._root_fd, dockerfile or DEFAULT_NAME)
            self.tree = Tree(self._root_fd, _ignore_file(self._root_fd, self.name), owners=False, context=True)
        except BaseException:
            os.close(self._root_fd)
            raise

    def close(self) -> None:
        """Let go of the folder; removing it is its maker's part."""
        os.close(self._root_fd)


async def unpack(chunks: AsyncIterator[bytes], folder: Path) -> None:
    """Unpack an archive that arrives in `chunks` into the empty `folder`.

    Raises:
        InvalidArgument: not a tar, or one with entries a context must not have.
        NoSpace: it does not fit the disk.
        Cancelled: the sender went away.
    """
    await pump(chunks, lambda stream: unpack_stream(stream, folder))


def unpack_stream(stream: BinaryIO, folder: Path) -> None:
    """`unpack` for a stream at hand. Blocking."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        apply(cast("BinaryIO", unpacked(stream)), fd, whiteouts=False, devices=False, owner=(0, 0))
    finally:
        os.close(fd)


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
        fd = open_in_root(root_fd, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        data = file.read(limit + 1)
    if len(data) > limit:
        raise InvalidArgument(f"{path} in the build context is larger than {limit} bytes")
    return data
