"""The container's first process from fork to execve: the one place that fixes the order.

Runs in a child forked by `scow.runtime.create`, alone in its process (one thread), talking over a `Channel`. Stages, in
order, as they appear in a failure. First phase (`scow.runtime.prepare`), perhaps done long before: limits, namespaces,
cgroup, mount, capabilities. Second phase: namespaces, cgroup, sysctl, mount, limits, hostname, mount, hook, terminal,
pivot, stdio, then those of `scow.runtime.process`: cwd, capabilities, seccomp, user, [init,] exec.
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
from scow.linux.constants import PR_SET_PDEATHSIG
from scow.linux.fds import close_all_but, join_session_keyring
from scow.linux.mount import clone_tree
from scow.linux.namespaces import CLONE_NEWNET, setns, unshare
from scow.linux.proc import prctl, set_domainname, set_title
from scow.runtime import documents, hooks, process, rootfs, terminal
from scow.runtime.apply import apply, attach_root, enter_root, leave
from scow.runtime.bundle import CONFIG
from scow.runtime.cgroup import Cgroup
from scow.runtime.prepare import cgroup_steps, own_cgroups, prepare, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scow.runtime.apply import Root, Step
    from scow.runtime.prepare import Prepared
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
        "filter_program",
        "gate_fd",
        "id",
        "life_fd",
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
        cgroup: str | None,
        stdio: tuple[int, int, int] | None,
        network_fd: int | None = None,
        filter_program: bytes | None = None,
        permitted: int = 0,
        gate_fd: int | None = None,
        life_fd: int | None = None,
        state: dict[str, Any] | None = None,
    ) -> None:
        self.id = id
        self.spec = spec
        self.root = root  # a detached mount, or a folder
        self.cgroup = cgroup  # path of the group to make
        self.stdio = stdio  # None: open a terminal
        self.network_fd = network_fd  # None: as the spec's namespaces say
        self.filter_program = filter_program
        self.permitted = permitted
        self.gate_fd = gate_fd  # a FIFO to wait for before the program starts
        self.life_fd = life_fd  # held open until nothing more is made on the host: it closes before, or with, the child
        self.state = state or {}

    @classmethod
    def load(
        cls,
        request: dict[str, Any],
        root_fd: int,
        network_fd: int | None,
        stdio: tuple[int, int, int] | None,
        permitted: int,
    ) -> Setup:
        """The set-up a request for a shim stands for (see `scow.shim.main.main`); reads what lies in its directory.

        Raises:
            OSError, ValueError: the config or the filter is not there, or is no config.
        """
        directory = request["directory"]
        spec = documents.load(f"{directory}/{CONFIG}")
        program = None
        if request["filter"]:
            with open(f"{directory}/{FILTER_NAME}", "rb") as file:
                program = file.read()
        return cls(
            request["id"],
            spec,
            root_fd,
            cgroup=request["cgroup"],
            stdio=stdio,
            network_fd=network_fd,
            filter_program=program,
            permitted=permitted,
            state=state_of(request["id"], "creating", 0, directory, spec.get("annotations") or {}),
        )

    def namespaces(self) -> dict[str, str]:
        """The spec's namespaces: kind → path to join, "" for a new one."""
        listed = (self.spec.get("linux") or {}).get("namespaces") or []
        return {entry["type"]: entry.get("path") or "" for entry in listed}


def state_of(id: str, status: str, pid: int, bundle: str, annotations: dict[str, Any]) -> dict[str, Any]:  # noqa: A002
    """A container's state as hooks and ``state`` show it (runtime-spec runtime.md "State")."""
    return {
        "ociVersion": "1.2.0",
        "id": id,
        "status": status,
        "pid": pid,
        "bundle": bundle,
        "annotations": annotations,
    }


def stand_by(
    channel: Channel, progress: process.Progress, first: dict[str, Any], group: str | None, permitted: int
) -> None:
    """Do the first phase for nobody yet and wait for the container this is to become; end if there is never to be one.

    Args:
        first: the first part of the pool's spec.
        group: path of the cgroup to make.
    """
    close_all_but({channel.socket.fileno()})
    prepared = prepare(first, group, progress)
    channel.send({"at": "parked"})
    request, fds = channel.receive()
    if request is None:
        os._exit(0)
    root_fd, _life_fd, *rest = fds
    network_fd = rest.pop() if request["network"] else None
    stdio = None if request["terminal"] else (rest[0], rest[1], rest[2])
    with prepared.root.outside:
        setup = Setup.load(request, root_fd, network_fd, stdio, permitted)
        _, second = split(setup.spec, hierarchies.layout())
        brought = _bring(setup, second, prepared, progress)
    finish(setup, prepared, brought, channel, progress)


def leave_parent() -> None:
    """What every child does first: signals as programs expect them, a session of its own, no life without a parent.

    Until `process.outlive_parent`: a start whose shim is killed has failed, and nothing may come of it.
    """
    process.reset_signals()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()


