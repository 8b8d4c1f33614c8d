"""Giving memory back: pages of a file in the middle, free pages of the allocator."""

import ctypes

from scow.linux.syscall import syscall

_PAGE = 4096
_FALLOC_FL_KEEP_SIZE = 1
_FALLOC_FL_PUNCH_HOLE = 2

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl has not


def punch_hole(fd: int, start: int, end: int) -> int:
    """Free the whole pages of a file between two offsets, which read as zeros then; returns where they end.

    Raises:
        OSError: the file system cannot.
    """
    start, end = -(-start // _PAGE) * _PAGE, end // _PAGE * _PAGE
    if end > start:
        syscall("fallocate", fd, _FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE, start, end - start)
    return end


def trim() -> None:
    """Give what the allocator keeps free back to the system."""
    if _trim is not None:
        _trim(ctypes.c_size_t(0))
