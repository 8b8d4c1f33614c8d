"""The verbs of the OCI command line: what each does to a container, on the same code the shim uses.

Arguments come parsed from ``cli.py``; results are printed there. Source: runtime-spec runtime.md "Operations".
"""

from __future__ import annotations

import os
import select
import signal
import sys

from scow.errors import Conflict, InvalidArgument, NotFound
from scow.linux import pidfd
from scow.runtime import bundle as bundles
from scow.runtime import documents, hooks, terminal
from scow.runtime.cgroup import Cgroup
from scow.runtime.create import Started, begin, own_capabilities
from scow.runtime.exec import begin_exec, may_look
from scow.runtime.init import Setup, state_of
from scow.runtime.seccomp import compile_spec
from scow.runtime.state import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Seconds for a killed container to be gone.
_KILLED = 10.0
_STDIO = (0, 1, 2)
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def create(root: str, id: str, bundle: str, console: str | None, gate: bool = True) -> Started:  # noqa: A002
    """Make a container; its process waits at the gate (or runs at once without one).

    Raises:
        AlreadyExists, InvalidArgument, Failed: nothing of it is left.
    """
    bundle = os.path.realpath(bundle)
    spec = bundles.load(bundle)
    process = spec.get("process")
    if process is None:
        raise InvalidArgument("the config has no process to run")
    has_terminal = bool(process.get("terminal"))
    if has_terminal and console is None and gate:
        raise InvalidArgument("the process wants a terminal: give --console-socket")
    container = Container(root, id)
    container.make()
    path = _cgroup_path(spec, id)
    gate_fd: int | None = None
    try:
        gate_fd = os.open(container.gate, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC) if gate else None
        setup = Setup(
            id,
            spec,
            bundles.root_path(bundle, spec),
            cgroup=path,
            stdio=None if has_terminal else _STDIO,
            filter_program=_filter(spec),
            permitted=own_capabilities(),
            gate_fd=gate_fd,
            state=state_of(id, "creating", 0, bundle, spec.get("annotations") or {}),
        )
        started = begin(setup).wait()
        container.record(started.pid, bundle, spec, path)
        if started.master_fd is not None and console is not None:
            terminal.hand_over(console, started.master_fd)
        return started
    except BaseException:
        group = Cgroup.open(path)
        group.kill()
        group.remove()
        container.forget()
        raise
    finally:
        if gate_fd is not None:
            os.close(gate_fd)


