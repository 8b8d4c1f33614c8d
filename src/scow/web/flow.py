"""Between threads and the loop: bytes a thread makes become an async body, an async body becomes a file for a thread.

Both are bounded: whoever is faster waits. A client that goes away makes the thread's next write or read raise
`Cancelled`.
"""

import asyncio
import concurrent.futures
import io
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO

from scow.errors import Cancelled

#: Bytes handed over at a time, and how many such pieces may wait.
PIECE = 256 << 10
WAITING = 4

Producer = Callable[[Callable[[bytes], object]], None]


async def produced(work: Producer) -> AsyncIterator[bytes]:
    """What `work(out)` writes, running in a thread, as pieces; its error is raised after the last of them.

    When the iterator is closed early, `out` raises `Cancelled` in the thread, and closing waits for it to end.
    """
    outlet = _Outlet(asyncio.get_running_loop())
    thread = asyncio.ensure_future(asyncio.to_thread(outlet.run, work))
    try:
        while (piece := await outlet.queue.get()) is not None:
            yield piece
        await thread
    finally:
        outlet.close()
        if not thread.done():
            await asyncio.wait({thread})
        thread.cancelled() or thread.exception()


class _Outlet:
    """Where a thread's bytes go; `queue` ends with None."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue(WAITING)
        self._loop = loop
        self._buffer = bytearray()
        self._closed = False
        self._handing: concurrent.futures.Future[None] | None = None

    def run(self, work: Producer) -> None:
        """In the thread: all of the work, then the end mark."""
        try:
            work(self._out)
            if self._buffer:
                self._hand_over(bytes(self._buffer))
        finally:
            if not self._closed:
                self._hand_over(None)

    def _out(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= PIECE:
            self._hand_over(bytes(self._buffer))
            self._buffer.clear()

    def _hand_over(self, piece: bytes | None) -> None:
        if not self._closed:
            self._handing = asyncio.run_coroutine_threadsafe(self.queue.put(piece), self._loop)
            try:
                self._handing.result()
                return
            except concurrent.futures.CancelledError:
                self._closed = True
        raise Cancelled("whoever was to read the archive went away")

    def close(self) -> None:
        """On the loop: nobody reads any more."""
        self._closed = True
        if self._handing is not None:
            self._handing.cancel()
        while not self.queue.empty():
            self.queue.get_nowait()


class Inlet(io.RawIOBase):
    """An async body as a file; read it in a thread while `feed` runs on the loop."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._body = body
        self._rest = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, target: bytearray) -> int:  # type: ignore[override]
        """The next bytes; 0 at the end of the body."""
        if not self._rest and not self._ended:
            piece = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
            self._rest = memoryview(piece)
            self._ended = not piece
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    async def _next(self) -> bytes:
        async for piece in self._body:
            if piece:
                return piece
        return b""


def inlet(body: AsyncIterator[bytes]) -> BinaryIO:
    """`body` as a buffered file for a thread."""
    return io.BufferedReader(Inlet(body), PIECE)  # type: ignore[type-var]
