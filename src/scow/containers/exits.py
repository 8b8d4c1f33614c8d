"""What happens when a container ends: tell, clean up, and what its restart policy says.

`wait` answers before the cleaning. The shim has written the exit down before it told us; the container's record follows
with the janitor, who then forgets the task. `supervise` is the one place that learns of an exit; everybody else waits
for the container to change.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from scow.containers import missed, restart
from scow.containers.container import Container, Record
from scow.containers.context import Context
from scow.containers.state import State
from scow.errors import EngineError
from scow.tasks.task import ExitStatus, Task

log = logging.getLogger("scow.containers")

#: Starts a container again for its policy (`start.again`), or removes it under its lock (`remove.at_end`).
Action = Callable[[Context, Container], Awaitable[None]]


async def supervise(context: Context, container: Container, task: Task, again: Action, remove: Action) -> None:
    """Wait for the task to end and do what follows. One runs per task, in the background."""
    status = await task.wait()
    async with container.lock:
        if container.task is not task:
            return
        delay = await ended(context, container, status)
        await clean_up(context, container)
        if delay is not None:
            _again_later(context, container, delay, again)
        elif container.record.host.auto_remove and not container.kept:
            await remove(context, container)  # under the same lock: nobody starts it in between


async def ended(context: Context, container: Container, status: ExitStatus, *, at_boot: bool = False) -> int | None:
    """Record an exit and tell everyone. Under the container's lock.

    Returns:
        Nanoseconds until its policy starts it again, None if it does not.
    """
    record = container.record
    container.task = None
    if container.monitor is not None:
        container.monitor.cancel()
        container.monitor = None
    record.pid = 0
    record.exit_code = status.code
    record.error = status.error
    record.finished = status.finished_at
    if record.health is not None:
        record.health.status = "unhealthy"  # nobody probes: what Docker says of it then
    delay = None if at_boot else _delay(context, container, lived(record, status))
    if status.oom_killed and not record.oom_killed:
        out_of_memory(context, container)  # nobody was there to hear of it when it happened
    container.exits += 1
    state = State.EXITED if delay is None else State.RESTARTING
    record.state = state
    if record.host.restart_policy.name not in ("", "no"):
        # Who ended it decides whether the next daemon starts it, and no file of the task's says that.
        await context.keep(container, durable=False)
    # A daemon that was killed may have told what it could not record any more.
    told = at_boot and context.events.told("container", "die", container.id, record.finished)
    await context.moved(container, state, *([] if told else ["die"]), durable=False, **missed.death(record))
    return delay


def out_of_memory(context: Context, container: Container) -> None:
    """The kernel has killed a process of the container for want of memory; the container may run on."""
    container.record.oom_killed = True
    context.tell(container, "oom")


def lived(record: Record, status: ExitStatus) -> int:
    """How long a run was, in ns: by the clock nobody sets if that is known, and never negative."""
    return max(0, status.finished_at - record.started if status.ran is None else status.ran)


def _delay(context: Context, container: Container, ran: int) -> int | None:
    """How long the policy waits before the next start, None if it does not start it again."""
    record = container.record
    by_user = record.stopped_by_user or container.stopping
    if context.closing or not restart.wanted(
        record.host.restart_policy, exit_code=record.exit_code, restarts=record.restart_count, stopped_by_user=by_user
    ):
        return None
    container.backoff = restart.next_delay(container.backoff, ran)
    return container.backoff


def _again_later(context: Context, container: Container, delay: int, again: Action) -> None:
    """Start the container again after `delay` ns, unless somebody stops, starts or removes it first."""

    def due() -> None:
        container.timer = None
        context.background.start(_restart(context, container, again), f"restart {container.id[:12]}")

    container.timer = asyncio.get_running_loop().call_later(delay / 1e9, due)


async def _restart(context: Context, container: Container, again: Action) -> None:
    try:
        await again(context, container)
    except EngineError as error:
        log.warning("container %s could not be restarted: %s", container.id[:12], error)


async def clean_up(context: Context, container: Container) -> None:
    """Give back what only a running container has: its network."""
    try:
        await context.networks.release(container.id)
    except EngineError as error:
        log.error("the network of container %s could not be released: %s", container.id[:12], error)
