"""What may come after an answer: records that must become durable, tasks that have ended, files of what was removed.

Nothing of this is lost with the daemon: until a record is saved, its task's own files say the same (`restore`), and
what was removed goes by a name that is swept at the next start. `close` finishes all of it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from scow.containers.background import to_the_end_of
from scow.containers.container import Container
from scow.errors import EngineError

if TYPE_CHECKING:
    from scow.tasks.task import Task
    from scow.tasks.tasks import Tasks

log = logging.getLogger("scow.containers")

#: Seconds until a change is made durable. Most containers that end within them are removed within them, too, and then
#: cost the disk nothing at all.
DELAY = 0.25
#: Seconds until a record that could not be saved is tried again.
RETRY = 10.0
#: Seconds `close` waits for cgroups and mounts of removed containers to be gone.
PATIENCE = 5.0


class Janitor:
    """One per engine; its work runs in the background, a container at a time.

    Args:
        keep: saves a container's record durably; whether it did.
    """

    def __init__(self, tasks: "Tasks", keep: Callable[[Container], Awaitable[bool]]) -> None:
        self._tasks = tasks
        self._keep = keep
        self._dirty: dict[str, Container] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._work: set[asyncio.Task[None]] = set()
        #: One: threads that work at the same time take the interpreter from each other at every system call.
        self._thread = ThreadPoolExecutor(1, "scow-janitor")

    def soon(self, container: Container) -> None:
        """Save the container's record durably within `DELAY`, and then let go of its ended task."""
        self._mark(container, DELAY)

    def _mark(self, container: Container, delay: float) -> None:
        self._dirty[container.id] = container
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + delay:
                return
            self._timer.cancel()
        self._timer = loop.call_later(delay, self._due)

    def _due(self) -> None:
        self._timer = None
        self._begin(self._settle_all(), "settle containers")

    def _begin(self, work: "asyncio._CoroutineLike[None]", name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._work.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)

    async def _settle_all(self) -> None:
        due, self._dirty = self._dirty, {}
        for container in due.values():
            if not container.removed:
                await self.settle(container)

    async def settle(self, container: Container) -> None:
        """Save the container's record now, and forget its task if that has ended: the record says it from now on."""
        if not await self._keep(container):
            if not self._closing:  # the disk was full, or files too many
                self._mark(container, RETRY)
            return
        task = self._tasks.get(container.id)
        if task is not None and task.ended.done():
            self._begin(self._forget(container, task), f"forget task {task.id[:12]}")

    async def _forget(self, container: Container, task: "Task") -> None:
        # Its cgroup and mounts may take a while to go: nobody shall wait for them behind the container's lock.
        await asyncio.shield(task.removed)
        async with container.lock:
            if self._tasks.get(container.id) is task and container.task is not task:
                await _delete(task)

    def release(self, close: Callable[[], None]) -> None:
        """Let go of something where nobody waits for it; `close` does not fail."""
        asyncio.get_running_loop().run_in_executor(self._thread, close)

    @property
    def idle(self) -> bool:
        """Whether everything is done."""
        return not self._dirty and not self._work

    def bury(self, container: Container, rest: Callable[[], None]) -> None:
        """Delete what a removed container leaves: its task once that is gone, and then its files, by `rest`."""
        self._dirty.pop(container.id, None)
        self._begin(self._bury(container, rest), f"bury {container.id[:12]}")

    async def _bury(self, container: Container, rest: Callable[[], None]) -> None:
        task = self._tasks.get(container.id)
        if task is not None:
            await _delete(task)
        await to_the_end_of(asyncio.get_running_loop().run_in_executor(self._thread, rest))

    async def close(self) -> None:
        """Do now what waits for its time, and wait for what is under way."""
        self._closing = True
        await self._settle_all()
        if self._work:
            await asyncio.wait(self._work, timeout=PATIENCE)
        await self.abandon()

    async def abandon(self) -> None:
        """Stop where it is; the next daemon goes on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._dirty.clear()
        for task in list(self._work):
            task.cancel()
        if self._work:
            await asyncio.wait(self._work)
        self._thread.shutdown(wait=False)


async def _delete(task: "Task") -> None:
    try:
        await task.delete()
    except EngineError as error:
        log.error("task %s could not be deleted: %s", task.id[:12], error)
