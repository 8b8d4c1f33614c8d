"""Files of this machine as a tar stream, made while it is sent: for ``cp`` and for build contexts.

Entries come in the order given, PAX format, whole-second times. A file that shrinks while it is read is padded with
zeros and one that grows is cut, so that the archive stays whole. ``tarfile`` makes the headers only.
"""

import os
import stat
import tarfile
from collections.abc import Iterable, Iterator

from scow.errors import InvalidArgument

CHUNK = 1 << 18
END = bytes(1024)


class Packed:
    """One entry: a path here, its name in the archive, and owner and group when they are not the file's own."""

    __slots__ = ("name", "owner", "path")

    def __init__(self, path: str, name: str, owner: tuple[int, int] | None = None) -> None:
        self.path = path
        self.name = name
        self.owner = owner


def tree(path: str, name: str) -> Iterator[Packed]:
    """`path` and everything below it, named `name` and below it, folders before what they hold."""
    yield Packed(path, name)
    if os.path.isdir(path) and not os.path.islink(path):
        with os.scandir(path) as entries:
            found = sorted(entry.name for entry in entries)
        for entry in found:
            yield from tree(os.path.join(path, entry), f"{name}/{entry}" if name != "." else entry)


def stream(entries: Iterable[Packed]) -> Iterator[bytes]:
    """The archive as chunks. Sockets are left out; a file linked more than once is sent as often.

    Raises:
        InvalidArgument: a file cannot be read; the sentence names it.
    """
    for entry in entries:
        try:
            yield from _entry(entry)
        except OSError as error:
            raise InvalidArgument(f"could not read {entry.path}: {error.strerror}") from None
    yield END


def member(name: str, data: bytes, mode: int = 0o644) -> bytes:
    """One entry made of bytes."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = mode
    return _head(info) + data + bytes(-len(data) % 512)


def _entry(entry: Packed) -> Iterator[bytes]:
    found = os.lstat(entry.path)
    info = tarfile.TarInfo(entry.name)
    info.mode = stat.S_IMODE(found.st_mode)
    info.uid, info.gid = entry.owner or (found.st_uid, found.st_gid)
    info.mtime = int(found.st_mtime)
    if stat.S_ISREG(found.st_mode):
        yield from _file(entry.path, info)
        return
    if stat.S_ISDIR(found.st_mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(found.st_mode):
        info.type = tarfile.SYMTYPE
        info.linkname = os.readlink(entry.path)
    elif stat.S_ISFIFO(found.st_mode):
        info.type = tarfile.FIFOTYPE
    elif stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        info.type = tarfile.CHRTYPE if stat.S_ISCHR(found.st_mode) else tarfile.BLKTYPE
        info.devmajor, info.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
    else:
        return
    yield _head(info)


def _file(path: str, info: tarfile.TarInfo) -> Iterator[bytes]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        info.size = os.fstat(fd).st_size
        yield _head(info)
        left = info.size
        while left:
            data = os.read(fd, min(CHUNK, left))
            if not data:
                break
            left -= len(data)
            yield data
        while left:
            yield bytes(min(CHUNK, left))
            left -= min(CHUNK, left)
        if info.size % 512:
            yield bytes(-info.size % 512)
    finally:
        os.close(fd)


def _head(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
