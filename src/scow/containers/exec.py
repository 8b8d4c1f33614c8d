"""Exec: one more process in a running container, made first and started later, with or without a client on it."""

import asyncio
import logging
import os
import secrets
import time
from typing import Any

import msgspec

from scow.api.containers import ExecConfig, ExecStart, words
from scow.api.streams import STDOUT, Decoder, encode
from scow.containers import detach, validate
from scow.containers.container import Container, Exec
from scow.containers.context import Context
from scow.containers.health import MAX_OUTPUT
from scow.containers.pump import Peer, Pump
from scow.containers.spec import exec_process
from scow.containers.state import EXEC, require
from scow.containers.users import Identity, look_up
from scow.containers.wait import until_stopped
from scow.errors import Conflict, EngineError, InvalidArgument, NoSuchExec
from scow.linux import capabilities
from scow.tasks.attachment import Attachment
from scow.tasks.task import ExecTask, TaskFailed

log = logging.getLogger("scow.containers")

#: Seconds an ended exec can still be inspected (Docker's execCommandGC runs as often).
KEPT = 300.0
SIGKILL = 9


def get(context: Context, exec_id: str) -> Exec:
    """The exec of that id.

    Raises:
        NoSuchExec: it never was, or ended too long ago.
    """
    found = context.execs.get(exec_id)
    if found is None:
        raise NoSuchExec(exec_id)
    return found


def create(context: Context, ref: str, config: ExecConfig) -> Exec:
    """Note what is to be run; nothing runs yet.

    Raises:
        NoSuchContainer, InvalidArgument: no command, a bad variable or detach keys.
        Conflict: the container does not run.
    """
    container = context.get(ref)
    require(EXEC, container.state, container.name, container.id)
    command = words(config.cmd)
    if not command:
        raise InvalidArgument("No exec command specified")
    validate.check_env(config.env or [])
    made = Exec(secrets.token_hex(32), container.id, config, command, detach.parse(config.detach_keys))
    if config.console_size and len(config.console_size) == 2:
        made.size = (config.console_size[0], config.console_size[1])
    container.execs[made.id] = made
    context.execs[made.id] = made
    _tell(context, container, made, f"exec_create: {' '.join(command)}")
    return made


def inspect(context: Context, exec_id: str) -> dict[str, Any]:
    """The API's ExecInspectResponse."""
    found = get(context, exec_id)
    config = found.config
    process: dict[str, Any] = {
        "tty": config.tty,
        "entrypoint": found.command[0],
        "arguments": found.command[1:],
        "privileged": config.privileged,
    }
    if config.user:
        process["user"] = config.user
    return {
        "ID": found.id,
        "Running": found.running,
        "ExitCode": found.exit_code,
        "ProcessConfig": process,
        "OpenStdin": config.attach_stdin,
        "OpenStderr": config.attach_stderr,
        "OpenStdout": config.attach_stdout,
        "CanRemove": False,
        "ContainerID": found.container_id,
        "DetachKeys": "",
        "Pid": found.task.pid if found.task is not None else 0,
    }


def claim(context: Context, exec_id: str, body: ExecStart) -> Exec:
    """Take the exec for starting; it can be started once.

    Raises:
        NoSuchExec, Conflict.
    """
    found = get(context, exec_id)
    container = context.get(found.container_id)
    if found.running:
        raise Conflict(f"Error: Exec command {exec_id} is already running")
    if found.started:
        raise Conflict(f"Error: Exec command {exec_id} has already run")
    require(EXEC, container.state, container.name, container.id)
    found.started = True
    if body.console_size and len(body.console_size) == 2:
        found.size = (body.console_size[0], body.console_size[1])
    return found


async def start_detached(context: Context, exec_id: str, body: ExecStart) -> None:
    """Start it with nobody on its streams; returns once it runs.

    Raises:
        NoSuchExec, Conflict, InvalidArgument: it could not be started; the sentence says why.
    """
    await launch(context, claim(context, exec_id, body), None)


