"""A tar stream from a container into files here. The stream is hostile.

Every entry is opened below the destination's descriptor, one component at a time and never through a symbolic link,
so that no name, link or order of entries reaches outside it.
"""

import os
import stat
import tarfile
from collections.abc import Iterable
from contextlib import suppress

from scow.errors import InvalidArgument, System

CHUNK = 1 << 18
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ChunkReader:
    """Chunks as the file ``tarfile`` reads from."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def read(self, count: int) -> bytes:
        parts = [self._rest]
        have = len(self._rest)
        while have < count:
            data = next(self._chunks, b"")
            if not data:
                break
            parts.append(data)
            have += len(data)
        whole = b"".join(parts)
        self._rest = whole[count:]
        return whole[:count]


def unpack(chunks: Iterable[bytes], parent: str, name: str, owners: bool) -> int:
    """Write the archive below `parent`; its one top entry becomes `name` there ("." for `parent` itself).

    Args:
        owners: keep the owners of the archive (root only); otherwise everything is the caller's.

    Returns:
        Bytes of file content written.

    Raises:
        System: the archive is damaged, or leaves the destination.
        InvalidArgument: something cannot be written.
    """
    root = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    writer = _Writer(root, name, owners)
    try:
        with tarfile.open(fileobj=ChunkReader(chunks), mode="r|", errorlevel=2) as archive:  # type: ignore[call-overload]
            for info in archive:
                content = archive.extractfile(info) if info.isreg() else None
                writer.write(info, content.read if content else None)
        writer.finish()
    except tarfile.TarError as error:
        raise System(f"the archive from the container is damaged: {error}") from None
    except OSError as error:
        raise InvalidArgument(f"could not write {writer.current}: {error.strerror}") from None
    finally:
        os.close(root)
    return writer.size


class _Writer:
    def __init__(self, root: int, name: str, owners: bool) -> None:
        self._root = root
        self._name = name
        self._owners = owners
        self._folders: list[tuple[list[str], tarfile.TarInfo]] = []
        self.current = name
        self.size = 0

    def write(self, info: tarfile.TarInfo, read: "object | None") -> None:
        parts = self._parts(info.name)
        self.current = "/".join(parts) or "."
        if not parts:
            return  # the destination itself is there
        folder = self._open(parts[:-1])
        try:
            self._entry(folder, parts, info, read)
        finally:
            os.close(folder)

    def _parts(self, name: str) -> list[str]:
        """Components below the destination: the archive's top one is replaced by ours."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("./") or name == ".":
            parts = [".", *parts]
        if ".." in parts:
            raise System(f"the archive from the container has a path that leaves the destination: {name!r}")
        top = [] if self._name == "." else [self._name]
        return top + parts[1:]

    def _open(self, parts: list[str]) -> int:
        fd = os.dup(self._root)
        for part in parts:
            try:
                below = os.open(part, OPEN_FOLDER, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
        return fd

    def _entry(self, folder: int, parts: list[str], info: tarfile.TarInfo, read: "object | None") -> None:
        name = parts[-1]
        if info.isdir():
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=folder)
            os.close(os.open(name, OPEN_FOLDER, dir_fd=folder))
            self._folders.append((parts, info))
            return
        with suppress(FileNotFoundError, IsADirectoryError):
            os.unlink(name, dir_fd=folder)
        if info.isreg():
            self._file(folder, name, info, read)
        elif info.issym():
            os.symlink(info.linkname, name, dir_fd=folder)
        elif info.islnk():
            target = self._parts(info.linkname)
            other = self._open(target[:-1])
            try:
                os.link(target[-1], name, src_dir_fd=other, dst_dir_fd=folder, follow_symlinks=False)
            finally:
                os.close(other)
            return
        elif info.isfifo():
            os.mkfifo(name, info.mode & 0o777, dir_fd=folder)
        elif os.geteuid() == 0 and (info.ischr() or info.isblk()):
            kind = stat.S_IFCHR if info.ischr() else stat.S_IFBLK
            os.mknod(name, kind | info.mode & 0o777, os.makedev(info.devmajor, info.devminor), dir_fd=folder)
        else:
            return
        self._own(folder, name, info)

    def _file(self, folder: int, name: str, info: tarfile.TarInfo, read: "object | None") -> None:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
        with open(fd, "wb", buffering=0) as file:
            while callable(read) and (data := read(CHUNK)):
                file.write(data)
                self.size += len(data)
            os.fchmod(fd, info.mode & 0o7777)

    def _own(self, folder: int, name: str, info: tarfile.TarInfo) -> None:
        if self._owners:
            os.chown(name, info.uid, info.gid, dir_fd=folder, follow_symlinks=False)
            if not info.issym():
                os.chmod(name, info.mode & 0o7777, dir_fd=folder)  # chown drops set-user-id
        os.utime(name, (info.mtime, info.mtime), dir_fd=folder, follow_symlinks=False)

    def finish(self) -> None:
        """Folders get mode, owner and time when nothing more is put into them."""
        for parts, info in reversed(self._folders):
            fd = self._open(parts)
            try:
                if self._owners:
                    os.fchown(fd, info.uid, info.gid)
                os.fchmod(fd, info.mode & 0o7777)
                os.utime(fd, (info.mtime, info.mtime))
            finally:
                os.close(fd)
