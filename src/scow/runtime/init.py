"""The container's first process from fork to execve: the one place that fixes the order.

Runs in a child forked by `scow.runtime.create`, alone in its process (one thread), talking over a `Channel`. Stages, in
order, as they appear in a failure: limits, namespaces, cgroup, hostname, sysctl, mount, hook, terminal, pivot, stdio,
then those of `scow.runtime.process`: cwd, capabilities, seccomp, user, exec.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct

from scow.errors import InvalidArgument
from scow.linux import cgroup as hierarchies
from scow.linux import pty
from scow.linux.fds import close_all_but, join_session_keyring
from scow.linux.namespaces import CLONE_NEWCGROUP, CLONE_NEWNET, KINDS, setns, unshare
from scow.linux.proc import set_domainname, set_title
from scow.runtime import documents, hooks, process, rootfs, terminal
from scow.runtime.apply import apply, attach_root, pivot
from scow.runtime.bundle import CONFIG
from scow.runtime.cgroup import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scow.runtime.apply import Root, Step
    from scow.runtime.sync import Channel


#: Set in the spec's annotations when a small init is to be process 1 (``docker run --init``).
INIT_ANNOTATION = "scow.init"
#: Beside config.json, the compiled filter of a container started by a parked child.
FILTER_NAME = "seccomp.bpf"

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_IPC_SYSCTLS = frozenset(
    f"kernel.{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)
#: Signals the small init keeps to itself: those that tell of its own faults, and its child's end.
_KEPT = frozenset(
    {
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGABRT,
        signal.SIGTRAP,
        signal.SIGSYS,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGCHLD,
    }
)


class Setup:
    """What the child needs to know; descriptors are inherited through fork."""

    __slots__ = (
        "cgroup",
        "cgroup_follows",
        "filter_program",
        "gate_fd",
        "id",
        "network_fd",
        "permitted",
        "root",
        "spec",
        "state",
        "stdio",
    )

    def __init__(
        self,
        id: str,  # noqa: A002 - the spec's own word
        spec: dict[str, Any],
        root: int | str,
        *,
        cgroup: Cgroup | None,
        stdio: tuple[int, int, int] | None,
        network_fd: int | None = None,
        filter_program: bytes | None = None,
        permitted: int = 0,
        gate_fd: int | None = None,
        state: dict[str, Any] | None = None,
        cgroup_follows: bool = False,
    ) -> None:
        self.id = id
        self.spec = spec
        self.root = root  # a detached mount, or a folder
        self.cgroup = cgroup
        self.stdio = stdio  # None: open a terminal
        self.network_fd = network_fd  # None: as the spec's namespaces say
        self.filter_program = filter_program
        self.permitted = permitted
        self.gate_fd = gate_fd  # a FIFO to wait for before the program starts
        self.state = state or {}
        self.cgroup_follows = cgroup_follows  # it is being made while the child does other things

    def told(self, directory: str) -> tuple[dict[str, Any], list[int]]:
        """What a parked child has to be told: a message, and the descriptors that belong to it.

        Args:
            directory: holds config.json (`spec`) and, if there is a filter, FILTER_NAME.
        """
        message = {
            "id": self.id,
            "directory": directory,
            "cgroup": self.cgroup_follows,
            "filter": self.filter_program is not None,
            "network": self.network_fd is not None,
            "terminal": self.stdio is None,
            "state": self.state,
        }
        if not isinstance(self.root, int):
            raise InvalidArgument("a parked process takes its root file system by descriptor")
        fds = [self.root, *(self.stdio or ()), *([] if self.network_fd is None else [self.network_fd])]
        return message, fds

    @classmethod
    def adopted(cls, message: dict[str, Any], fds: list[int], permitted: int) -> Setup:
        """The reverse of `told`, in the parked child."""
        directory = message["directory"]
        program = None
        if message["filter"]:
            with open(f"{directory}/{FILTER_NAME}", "rb") as file:
                program = file.read()
        root, *rest = fds
        return cls(
            message["id"],
            documents.load(f"{directory}/{CONFIG}"),
            root,
            cgroup=None,
            stdio=None if message["terminal"] else (rest[0], rest[1], rest[2]),
            network_fd=rest[-1] if message["network"] else None,
            filter_program=program,
            permitted=permitted,
            state=message["state"],
            cgroup_follows=message["cgroup"],
        )

    def namespaces(self) -> dict[str, str]:
        """The spec's namespaces: kind → path to join, "" for a new one."""
        listed = (self.spec.get("linux") or {}).get("namespaces") or []
        return {entry["type"]: entry.get("path") or "" for entry in listed}


