"""Ending and halting: stop, kill, pause, unpause. No lock is held while a container is given time to end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from scow.api import signal
from scow.containers.container import Container
from scow.containers.context import Context
from scow.containers.state import KILL, PAUSE, STOP, UNPAUSE, State, require
from scow.containers.wait import ALIVE, until_stopped
from scow.errors import Conflict, EngineError, System
from scow.runtime.cgroup import Cgroup

log = logging.getLogger("scow.containers")

SIGTERM, SIGKILL = 15, 9
#: Seconds a container gets to stop when nobody says otherwise (Docker's).
GRACE = 10
#: Seconds a killed container gets to be gone (Docker's).
AFTER_KILL = 10


def stop_signal(container: Container) -> int:
    """The signal that asks this container to stop."""
    wanted = container.record.config.stop_signal
    return signal.parse(wanted) if wanted else SIGTERM


def grace_of(container: Container, asked: int | None) -> float | None:
    """Seconds to wait after the signal, None for ever (-1)."""
    configured = container.record.config.stop_timeout
    seconds = asked if asked is not None else configured if configured is not None else GRACE
    return None if seconds < 0 else float(seconds)


async def stop(context: Context, ref: str, *, number: int | None = None, grace: int | None = None) -> None:
    """End the first process, kindly and then not.

    Args:
        number: signal instead of the container's own.
        grace: seconds before it is killed, -1 for never, None for the container's own.

    Raises:
        NoSuchContainer.
        NotModified: it does not run.
        System: it would not even be killed.
    """
    container = context.get(ref)
    require(STOP, container.state, container.name, container.id)
    await halt(context, container, number=number, grace=grace, by_user=True)
    context.tell(container, "stop")


async def halt(context: Context, container: Container, *, number: int | None, grace: int | None, by_user: bool) -> None:
    """`stop` without its checks and event; `by_user` keeps unless-stopped from starting it when the daemon comes up."""
    container.stopping = True
    if by_user:
        container.record.stopped_by_user = True
    if await _cancel_restart(context, container):
        return
    wait = grace_of(container, grace)
    if wait != 0:
        await _signal(context, container, number or stop_signal(container))
        await _thaw(container)
        if await until_stopped(container, wait):
            return
        log.info("container %s did not stop in %s seconds: killing it", container.id[:12], wait)
    await _kill(context, container)


async def _cancel_restart(context: Context, container: Container) -> bool:
    """End the waiting of a container that is between two runs; False if it is not."""
    async with container.lock:
        if container.state is not State.RESTARTING:
            return False
        if container.timer is not None:
            container.timer.cancel()
            container.timer = None
        container.exits += 1
        await context.moved(container, State.EXITED)
        return True


async def _kill(context: Context, container: Container) -> None:
    await _signal(context, container, SIGKILL)
    await _thaw(container)
    if not await until_stopped(container, AFTER_KILL):
        raise System(
            f"tried to kill container, but did not receive an exit event: container {container.id} may wait for a disk "
            "or network that does not answer"
        )


async def _signal(context: Context, container: Container, number: int) -> None:
    """Send a signal; a container that has just ended is not an error."""
    if container.task is None:
        return
    try:
        await container.task.kill(number)
    except Conflict:
        return
    context.tell(container, "kill", signal=str(number))


def _frozen(container: Container) -> bool:
    try:
        return Cgroup.open(container.cgroup).frozen()
    except (EngineError, OSError):
        return False  # it is going


async def _thaw(container: Container) -> None:
    """Let a paused container go on, so that it can take its signal; one that somebody else has frozen, too."""
    if container.task is not None and (container.state is State.PAUSED or _frozen(container)):
        try:
            await container.task.resume()
        except EngineError as error:
            log.debug("container %s ended while it was resumed: %s", container.id[:12], error)


async def kill(context: Context, ref: str, number: int = SIGKILL) -> None:
    """Send a signal to the first process; after SIGKILL return once it has ended.

    Raises:
        NoSuchContainer.
        Conflict: it does not run.
    """
    container = context.get(ref)
    require(KILL, container.state, container.name, container.id)
    if number in (SIGKILL, stop_signal(container)):
        container.stopping = True
        container.record.stopped_by_user = True
    if await _cancel_restart(context, container):
        return
    if number == SIGKILL:
        await _kill(context, container)
        return
    if container.task is None:
        raise Conflict(f"cannot kill container: {container.name}: container {container.id} is not running")
    await container.task.kill(number)
    context.tell(container, "kill", signal=str(number))
    if container.stopping:
        await _thaw(container)


async def end_now(context: Context, container: Container) -> None:
    """Kill a container that runs, as if it had died by itself: its restart policy has its say."""
    if container.state in (State.RUNNING, State.PAUSED):
        await _kill(context, container)


async def end(context: Context, container: Container) -> None:
    """Make sure it does not run, whatever that takes (a forced removal)."""
    if container.state in ALIVE:
        container.stopping = True
        container.record.stopped_by_user = True
        if not await _cancel_restart(context, container):
            await _kill(context, container)


async def pause(context: Context, ref: str) -> None:
    """Freeze every process in the container; they keep memory and open files.

    Raises:
        NoSuchContainer.
        Conflict: it is not running.
    """
    container = context.get(ref)
    async with container.lock:
        require(PAUSE, container.state, container.name, container.id)
        if container.task is None:
            raise Conflict(f"container {container.id} is not running")
        if container.monitor is not None:
            container.monitor.cancel()
            container.monitor = None
        await container.task.pause()
        await context.moved(container, State.PAUSED, "pause")


async def unpause(context: Context, ref: str, watch_health: Callable[[Context, Container], None]) -> None:
    """Let a frozen container go on.

    Raises:
        NoSuchContainer.
        Conflict: it is not paused.
    """
    container = context.get(ref)
    async with container.lock:
        require(UNPAUSE, container.state, container.name, container.id)
        if container.task is None:
            raise Conflict(f"container {container.id} is not running")
        await container.task.resume()
        await context.moved(container, State.RUNNING, "unpause")
        watch_health(context, container)


async def stop_all(context: Context, seconds: float) -> None:
    """Stop everything that runs because the daemon stops, all at once.

    Each gets its own time after its signal (``--stop-timeout``), or where it names none `seconds`, if that is less
    than the usual; negative is for ever.
    """
    running = [c for c in context.all() if c.state in ALIVE]

    async def one(container: Container) -> None:
        try:
            await halt(context, container, number=None, grace=shutdown_grace(container, seconds), by_user=False)
        except EngineError as error:
            log.error("container %s did not stop: %s", container.id[:12], error)

    work: list[Awaitable[None]] = [one(container) for container in running]
    await asyncio.gather(*work)


def shutdown_grace(container: Container, seconds: float) -> int:
    """Whole seconds between the signal and the kill when the daemon stops; -1 for ever."""
    own = container.record.config.stop_timeout
    if own is not None:
        return own
    return GRACE if 0 <= GRACE < seconds else int(seconds)