#: Seconds in which the end of a container is heard of after a process in it was killed.
AFTER_KILLED = 1.0


class Session:
    """A claimed exec and the client that wants its streams; `run` starts it on the client's stream."""

    def __init__(self, context: Context, found: Exec) -> None:
        self.tty = found.config.tty
        self._context = context
        self._exec = found

    async def run(self, peer: Peer) -> None:
        """Start it, copy both ways until it ends, the client is gone or detaches."""
        config = self._exec.config
        attachment = Attachment.open(
            stdin=config.attach_stdin, stdout=config.attach_stdout, stderr=config.attach_stderr, ends_stdin=True
        )
        try:
            try:
                await launch(self._context, self._exec, attachment)
            except EngineError as error:
                await peer.write(_framed(f"{error}\r\n", tty=config.tty))
                return
            pump = Pump(
                attachment,
                keys=self._exec.detach_keys if config.tty else None,
                stdin=config.attach_stdin,
                outputs=True,
                close_stdin=not config.tty,
            )
            if await pump.run(peer):
                _tell(self._context, self._context.get(self._exec.container_id), self._exec, "exec_detach")
            if pump.finished and self._exec.task is not None:
                # The client asks for the exit code as soon as its stream ends: have it then.
                _ended(self._context, self._exec, (await self._exec.task.wait()).code)
        finally:
            attachment.close()


def _framed(text: str, *, tty: bool) -> bytes:
    """An error for the client's stream; Docker sends it on stdout."""
    data = text.encode()
    return data if tty else encode(STDOUT, data)


async def launch(context: Context, found: Exec, attachment: Attachment | None) -> None:
    """Start the process of a claimed exec.

    Raises:
        InvalidArgument: its program or user does not exist; exit code 126 or 127 is recorded.
        Conflict: the container has ended.
    """
    container = context.get(found.container_id)
    _tell(context, container, found, f"exec_start: {' '.join(found.command)}")
    try:
        task = await _start(context, container, found.id, found.config, found.command, found.size, attachment)
    except EngineError as error:
        code = exit_code_of(error)
        _ended(context, found, code)
        if isinstance(error, Conflict):
            raise
        if await _over(container, error):
            raise Conflict(f"container {container.id} is not running") from error
        raise InvalidArgument(f"OCI runtime exec failed: exec failed: {error}: unknown") from error
    found.task = task
    found.running = not found.ended
    context.background.start(_follow(context, found, task), f"exec {found.id[:12]}")


async def _over(container: Container, error: EngineError) -> bool:
    """Whether a process could not start because its container ended under it."""
    if isinstance(error, TaskFailed) and not (error.stage in ("exec", "cwd") and error.errno):
        return await until_stopped(container, AFTER_KILLED)  # killed: the news of its container is on its way
    return container.task is None or container.task.ended.done()


def exit_code_of(error: EngineError) -> int:
    """What Docker's clients expect of a program that did not start: 127 not found, 126 not executable, 128 the rest."""
    if not isinstance(error, TaskFailed) or error.stage not in ("exec", "cwd"):
        return 126
    return 127 if error.errno == 2 else 126


async def _start(
    context: Context,
    container: Container,
    exec_id: str,
    config: ExecConfig,
    command: list[str],
    size: tuple[int, int] | None,
    attachment: Attachment | None,
) -> ExecTask:
    task = container.task
    if task is None:
        raise Conflict(f"container {container.id} is not running")
    identity = await asyncio.to_thread(_identity, container, config.user)
    process = exec_process(
        container.record,
        msgspec.structs.replace(config, cmd=command),
        identity,
        allowed=capabilities.available(),
        size=size,
        no_new_privileges=context.config.no_new_privileges,
    )
    return await task.exec(exec_id, process, stdin=config.attach_stdin, attachment=attachment)