def start(root: str, id: str) -> None:  # noqa: A002
    """Open the gate: the created process becomes its program.

    Raises:
        NotFound, Conflict: there is no such container, or it does not wait.
    """
    container = Container.find(root, id)
    status = container.status()
    if status != "created":
        raise Conflict(f"cannot start container {id}: it is {status}")
    gate_fd = os.open(container.gate, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.write(gate_fd, b"0")
    container.started()
    os.close(gate_fd)
    hooks.run(hooks.wanted(container.spec(), "poststart"), state(container, "running"))


def run(root: str, id: str, bundle: str, console: str | None, detach: bool, pid_file: str | None) -> int:  # noqa: A002
    """Create, start, and (unless `detach`) wait and delete; the exit code."""
    started = create(root, id, bundle, console, gate=False)
    container = Container.find(root, id)
    container.started()
    write_pid(pid_file, started.pid)
    hooks.run(hooks.wanted(container.spec(), "poststart"), state(container, "running"))
    if detach:
        return 0
    code = attend(started, console)
    delete(root, id, force=True)
    return code


def attend(started: Started, console: str | None) -> int:
    """Pass signals and terminal on until the process has ended; its exit code."""
    for number in _FORWARDED:
        signal.signal(number, lambda got, _frame: _forward(started.pid, got))
    if started.master_fd is not None and console is None:
        terminal.proxy(started.master_fd)
    code = os.waitstatus_to_exitcode(os.waitpid(started.pid, 0)[1])
    return code if code >= 0 else 128 - code


def _forward(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def execute(
    root: str,
    id: str,  # noqa: A002
    process: dict[str, Any],
    console: str | None,
    detach: bool,
    pid_file: str | None,
) -> int:
    """One more process; its exit code, or 0 at once with `detach`.

    Raises:
        NotFound, Conflict, Failed: it could not be started.
    """
    container = Container.find(root, id)
    bundles.check_process(process)
    target_fd = container.process()
    if target_fd is None or container.status() != "running":
        raise Conflict(f"cannot exec in container {id}: it is {container.status()}")
    started = begin_exec(
        target_fd,
        process,
        id=id,
        cgroup=container.cgroup(),
        stdio=None if process.get("terminal") else _STDIO,
        filter_program=_filter(container.spec()),
        permitted=own_capabilities(),
        watched=may_look(container.spec()),
    ).wait()
    os.close(target_fd)
    write_pid(pid_file, started.pid)
    if started.master_fd is not None and console is not None:
        terminal.hand_over(console, started.master_fd)
    return 0 if detach else attend(started, console)


def kill(root: str, id: str, number: int, everyone: bool) -> None:  # noqa: A002
    """Signal the first process, or every process in the container.

    Raises:
        Conflict: it has ended.
    """
    container = Container.find(root, id)
    if everyone:
        container.cgroup().kill(number)
        return
    fd = container.process()
    if fd is None:
        raise Conflict(f"cannot kill container {id}: it is stopped")
    pidfd.pidfd_send_signal(fd, number)
    os.close(fd)


def delete(root: str, id: str, force: bool) -> None:  # noqa: A002
    """Remove an ended or merely created container; with `force` also one that runs, or is not there.

    Raises:
        NotFound, Conflict: without `force`.
    """
    try:
        container = Container.find(root, id)
    except NotFound:
        if force:
            return
        raise
    fd = container.process()
    if fd is not None:
        status = container.status()
        if status != "created" and not force:
            os.close(fd)
            raise Conflict(f"cannot delete container {id}: it is {status}; stop it first")
        pidfd.kill(fd)
        if status == "paused":
            container.cgroup().thaw()
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        poller.poll(_KILLED * 1000)
        os.close(fd)
    group = container.cgroup()
    group.kill()
    group.remove()
    told = state(container, "stopped")
    left = hooks.wanted(container.spec(), "poststop")
    container.forget()
    hooks.run(left, told)


def state(container: Container, status: str | None = None) -> dict[str, Any]:
    """The state of a container as ``state`` prints it and hooks read it."""
    recorded = container.recorded
    status = status or container.status()
    pid = 0 if status == "stopped" else recorded["pid"]
    return state_of(container.id, status, pid, recorded["bundle"], recorded["annotations"])


def pause(root: str, id: str, wanted: bool) -> None:  # noqa: A002
    """Freeze or thaw.

    Raises:
        Conflict: it is not running, or not paused.
    """
    container = Container.find(root, id)
    status = container.status()
    if status != ("running" if wanted else "paused"):
        raise Conflict(f"cannot {'pause' if wanted else 'resume'} container {id}: it is {status}")
    if wanted:
        container.cgroup().freeze()
    else:
        container.cgroup().thaw()


def update(root: str, id: str, resources: dict[str, Any]) -> None:  # noqa: A002
    """Change limits (OCI linux.resources)."""
    Container.find(root, id).cgroup().apply(resources)


def read_resources(path: str) -> dict[str, Any]:
    """OCI linux.resources from a file, or from stdin for "-".

    Raises:
        InvalidArgument: not a JSON object.
    """
    try:
        found = documents.parse(sys.stdin.buffer.read()) if path == "-" else documents.load(path)
    except ValueError as error:
        raise InvalidArgument(f"{path}: {error}") from None
    if not isinstance(found, dict):
        raise InvalidArgument(f"{path} does not hold a JSON object")
    return found


def write_pid(path: str | None, pid: int) -> None:
    """The pid in a file, whole or not at all (conmon and containerd read it while we run)."""
    if path is not None:
        temporary = f"{path}.tmp"
        with open(temporary, "w") as file:
            file.write(str(pid))
        os.rename(temporary, path)


def _cgroup_path(spec: dict[str, Any], id: str) -> str:  # noqa: A002
    """Where the container's group is; a systemd path ("slice:prefix:name") becomes a folder of that name."""
    path = spec["linux"].get("cgroupsPath") or f"/scow-runtime/{id}"
    if path.count(":") == 2 and not path.startswith("/"):
        folder, prefix, name = path.split(":")
        path = f"/{folder or 'system.slice'}/{prefix}-{name}.scope"
    return path if path.startswith("/") else f"/{path}"


def _filter(spec: dict[str, Any]) -> bytes | None:
    wanted = spec["linux"].get("seccomp")
    return compile_spec(wanted) if wanted else None
