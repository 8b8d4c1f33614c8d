"""Processes by descriptor: a pidfd names one process for ever, its number only until it is reused."""

import signal

from scow.linux.syscall import syscall


def pidfd_open(pid: int) -> int:
    """A descriptor of process `pid`, readable once it has ended.

    Raises:
        ProcessLookupError: there is none.
    """
    return syscall("pidfd_open", pid, 0, what=f"process {pid}")


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