def stand_by(channel: Channel, progress: process.Progress, permitted: int) -> None:
    """Wait, already forked, for the container this is to become; end if there is never to be one.

    Nothing is prepared but the process itself: the mount namespace above all must be a copy of the host's as it is at
    the start, not as it was when this process was parked.
    """
    close_all_but({channel.socket.fileno()})
    message, fds = channel.receive()
    if message is None:
        os._exit(0)
    enter(Setup.adopted(message, fds, permitted), channel, progress)


def leave_parent() -> None:
    """What every child does first: signals as programs expect them, a session of its own."""
    process.reset_signals()
    os.setsid()


def enter(setup: Setup, channel: Channel, progress: process.Progress) -> None:
    """Become the container's first process. Returns only by raising.

    Raises:
        OSError: the kernel refused; `progress.stage` says at what.
    """
    spec = setup.spec
    program = spec["process"]
    progress.stage = "limits"
    process.limit(program)
    _take_namespaces(setup, channel, progress)
    _name(setup, progress)
    progress.stage = "mount"
    os.umask(0)
    steps = rootfs.plan(spec, _cgroup_steps(setup))
    shared = (spec.get("linux") or {}).get("rootfsPropagation") in ("shared", "rshared")
    root = attach_root(setup.root, steps, shared)
    _make_cwd(root, program.get("cwd") or "/")
    apply(steps, root)
    progress.stage = "hook"
    _hooks(setup, channel)
    stdio = setup.stdio
    if stdio is None:
        progress.stage = "terminal"
        slave = terminal.open_terminal(root.fd, channel, terminal.console_size(program))
        terminal.mount_console(root, slave)
        pty.make_controlling(slave)
        stdio = (slave, slave, slave)
    progress.stage = "pivot"
    pivot(root, shared)
    progress.stage = "stdio"
    process.take_stdio(stdio, int((program.get("user") or {}).get("uid", 0)))
    _wait_at_gate(setup, channel, progress)
    hooks.run(hooks.wanted(spec, "startContainer"), setup.state)
    process.become(program, setup.filter_program, setup.permitted, channel, progress)
    if (spec.get("annotations") or {}).get(INIT_ANNOTATION) == "true":
        _be_init(channel)
    process.execute(program, channel, progress)


def _take_namespaces(setup: Setup, channel: Channel, progress: process.Progress) -> None:
    """Join what is to be shared, enter the cgroup, then leave the rest; pid was seen to before the fork."""
    progress.stage = "namespaces"
    fresh = 0
    wanted = setup.namespaces()
    for kind, path in wanted.items():
        if kind in ("pid", "user", "time") or (kind == "network" and setup.network_fd is not None):
            continue
        if not path:
            fresh |= KINDS[kind][0]
            continue
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        setns(fd, KINDS[kind][0])
        os.close(fd)
    if setup.network_fd is not None:
        setns(setup.network_fd, KINDS["network"][0])
    unshare(fresh & ~CLONE_NEWCGROUP)
    if fresh & CLONE_NEWNET:
        _loopback_up()
    progress.stage = "cgroup"
    if setup.cgroup_follows:
        setup.cgroup = _awaited_cgroup(channel)
    if setup.cgroup is not None:
        # By itself: moving another process waits for an RCU grace period (milliseconds); and before the cgroup
        # namespace is made, whose root is the group one is in then.
        setup.cgroup.join_self()
    progress.stage = "namespaces"
    unshare(fresh & CLONE_NEWCGROUP)


def cgroup_message(group: Cgroup) -> dict[str, Any]:
    """What a child needs to know of a group made for it."""
    return {"cgroup": {"path": group.path, "v1": group.v1, "v2": group.v2}}


def _awaited_cgroup(channel: Channel) -> Cgroup:
    message, _ = channel.receive()
    if message is None:
        os._exit(1)
    told = message["cgroup"]
    return Cgroup(told["path"], hierarchies.layout(), told["v1"], told["v2"])


