"""inotify: being told that files changed instead of asking again and again."""

import os
import struct

from scow.linux.syscall import syscall

IN_ACCESS = 0x1
IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000

_HEADER = struct.Struct("=iIII")
_READ = 64 << 10


def inotify_init() -> int:
    """A descriptor, non-blocking and close-on-exec, readable when a watch has something to tell."""
    return syscall("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)


def add_watch(fd: int, path: str, mask: int) -> int:
    """Watch `path` for IN_* events; returns the watch's number."""
    return syscall("inotify_add_watch", fd, os.fsencode(path), mask, what=path)


def remove_watch(fd: int, watch: int) -> None:
    """Stop a watch; an IN_IGNORED event follows."""
    syscall("inotify_rm_watch", fd, watch)


def read_events(fd: int) -> list[tuple[int, int, str]]:
    """Every waiting event as (watch, mask, name inside the watched folder or ""); empty when there is none."""
    try:
        data = os.read(fd, _READ)
    except BlockingIOError:
        return []
    events = []
    offset = 0
    while offset < len(data):
        watch, mask, _cookie, length = _HEADER.unpack_from(data, offset)
        offset += _HEADER.size
        events.append((watch, mask, os.fsdecode(data[offset : offset + length].rstrip(b"\0"))))
        offset += length
    return events
