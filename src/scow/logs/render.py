"""Log blocks → the bytes of Docker's answer: a frame a line, or raw for a TTY.

A frame is 8 bytes of header ({stream, 0, 0, 0, length u32 big-endian}) and the line.
"""

from __future__ import annotations

import struct
import time

from scow.logs.entry import PIECE, Block, pieces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_FRAME = struct.Struct(">BxxxI")
_WINDOW = PIECE // 2


class _Headers(dict[int, bytes]):
    """Length of a line without its newline → its frame's header; each is made once."""

    __slots__ = ("_extra", "_stream")

    def __init__(self, stream: int, extra: int) -> None:
        super().__init__()
        self._stream = stream
        self._extra = extra

    def __missing__(self, length: int) -> bytes:
        header = self[length] = _FRAME.pack(self._stream, length + self._extra)
        return header


class Format:
    """How log blocks are shown, and which.

    Args:
        stdout, stderr: streams to show. since_ns, until_ns: times to show, both ends included; None for no bound.
        timestamps: begin each line with its time. raw: no frames (the container has a terminal).
        details: begin each line with these, as ``k=v,k=v`` (``--details``).
    """

    __slots__ = ("_details", "_headers", "_second", "_since", "_streams", "_timestamps", "_until", "raw")

    def __init__(
        self,
        stdout: bool = True,
        stderr: bool = True,
        since_ns: int | None = None,
        until_ns: int | None = None,
        timestamps: bool = False,
        raw: bool = False,
        details: Mapping[str, str] | None = None,
    ) -> None:
        self._streams = frozenset((1,) * stdout + (2,) * stderr)
        self._since = since_ns if since_ns is not None else -1
        self._until = until_ns if until_ns is not None else 1 << 63
        self._timestamps = timestamps
        self.raw = raw
        joined = (
            ",".join(f"{_escaped(name)}={_escaped(details[name])}" for name in sorted(details or {})) if details else ""
        )
        self._details = f"{joined} ".encode() if details is not None else b""
        self._headers: dict[tuple[int, int], _Headers] = {}
        self._second = (-1, "")

    def shows(self, block: Block) -> bool:
        """Whether any of the block is to be seen."""
        return block.stream in self._streams and self._since <= block.time_ns <= self._until

    def over(self, block: Block) -> bool:
        """Whether the block, and so all later ones, is past `until_ns`."""
        return block.time_ns > self._until

    def prefix(self, time_ns: int) -> bytes:
        """What stands before each line."""
        if not self._timestamps:
            return self._details
        second, fraction = divmod(time_ns, 1_000_000_000)
        if second != self._second[0]:
            self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        return f"{self._second[1]}.{fraction:09d}Z ".encode() + self._details

    def render(self, block: Block) -> bytes:
        """The block as Docker would send it, one frame a line; empty if it is not to be seen."""
        if not self.shows(block):
            return b""
        prefix = self.prefix(block.time_ns)
        data = block.data
        if self.raw and not prefix:
            return data
        if data[-1:] != b"\n" or not _short_lines(data):
            return b"".join([self._one(block.stream, prefix, piece) for piece in pieces(data)])
        lines = data[:-1].split(b"\n")
        if self.raw:
            return prefix + (b"\n" + prefix).join(lines) + b"\n"
        key = (block.stream, len(prefix))
        headers = self._headers.get(key)
        if headers is None:
            headers = self._headers[key] = _Headers(block.stream, len(prefix) + 1)
        if prefix:
            return b"\n".join([headers[len(line)] + prefix + line for line in lines]) + b"\n"
        return b"\n".join([headers[len(line)] + line for line in lines]) + b"\n"

    def _one(self, stream: int, prefix: bytes, piece: bytes) -> bytes:
        text = prefix + piece
        return text if self.raw else _FRAME.pack(stream, len(text)) + text


def _short_lines(data: bytes) -> bool:
    """Whether surely no line is longer than `PIECE`."""
    return len(data) <= PIECE or all(
        data.find(b"\n", at, at + _WINDOW) >= 0 for at in range(0, len(data) - _WINDOW, _WINDOW)
    )


def _escaped(text: str) -> str:
    """As in a query: commas, equals signs and spaces must not end a word early."""
    from urllib.parse import quote_plus

    return quote_plus(text)
