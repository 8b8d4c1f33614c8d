"""Descriptors: opening below a root that its owner may have filled with symlinks, closing many at once.

`open_in_root` and `create_in_root` treat a directory descriptor as "/": neither "..", nor absolute or magic
links lead out of it, also while somebody renames things in it.
"""

import errno
import os
import socket
import stat
import struct

from scow.linux.constants import KEYCTL_JOIN_SESSION_KEYRING
from scow.linux.syscall import buffer, filled, syscall

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
RESOLVE_CACHED = 0x20

CLOSE_RANGE_CLOEXEC = 4
LAST_FD = 0xFFFFFFFF

#: As many symlinks as the kernel follows in one path (MAXSYMLINKS).
MAX_SYMLINKS = 40

_INT_SIZE = 4
#: As plain numbers: the standard library's are enumerations, whose operators are Python code.
_RIGHTS = (int(socket.SOL_SOCKET), int(socket.SCM_RIGHTS))
_CLOEXEC, _TRUNCATED = int(socket.MSG_CMSG_CLOEXEC), int(socket.MSG_TRUNC) | int(socket.MSG_CTRUNC)
NO_SIGNAL = int(socket.MSG_NOSIGNAL)
_AGAIN = 128  # openat2 gives EAGAIN while a rename races with "..": try that often


def openat2(dir_fd: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """Open `path` relative to `dir_fd` under RESOLVE_* rules; always close-on-exec.

    Raises:
        OSError: EXDEV or ELOOP where a rule forbids the path.
    """
    how = filled(struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve))
    for _ in range(_AGAIN):
        try:
            return syscall("openat2", dir_fd, os.fsencode(path), how, len(how), what=os.fsdecode(path))
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
    raise OSError(errno.EAGAIN, "the path is renamed faster than it can be followed", os.fsdecode(path))


