"""Removing trees without following anything, however deep, whoever else is at work in them."""

import contextlib
import errno
import os

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_at(parent_fd: int, name: str) -> bool:
    """Remove the file, link or tree `name` in the folder `parent_fd`; whether it was more than a plain file.

    Removing what is not there is not an error.

    Raises:
        OSError: the kernel refused.
    """
    try:
        info = os.lstat(name, dir_fd=parent_fd)
    except FileNotFoundError:
        return False
    if (info.st_mode & 0o170000) != 0o040000:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent_fd)
        return (info.st_mode & 0o170000) != 0o100000
    try:
        _remove_tree(parent_fd, name)
    except (RecursionError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.EMFILE, errno.ENAMETOOLONG):
            raise
        _remove_deep(parent_fd, name)
    return True


def _remove_tree(parent_fd: int, name: str) -> None:
    """shutil.rmtree with half its system calls: each of them hands the interpreter to another thread and back."""
    fd = os.open(name, _FOLDER, dir_fd=parent_fd)
    try:
        with os.scandir(f"/proc/self/fd/{fd}") as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    _remove_tree(fd, entry.name)
                else:
                    os.unlink(entry.name, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent_fd)


def _remove_deep(parent_fd: int, name: str) -> None:
    """Remove a tree too deep to recurse into (`_remove_tree` holds two descriptors and a frame a level).

    Its folders are moved up beside it, one level at a time, and removed there.
    """
    queue = [name]
    while queue:
        top = queue.pop()
        fd = os.open(top, _FOLDER, dir_fd=parent_fd)
        try:
            for entry in os.listdir(fd):
                try:
                    os.unlink(entry, dir_fd=fd)
                except IsADirectoryError:
                    moved = f".{os.urandom(8).hex()}.deep"
                    os.rename(entry, moved, src_dir_fd=fd, dst_dir_fd=parent_fd)
                    queue.append(moved)
        finally:
            os.close(fd)
        os.rmdir(top, dir_fd=parent_fd)
