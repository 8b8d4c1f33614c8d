"""Start: network and root file system side by side, then the launch; whatever fails takes everything back.

Also what follows a start for as long as the container runs: the supervisor and the health check.
"""

import asyncio
import errno
import logging
from typing import NoReturn

from scow.containers import exec as execs
from scow.containers import exits, health, logs, networking, remove, stop
from scow.containers.container import Container, Health
from scow.containers.context import Context
from scow.containers.prepare import Prepared, prepare, quick
from scow.containers.state import START, State, require
from scow.containers.wait import ALIVE
from scow.errors import EngineError, InvalidArgument, System
from scow.linux.descriptors import MORE_FILES
from scow.networks.sandbox import Sandbox
from scow.tasks.task import Task, TaskFailed
from scow.tasks.tasks import LaunchRequest

log = logging.getLogger("scow.containers")

ENOENT = 2
EACCES = 13
#: Exit codes Docker's clients know for a container that did not start.
NOT_FOUND, NOT_EXECUTABLE, NOT_STARTED = 127, 126, 128
TOO_MANY_FILES = f"cannot start the container: too many open files: {MORE_FILES}"


async def start(context: Context, ref: str) -> None:
    """Run the container's first process.

    Raises:
        NoSuchContainer: nothing by that name.
        NotModified: it runs already.
        Conflict: its state forbids it, or another container it depends on does not run.
        InvalidArgument: its program, user or mounts do not exist; the container keeps the error.
        System: a port is taken, or the kernel refused.
    """
    container = context.get(ref)
    async with container.lock:
        require(START, container.state, container.name, container.id)
        stop_timer(container)
        container.record.restart_count = 0
        container.backoff = 0
        await run(context, container)


async def again(context: Context, container: Container) -> None:
    """Start a container for its restart policy, if it still waits for that."""
    async with container.lock:
        if container.state is not State.RESTARTING or context.closing:
            return
        container.record.restart_count += 1
        await run(context, container)


def stop_timer(container: Container) -> None:
    """Forget a restart that is waiting for its time."""
    if container.timer is not None:
        container.timer.cancel()
        container.timer = None


async def run(context: Context, container: Container) -> None:
    """Start it, under its lock: see `start`."""
    record = container.record
    container.stopping = False
    record.stopped_by_user = False
    record.error = ""
    try:
        networking.require_networks(context, record)
        task = await _launch(context, container)
    except (EngineError, OSError) as error:
        await _failed(context, container, error)
    container.task = task
    record.pid = task.pid
    record.started = task.started_at
    record.exit_code = 0
    record.oom_killed = False
    record.health = Health() if _probe(container) else None
    await context.moved(container, State.RUNNING, "start", durable=False)
    follow(context, container, task)
    await _take_size(container, task)


async def _launch(context: Context, container: Container) -> Task:
    """The launch; what it needed is given back whether it succeeds or not."""
    sandbox, prepared = await _both(context, container)
    try:
        networking.write_files(context, container, context.networks.endpoints(container.id))
        attachments, container.pending = container.pending, []
        request = LaunchRequest(
            id=container.id,
            spec=prepared.spec,
            rootfs_fd=prepared.root.fd,
            network_fd=sandbox.fd if sandbox is not None else None,
            stdin=container.record.config.open_stdin,
            log=logs.config_of(context, container),
            seccomp=prepared.filter_program,
            attachments=attachments,
        )
        return await context.tasks.launch(request)
    except BaseException:
        await exits.clean_up(context, container)
        raise
    finally:
        # A container that has ended already leaves taking the overlay down to us, which takes milliseconds.
        context.janitor.release(prepared.close)
        if sandbox is not None:
            sandbox.close()


async def _both(context: Context, container: Container) -> tuple[Sandbox | None, Prepared]:
    """Network and root file system, made at the same time; if one fails the other is taken back."""
    if quick(context, container.record):
        ready = prepare(context, container)
        try:
            return await networking.connect(context, container), ready
        except BaseException:
            ready.close()
            raise
    network, disk = await asyncio.gather(
        networking.connect(context, container),
        asyncio.to_thread(prepare, context, container),
        return_exceptions=True,
    )
    if isinstance(network, BaseException):
        if not isinstance(disk, BaseException):
            disk.close()
        raise network
    if isinstance(disk, BaseException):
        if network is not None:
            network.close()
            await exits.clean_up(context, container)
        raise disk
    return network, disk


async def _failed(context: Context, container: Container, error: Exception) -> NoReturn:
    """Keep the error, end those who wait on the streams, and say it in Docker's words."""
    record = container.record
    told, code = translate(error, record.path)
    record.error = str(told)
    record.exit_code = code
    for attachment in container.pending:
        attachment.release()
    container.pending.clear()
    state = State.EXITED if record.started else State.CREATED
    container.exits += 1
    await context.moved(container, state)
    if record.host.auto_remove:
        await remove.at_end(context, container)
    raise told from error


