"""Copy a folder of an image into a volume: files, folders, links, devices, with owner, mode, times and xattrs.

The source is hostile: it is walked by descriptors, symlinks are copied and never followed, and hard links are only made
between files copied here. The target may be mounted in a running container as well: nothing in it is followed either.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from scow.errors import InvalidArgument
from scow.fileio import no_space
from scow.linux.fds import open_in_root
from scow.snapshots.copyup import chmod_at

#: Deepest folder copied; every level holds two descriptors.
MAX_DEPTH = 256
_PIECE = 16 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


def open_source(root_fd: int, path: str) -> int | None:
    """The folder at `path` in a root, symlinks resolved inside it; None where there is no such folder."""
    try:
        return open_in_root(root_fd, path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise


def is_empty(folder_fd: int) -> bool:
    """Whether a folder has no entry but lost+found."""
    with os.scandir(folder_fd) as entries:
        return all(entry.name == "lost+found" for entry in entries)


def copy_tree(source_fd: int, target_fd: int) -> None:
    """Copy the content of a folder into an empty one, and its own owner, mode, times and xattrs. Blocking.

    Raises:
        InvalidArgument: nested deeper than `MAX_DEPTH`.
        NoSpace: the disk is full.
        OSError: a file cannot be read or made.
    """
    try:
        _Copy().folder(source_fd, target_fd, 0)
    except OSError as error:
        raise no_space(error, "the volume") from error


class _Copy:
    def __init__(self) -> None:
        #: (device, inode) → a name of the copy that can be linked to: /proc/self/fd path.
        self._links: dict[tuple[int, int], int] = {}

    def folder(self, source_fd: int, target_fd: int, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise InvalidArgument(f"the image's folders are nested deeper than {MAX_DEPTH}: not copied into the volume")
        try:
            for entry in _entries(source_fd):
                self._entry(source_fd, target_fd, entry, depth)
        finally:
            if not depth:
                for fd in self._links.values():
                    os.close(fd)
        _copy_attributes(source_fd, target_fd, os.fstat(source_fd))

    def _entry(self, source_fd: int, target_fd: int, entry: "os.DirEntry[str]", depth: int) -> None:
        status = entry.stat(follow_symlinks=False)
        name = entry.name
        kind = status.st_mode
        if stat.S_ISDIR(kind):
            os.mkdir(name, 0o700, dir_fd=target_fd)
            with _opened(name, _FOLDER, source_fd) as inner, _opened(name, _FOLDER, target_fd) as copy:
                self.folder(inner, copy, depth + 1)
        elif stat.S_ISREG(kind):
            self._file(source_fd, target_fd, name)
        elif stat.S_ISLNK(kind):
            os.symlink(os.readlink(name, dir_fd=source_fd), name, dir_fd=target_fd)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=target_fd, follow_symlinks=False)
            os.utime(name, ns=_times(status), dir_fd=target_fd, follow_symlinks=False)
        elif stat.S_ISFIFO(kind) or stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
            os.mknod(name, kind, status.st_rdev, dir_fd=target_fd)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=target_fd, follow_symlinks=False)
            chmod_at(target_fd, name, stat.S_IMODE(kind))
            os.utime(name, ns=_times(status), dir_fd=target_fd, follow_symlinks=False)
        # A socket has no content; the program that listens makes it again.

    def _file(self, source_fd: int, target_fd: int, name: str) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with _opened(name, flags, source_fd) as source:
            status = os.fstat(source)
            if not stat.S_ISREG(status.st_mode):
                return
            identity = (status.st_dev, status.st_ino)
            known = self._links.get(identity) if status.st_nlink > 1 else None
            if known is not None:
                os.link(f"/proc/self/fd/{known}", name, dst_dir_fd=target_fd, follow_symlinks=True)
                return
            made = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with _opened(name, made, target_fd) as copy:
                _copy_bytes(source, copy, status.st_size)
                _copy_attributes(source, copy, status)
                if status.st_nlink > 1 and len(self._links) < MAX_DEPTH:
                    self._links[identity] = os.dup(copy)


@contextlib.contextmanager
def _opened(name: str, flags: int, folder_fd: int) -> Iterator[int]:
    fd = os.open(name, flags, 0o600, dir_fd=folder_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def _entries(folder_fd: int) -> "Iterator[os.DirEntry[str]]":
    with os.scandir(folder_fd) as entries:
        yield from entries


def _copy_bytes(source: int, target: int, size: int) -> None:
    offset = 0
    while offset < size:
        try:
            moved = os.copy_file_range(source, target, min(_PIECE, size - offset))
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            moved = os.sendfile(target, source, None, min(_PIECE, size - offset))
        if not moved:
            break
        offset += moved


def _copy_attributes(source: int, target: int, status: os.stat_result) -> None:
    """Owner first: changing it clears set-id bits and capabilities."""
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for name in _xattrs(source):
        # The target's file system may not have this kind (trusted, security): the content matters more.
        with contextlib.suppress(OSError):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=_times(status))


def _xattrs(fd: int) -> list[str]:
    try:
        names = os.listxattr(fd)
    except OSError:
        return []
    return [name for name in names if not name.startswith(("trusted.overlay.", "user.overlay."))]


def _times(status: os.stat_result) -> tuple[int, int]:
    return status.st_atime_ns, status.st_mtime_ns
