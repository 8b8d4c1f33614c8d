"""The loop that joins the caller's streams with a container's: attach, run and exec.

One thread, one ``poll``: input, output and signals. Input ends with a half-close and output goes on; the loop ends
with the output. Nothing is buffered but the part of a frame that has not come yet.
"""

from __future__ import annotations

import os
import select

from scow.api.streams import STDERR, SYSTEM, Decoder
from scow.cli import terminal
from scow.cli.console import is_terminal
from scow.errors import EngineError, System

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from scow.cli.console import Console
    from scow.client.client import Hijacked

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
        self._caught: terminal.Signals | None = None
        self._restored: terminal.Raw | None = None

    def __enter__(self) -> Streams:
        """Take over terminal and signals, before the container starts, so that nothing is lost."""
        numbers = terminal.proxied() if self.on_signal and not self.raw else set()
        if self.on_resize:
            numbers = numbers | {WINDOW_CHANGED}
        if numbers:
            self._caught = terminal.Signals(numbers)
        if self.raw and self.stdin is not None:
            self._restored = terminal.Raw(self.stdin)
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if self._restored is not None:
                self._restored.close()
        finally:
            if self._caught is not None:
                self._caught.close()
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
        signals = self._caught.fd if self._caught is not None else -1
        if signals >= 0:
            poll.register(signals, select.POLLIN)
        while True:
            # Input is read only when the last of it has gone: a container that writes more than it reads must not
            # stall us.
            poll.register(stream, select.POLLIN | (select.POLLOUT if self._unsent else 0))
            if self.stdin is not None and not self._unsent:
                poll.register(self.stdin, select.POLLIN)
            ready = dict(poll.poll(0 if self.stream.pending() else None))
            if self.stdin is not None and not self._unsent:
                poll.unregister(self.stdin)
            if signals in ready:
                self._take_signals(signals)
            if self.stdin is not None and not self._unsent and self.stdin in ready:
                self._input(self.stdin)
            if self._unsent:
                self._send()
            readable = ready.get(stream, 0) & ~select.POLLOUT
            if (readable or self.stream.pending()) and not self._output():
                return

    def _take_signals(self, fd: int) -> None:
        for number in terminal.caught(fd):
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
            self._end_input()
            return
        if self.keys is None:
            self._unsent = data
            return
        self._unsent, detached = self.keys.feed(data)
        if detached:
            self._send()
            raise Detached

    def _end_input(self) -> None:
        try:
            self.stream.write_eof()
        except OSError:
            return  # the container is gone already, as the output is about to say

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
            while data:
                data = data[os.write(fd, data) :]
        except BrokenPipeError:
            self._open.discard(fd)
            if fd == 1:
                raise


def proxy(send: Callable[[str], object]) -> Callable[[int], None]:
    """A signal handler that hands the number on by name and forgives a container that is gone."""
    from scow.api.signal import name_of

    def forward(number: int) -> None:
        try:
            send(name_of(number))
        except EngineError:
            return

    return forward
