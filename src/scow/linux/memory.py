"""Giving memory back: pages of a file in the middle, free pages of the allocator."""

import ctypes

from scow.linux.syscall import syscall

_PAGE = 4096
_FALLOC_FL_KEEP_SIZE = 1
_FALLOC_FL_PUNCH_HOLE = 2

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_libc = ctypes.CDLL(None)
# glibc has them, musl has not.
_trim = getattr(_libc, "malloc_trim", None)
_mallopt = getattr(_libc, "mallopt", None)


def punch_hole(fd: int, start: int, end: int) -> int:
    """Free the whole pages of a file between two offsets, which read as zeros then; returns where they end.

    Raises:
        OSError: the file system cannot.
    """
    start, end = -(-start // _PAGE) * _PAGE, end // _PAGE * _PAGE
    if end > start:
        syscall("fallocate", fd, _FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE, start, end - start)
    return end


def reuse_buffers() -> None:
    """Let the allocator keep freed buffers of up to a few MiB for the next ones, until `trim`.

    Else every buffer of a stream of data is new memory, zeroed page by page: as much work as the data itself.
    """
    if _mallopt is not None:
        _mallopt(ctypes.c_int(_M_MMAP_THRESHOLD), ctypes.c_int(4 << 20))
        _mallopt(ctypes.c_int(_M_TRIM_THRESHOLD), ctypes.c_int(16 << 20))


def trim() -> None:
    """Give what the allocator keeps free back to the system."""
    if _trim is not None:
        _trim(ctypes.c_size_t(0))
