"""Processes by descriptor: a pidfd names one process for ever, its number only until it is reused."""

import errno
import os
import signal

from scow.linux.syscall import syscall


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
