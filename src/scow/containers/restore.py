"""After the daemon was away: what is on disk meets what still runs.

Containers that run go on; exits that happened meanwhile are recorded once; what was half made or half removed is
cleaned up; restart policies are applied.
"""

import asyncio
import contextlib
import logging
import re
import time

from scow.containers import exits, missed, remove, restart, start
from scow.containers.container import Container, Record
from scow.containers.context import Context
from scow.containers.state import State
from scow.errors import EngineError
from scow.shim.protocol import STATE_NAME
from scow.snapshots.snapshotter import ACTIVE
from scow.tasks.task import ExitStatus, Task

log = logging.getLogger("scow.containers")

#: Exit code of a container that was lost with the machine (Docker's).
LOST = 255
_ID = re.compile(r"[0-9a-f]{64}")


async def restore(context: Context) -> None:
    """Load every container and bring it up to date. Before any request is served."""
    records = await asyncio.to_thread(context.store.load)
    for record in records:
        container = Container(record)
        context.add(container)
        _acquire_volumes(context, record)
    await asyncio.to_thread(_sweep_snapshots, context)
    _sweep_tasks(context)
    missed.tell_removed(context)
    for container in context.all():
        missed.tell(context, container)
        try:
            await _restore(context, container)
        except EngineError as error:
            log.error("container %s could not be restored: %s", container.id[:12], error)


def _acquire_volumes(context: Context, record: Record) -> None:
    for mount in record.mounts:
        if mount.type == "volume":
            try:
                context.volumes.acquire(mount.name, record.id)
            except EngineError as error:
                log.error("container %s has lost a volume: %s", record.id[:12], error)


def _sweep_tasks(context: Context) -> None:
    """Forget the ended tasks of containers that were being removed when the daemon died."""
    known = context.containers.keys() | context.store.damaged
    for task in context.tasks.all():
        if task.ended.done() and _ID.fullmatch(task.id) and task.id not in known:
            context.background.start(task.delete(), f"forget task {task.id[:12]}")


def _sweep_snapshots(context: Context) -> None:
    """Remove the snapshots of containers that were being created when the daemon died, and make those anew that a power
    cut took from containers just made. Blocking."""
    known = context.containers.keys() | context.store.damaged
    for info in list(context.snapshots.walk()):
        if info.kind == ACTIVE and _ID.fullmatch(info.name) and info.name not in known:
            log.info("removing the snapshot of %s, which was never finished", info.name[:12])
            context.snapshots.remove(info.name)
    for container in context.all():
        record = container.record
        fresh = record.state is State.CREATED and not record.started and context.tasks.get(record.id) is None
        if fresh and not context.snapshots.exists(record.id):
            try:
                context.snapshots.prepare(record.id, context.images.resolve(record.image_id).top)
            except EngineError as error:
                log.error("container %s has lost its files: %s", record.id[:12], error)


async def _restore(context: Context, container: Container) -> None:
    record = container.record
    task = context.tasks.get(container.id)
    if record.state is State.REMOVING:
        context.background.start(remove.finish(context, container), f"remove {container.id[:12]}")
        return
    if task is not None and not task.ended.done():
        await _adopt(context, container, task)
        return
    if task is not None:
        status = await task.wait()
        if record.state in (State.RUNNING, State.PAUSED) or record.finished < status.finished_at:
            record.started = max(record.started, _start_of(task))
            await exits.ended(context, container, status, at_boot=True)
        await exits.clean_up(context, container)
        if await context.keep(container):
            await task.delete()
    elif record.state in (State.RUNNING, State.PAUSED):
        await exits.ended(context, container, ExitStatus(LOST, time.time_ns()), at_boot=True)
        await exits.clean_up(context, container)
    _what_next(context, container)


def _start_of(task: Task) -> int:
    """When an ended task began, in ns: by its own word, or by the age of what its shim noted then."""
    if not task.started_at:
        with contextlib.suppress(OSError):
            return (task.directory / STATE_NAME).stat().st_mtime_ns
    return task.started_at


async def _adopt(context: Context, container: Container, task: Task) -> None:
    """The container runs: be its supervisor again."""
    record = container.record
    container.task = task
    if task.paused and record.state is not State.PAUSED:
        await task.resume()  # nobody paused it: a commit held it still when the daemon died
    task.forget_ended_execs()  # execs live in memory: nobody knows those of the daemon before
    record.pid = task.pid
    record.started = task.started_at
    await context.moved(container, State.PAUSED if task.paused else State.RUNNING)
    if not record.host.network_mode.startswith(("container:", "host")):
        try:
            sandbox = await context.networks.adopt(container.id, task.pid)
            sandbox.close()
        except EngineError as error:
            log.error("the network of container %s could not be taken up: %s", container.id[:12], error)
    start.follow(context, container, task)


def _what_next(context: Context, container: Container) -> None:
    """A container that does not run: remove it, or start it if its policy says so."""
    record = container.record
    if record.host.auto_remove and record.started:
        context.background.start(remove.finish(context, container), f"remove {container.id[:12]}")
        return
    waits = record.state is State.RESTARTING
    if waits or (record.started and record.state is State.EXITED and _wanted(record)):
        record.state = State.RESTARTING
        context.background.start(_again(context, container), f"restart {container.id[:12]}")


def _wanted(record: Record) -> bool:
    return restart.wanted_at_boot(
        record.host.restart_policy,
        exit_code=record.exit_code,
        restarts=record.restart_count,
        stopped_by_user=record.stopped_by_user,
    )


async def _again(context: Context, container: Container) -> None:
    try:
        await start.again(context, container)
    except EngineError as error:
        log.warning("container %s could not be restarted: %s", container.id[:12], error)
