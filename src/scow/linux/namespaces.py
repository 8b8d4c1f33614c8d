"""Namespaces: leave, enter, make.

The clone flags double as names of the kinds. `unshare` and `setns` act on the calling thread only; entering a mount
or user namespace needs a process with a single thread.
"""

import os
import signal

from scow.linux.syscall import syscall

CLONE_FS = 0x00000200
CLONE_NEWTIME = 0x00000080
#: The new process has the parent of the one that makes it.
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

#: runtime-spec name → (flag, file below /proc/<pid>/ns)
KINDS: dict[str, tuple[int, str]] = {
    "mount": (CLONE_NEWNS, "mnt"),
    "pid": (CLONE_NEWPID, "pid"),
    "network": (CLONE_NEWNET, "net"),
    "ipc": (CLONE_NEWIPC, "ipc"),
    "uts": (CLONE_NEWUTS, "uts"),
    "cgroup": (CLONE_NEWCGROUP, "cgroup"),
    "user": (CLONE_NEWUSER, "user"),
    "time": (CLONE_NEWTIME, "time"),
}


def unshare(flags: int) -> None:
    """Put the calling thread into new namespaces; a new pid namespace holds only children born after this."""
    syscall("unshare", flags)


def setns(fd: int, kinds: int) -> None:
    """Enter a namespace: `fd` is a namespace file (`kinds` 0 or its flag) or a pidfd (`kinds` any of its)."""
    syscall("setns", fd, kinds)


def open_namespace(kind: str, pid: int | str = "thread-self") -> int:
    """A descriptor of process `pid`'s namespace of runtime-spec `kind` ("network" …); the caller closes it."""
    return os.open(f"/proc/{pid}/ns/{KINDS[kind][1]}", os.O_RDONLY | os.O_CLOEXEC)


def new_network_namespace() -> int:
    """A descriptor of a new, empty network namespace; the calling thread is back in its own when this returns.

    Blocking (about half a millisecond); call it in a worker thread. The namespace lives as long as the descriptor
    or a process in it.
    """
    own_fd = open_namespace("network")
    try:
        unshare(CLONE_NEWNET)
        try:
            return open_namespace("network")
        finally:
            setns(own_fd, CLONE_NEWNET)
    finally:
        os.close(own_fd)


def fork_sibling() -> int:
    """fork(2), but the new process is a child of this one's parent, who reaps it; 0 in it, its id here.

    For a process of one thread that is about to execve: the interpreter is told nothing.
    """
    return syscall("clone", CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
