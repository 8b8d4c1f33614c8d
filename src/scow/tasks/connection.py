"""The daemon's end of a packet socket (to a shim or to the keeper): requests with answers, events, descriptors.

Lives on the event loop; nothing here blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from scow.errors import Unavailable
from scow.shim import protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from scow.shim.protocol import Message


class Connection:
    """One packet socket.

    Args:
        event: called with every message that is not an answer.
        closed: called once, when the other side has gone or `close` was called.
    """

    def __init__(self, end: socket.socket, event: Callable[[Message], None], closed: Callable[[], None]) -> None:
        end.setblocking(False)
        self._socket = end
        self._event = event
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self._number = 0
        self._gone = asyncio.Event()
        self.open = True
        self._loop.add_reader(end.fileno(), self._readable)

    def _readable(self) -> None:
        while self.open:
            try:
                message, fds = protocol.receive(self._socket)
            except BlockingIOError:
                return
            for fd in fds:
                os.close(fd)
            if message is None:
                self.close()
            elif "n" in message:
                answer = self._answers.pop(message["n"], None)
                if answer is not None and not answer.done():
                    answer.set_result(message)
            else:
                self._event(message)

    async def ask(self, message: Message, fds: list[int] | None = None) -> Message:
        """Send a request and wait for its answer; `fds` stay the caller's.

        Raises:
            Unavailable: the other side went away, before or while it was asked.
        """
        self._number += 1
        number = self._number
        answer: asyncio.Future[Message] = self._loop.create_future()
        self._answers[number] = answer
        try:
            await self.send({"n": number, **message}, fds)
            return await answer
        finally:
            self._answers.pop(number, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # taken note of, also where sending failed first

    async def send(self, message: Message, fds: list[int] | None = None) -> None:
        """Send a message that has no answer.

        Raises:
            Unavailable: the other side has gone.
        """
        while self.open:
            try:
                protocol.send(self._socket, message, fds)
            except BlockingIOError:
                await self._writable()
            except (BrokenPipeError, ConnectionResetError):
                self.close()
            else:
                return
        raise Unavailable("the supervising process has gone: retry")

    async def _writable(self) -> None:
        ready = self._loop.create_future()
        fd = self._socket.fileno()
        self._loop.add_writer(fd, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            self._loop.remove_writer(fd)

    def close(self) -> None:
        """Hang up; those who wait for an answer get `Unavailable`."""
        if not self.open:
            return
        self.open = False
        self._loop.remove_reader(self._socket.fileno())
        with contextlib.suppress(OSError):
            self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(Unavailable("the supervising process has gone: retry"))
        self._answers.clear()
        self._gone.set()
        self._closed()

    async def until_closed(self) -> None:
        """Wait for the other side to go."""
        await self._gone.wait()
