"""A progress stream: objects put in from any thread come out as JSON lines for a response body.

Lines end in CRLF as Docker's do. The queue is bounded by folding: while the client is slow, a later progress message
of the same id and status replaces the one that still waits, so a slow terminal costs neither memory nor pull speed.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any

from scow.web.response import encode

#: Waiting lines from which on messages of the same id and status are folded.
FOLD_ABOVE = 256


class JsonLines:
    """Put objects with `put` (thread-safe), then `close`; iterate for the encoded lines."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._closed = False
        self.used = False
        """Whether anything was ever put in."""
        self._ready = asyncio.Event()

    def put(self, value: Mapping[str, Any]) -> None:
        """Queue one object; after `close` it is dropped. Never blocks; safe from any thread."""
        with self._lock:
            if self._closed:
                return
            self.used = True
            self._fold(value)
            wake = len(self._waiting) == 1
        if wake:
            self._wake()

    def error(self, message: str) -> None:
        """Queue Docker's shape of an error that comes after the headers were sent."""
        self.put({"errorDetail": {"message": message}, "error": message})

    def close(self) -> None:
        """End the stream once everything queued has been sent. Safe from any thread."""
        with self._lock:
            self._closed = True
        self._wake()

    async def wait(self) -> None:
        """Return when there is a line to read, or the stream has ended."""
        await self._ready.wait()

    def _fold(self, value: Mapping[str, Any]) -> None:
        if len(self._waiting) >= FOLD_ABOVE and value.get("progressDetail"):
            key = (value.get("id"), value.get("status"))
            for position, other in enumerate(self._waiting):
                if (other.get("id"), other.get("status")) == key and other.get("progressDetail"):
                    self._waiting[position] = value
                    return
        self._waiting.append(value)

    def _wake(self) -> None:
        if _runs(self._loop):
            self._ready.set()
            return
        try:
            self._loop.call_soon_threadsafe(self._ready.set)
        except RuntimeError:
            return  # the loop is closed: nobody reads any more

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await self._ready.wait()
            with self._lock:
                batch = list(self._waiting)
                self._waiting.clear()
                self._ready.clear()
                closed = self._closed
            if batch:
                yield b"".join(encode(value) + b"\r\n" for value in batch)
            if closed:
                return


def _runs(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