def translate(error: Exception, program: str) -> tuple[EngineError, int]:
    """The error Docker's clients expect, and the exit code that stands for it."""
    if isinstance(error, TaskFailed):
        prefix = "failed to create task for container: failed to create shim task: OCI runtime create failed: "
        prefix += "runc create failed: unable to start container process: error during container init: "
        if error.stage == "exec" and error.errno == ENOENT:
            reason = "executable file not found in $PATH" if "/" not in program else "no such file or directory"
            return InvalidArgument(f'{prefix}exec: "{program}": {reason}: unknown'), NOT_FOUND
        if error.stage == "exec":
            reason = "permission denied" if error.errno == EACCES else str(error)
            return InvalidArgument(f'{prefix}exec: "{program}": {reason}: unknown'), NOT_EXECUTABLE
        return System(f"{prefix}{error}: unknown"), NOT_STARTED
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return System(TOO_MANY_FILES), NOT_STARTED
    if isinstance(error, EngineError):
        return error, NOT_STARTED
    return System(f"cannot start the container: {error}"), NOT_STARTED


def follow(context: Context, container: Container, task: Task) -> None:
    """Watch over a running container: its end, its memory, and its health."""
    if task.oom and not container.record.oom_killed:
        _out_of_memory(context, container, task)
    task.on_oom = lambda: _out_of_memory(context, container, task)
    work = exits.supervise(context, container, task, again, remove.at_end)
    context.background.start(work, f"container {container.id[:12]}")
    watch_health(context, container)


def _out_of_memory(context: Context, container: Container, task: Task) -> None:
    if container.task is task:
        exits.out_of_memory(context, container)
        container.changed()
        # At once: a daemon that comes after is not to tell it again.
        context.background.start(_keep(context, container), f"save {container.id[:12]}")


async def _keep(context: Context, container: Container) -> None:
    await context.keep(container, durable=False)


def watch_health(context: Context, container: Container) -> None:
    """Begin probing, if it has a health check and runs."""
    argv = _probe(container)
    probe = container.record.config.healthcheck
    if argv is None or probe is None or container.monitor is not None:
        return

    async def run_probe(command: list[str], output: bytearray) -> int:
        return await execs.probe(context, container, command, output)

    async def act() -> None:
        # The action ends the run of the container, and with it the monitor that asks for it.
        acting = context.background.start(_unhealthy(context, container), f"unhealthy {container.id[:12]}")
        if acting is not None:
            await asyncio.shield(acting)

    work = health.watch(context, container, probe, argv, run_probe, act)
    container.monitor = context.background.start(work, f"health of {container.id[:12]}")


async def _unhealthy(context: Context, container: Container) -> None:
    """Do what is to be done about a container that has become unhealthy."""
    action = container.record.host.health_on_failure
    if action in ("", "none") or context.closing:
        return
    log.info("container %s is unhealthy: %s", container.id[:12], action)
    try:
        if action == "restart":
            await restart(context, container, by_policy=True)
        elif action == "stop":
            await stop.stop(context, container.id)
        else:
            await stop.end_now(context, container)
    except EngineError as error:
        log.warning("container %s is unhealthy, and the %s failed: %s", container.id[:12], action, error)


async def restart(
    context: Context,
    container: Container,
    *,
    number: int | None = None,
    grace: int | None = None,
    by_policy: bool = False,
) -> None:
    """Stop it if it runs, then start it.

    Args:
        number: signal instead of the container's own.
        grace: seconds before it is killed, -1 for never, None for the container's own.
        by_policy: nobody asked for it: it counts as a restart, and is left alone if somebody stops it meanwhile.

    Raises:
        NoSuchContainer, and what `start` raises.
    """
    restarts = container.record.restart_count
    container.kept = True
    try:
        if container.state in ALIVE:
            await stop.halt(context, container, number=number, grace=grace, by_user=False)
        if by_policy and (container.record.stopped_by_user or container.removed):
            return
        require(START, container.state, container.name, container.id)
        await start(context, container.id)
        if by_policy:
            container.record.restart_count = restarts + 1
            await context.keep(container)
    finally:
        container.kept = False
    context.tell(container, "restart")


def _probe(container: Container) -> list[str] | None:
    config = container.record.config
    return health.command(config.healthcheck, config.shell) if config.healthcheck is not None else None


async def _take_size(container: Container, task: Task) -> None:
    """Give the terminal the size a client asked for before the start."""
    if container.size is None or not container.record.config.tty:
        return
    rows, cols = container.size
    try:
        await task.resize(rows, cols)
    except EngineError as error:
        log.debug("container %s ended before it was resized: %s", container.id[:12], error)
