"""Directory trees as archive entries: what is at a name, and everything below a folder in a fixed order.

Used for layers, ``docker export`` and ``docker cp``. Trees may be in use by a running program: what vanishes between
listing and reading is left out. Nothing is followed; every name is opened by its folder's descriptor.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator

from scow.errors import System
from scow.linux.fds import RESOLVE_NO_SYMLINKS, open_regular
from scow.snapshots.copyup import xattrs_of
from scow.snapshots.tarstream import BLOCK_DEVICE, CHAR, DIRECTORY, FIFO, FILE, HARDLINK, SYMLINK, Entry
from scow.snapshots.tarwriter import TarWriter

MAX_DEPTH = 500
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WORTH_HOLES = 1 << 20
"""Bytes of holes from which a file is stored with them; smaller ones depend on the file system and would change
digests."""

Links = dict[tuple[int, int], str]


def entry_at(folder_fd: int, name: str, path: str, info: os.stat_result, links: Links) -> Entry | None:
    """The entry called `path` for `name` in `folder_fd`, whose lstat is `info`; None for sockets, which no archive
    holds.

    Times are cut to seconds, as every Docker layer has them: equal trees then need no pax records.

    Args:
        links: first path of every file with several names so far; the later ones become hard links to it.
    """
    mode = info.st_mode
    if stat.S_ISSOCK(mode):
        return None
    entry = Entry(path, FILE, stat.S_IMODE(mode), info.st_uid, info.st_gid)
    entry.mtime_ns = info.st_mtime_ns // 10**9 * 10**9
    if stat.S_ISDIR(mode):
        entry.kind = DIRECTORY
    elif info.st_nlink > 1 and (first := links.setdefault((info.st_dev, info.st_ino), path)) != path:
        entry.kind = HARDLINK
        entry.link = first
        return entry
    elif stat.S_ISREG(mode):
        entry.size = info.st_size
    elif stat.S_ISLNK(mode):
        entry.kind = SYMLINK
        entry.mode = 0o777
        entry.link = _target(folder_fd, name)
    elif stat.S_ISFIFO(mode):
        entry.kind = FIFO
    else:
        entry.kind = CHAR if stat.S_ISCHR(mode) else BLOCK_DEVICE
        entry.device = (os.major(info.st_rdev), os.minor(info.st_rdev))
    entry.xattrs = xattrs_of(f"/proc/self/fd/{folder_fd}/{name}")
    return entry


def _target(folder_fd: int, name: str) -> str:
    try:
        return os.readlink(name, dir_fd=folder_fd)
    except OSError as error:
        if error.errno == errno.EINVAL:  # it was a link when it was looked at
            raise FileNotFoundError(errno.ENOENT, "exchanged while it was read", name) from None
        raise


def add_at(writer: TarWriter, folder_fd: int, name: str, entry: Entry, info: os.stat_result) -> None:
    """Append `entry`, made by `entry_at`, with its content."""
    if entry.kind != FILE:
        writer.add(entry)
        return
    try:
        fd = open_regular(folder_fd, name, RESOLVE_NO_SYMLINKS)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ELOOP):  # it was a file when it was looked at
            raise FileNotFoundError(errno.ENOENT, "exchanged while it was read", name) from None
        raise
    try:
        if info.st_blocks * 512 + _WORTH_HOLES <= info.st_size:
            entry.segments = segments_of(fd, info.st_size)
        writer.add_file(entry, fd)
    finally:
        os.close(fd)


def segments_of(fd: int, size: int) -> list[tuple[int, int]]:
    """The (offset, length) of the data in a file of `size` bytes; the rest is holes."""
    found: list[tuple[int, int]] = []
    position = 0
    while position < size:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
            end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        if start >= size:
            break
        found.append((start, end - start))
        position = end
    return found


class Folder:
    """A folder on the way down: descriptor, path inside the tree ("" for its top) and the names still to visit."""

    __slots__ = ("fd", "names", "path")

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path
        self.names = sorted(os.listdir(fd), key=os.fsencode, reverse=True)


def walk(root_fd: int) -> Iterator[tuple[int, str, str, os.stat_result]]:
    """Everything below `root_fd`, folders before what is in them, names in byte order.

    Yields:
        (folder descriptor, name, path, lstat); the descriptor is good until the next step.

    Raises:
        System: deeper than MAX_DEPTH folders.
    """
    stack = [Folder(os.open(".", _FOLDER, dir_fd=root_fd), "")]
    try:
        while stack:
            folder = stack[-1]
            if not folder.names:
                os.close(stack.pop().fd)
                continue
            name = folder.names.pop()
            path = f"{folder.path}/{name}" if folder.path else name
            try:
                info = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
                yield folder.fd, name, path, info
                if stat.S_ISDIR(info.st_mode):
                    if len(stack) >= MAX_DEPTH:
                        raise System(f"folders are nested more than {MAX_DEPTH} deep at {path[:200]!r}: flatten them")
                    stack.append(Folder(os.open(name, _FOLDER, dir_fd=folder.fd), path))
            except (FileNotFoundError, NotADirectoryError):
                continue
    finally:
        for folder in stack:
            os.close(folder.fd)


def write_tree(root_fd: int, out: Callable[[bytes], object], prefix: str = "") -> None:
    """Write everything below `root_fd` as a tar archive to `out`, each path after `prefix` (``docker export``, ``cp``).

    Blocking.
    """
    writer = TarWriter(out)
    links: Links = {}
    for folder_fd, name, path, info in walk(root_fd):
        try:
            entry = entry_at(folder_fd, name, prefix + path, info, links)
            if entry is not None:
                add_at(writer, folder_fd, name, entry, info)
        except FileNotFoundError:
            continue
    writer.close()
