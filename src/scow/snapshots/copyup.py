"""Copying single things up from the layers below, with everything the kernel's copy-up would keep."""

import contextlib
import errno
import os
import stat

from scow.linux.fds import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2

_RESOLVE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_PRIVATE = ("trusted.overlay.", "user.overlay.")
"""overlayfs's own attributes: they say how to merge this very layer, and in an archive they would be an attack."""
_UNSUPPORTED = (errno.ENOTSUP, errno.EPERM, errno.ENODATA)


def set_xattr(target: int | str, name: str, value: bytes) -> None:
    """Set an attribute on a descriptor or path (its last part is not followed).

    overlayfs's own are dropped; what the file system does not support is left out, as Docker does.
    """
    if name.startswith(_PRIVATE):
        return
    try:
        if isinstance(target, int):
            os.setxattr(target, name, value)
        else:
            os.setxattr(target, name, value, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def chmod_at(dir_fd: int, name: str, mode: int) -> None:
    """Set the mode of `name` in `dir_fd`, never of what a symlink put there meanwhile points to.

    Linux has no fchmodat without following before 6.6; a descriptor of the thing itself does the same.
    """
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        if not stat.S_ISLNK(os.fstat(fd).st_mode):
            os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)


def xattrs_of(target: int | str) -> dict[str, bytes]:
    """The attributes that belong to the file, without overlayfs's own; empty where there is no support."""
    found: dict[str, bytes] = {}
    try:
        names = os.listxattr(target) if isinstance(target, int) else os.listxattr(target, follow_symlinks=False)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return found
        raise
    for name in names:
        if not name.startswith(_PRIVATE):
            with contextlib.suppress(OSError):  # removed meanwhile
                if isinstance(target, int):
                    found[name] = os.getxattr(target, name)
                else:
                    found[name] = os.getxattr(target, name, follow_symlinks=False)
    return found


def copy_content(source_fd: int, target_fd: int, size: int) -> None:
    """Copy `size` bytes between two files' beginnings, holes kept."""
    os.ftruncate(target_fd, size)
    position = 0
    while position < size:
        try:
            start = os.lseek(source_fd, position, os.SEEK_DATA)
            end = min(os.lseek(source_fd, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        while start < end:
            try:
                done = os.copy_file_range(source_fd, target_fd, end - start, start, start)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise
                done = os.pwrite(target_fd, os.pread(source_fd, min(1 << 20, end - start), start), start)
            if not done:
                return
            start += done
        position = end


class Lower:
    """A view of the layers below (a directory descriptor that stays the caller's)."""

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        # Paths of a detached mount read from /proc begin at its root; a plain folder's begin at the host's.
        self._prefix = os.readlink(f"/proc/self/fd/{root_fd}").rstrip("/")

    def real_folder(self, path: str) -> str | None:
        """Where the folder `path` really is, symlinks followed inside the view; None if it is not there."""
        try:
            fd = openat2(self._root_fd, path, _FOLDER, resolve=_RESOLVE)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            found = os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
        return found[len(self._prefix) :].strip("/")

    def copy_folder(self, path: str, parent_fd: int, name: str) -> int | None:
        """Give the new folder `name` the owner, mode and attributes of the view's `path`; its mtime, None if not
        there."""
        try:
            fd = openat2(self._root_fd, path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, resolve=_RESOLVE)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            info = os.fstat(fd)
            os.chown(name, info.st_uid, info.st_gid, dir_fd=parent_fd, follow_symlinks=False)
            chmod_at(parent_fd, name, stat.S_IMODE(info.st_mode))
            for key, value in xattrs_of(fd).items():
                set_xattr(f"/proc/self/fd/{parent_fd}/{name}", key, value)
            return info.st_mtime_ns
        finally:
            os.close(fd)

    def copy_file(self, parent: str, name: str, target_fd: int) -> int | None:
        """Copy the view's `parent`/`name` (no directory) into the folder `target_fd`; bytes copied, None if not
        there."""
        try:
            source_fd = openat2(self._root_fd, parent or ".", _FOLDER, resolve=_RESOLVE)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            info = os.stat(name, dir_fd=source_fd, follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                return None
            return copy_entry(source_fd, target_fd, name, info)
        except FileNotFoundError:
            return None
        finally:
            os.close(source_fd)


def copy_entry(source_fd: int, target_fd: int, name: str, info: os.stat_result) -> int:
    """Copy `name` (no directory, `info` is its lstat) from one folder to another, metadata included; bytes copied."""
    size = 0
    if stat.S_ISREG(info.st_mode):
        size = info.st_size
        from_fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source_fd)
        try:
            to_fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target_fd)
            try:
                copy_content(from_fd, to_fd, size)
            finally:
                os.close(to_fd)
        finally:
            os.close(from_fd)
    elif stat.S_ISLNK(info.st_mode):
        os.symlink(os.readlink(name, dir_fd=source_fd), name, dir_fd=target_fd)
    else:
        os.mknod(name, info.st_mode, info.st_rdev, dir_fd=target_fd)
    copy_metadata(f"/proc/self/fd/{source_fd}/{name}", target_fd, name, info)
    return size


def copy_metadata(source: str, target_fd: int, name: str, info: os.stat_result) -> None:
    """Owner, mode, attributes and times of the file at `source` (lstat `info`) for `name` in the folder `target_fd`."""
    os.chown(name, info.st_uid, info.st_gid, dir_fd=target_fd, follow_symlinks=False)
    if not stat.S_ISLNK(info.st_mode):
        chmod_at(target_fd, name, stat.S_IMODE(info.st_mode))
    for key, value in xattrs_of(source).items():
        set_xattr(f"/proc/self/fd/{target_fd}/{name}", key, value)
    os.utime(name, ns=(info.st_atime_ns, info.st_mtime_ns), dir_fd=target_fd, follow_symlinks=False)
