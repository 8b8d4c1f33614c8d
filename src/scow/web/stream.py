"""A byte stream over a socket, with back-pressure both ways and a half-close that is honoured.

`Stream` is what the server and the client read requests and answers from, and what a hijacked handler is given. It
works on any asyncio transport: a plain socket, or the TLS layer of ``web/tls.py``. Invariants: at most `READ_AHEAD`
bytes plus one chunk wait unread; `write` returns only when the transport has room again; the peer's end of sending
never ends ours.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import cast

from scow.errors import Cancelled

#: Unread bytes at which reading from the socket pauses.
READ_AHEAD = 256 << 10
#: Unsent bytes at which `write` starts to wait.
WRITE_AHEAD = 256 << 10


class Stream(asyncio.Protocol):
    """Bytes in, bytes out; `read` gives ``b""`` once the peer has finished sending."""

    def __init__(self, connected: Callable[["Stream"], None] | None = None) -> None:
        self._connected = connected
        self._transport: asyncio.Transport | None = None
        self._chunks: deque[bytes] = deque()
        self._waiting = 0
        self._reading_paused = False
        self._writing_paused = False
        self._eof = False
        self._lost = False
        self._reader: asyncio.Future[None] | None = None
        self._writers: deque[asyncio.Future[None]] = deque()
        self._ended: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] | None = None

    # -- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A socket is there."""
        # Not every loop's transports inherit from asyncio's class (uvloop's do not); they only behave like it.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_AHEAD)
        if self._connected is not None:
            self._connected(self)

    def data_received(self, data: bytes) -> None:
        """Keep `data` for the reader; stop reading from the socket when too much waits."""
        self._chunks.append(data)
        self._waiting += len(data)
        if self._waiting > READ_AHEAD and not self._reading_paused and self._transport is not None:
            self._transport.pause_reading()
            self._reading_paused = True
        self._wake_reader()

    def eof_received(self) -> bool:
        """The peer sends no more; keep the other direction open."""
        self._eof = True
        self._wake_reader()
        _resolve(self._ended)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone in both directions."""
        self._lost = self._eof = True
        self._wake_reader()
        for writer in self._writers:
            _resolve(writer)
        _resolve(self._ended)
        _resolve(self._closed)

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """The transport's buffer has drained."""
        self._writing_paused = False
        for writer in self._writers:
            _resolve(writer)

    def _wake_reader(self) -> None:
        _resolve(self._reader)

    # -- what users of the stream call -----------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether the peer has finished sending (or is gone altogether)."""
        return self._eof

    @property
    def lost(self) -> bool:
        """Whether the connection is gone in both directions."""
        return self._lost

    @property
    def pending(self) -> bool:
        """Whether `read` would return data at once."""
        return bool(self._chunks)

    @property
    def transport(self) -> asyncio.Transport:
        """The transport below, for its `get_extra_info`."""
        assert self._transport is not None
        return self._transport

    async def read(self, limit: int = 65536) -> bytes:
        """The next bytes, at most `limit`; ``b""`` when the peer has half-closed or is gone. One reader at a time."""
        await self.wait_readable()
        if not self._chunks:
            return b""
        chunk = self._chunks.popleft()
        if len(chunk) > limit:
            self._chunks.appendleft(chunk[limit:])
            chunk = chunk[:limit]
        self._waiting -= len(chunk)
        if self._reading_paused and self._waiting <= READ_AHEAD // 2 and not self._lost:
            self._reading_paused = False
            self.transport.resume_reading()
        return chunk

    def unread(self, data: bytes) -> None:
        """Put `data` back before everything else that waits to be read."""
        if data:
            self._chunks.appendleft(data)
            self._waiting += len(data)
            self._wake_reader()

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; returns when the transport has room for more.

        Raises:
            Cancelled: the peer is gone.
        """
        if self._lost or self._transport is None or self._transport.is_closing():
            raise Cancelled("the other side closed the connection")
        self._transport.write(data)
        if self._writing_paused:
            await self.drain()

    async def drain(self) -> None:
        """Wait until the transport has room.

        Raises:
            Cancelled: the peer is gone.
        """
        while self._writing_paused and not self._lost:
            writer = asyncio.get_running_loop().create_future()
            self._writers.append(writer)
            try:
                await writer
            finally:
                self._writers.remove(writer)
        if self._lost:
            raise Cancelled("the other side closed the connection")

    def write_eof(self) -> None:
        """Tell the peer that nothing more comes from here; reading goes on."""
        if self._transport is not None and not self._transport.is_closing() and self._transport.can_write_eof():
            with contextlib.suppress(OSError):  # the peer is gone; connection_lost tells
                self._transport.write_eof()

    def close(self) -> None:
        """Close both directions once what was written has been sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close both directions now; what was not sent is dropped, and the peer can tell."""
        if self._transport is not None:
            self._transport.abort()

    async def wait_ended(self) -> None:
        """Return when the peer has finished sending or is gone; reads nothing."""
        if not self._eof:
            if self._ended is None:
                self._ended = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._ended)

    async def wait_readable(self) -> None:
        """Return when `read` would return at once; reads nothing. Not while somebody else reads."""
        while not self._chunks and not self._eof:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None

    async def wait_closed(self) -> None:
        """Return when the connection is gone."""
        if not self._lost:
            if self._closed is None:
                self._closed = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._closed)


def _resolve(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
