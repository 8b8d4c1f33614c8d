"""Another shim for a container whose own was killed: asked for through the keeper, and brought together with it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import TYPE_CHECKING

from scow.errors import EngineError, Unavailable
from scow.linux import pidfd, proc
from scow.shim import protocol
from scow.tasks.connection import Connection
from scow.tasks.task import read_state

if TYPE_CHECKING:
    from scow.shim.protocol import Message
    from scow.tasks.keeper import KeeperHandle
    from scow.tasks.task import Task

log = logging.getLogger("scow.tasks")

#: Successors that may die before they speak.
ATTEMPTS = 5
#: Seconds for a successor to speak: it may have a spool to put into the log first.
SILENCE = 30.0
#: Seconds a killed shim may take to be gone: a disk that does not answer can hold it.
DYING = 10.0


async def succeed(keeper: KeeperHandle, task: Task) -> bool:
    """Connect `task` to the shim that has succeeded its own, or make one do so.

    Returns:
        False if there is nothing to be supervised any more (see the exit record), or nobody can.
    """
    await _until_gone(*task.shim)
    for _attempt in range(ATTEMPTS):
        if (task.directory / protocol.EXIT_NAME).exists() or not read_state(task.directory).get("started_at"):
            return False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        greeted = _connect(task, ours)
        with theirs:
            message: Message = {"do": "succeed", "id": task.id, "directory": str(task.directory)}
            try:
                await keeper.request(message, [theirs.fileno(), *([] if task.pidfd < 0 else [task.pidfd])])
            except EngineError as error:
                log.error("container %s has lost its shim, and gets no other: %s", task.id, error)
                return False
        try:
            async with asyncio.timeout(SILENCE):
                if await greeted:
                    return True
        except TimeoutError:
            task.hang_up()
    return False


def _connect(task: Task, end: socket.socket) -> asyncio.Future[bool]:
    """Talk to whoever is at the other side; the future tells whether it said something before it hung up."""
    greeted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def hear(message: Message) -> None:
        if not greeted.done():
            greeted.set_result(True)
        task.hear(message)

    def closed() -> None:
        if not greeted.done():
            greeted.set_result(False)
        elif not greeted.cancelled():
            task.shim_gone()

    task.connection = Connection(end, hear, closed)
    return greeted


async def _until_gone(pid: int, start_time: int) -> None:
    """Wait for a shim that has hung up to be gone: what is sent to it as long as it still dies is lost."""
    try:
        fd = pidfd.pidfd_open(pid) if pid else -1
    except ProcessLookupError:
        return
    if fd < 0:
        return
    loop = asyncio.get_running_loop()
    gone = loop.create_future()
    try:
        if proc.start_time(pid) != start_time:
            return
        loop.add_reader(fd, lambda: None if gone.done() else gone.set_result(None))
        async with asyncio.timeout(DYING):
            await gone
    except (FileNotFoundError, ProcessLookupError, TimeoutError):
        return
    finally:
        loop.remove_reader(fd)
        os.close(fd)


async def introduce(keeper: KeeperHandle, task: Task) -> None:
    """Bring a shim together with a keeper that did not fork it: it is looked after from now on, as any other."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        try:
            # The shim first: it may have to be succeeded before it answers, by the keeper, which would wait for us.
            await task.ask({"do": "keeper"}, [theirs.fileno()])
            message: Message = {"do": "adopt", "id": task.id, "directory": str(task.directory)}
            await keeper.request(message, [ours.fileno()])
        except (EngineError, Unavailable) as error:
            log.debug("the shim of container %s does not know the new keeper: %s", task.id, error)
