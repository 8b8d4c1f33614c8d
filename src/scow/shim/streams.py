"""One process's stdio: from its pipes or terminal to the log and to everybody attached, and back to its stdin.

Policy for a reader that is slower than the container: up to `HIGH` bytes wait for each attached socket; beyond that
nothing more is read from the container, so it blocks as it would at a slow terminal. Where the output is logged too,
a socket that takes nothing for `STALL` seconds is dropped (closed): one forgotten client must not stop the container
and its log for ever. Without a log the reader is all there is, and the container waits for it as a pipeline does.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import time

from scow.api import streams as frames
from scow.linux import memory
from scow.shim.loop import READ, WRITE, Loop
from scow.shim.tap import CHUNK, Tap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from scow.logs.driver import Writer
    from scow.shim.protocol import Streams


#: Size of a chunk after which, and seconds of quiet after which, memory is given back.
MUCH, QUIET = 64 << 10, 1.0
#: Bytes waiting for one attached socket at which the container is made to wait, and at which it goes on.
HIGH, LOW = 1 << 20, 256 << 10
#: Bytes waiting for the container's stdin at which no more is taken from those attached.
STDIN_HIGH = 256 << 10
#: Seconds without progress after which an attached socket is given up, if there is a log.
STALL = 60.0
#: Seconds after a process's end for which its streams stay attached while its offspring holds them open.
LINGER = 2.0

_GONE = (errno.EPIPE, errno.ECONNRESET, errno.EBADF)


class Attached:
    """One attached socket and what waits to be written to it."""

    __slots__ = ("closing", "pending", "reading", "size", "socket", "wants")

    def __init__(self, end: socket.socket, wants: Streams) -> None:
        self.socket = end
        self.wants = wants
        self.pending: list[memoryview] = []
        self.size = 0
        self.reading = True
        self.closing = False


class Stdio:
    """The streams of one process.

    Args:
        sources: (descriptor, stream number) of what it writes; one master with a terminal.
        stdin: where to write its input, None if it has none; the master with a terminal.
        terminal: bytes go raw, without frames.
        log: where the output is kept; with a `Tap` and no terminal nothing of it is lost with this process.
        drained: called once, when nothing more can come and everything has been handed over.
    """

    __slots__ = (
        "_attached",
        "_ended",
        "_finished",
        "_flows",
        "_loop",
        "_paused",
        "_sources",
        "_stdin",
        "_stdin_ends",
        "_stdin_pending",
        "_waits",
        "drained",
        "input_ended",
        "log",
        "terminal",
    )

    def __init__(
        self,
        loop: Loop,
        sources: list[tuple[int, int]],
        stdin: int | None,
        terminal: bool,
        log: Writer | Tap | None,
        drained: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._sources = dict(sources)
        self._stdin = stdin
        self._stdin_pending = bytearray()
        self._stdin_ends = False
        self._attached: list[Attached] = []
        self._paused = False
        self._ended = False
        self._finished = False
        self._flows = False
        self.terminal = terminal
        self.log = log
        self.drained = drained
        self.input_ended: Callable[[], None] = _nothing  # called when no more input is wanted
        for fd in {*self._sources, *([stdin] if stdin is not None else [])}:
            os.set_blocking(fd, False)
        self._waits = log.courier if isinstance(log, Tap) else None
        if self._waits is not None:
            self._waits.on_room = lambda: self._pause(False)
        self._watch_sources()

    @property
    def master(self) -> int | None:
        """The terminal's descriptor, None without one."""
        return self._stdin if self.terminal else None

    def ends(self) -> tuple[dict[int, int], int | None]:
        """What is open now: descriptors that are read, by stream number, and the one that is written."""
        return self._sources, self._stdin

    # ── out ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _watch_sources(self) -> None:
        for fd in self._sources:
            write = WRITE if fd == self._stdin and self._stdin_pending else 0
            self._loop.watch(fd, (0 if self._paused else READ) | write, self._handler(fd))

    def _handler(self, fd: int) -> Callable[[int], None]:
        def ready(events: int) -> None:
            if events & WRITE and fd == self._stdin:
                self._write_stdin()
            if events & ~WRITE and fd in self._sources and not (self._paused and events & READ):
                self._read(fd)

        return ready

    def _read(self, fd: int) -> bool:
        """Move one chunk; False when there is none (now, or ever again)."""
        stream = self._sources[fd]
        tap = self.log if isinstance(self.log, Tap) and not self.terminal else None
        try:
            data = os.read(fd, CHUNK) if tap is None else tap.take(fd, stream)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal whose other side is closed
                raise
            data = b""
        if not data:
            self._close_source(fd)
            return False
        if len(data) >= MUCH:
            self._much()
        if tap is None and self.log is not None:
            try:
                self.log.write(stream, data, time.time_ns())
            except OSError as error:
                print(f"log: {error}", file=sys.stderr, flush=True)
        for attached in list(self._attached):
            if attached.wants.stdout if stream == frames.STDOUT else attached.wants.stderr:
                self._push(attached, stream, data)
        if self._waits is not None and self._waits.full and not self._ended:
            self._pause(True)
        return True

    def _much(self) -> None:
        """A lot of data flows: keep its buffers, until it is quiet."""
        if not self._flows:
            self._flows = True
            memory.reuse_buffers()
        self._loop.at(self._quiet, QUIET, self._quiet)

    def _quiet(self) -> None:
        self._flows = False
        memory.trim()

    def _close_source(self, fd: int) -> None:
        if fd == self._stdin:
            # The terminal's master stays open until the process has ended: closing it would hang up on it.
            del self._sources[fd]
            self._loop.forget(fd)
        else:
            self._loop.forget(fd)
            del self._sources[fd]
            os.close(fd)
        self._perhaps_drained()

    def _push(self, attached: Attached, stream: int, data: bytes) -> None:
        """Hand `data` over to one socket, at once as far as it takes it."""
        parts = [data] if self.terminal else [frames.header(stream, len(data)), data]
        if not attached.pending:
            try:
                sent = attached.socket.sendmsg(parts, [], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._lost(attached, error)
                return
            left = [memoryview(part) for part in parts]
            while left and sent >= len(left[0]):
                sent -= len(left.pop(0))
            if not left:
                return
            left[0] = left[0][sent:]
            self._loop.at(attached, STALL, lambda: self._stalled(attached))
        else:
            left = [memoryview(part) for part in parts]
        attached.pending += left
        attached.size += sum(map(len, left))
        self._watch(attached)
        if attached.size > HIGH and not self._ended:
            self._pause(True)

    def _flush(self, attached: Attached) -> None:
        """The socket takes more: write what waits."""
        while attached.pending:
            try:
                sent = attached.socket.sendmsg(attached.pending[:64], [], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError as error:
                self._lost(attached, error)
                return
            attached.size -= sent
            while attached.pending and sent >= len(attached.pending[0]):
                sent -= len(attached.pending.pop(0))
            if sent:
                attached.pending[0] = attached.pending[0][sent:]
            self._loop.at(attached, STALL, lambda: self._stalled(attached))
            if attached.size <= LOW:
                self._pause(False)
        self._loop.cancel(attached)
        if attached.closing:
            self._drop(attached)
        else:
            self._watch(attached)

    def _pause(self, wanted: bool) -> None:
        """Stop or go on reading from the process, as its slowest reader, or its log, asks."""
        paused = (
            wanted
            or (self._waits is not None and self._waits.full)
            or any(attached.size > HIGH for attached in self._attached)
        )
        if paused != self._paused:
            self._paused = paused
            self._watch_sources()

    def _stalled(self, attached: Attached) -> None:
        if self.log is not None or self._ended:
            self._drop(attached)

    # ── in ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _take(self, attached: Attached) -> None:
        """Input from one attached socket, or its end of file."""
        try:
            data = attached.socket.recv(STDIN_HIGH)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(attached, error)
            return
        if not data:
            attached.reading = False
            if attached.wants.stdin and attached.wants.ends_stdin:
                self.close_stdin()
            self._watch(attached)
        elif attached.wants.stdin and self._stdin is not None and not self._stdin_ends:
            self._stdin_pending += data
            self._write_stdin()

    def _write_stdin(self) -> None:
        if self._stdin is None:
            return
        try:
            while self._stdin_pending:
                written = os.write(self._stdin, self._stdin_pending[:CHUNK])
                del self._stdin_pending[:written]
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in (*_GONE, errno.EIO):
                raise
            self._stdin_pending.clear()
            self._stdin_ends = True
        if self._stdin_ends and not self._stdin_pending and self._stdin not in self._sources and not self.terminal:
            self._loop.forget(self._stdin)
            os.close(self._stdin)
            self._stdin = None
        elif self._stdin in self._sources:
            self._watch_sources()
        elif self._stdin_pending:
            self._loop.watch(self._stdin, WRITE, lambda _events: self._write_stdin())
        else:
            self._loop.forget(self._stdin)
        for attached in self._attached:
            self._watch(attached)

    def close_stdin(self) -> None:
        """No more input: the process reads end of file after what is on its way (a terminal has no such thing)."""
        if not self.terminal:
            self._stdin_ends = True
            self.input_ended()
            self._write_stdin()

    # ── attached ────────────────────────────────────────────────────────────────────────────────────────────────────

    def attach(self, end: socket.socket, wants: Streams) -> None:
        """Serve one more socket from now on; it is closed when the process has ended and all is written."""
        end.setblocking(False)
        attached = Attached(end, wants)
        self._attached.append(attached)
        if self._finished:
            self._close_when_flushed(attached)
        else:
            self._watch(attached)

    def _watch(self, attached: Attached) -> None:
        full = attached.wants.stdin and len(self._stdin_pending) > STDIN_HIGH
        mask = (READ if attached.reading and not full else 0) | (WRITE if attached.pending else 0)

        def ready(events: int) -> None:
            if events & READ and attached.reading:
                self._take(attached)
            elif events & ~(READ | WRITE):
                if attached.reading:
                    # Gone, but what it sent last has no room yet: the hang-up would wake us without end.
                    self._loop.forget(attached.socket.fileno())
                else:
                    self._drop(attached)
                return
            if events & WRITE and attached in self._attached:
                self._flush(attached)

        self._loop.watch(attached.socket.fileno(), mask, ready)

    def _lost(self, attached: Attached, error: OSError) -> None:
        if error.errno not in _GONE:
            raise error
        self._drop(attached)

    def _drop(self, attached: Attached) -> None:
        """Close a socket: flushed, gone or given up. A client that vanishes ends a stdin that was to end with it."""
        if attached not in self._attached:
            return
        self._attached.remove(attached)
        self._loop.cancel(attached)
        self._loop.forget(attached.socket.fileno())
        attached.socket.close()
        if attached.wants.stdin and attached.wants.ends_stdin and not self._ended:
            self.close_stdin()
        self._pause(False)
        self._perhaps_drained()

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def read_rest(self) -> None:
        """The process has ended: take what it left in its pipes, whatever waits in front of slow readers."""
        self._ended = True
        self._paused = False
        for fd in list(self._sources):
            while fd in self._sources and self._read(fd):
                pass

    def finish(self) -> None:
        """Let go of everybody attached once all is written; offspring that holds the streams gets LINGER seconds."""
        self._finished = True
        if self._stdin is not None:
            self._loop.forget(self._stdin)
            self._sources.pop(self._stdin, None)
            os.close(self._stdin)
            self._stdin = None
        if self._sources and self._attached:
            self._watch_sources()
            self._loop.at(self, LINGER, self._let_go)
        else:
            self._let_go()

    def _let_go(self) -> None:
        for attached in list(self._attached):
            self._close_when_flushed(attached)
        self._perhaps_drained()

    def _close_when_flushed(self, attached: Attached) -> None:
        attached.closing = True
        if not attached.pending:
            self._drop(attached)

    def _perhaps_drained(self) -> None:
        """Tell, once, that nothing is left to do (offspring may still hold a stream: it is read, and thrown away)."""
        if self._finished and not self._attached:
            drained, self.drained = self.drained, _nothing
            drained()

    def close(self) -> None:
        """Let go of everything at once."""
        for fd in list(self._sources):
            self._loop.forget(fd)
            os.close(fd)
        self._sources.clear()
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None
        for attached in list(self._attached):
            self._drop(attached)


def _nothing() -> None:
    """What `drained` is after it was called, and what `input_ended` is unless somebody wants to know."""
