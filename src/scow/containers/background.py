"""Who owns the tasks nobody waits for: supervisors of containers, health probes, timers' work.

Every one is started here, none outlives `close`, and one that fails says so in the log and harms no other.
"""

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

log = logging.getLogger("scow.containers")

P = ParamSpec("P")
T = TypeVar("T")


async def to_the_end(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking work in a thread; a cancellation waits for it, so that nobody works on the same files meanwhile."""
    # Not `to_thread` in a task: that is an object and two turns of the loop more.
    return await to_the_end_of(
        asyncio.get_running_loop().run_in_executor(None, functools.partial(function, *args, **kwargs))
    )


async def to_the_end_of(work: asyncio.Future[T]) -> T:
    """The result of work in a thread; a cancellation waits for it."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        raise


class Background:
    """Starts tasks and ends them with `close`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None] | None:
        """Run `work` beside everything else; after `close` it is dropped."""
        if self._closed:
            work.close()
            return None
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)

    async def close(self) -> None:
        """Cancel what still runs and wait for it to end."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)
