"""Processes by descriptor: a pidfd names one process for ever, its number only until it is reused."""

import errno
import fcntl
import os
import signal
import struct

from scow.linux.syscall import syscall

#: struct pidfd_info of linux/pidfd.h, first version: mask, cgroup id, pid and ids, exit code.
_INFO = struct.Struct("=QQ11Ii")
_GET_INFO = 0xC040FF0B
_INFO_EXIT = 1 << 3


def pidfd_open(pid: int) -> int:
    """A descriptor of process `pid`, readable once it has ended.

    Raises:
        ProcessLookupError: there is none.
    """
    return syscall("pidfd_open", pid, 0, what=f"process {pid}")


def pid_of(pidfd: int) -> int:
    """The number of the process in the pid namespace of /proc.

    Raises:
        ProcessLookupError: it has been reaped.

    Source: proc_pid_fdinfo(5).
    """
    fd = os.open(f"/proc/thread-self/fdinfo/{pidfd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        told = dict(line.split(":", 1) for line in os.read(fd, 4096).decode().splitlines())
    finally:
        os.close(fd)
    number = int(told["Pid"])
    if number <= 0:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), "process")
    return number


def pidfd_send_signal(pidfd: int, number: int) -> None:
    """Signal the process; 0 only asks whether it is there.

    Raises:
        ProcessLookupError: it has been reaped.
    """
    syscall("pidfd_send_signal", pidfd, int(number), None, 0, what="pidfd")


def kill(pidfd: int) -> bool:
    """SIGKILL; False if the process was gone already."""
    try:
        pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """A copy of the process's descriptor number `fd`."""
    return syscall("pidfd_getfd", pidfd, fd, 0, what=f"fd {fd}")


def exit_status(pidfd: int) -> int | None:
    """The wait status of a process that has ended and been reaped, by whomever; None if the kernel does not say.

    Linux tells it from 6.15 on. Being reaped shows as a hang-up of the descriptor.
    """
    told = bytearray(_INFO.size)
    _INFO.pack_into(told, 0, _INFO_EXIT, *[0] * 13)
    try:
        fcntl.ioctl(pidfd, _GET_INFO, told)
    except OSError:  # ENOTTY of an older kernel; ESRCH, EREMOTE
        return None
    mask, *_ids, status = _INFO.unpack(told)
    return status if mask & _INFO_EXIT else None