def open_in_root(root_fd: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """Open `path` as a process with its root at `root_fd` would, refusing magic links (/proc/self/fd, /proc/1/root)."""
    return openat2(root_fd, path, flags, mode, resolve | RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def open_regular(dir_fd: int, path: str | bytes, resolve: int = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS) -> int:
    """Open a regular file for reading that somebody hostile may exchange for something else meanwhile.

    It is looked at before it is opened: opening a device does things (a tape rewinds, a watchdog starts) and shows what
    the container itself may not open, opening a FIFO waits.

    Raises:
        OSError: as of openat2; EINVAL if it is anything but a regular file.
    """
    found_fd = openat2(dir_fd, path, os.O_PATH, 0, resolve)
    try:
        if not stat.S_ISREG(os.fstat(found_fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fsdecode(path))
        return os.open(f"/proc/self/fd/{found_fd}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(found_fd)


def create_in_root(root_fd: int, path: str, directory: bool, mode: int = 0o755) -> int:
    """An O_PATH descriptor of `path` below `root_fd`; what is missing is made.

    Folders on the way, and at the end a folder or an empty file. Dangling symlinks are followed inside the root, as
    Docker does.

    Args:
        mode: of the last component, if it is made; folders on the way get 0o755.

    Raises:
        OSError: ELOOP, ENOTDIR, or a read-only file system.
    """
    try:
        return open_in_root(root_fd, path, os.O_PATH)
    except FileNotFoundError:
        made = _make_last(root_fd, path, mode) if directory else None
        return _walk(root_fd, path, directory, mode) if made is None else made


def _make_last(root_fd: int, path: str, mode: int) -> int | None:
    """The usual case, in three calls: only the last folder is missing. None if it is not so simple."""
    parent, _, name = path.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        return None
    try:
        parent_fd = open_in_root(root_fd, parent or "/", os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        os.mkdir(name, mode, dir_fd=parent_fd)
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_DIRECTORY, dir_fd=parent_fd)
    except OSError:  # a dangling symlink is in the way, or somebody was quicker
        return None
    finally:
        os.close(parent_fd)


def _walk(root_fd: int, path: str, directory: bool, mode: int) -> int:
    """Component by component, never through a link the kernel follows: ".." is the stack, not the directory's entry."""
    stack = [os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root_fd)]
    todo = _parts(path)
    links = 0
    try:
        while todo:
            name = todo.pop()
            if name == "..":
                if len(stack) > 1:
                    os.close(stack.pop())
                continue
            fd = _open_or_make(stack[-1], name, directory or bool(todo), mode if not todo else 0o755)
            kind = os.fstat(fd).st_mode
            if stat.S_ISLNK(kind):
                links += 1
                target = os.readlink("", dir_fd=fd)
                os.close(fd)
                if links > MAX_SYMLINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                if target.startswith("/"):
                    while len(stack) > 1:
                        os.close(stack.pop())
                todo.extend(_parts(target))
                continue
            stack.append(fd)
            if todo and not stat.S_ISDIR(kind):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return stack.pop()
    finally:
        for fd in stack:
            os.close(fd)


def _parts(path: str) -> list[str]:
    """The components of `path`, last first, so that the next one is popped."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _open_or_make(parent_fd: int, name: str, directory: bool, mode: int) -> int:
    """An O_PATH descriptor of the entry itself (also a symlink); made when it is missing."""
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=parent_fd)
    except FileNotFoundError:
        pass
    try:
        if directory:
            os.mkdir(name, mode, dir_fd=parent_fd)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode, dir_fd=parent_fd))
    except FileExistsError:
        pass  # somebody else made it meanwhile: take theirs, it is looked at like any other
    return os.open(name, flags, dir_fd=parent_fd)


def close_range(first: int, last: int = LAST_FD, flags: int = 0) -> None:
    """Close descriptors `first` to `last` (or mark them close-on-exec with CLOSE_RANGE_CLOEXEC)."""
    syscall("close_range", first, last, flags)


def close_all_but(keep: set[int]) -> None:
    """Close every descriptor above 2 that is not in `keep`."""
    first = 3
    for fd in sorted(keep):
        if fd > first:
            close_range(first, fd - 1)
        first = max(first, fd + 1)
    close_range(first)


class Starved(OSError):
    """There was no room for the descriptors that came with `data`; they are closed."""

    def __init__(self, data: bytes) -> None:
        super().__init__(errno.EMFILE, os.strerror(errno.EMFILE))
        self.data = data


def receive_with_fds(end: socket.socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """One packet of at most `size` bytes and the descriptors that came with it, close-on-exec from the first moment.

    (``socket.recv_fds`` of Python 3.11 drops its flags: what it receives would be inherited by every program started.)

    Raises:
        OSError: as of recvmsg(2); EMSGSIZE if more than `most` descriptors or `size` bytes came.
        Starved: this process has no descriptors left to take them.
    """
    data, ancillary, flags, _peer = end.recvmsg(size, socket.CMSG_SPACE(most * _INT_SIZE), _CLOEXEC)
    fds: list[int] = []
    for level, kind, content in ancillary:
        if (level, kind) == _RIGHTS:
            fds += struct.unpack_from(f"={len(content) // _INT_SIZE}i", content)
    if flags & _TRUNCATED:
        for fd in fds:
            os.close(fd)
        if not flags & socket.MSG_TRUNC and len(fds) < most:
            raise Starved(data)
        raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
    return data, fds


def send_with_fds(end: socket.socket, data: bytes, fds: list[int] | None = None) -> None:
    """One packet and descriptors beside it, which stay the caller's, too.

    Raises:
        OSError: as of sendmsg(2); a peer that has gone raises no signal.
    """
    if fds:
        end.sendmsg([data], [(*_RIGHTS, struct.pack(f"={len(fds)}i", *fds))], NO_SIGNAL)
    else:
        end.send(data, NO_SIGNAL)


def file_system(fd: int) -> int:
    """The magic number of the file system `fd` lies on (``PROC_SUPER_MAGIC`` …)."""
    held = buffer(256)
    syscall("fstatfs", fd, held, what=f"fd {fd}")
    return int(struct.unpack_from("=q", held.raw)[0])


def join_session_keyring(name: str) -> None:
    """A keyring of its own, so that keys of the caller's session are not seen."""
    syscall("keyctl", KEYCTL_JOIN_SESSION_KEYRING, name.encode())