def enter(setup: Setup, channel: Channel, progress: process.Progress) -> None:
    """Become the container's first process. Returns only by raising.

    Raises:
        OSError: the kernel refused; `progress.stage` says at what.
    """
    first, second = split(setup.spec, hierarchies.layout())
    stay = bool(hooks.wanted(setup.spec, "createContainer", "startContainer"))
    prepared = prepare(first, setup.cgroup, progress, stay=stay)
    with prepared.root.outside:
        brought = _bring(setup, second, prepared, progress)
    finish(setup, prepared, brought, channel, progress)


def _bring(
    setup: Setup, second: dict[str, Any], prepared: Prepared, progress: process.Progress
) -> tuple[int, list[Step]]:
    """What the host gives, while this process sees its mounts: (the root file system, the steps to do below it)."""
    linux = second["linux"]
    progress.stage = "namespaces"
    _take_network(setup)
    progress.stage = "cgroup"
    group = _take_cgroup(setup, linux, prepared)
    progress.stage = "sysctl"
    for name, value in (linux.get("sysctl") or {}).items():
        _sysctl(name, str(value), setup.namespaces())
    progress.stage = "mount"
    steps = rootfs.plan(second, cgroup_steps(second, group), prepared.trees, dev=not prepared.nodes)
    # Sources come before the root, for a folder that is the root's may be one, and must not contain the container.
    for step in steps:
        step.open(shared=linux.get("rootfsPropagation") in ("shared", "rshared"))
    return (setup.root if isinstance(setup.root, int) else clone_tree(setup.root, recursive=True)), steps


def finish(
    setup: Setup,
    prepared: Prepared,
    brought: tuple[int, list[Step]],
    channel: Channel,
    progress: process.Progress,
) -> None:
    """The second phase, from a prepared sandbox to the program. Returns only by raising.

    Raises:
        OSError: the kernel refused; `progress.stage` says at what.
    """
    spec = setup.spec
    program = spec["process"]
    progress.stage = "limits"
    process.limit(program)
    _name(setup, progress)
    progress.stage = "mount"
    root_fd, steps = brought
    root = attach_root(root_fd, prepared.root)
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
    if prepared.old_fd < 0:
        enter_root(root)
    else:
        leave(root, prepared.old_fd)
    progress.stage = "stdio"
    process.take_stdio(stdio, int((program.get("user") or {}).get("uid", 0)))
    _wait_at_gate(setup, channel, progress)
    hooks.run(hooks.wanted(spec, "startContainer"), setup.state)
    process.become(program, setup.filter_program, setup.permitted, channel, progress, prepared.bounding)
    if (spec.get("annotations") or {}).get(INIT_ANNOTATION) == "true":
        progress.stage = "init"
        _be_init(channel)
    process.execute(program, channel, progress)


def _take_network(setup: Setup) -> None:
    """Join the network namespace given by descriptor or path, or make one."""
    if setup.network_fd is not None:
        setns(setup.network_fd, CLONE_NEWNET)
        return
    path = setup.namespaces().get("network")
    if path == "":
        unshare(CLONE_NEWNET)
        _loopback_up()
    elif path is not None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        setns(fd, CLONE_NEWNET)
        os.close(fd)


def _take_cgroup(setup: Setup, linux: dict[str, Any], prepared: Prepared) -> Cgroup | None:
    """Give the group made ahead the container's name and limits; or make one and enter it.

    By itself: moving another process waits for an RCU grace period (milliseconds); and before the cgroup namespace is
    made, whose root is the group one is in then.
    """
    if setup.cgroup is None:
        return None
    group = prepared.group
    if group is None:
        group = Cgroup.create(setup.cgroup, linux.get("resources"))
        group.join_self()
        own_cgroups(linux.get("namespaces") or [])
        return group
    if group.path != setup.cgroup:
        group.rename(setup.cgroup)
    if linux.get("resources"):
        group.apply(linux["resources"])
    return group


def _loopback_up() -> None:
    """A new network namespace has a loopback interface, but it is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("=16sH22x", b"lo", 0)
        _, flags = struct.unpack_from("=16sH", fcntl.ioctl(probe, _SIOCGIFFLAGS, request))
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("=16sH22x", b"lo", flags | _IFF_UP))


def _name(setup: Setup, progress: process.Progress) -> None:
    """Host name and keyring."""
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
    hierarchies.write(f"/proc/sys/{path}", value)


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
    process.outlive_parent()
    channel.send({"at": "ready"})
    poller = select.poll()
    poller.register(setup.gate_fd, select.POLLIN)
    poller.poll()


def _be_init(channel: Channel) -> None:
    """Fork: the child returns and becomes the program, this process stays as process 1, reaps and passes signals on.

    The program leads a process group of its own, in the foreground of the terminal if there is one. This process is
    the interpreter still, but its executable is out of reach: not dumpable, and run from a read-only mount.
    """
    process.outlive_parent()
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