def _loopback_up() -> None:
    """A new network namespace has a loopback interface, but it is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("=16sH22x", b"lo", 0)
        _, flags = struct.unpack_from("=16sH", fcntl.ioctl(probe, _SIOCGIFFLAGS, request))
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("=16sH22x", b"lo", flags | _IFF_UP))


def _name(setup: Setup, progress: process.Progress) -> None:
    """Host name, keyring, kernel parameters: all of namespaces just made."""
    progress.stage = "hostname"
    spec, wanted = setup.spec, setup.namespaces()
    if spec.get("hostname") and "uts" in wanted:
        socket.sethostname(spec["hostname"])
    if spec.get("domainname") and "uts" in wanted:
        set_domainname(spec["domainname"])
    # No keyrings in this kernel, or the quota of keys is used up: the program then shares the daemon's session keyring,
    # which the default filter keeps it from reaching.
    with contextlib.suppress(OSError):
        join_session_keyring(f"_ses.{setup.id}")
    progress.stage = "sysctl"
    for name, value in ((spec.get("linux") or {}).get("sysctl") or {}).items():
        _sysctl(name, str(value), wanted)


def _sysctl(name: str, value: str, namespaces: dict[str, str]) -> None:
    """Set a kernel parameter, if it belongs to one of the container's own namespaces and not to the host.

    Raises:
        InvalidArgument: it would change the host.
    """
    dotted = name.replace("/", ".")
    own = (
        ((dotted in _IPC_SYSCTLS or dotted.startswith("fs.mqueue.")) and "ipc" in namespaces)
        or (dotted.startswith("net.") and "network" in namespaces)
        or (dotted == "kernel.domainname" and "uts" in namespaces)
    )
    path = name if "/" in name else name.replace(".", "/")
    if not own or ".." in path.split("/"):
        raise InvalidArgument(f"sysctl {name!r} is not in a namespace of the container's own: set it on the host")
    with open(f"/proc/sys/{path}", "w") as file:
        file.write(value)


def _cgroup_steps(setup: Setup) -> list[Step]:
    """The steps for the spec's cgroup mount, empty without one."""
    steps: list[Step] = []
    for mount in setup.spec.get("mounts") or []:
        if mount.get("type") in ("cgroup", "cgroup2"):
            groups = setup.cgroup.mounts_for_container() if setup.cgroup is not None else []
            private = setup.namespaces().get("cgroup") == ""
            host = hierarchies.layout()
            steps += rootfs.cgroup_steps(
                mount, [each for each in groups if each.kind == "cgroup"], host.unified, private
            )
    return steps


def _make_cwd(root: Root, folder: str) -> None:
    """The working folder exists when the program starts (runc makes it as well); a read-only root may refuse."""
    if root.find(folder) is None:
        try:
            os.close(root.make(folder, directory=True))
        except OSError:
            return  # chdir will say it, at the moment and in the words people know


def _hooks(setup: Setup, channel: Channel) -> None:
    """Let the creator run its hooks, then run those that belong inside the namespaces."""
    if hooks.wanted(setup.spec, *hooks.CREATOR):
        channel.send({"at": "hooks"})
        message, _ = channel.receive()
        if message is None:
            os._exit(1)
    hooks.run(hooks.wanted(setup.spec, "createContainer"), setup.state)


def _wait_at_gate(setup: Setup, channel: Channel, progress: process.Progress) -> None:
    """Stand by until ``start`` opens the other end of the gate (the OCI command line creates and starts apart)."""
    if setup.gate_fd is None:
        return
    progress.stage = "exec"
    process.require_program(setup.spec["process"])
    channel.send({"at": "ready"})
    poller = select.poll()
    poller.register(setup.gate_fd, select.POLLIN)
    poller.poll()


def _be_init(channel: Channel) -> None:
    """Fork: the child returns and becomes the program, this process stays as process 1, reaps and passes signals on.

    The program leads a process group of its own, in the foreground of the terminal if there is one. This process is
    the interpreter still, but its executable is out of reach: not dumpable, and run from a read-only mount.
    """
    signals = signal.valid_signals() - _KEPT | {signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals | {signal.SIGTTOU})
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        if os.isatty(0):
            os.tcsetpgrp(0, os.getpid())
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        return
    channel.close()
    set_title("scow-init")
    while True:
        arrived = signal.sigwaitinfo(signals)
        if arrived.si_signo != signal.SIGCHLD:
            try:
                os.kill(child, arrived.si_signo)
            except ProcessLookupError:
                continue
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                os._exit(0)
            if pid == 0:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)
