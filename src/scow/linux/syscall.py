"""System calls Python does not wrap, by name, with errno turned into `OSError`.

The only entrance to the kernel through ctypes; the other modules of this room give the calls names, flags and types.
Invariants: every argument is passed 64 bits wide (ctypes would pass a Python int as a 32-bit one); EINTR is retried,
as the standard library does (PEP 475), so no caller ever sees it.
"""

import ctypes
import errno
import os

#: name → (x86_64, aarch64). Numbers from 424 on are the same everywhere.
NUMBERS: dict[str, tuple[int, int]] = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "capget": (125, 90),
    "capset": (126, 91),
    "clone": (56, 220),
    "clone3": (435, 435),
    "close_range": (436, 436),
    "copy_file_range": (326, 285),
    "execveat": (322, 281),
    "fchmodat2": (452, 452),
    "fallocate": (285, 47),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "fstatfs": (138, 44),
    "inotify_add_watch": (254, 27),
    "inotify_init1": (294, 26),
    "inotify_rm_watch": (255, 28),
    "ioprio_set": (251, 30),
    "keyctl": (250, 219),
    "linkat": (265, 37),
    "listmount": (458, 458),
    "memfd_create": (319, 279),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "name_to_handle_at": (303, 264),
    "open_tree": (428, 428),
    "openat2": (437, 437),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pivot_root": (155, 41),
    "prctl": (157, 167),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "renameat2": (316, 276),
    "sched_setattr": (314, 274),
    "seccomp": (317, 277),
    "set_mempolicy": (238, 237),
    "setdomainname": (171, 162),
    "setns": (308, 268),
    "statmount": (457, 457),
    "statx": (332, 291),
    "syncfs": (306, 267),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "utimensat": (280, 88),
}

_COLUMNS = {"x86_64": 0, "aarch64": 1}
_machine = os.uname().machine
_column = _COLUMNS.get(_machine)
_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long

#: What an argument may be: a number, bytes (a C string or buffer), a ctypes object or pointer, None for NULL.
Argument = object


def number(name: str) -> int:
    """The number of system call `name` on this machine.

    Raises:
        OSError: ENOSYS, the machine is neither x86_64 nor aarch64.
    """
    if _column is None:
        raise OSError(errno.ENOSYS, f"system call numbers are known for x86_64 and aarch64, not {_machine}", name)
    return NUMBERS[name][_column]


def syscall(name: str, *arguments: Argument, what: str | None = None) -> int:
    """Make system call `name` and return its result.

    Args:
        arguments: ints are passed as C longs, bytes and ctypes objects as pointers, None as NULL.
        what: the thing acted upon, for the error; becomes ``OSError.filename``.

    Raises:
        OSError: the call failed.
    """
    call = number(name)
    passed = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    while True:
        result: int = _syscall(ctypes.c_long(call), *passed)
        if result != -1:
            return result
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code), what if what is not None else name)


def buffer(size: int) -> "ctypes.Array[ctypes.c_char]":
    """A zeroed writable buffer of `size` bytes to pass as an argument; ``.raw`` gives its bytes."""
    return ctypes.create_string_buffer(size)


def filled(data: bytes) -> "ctypes.Array[ctypes.c_char]":
    """A buffer holding exactly `data` (which may contain zero bytes)."""
    return ctypes.create_string_buffer(data, len(data))


def address(held: "ctypes.Array[ctypes.c_char]") -> int:
    """Where a buffer lies, for structures that contain pointers; keep the buffer alive as long as it is used."""
    return ctypes.addressof(held)


def poke(where: int, data: bytes) -> None:
    """Write `data` into this process's own memory at `where`; the caller vouches that it may be written."""
    ctypes.memmove(where, data, len(data))
