"""What the drivers for other programs' logs (journald, syslog) share: lines one by one, patience, and its end.

Lives in a process of its own beside the shim (`scow.shim.courier`), so it may block. A server that is away is waited
for `PATIENCE` seconds; after that lines are given up, counted, and the count is told once it is back: the container is
held up, but not for ever.
"""

from __future__ import annotations

import time

from scow.errors import Unsupported
from scow.logs.entry import Stitcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from scow.logs.entry import Block

    class Sender(Protocol):
        """One server's protocol."""

        def connect(self) -> None:
            """Connect, again if need be.

            Raises:
                OSError: nobody is there.
            """

        def send(self, line: Line) -> None:
            """Hand one line over.

            Raises:
                OSError: the connection is lost, or none can be had.
            """

        def close(self) -> None:
            """Let the connection go."""


#: Seconds a line waits for a server that is away, and seconds between attempts after that.
PATIENCE = 10.0
RETRY = 1.0
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 1.0


class Line:
    """One message: `data` without its newline. A line longer than 16 KiB comes in parts that share an id.

    `part`: (id, ordinal from 1, whether it is the last), None for a whole line.
    """

    __slots__ = ("data", "part", "stream", "time_ns")

    def __init__(self, stream: int, data: bytes, time_ns: int, part: tuple[str, int, bool] | None) -> None:
        self.stream = stream
        self.data = data
        self.time_ns = time_ns
        self.part = part


class RemoteWriter:
    """Lines for one server; `dropped` counts those given up."""

    __slots__ = ("_again", "_parts", "_sender", "_stitcher", "dropped", "lost")

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._stitcher = Stitcher()
        self._parts: list[tuple[str, int] | None] = [None, None, None]
        self._again = 0.0
        self.dropped = 0
        self.lost = 0

    def connect(self) -> None:
        """Raises OSError if nobody is there."""
        self._sender.connect()

    def write(self, stream: int, data: bytes, when_ns: int) -> None:
        """Send the lines `data` completes."""
        self._blocks(self._stitcher.feed(when_ns, stream, data, True))

    def _blocks(self, blocks: list[Block], end: bool = False) -> None:
        for block in blocks:
            for entry in block.entries():
                self._deliver(self._line(entry.stream, entry.data, entry.time_ns, entry.partial and not end))

    def _line(self, stream: int, data: bytes, time_ns: int, goes_on: bool) -> Line:
        """Number the parts of long lines."""
        before = self._parts[stream]
        part = None
        if before is not None or goes_on:
            import os

            name, number = before or (os.urandom(32).hex(), 0)
            part = (name, number + 1, not goes_on)
            self._parts[stream] = (name, number + 1) if goes_on else None
        return Line(stream, data[:-1] if data[-1:] == b"\n" else data, time_ns, part)

    def _deliver(self, line: Line) -> None:
        now = time.monotonic()
        if self._again and now < self._again:
            self._give_up()
            return
        deadline = now if self._again else now + PATIENCE
        wait = _FIRST_WAIT
        fresh = False
        while True:
            try:
                if fresh or self._again:
                    self._sender.connect()
                if self.lost:
                    text = f"[scow: {self.lost} lines of output were lost here: the log server was away]".encode()
                    self._sender.send(Line(2, text, line.time_ns, None))
                    self.lost = 0
                self._sender.send(line)
                self._again = 0.0
                return
            except OSError:
                if time.monotonic() + wait > deadline:
                    self._again = time.monotonic() + RETRY
                    self._give_up()
                    return
            if fresh:
                time.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT)
            fresh = True

    def _give_up(self) -> None:
        self.dropped += 1
        self.lost += 1

    def clear(self) -> None:
        """Raises Unsupported."""
        raise Unsupported("the log is another program's: clear it there")

    def close(self) -> None:
        """Send the lines that were never finished and let the connection go."""
        self._blocks(self._stitcher.flush(), end=True)
        self._sender.close()
