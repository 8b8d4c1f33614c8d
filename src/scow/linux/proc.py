"""/proc and prctl: what processes are there, what this one is called."""

import os
import time

from scow.linux.constants import PR_SET_NAME
from scow.linux.syscall import filled, poke, syscall

#: Longest name the kernel keeps, without the final zero byte (TASK_COMM_LEN - 1).
_NAME = 15

_boot = ""


def prctl(option: int, argument: int = 0) -> int:
    """prctl(2) with one number."""
    return syscall("prctl", option, argument, 0, 0, 0)


#: Where this process's arguments lie, as (address, bytes); the same in everything forked from it.
_arguments: tuple[int, int] | None = None


def set_title(title: str) -> None:
    """Show this process as `title` in ``ps`` and ``top``, in place of the interpreter's arguments."""
    global _arguments
    syscall("prctl", PR_SET_NAME, filled(title.encode()[:_NAME] + b"\0"), 0, 0, 0)
    if _arguments is None:
        fields = stat_fields("self")
        start, end = int(fields[45]), int(fields[46])  # arg_start, arg_end: 48 and 49 in proc_pid_stat(5)
        _arguments = start, end - start
    start, room = _arguments
    if room > 1:
        poke(start, title.encode()[: room - 1].ljust(room, b"\0"))


def stat_fields(pid: int | str) -> list[str]:
    """The fields of /proc/<pid>/stat from the third (state) on; the name, which may hold anything, is left out.

    Raises:
        ProcessLookupError, FileNotFoundError: no such process.
    """
    return _stat(pid).rpartition(b")")[2].decode().split()


def _stat(pid: int | str) -> bytes:
    fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def start_time(pid: int) -> int:
    """When `pid` started, in clock ticks since boot: with the pid itself an identity that is not reused."""
    return int(_stat(pid).rpartition(b")")[2].split(None, 20)[19])


def alive(pid: int) -> bool:
    """Whether there is such a process, and it has not ended (a zombie has)."""
    try:
        return stat_fields(pid)[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def age(started: int) -> int:
    """Nanoseconds since the `start_time` of a process, whatever has been done to the clock since; exact to 10 ms."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - started * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def zombie_status(pid: int, started: int) -> int | None:
    """The wait status of the process `pid` that started at `started` and has ended, as long as nobody has reaped it.

    None: it has been reaped, or runs. Takes the right to look into it (root's), else the kernel would say 0.
    """
    try:
        fields = stat_fields(pid)
    except (ProcessLookupError, FileNotFoundError):
        return None
    if fields[0] not in "ZX" or int(fields[19]) != started:
        return None
    return int(fields[49])  # exit_code: 52 in proc_pid_stat(5)


def boot_id() -> str:
    """A text that differs after every boot."""
    global _boot
    if not _boot:
        with open("/proc/sys/kernel/random/boot_id") as file:
            _boot = file.read().strip()
    return _boot


def set_domainname(name: str) -> None:
    """The NIS domain name of this UTS namespace."""
    data = name.encode()
    syscall("setdomainname", filled(data), len(data), what=name)
