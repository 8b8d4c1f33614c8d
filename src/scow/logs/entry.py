"""What readers hand out: entries (a line, or a piece of one) and blocks (lines of one stream and moment together).

Blocks are what files hold and what is fast; entries are what Docker calls a log message. `Stitcher` makes lines of
chunks that were cut anywhere.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: Longest piece of a line in one entry.
PIECE = 16 << 10


class Entry:
    """`data` of `stream` (1 or 2) at `time_ns`, with its newline; `partial`: the line goes on, or never ended."""

    __slots__ = ("data", "partial", "stream", "time_ns")

    def __init__(self, time_ns: int, stream: int, data: bytes, partial: bool) -> None:
        self.time_ns = time_ns
        self.stream = stream
        self.data = data
        self.partial = partial

    def __repr__(self) -> str:
        return f"Entry({self.time_ns}, {self.stream}, {self.data!r}, {self.partial})"


class Block:
    """Whole lines, or one piece of a line without its newline."""

    __slots__ = ("data", "stream", "time_ns")

    def __init__(self, time_ns: int, stream: int, data: bytes) -> None:
        self.time_ns = time_ns
        self.stream = stream
        self.data = data

    def lines(self) -> int:
        """How many lines Docker would count."""
        return self.data.count(b"\n") + (self.data[-1:] != b"\n")

    def last(self, count: int) -> Block:
        """The last `count` lines (at least 1) alone."""
        at = len(self.data) - (self.data[-1:] == b"\n")
        for _ in range(count):
            at = self.data.rfind(b"\n", 0, at)
            if at < 0:
                return self
        return Block(self.time_ns, self.stream, self.data[at + 1 :])

    def entries(self) -> Iterator[Entry]:
        """Line by line, the overlong ones in pieces."""
        for piece in pieces(self.data):
            yield Entry(self.time_ns, self.stream, piece, piece[-1:] != b"\n")


def pieces(data: bytes) -> Iterator[bytes]:
    """The lines of `data` with their newlines, none longer than `PIECE`."""
    at = 0
    while at < len(data):
        end = data.find(b"\n", at, at + PIECE) + 1 or min(at + PIECE, len(data))
        yield data[at:end]
        at = end


class Stitcher:
    """Lines out of chunks: what has no newline yet waits for the rest, up to `PIECE` bytes."""

    __slots__ = ("_pending", "_when")

    def __init__(self) -> None:
        self._pending = [b"", b"", b""]
        self._when = [0, 0, 0]

    def feed(self, time_ns: int, stream: int, data: bytes, continues: bool) -> list[Block]:
        """Blocks that `data` completes; `continues`: it goes on with the stream's unfinished line."""
        found = []
        pending = self._pending[stream]
        if pending:
            if continues:
                data = pending + data
            else:
                found.append(Block(self._when[stream], stream, pending))
            self._pending[stream] = b""
        if data[-1:] == b"\n":
            found.append(Block(time_ns, stream, data))
            return found
        end = data.rfind(b"\n") + 1
        if end:
            found.append(Block(time_ns, stream, data[:end]))
        while len(data) - end >= PIECE:
            found.append(Block(time_ns, stream, data[end : end + PIECE]))
            end += PIECE
        self._pending[stream] = data[end:]
        self._when[stream] = time_ns
        return found

    def flush(self) -> list[Block]:
        """The unfinished lines: nothing more will come."""
        found = [Block(self._when[stream], stream, self._pending[stream]) for stream in (1, 2) if self._pending[stream]]
        found.sort(key=lambda block: block.time_ns)
        self._pending = [b"", b"", b""]
        return found
