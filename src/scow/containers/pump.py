"""Bytes between a client's hijacked stream and an attachment of a process, until either side is done.

The shim has already framed the output (raw for a terminal), so bytes are copied as they are. Used by attach and exec.
"""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Protocol

from scow.containers.detach import Watch
from scow.errors import EngineError

if TYPE_CHECKING:
    from scow.tasks.attachment import Attachment

CHUNK = 64 << 10


class Peer(Protocol):
    """What the pump needs of the client's side; ``web.stream.Stream`` is one."""

    async def read(self, limit: int = CHUNK) -> bytes:
        """The next bytes, ``b""`` when the client has half-closed or is gone."""
        ...

    async def write(self, data: bytes) -> None:
        """Send all of `data`."""
        ...

    async def wait_closed(self) -> None:
        """Return when the connection is gone."""
        ...


class Pump:
    """One client's connection to one process.

    Args:
        keys: detach keys to look for in the input, None to pass everything on.
        stdin: pass input on at all.
        outputs: whether output was asked for; if not, the end of the input is the end.
        close_stdin: the end of the client's input closes the process's.
    """

    def __init__(
        self, attachment: "Attachment", *, keys: bytes | None, stdin: bool, outputs: bool, close_stdin: bool
    ) -> None:
        self._attachment = attachment
        self._watch = Watch(keys) if keys else None
        self._stdin = stdin
        self._outputs = outputs
        self._close_stdin = close_stdin
        self.detached = False
        #: Whether the process closed its output, as opposed to the client going away.
        self.finished = False

    async def run(self, peer: Peer) -> bool:
        """Copy until the process's output ends, the client is gone or detaches; whether it detached."""
        async with asyncio.TaskGroup() as group:
            output = group.create_task(self._output(peer))
            given = group.create_task(self._input(peer))
            gone = group.create_task(peer.wait_closed())
            running = {output, given, gone}
            while running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                if output in done or gone in done or (given in done and (self.detached or not self._outputs)):
                    break
            for task in running:
                task.cancel()
        return self.detached

    async def _output(self, peer: Peer) -> None:
        with contextlib.suppress(EngineError):  # a client that went away is not an error
            while data := await self._attachment.read(CHUNK):
                await peer.write(data)
            self.finished = True

    async def _input(self, peer: Peer) -> None:
        with contextlib.suppress(EngineError):  # nor is a process that closed its end
            while data := await peer.read(CHUNK):
                if self._watch is not None:
                    data, self.detached = self._watch.feed(data)
                if self._stdin and data:
                    await self._attachment.write(data)
                if self.detached:
                    return
            if self._watch is not None and self._stdin and (held := self._watch.rest()):
                await self._attachment.write(held)
            if self._stdin and self._close_stdin:
                self._attachment.write_eof()
