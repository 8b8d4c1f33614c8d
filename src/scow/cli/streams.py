"""The loop that joins the caller's streams with a container's: attach, run and exec.

One thread, one ``poll``: input, output and signals. Input ends with a half-close and output goes on; the loop ends
with the output. Nothing is buffered but the part of a frame that has not come yet.
"""

import os
import select
from collections.abc import Callable
from contextlib import ExitStack, suppress

from scow.api.streams import STDERR, SYSTEM, Decoder
from scow.cli import terminal
from scow.cli.console import Console, is_terminal
from scow.client.client import Hijacked
from scow.errors import System
from scow.fileio import write_all

CHUNK = 1 << 16
WINDOW_CHANGED = 28  # SIGWINCH on every architecture this runs on


class Detached(Exception):
    """The caller typed the detach keys."""


class Streams:
    """One attached stream.

    Args:
        tty: the container has a terminal: bytes are its screen, not frames.
        stdin: descriptor to read input from, None for no input.
        keys: detach keys, "" for the default; used with a terminal only.
        on_signal: called with the number of a signal to pass on, None to leave signals alone.
        on_resize: called with (rows, columns) at the start and when the window changes.
    """

    def __init__(
        self,
        stream: Hijacked,
        *,
        tty: bool,
        stdin: int | None,
        keys: str = "",
        on_signal: Callable[[int], None] | None = None,
        on_resize: Callable[[int, int], None] | None = None,
    ) -> None:
        self.stream = stream
        self.tty = tty
        self.stdin = stdin
        self.raw = tty and stdin is not None and is_terminal(stdin)
        self.keys = terminal.DetachKeys(keys) if tty and stdin is not None else None
        self.on_signal = on_signal
        self.on_resize = on_resize if tty and is_terminal(1) else None
        self.frames = None if tty else Decoder()
        self._open = {1, 2}
        self._unsent = b""
        self._stack = ExitStack()
        self._signals = -1

    def __enter__(self) -> "Streams":
        """Take over terminal and signals, before the container starts, so that nothing is lost."""
        numbers = terminal.proxied() if self.on_signal and not self.raw else set()
        if self.on_resize:
            numbers = numbers | {WINDOW_CHANGED}
        if numbers:
            self._signals = self._stack.enter_context(terminal.signals(numbers))
        if self.raw and self.stdin is not None:
            self._stack.enter_context(terminal.raw(self.stdin))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        self.stream.close()

    def resize(self) -> None:
        """Tell the container the size of the window."""
        if self.on_resize:
            rows, columns = terminal.size(1)
            if rows and columns:
                self.on_resize(rows, columns)

    def copy(self, console: Console) -> None:
        """Move bytes both ways until the container's output ends.

        Raises:
            Detached: by the keys.
        """
        console.flush()
        poll = select.poll()
        stream = self.stream.fileno()
        if self._signals >= 0:
            poll.register(self._signals, select.POLLIN)
        while True:
            # Input is read only when the last of it has gone: a container that writes more than it reads must not
            # stall us.
            poll.register(stream, select.POLLIN | (select.POLLOUT if self._unsent else 0))
            if self.stdin is not None and not self._unsent:
                poll.register(self.stdin, select.POLLIN)
            ready = dict(poll.poll(0 if self.stream.pending() else None))
            if self.stdin is not None and not self._unsent:
                poll.unregister(self.stdin)
            if self._signals in ready:
                self._take_signals()
            if self.stdin is not None and not self._unsent and self.stdin in ready:
                self._input(self.stdin)
            if self._unsent:
                self._send()
            readable = ready.get(stream, 0) & ~select.POLLOUT
            if (readable or self.stream.pending()) and not self._output():
                return

    def _take_signals(self) -> None:
        for number in terminal.caught(self._signals):
            if number == WINDOW_CHANGED:
                self.resize()
            elif self.on_signal:
                self.on_signal(number)

    def _input(self, fd: int) -> None:
        """Read input; at its end the container is told, and output goes on."""
        try:
            data = os.read(fd, CHUNK)
        except OSError:
            data = b""
        if not data:
            self.stdin = None
            with suppress(OSError):
                self.stream.write_eof()
            return
        if self.keys is None:
            self._unsent = data
            return
        self._unsent, detached = self.keys.feed(data)
        if detached:
            self._send()
            raise Detached

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self.stream.send_some(self._unsent) :]
        except OSError:  # the container reads no more; what it still writes is wanted
            self._unsent = b""
            self.stdin = None

    def _output(self) -> bool:
        """Write what the container sent; False at its end."""
        data = self.stream.read()
        if not data:
            return False
        if self.frames is None:
            self._write(1, data)
        else:
            for kind, piece in self.frames.feed(data):
                if kind == SYSTEM:
                    raise System(piece.decode("utf-8", "replace"))
                self._write(2 if kind == STDERR else 1, piece)
        return True

    def _write(self, fd: int, data: bytes) -> None:
        """Write to the caller; a stream nobody reads any more is dropped and the other goes on."""
        if fd not in self._open:
            return
        try:
            write_all(fd, data)
        except BrokenPipeError:
            self._open.discard(fd)
            if fd == 1:
                raise


def proxy(send: Callable[[str], object]) -> Callable[[int], None]:
    """A signal handler that hands the number on by name and forgives a container that is gone."""
    from scow.api.signal import name_of
    from scow.errors import EngineError

    def forward(number: int) -> None:
        with suppress(EngineError):
            send(name_of(number))

    return forward