def _identity(container: Container, user: str) -> Identity:
    """Who runs: the exec's user or the container's, looked up in the container's own files. Blocking."""
    if container.task is None:
        raise Conflict(f"container {container.id} is not running")
    root_fd = container.task.root_fd()
    try:
        return look_up(root_fd, user or container.record.config.user, container.record.host.group_add or ())
    finally:
        os.close(root_fd)


async def _follow(context: Context, found: Exec, task: ExecTask) -> None:
    """Record the end of an exec, whoever else waits for it."""
    status = await task.wait()
    _ended(context, found, status.code)
    container = context.containers.get(found.container_id)
    if container is not None and container.task is not None:
        container.task.forget_exec(found.id)


def _ended(context: Context, found: Exec, code: int) -> None:
    """Record the exit code, once; forget the exec after a while."""
    if found.ended:
        return
    found.ended = time.time_ns()
    found.running = False
    found.exit_code = code
    container = context.containers.get(found.container_id)
    if container is not None:
        _tell(context, container, found, "exec_die", exitCode=str(code))
    asyncio.get_running_loop().call_later(KEPT, _forget, context, found)


def _forget(context: Context, found: Exec) -> None:
    context.execs.pop(found.id, None)
    container = context.containers.get(found.container_id)
    if container is not None:
        container.execs.pop(found.id, None)


def _tell(context: Context, container: Container, found: Exec, action: str, **attributes: str) -> None:
    context.tell(container, action, execID=found.id, **attributes)


async def resize(context: Context, exec_id: str, rows: int, cols: int) -> None:
    """Tell its terminal the size; before the start it is remembered."""
    found = get(context, exec_id)
    if found.task is None:
        if found.started and not found.running and found.ended:
            raise Conflict(f"exec {exec_id} is not running")
        found.size = (rows, cols)
        return
    if found.running:
        await found.task.resize(rows, cols)


# -- probes --


async def probe(context: Context, container: Container, argv: list[str], output: bytearray) -> int:
    """Run a health check's command to its end; its exit code. Cancelling it kills the command and what it started.

    Args:
        output: gets what the command writes, a little more than `MAX_OUTPUT` bytes at most.

    Raises:
        EngineError: it could not be started.
    """
    exec_id = secrets.token_hex(32)
    attachment = Attachment.open(stdin=False, stdout=True, stderr=True)
    config = ExecConfig(cmd=argv)
    context.tell(container, f"exec_create: {' '.join(argv)}", execID=exec_id)
    context.tell(container, f"exec_start: {' '.join(argv)}", execID=exec_id)
    task = None
    try:
        task = await _start(context, container, exec_id, config, argv, None, attachment)
        await _collect(attachment, output)
        status = await task.wait()
    except asyncio.CancelledError:
        if task is not None:
            context.background.start(_end_probe(container, task), f"end probe of {container.id[:12]}")
        raise
    finally:
        attachment.close()
    context.tell(container, "exec_die", execID=exec_id, exitCode=str(status.code))
    _forget_probe(container, exec_id)
    return status.code


async def _end_probe(container: Container, task: ExecTask) -> None:
    """Kill a probe and the rest of its session, which a shell's own death would leave running."""
    try:
        await task.kill(SIGKILL, everyone=True)
        await task.wait()
    except EngineError as error:
        log.debug("a probe had already ended: %s", error)
    _forget_probe(container, task.id)


def _forget_probe(container: Container, exec_id: str) -> None:
    if container.task is not None:
        container.task.forget_exec(exec_id)


async def _collect(attachment: Attachment, kept: bytearray) -> None:
    """Add the payload of the frames to `kept`, one byte more than `MAX_OUTPUT` at most; the rest is dropped."""
    decoder = Decoder()
    while data := await attachment.read():
        for _, piece in decoder.feed(data):
            kept += piece[: max(0, MAX_OUTPUT + 1 - len(kept))]
