"""A bridge from the loop to a thread: chunks that arrive asynchronously, read as a blocking stream.

A build context is unpacked while it is still being uploaded. The feed is bounded (`MAX_WAITING` bytes), so a fast
client waits for a slow disk.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from io import RawIOBase
from typing import BinaryIO, TypeVar, cast

from scow.errors import Cancelled

T = TypeVar("T")

MAX_WAITING = 4 << 20


class Feed(RawIOBase):
    """`push` on the loop, `read` in one thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._room = asyncio.Event()
        self._chunks: deque[bytes] = deque()
        self._waiting = 0
        self._ended = False
        self._broken = False
        self._unread = False

    async def push(self, chunk: bytes) -> None:
        """Hand one chunk over, waiting for room while somebody reads."""
        if not chunk:
            return  # to a reader nothing means the end
        with self._changed:
            self._chunks.append(chunk)
            self._waiting += len(chunk)
            self._room.clear()
            full = self._waiting > MAX_WAITING and not self._unread
            self._changed.notify()
        if full:
            await self._room.wait()

    def end(self, broken: bool = False) -> None:
        """No more chunks; `broken` when the sender went away, which the reader sees as `Cancelled`."""
        with self._changed:
            self._ended = True
            self._broken = self._broken or broken
            self._changed.notify()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, b"" at the end. Blocks until there are some."""
        with self._changed:
            while not self._chunks and not self._ended:
                self._changed.wait()
            if self._broken:
                raise Cancelled("the build context was not sent completely: the client went away")
            if not self._chunks:
                return b""
            chunk = self._chunks.popleft()
            if 0 <= size < len(chunk):
                self._chunks.appendleft(chunk[size:])
                chunk = chunk[:size]
            self._waiting -= len(chunk)
            if self._waiting <= MAX_WAITING // 2:
                self._tell()
            return chunk

    def abandon(self) -> None:
        """The reader is done with it: whatever else comes is dropped."""
        with self._changed:
            self._unread = True
            self._chunks.clear()
            self._waiting = 0
        self._tell()

    def _tell(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._room.set)


async def pump(chunks: AsyncIterator[bytes], read: Callable[[BinaryIO], T]) -> T:
    """Run `read(stream)` in a thread while `chunks` are fed to it; its result.

    The rest of the chunks is taken and dropped when `read` is done early, so that a client which sends the whole body
    before it listens gets its answer. When the caller is cancelled, `read` sees `Cancelled` and is waited for.
    """
    feed = Feed()

    def work() -> T:
        try:
            return read(cast("BinaryIO", feed))
        finally:
            feed.abandon()

    reading = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        async for chunk in chunks:
            await feed.push(bytes(chunk))
        feed.end()
        return await reading
    except BaseException:
        feed.end(broken=True)
        await _settled(reading)
        raise


async def _settled(work: "asyncio.Future[T]") -> None:
    """Wait for a thread that was told to stop, also while being cancelled again."""
    while not work.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([work])
    if not work.cancelled():
        work.exception()
