"""A log written by a process of its own: where writing may take long (another program's log, ``mode=non-blocking``).

The shim hands chunks over through a pipe and never waits. What the pipe does not take is queued: in blocking mode up to
`HIGH` bytes, then the container is made to wait (`full`); in non-blocking mode up to ``max-buffer-size``, then whole
lines are dropped, counted, and noted in the log. The courier ends when the pipe does and all is written: it outlives a
shim that is killed.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import sys
import time
from collections import deque

from scow.errors import EngineError, System
from scow.linux import proc
from scow.logs.driver import open_sink
from scow.logs.options import buffer_size
from scow.shim.loop import WRITE, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from scow.logs.driver import LogConfig, Sink

#: Bytes queued at which the container is made to wait, and at which it goes on.
HIGH, LOW = 256 << 10, 64 << 10
#: Seconds for the log to be opened, and for the rest to be written after the container's end.
OPENING, CLOSING = 30.0, 5.0
#: Seconds after which a courier that died is replaced.
_AGAIN = 1.0
#: stream (0: clear the log), length, time.
_HEADER = struct.Struct("<BxxxIq")


class Courier:
    """The shim's side.

    `on_room`: called when the container may go on. `dropped`: bytes that were.

    Raises:
        System: the log cannot be opened; the sentence is Docker's.
    """

    __slots__ = (
        "_again", "_alive", "_config", "_fd", "_limit", "_loop", "_lost", "_queue", "_size", "_skipping", "_waiting",
        "dropped", "on_room",
    )  # fmt: skip

    def __init__(self, config: LogConfig, loop: Loop) -> None:
        self._config = config
        self._loop = loop
        self._limit = buffer_size(config.options)
        self._queue: deque[memoryview] = deque()
        self._size = 0
        self._lost = 0
        self._skipping = [False, False, False]
        self._waiting = False
        self._again = 0.0
        self._fd = self._alive = -1
        self.dropped = 0
        self.on_room: Callable[[], None] = _nothing
        self._start(first=True)

    def _start(self, *, first: bool) -> None:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        alive, told = os.pipe2(os.O_CLOEXEC)
        if os.fork() == 0:
            _be_courier(self._config, reading, told, first)
        os.close(reading)
        os.close(told)
        os.set_blocking(writing, False)
        self._fd, self._alive = writing, alive
        if first and (problem := self._opened()):
            self._shut()
            raise System(f"failed to initialize logging driver: {problem}")

    def _opened(self) -> str:
        """Why the log could not be opened, "" if it was."""
        poll = select.poll()
        poll.register(self._alive, select.POLLIN)
        if not poll.poll(OPENING * 1000):
            return "timed out"
        answer = os.read(self._alive, 4096).decode("utf-8", "replace")
        return "" if answer == "\0" else answer or "its process died"

    @property
    def full(self) -> bool:
        """Whether the container has to wait."""
        return self._waiting

    def write(self, stream: int, data: bytes, when_ns: int) -> None:
        """Hand a chunk over, or queue it, or drop of it what there is no room for."""
        if self._fd < 0 and not self._replaced():
            self._drop(stream, data)
            return
        if self._limit:
            data = self._fitting(stream, data)
            if not data:
                return
            if self._lost:
                text = f"[scow: {self._lost} bytes of output were lost here: the log could not keep up]\n".encode()
                self._lost = 0
                self._push(_HEADER.pack(2, len(text), when_ns) + text)
        self._push(_HEADER.pack(stream, len(data), when_ns), data)
        if not self._limit and self._size > HIGH:
            self._waiting = True

    def _fitting(self, stream: int, data: bytes) -> bytes:
        """The part of `data` there is room for: whole lines, and everything where nothing else waits."""
        if self._skipping[stream]:
            begin = data.find(b"\n") + 1
            self._drop(stream, data[:begin] if begin else data)
            data = data[begin:] if begin else b""
        if not data or not self._size or self._size + len(data) <= self._limit:
            return data
        cut = data.rfind(b"\n", 0, max(0, self._limit - self._size)) + 1
        self._drop(stream, data[cut:])
        return data[:cut]

    def _drop(self, stream: int, data: bytes) -> None:
        if data:
            self.dropped += len(data)
            self._lost += len(data)
            self._skipping[stream] = data[-1] != 10

    def _replaced(self) -> bool:
        """Start another courier for one that died, after a while."""
        if time.monotonic() < self._again:
            return False
        self._start(first=False)
        return True

    def _push(self, *parts: bytes) -> None:
        if not self._queue and self._fd >= 0:
            try:
                written = os.writev(self._fd, parts)
            except BlockingIOError:
                written = 0
            except BrokenPipeError:
                self._died()
                return
        else:
            written = 0
        for part in parts:
            if written < len(part):
                self._queue.append(memoryview(part)[written:])
                self._size += len(part) - written
            written = max(0, written - len(part))
        if self._queue:
            self._loop.watch(self._fd, WRITE, self._flush)

    def _flush(self, _events: int = 0) -> None:
        while self._queue:
            try:
                written = os.write(self._fd, self._queue[0])
            except BlockingIOError:
                break
            except BrokenPipeError:
                self._died()
                break
            self._size -= written
            if written == len(self._queue[0]):
                self._queue.popleft()
            else:
                self._queue[0] = self._queue[0][written:]
        if not self._queue and self._fd >= 0:
            self._loop.forget(self._fd)
        if self._waiting and self._size <= LOW:
            self._waiting = False
            self.on_room()

    def _died(self) -> None:
        """The courier is gone, with what it had: another one is started later."""
        print(f"log: the process that writes {self._config.driver} died", file=sys.stderr, flush=True)
        self._again = time.monotonic() + _AGAIN
        self.dropped += self._size
        self._lost += self._size
        self._queue.clear()
        self._size = 0
        self._shut()

    def clear(self) -> None:
        """Have the log emptied, after what is on its way to it."""
        self._push(_HEADER.pack(0, 0, 0))

    def close(self) -> None:
        """Hand the rest over, and wait a little until files are written."""
        self._waiting = False
        deadline = time.monotonic() + CLOSING
        poll = select.poll()
        if self._fd >= 0:
            poll.register(self._fd, select.POLLOUT)
            while self._queue and (left := deadline - time.monotonic()) > 0 and poll.poll(left * 1000):
                self._flush()
                if self._fd < 0:
                    return
            poll.unregister(self._fd)
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd = -1
        if self._alive >= 0 and self._config.driver in ("local", "json-file"):
            poll.register(self._alive, select.POLLIN)
            while (left := deadline - time.monotonic()) > 0 and poll.poll(left * 1000) and os.read(self._alive, 64):
                pass
        self._shut()

    def _shut(self) -> None:
        for fd in (self._fd, self._alive):
            if fd >= 0:
                self._loop.forget(fd)
                os.close(fd)
        self._fd = self._alive = -1


def _nothing() -> None:
    """What `on_room` is until somebody wants to know."""


def _be_courier(config: LogConfig, reading: int, alive: int, first: bool) -> None:
    """The other process; never returns."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # of compression
        os.dup2(reading, 0)
        os.dup2(alive, 1)
        os.closerange(3, 1 << 20)  # pipes of the container, sockets of those attached
        proc.set_title("scow-log")
        sink: Sink = open_sink(config)
        if first:
            from scow.logs.remote import RemoteWriter

            if isinstance(sink, RemoteWriter):
                sink.connect()
            os.write(1, b"\0")
        _copy(sink)
        sink.close()
    except (OSError, EngineError) as error:
        text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        for fd, told in ((1, text), (2, f"log: {text}\n")):
            with contextlib.suppress(OSError):
                os.write(fd, told.encode()[:4000])
    finally:
        os._exit(0)


def _copy(sink: Sink) -> None:
    """Chunks from the pipe (descriptor 0) to the log, until it ends; half a chunk at its end is not one."""
    while True:
        head = _exactly(_HEADER.size)
        if len(head) < _HEADER.size:
            return
        stream, length, when = _HEADER.unpack(head)
        if not stream:
            with contextlib.suppress(EngineError, OSError):
                sink.clear()
            continue
        data = _exactly(length)
        if len(data) < length:
            return
        with contextlib.suppress(OSError):
            sink.write(stream, data, when)


def _exactly(count: int) -> bytes:
    """The next `count` bytes of the pipe, fewer at its end."""
    data = os.read(0, count)
    if len(data) == count or not data:
        return data
    found = bytearray(data)
    while len(found) < count and (data := os.read(0, count - len(found))):
        found += data
    return bytes(found)
