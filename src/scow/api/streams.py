"""Docker's 8-byte frames: how stdout and stderr share one connection when there is no terminal.

A frame is ``[stream, 0, 0, 0, size of the payload, big-endian, 4 bytes]`` and the payload. Streams: 0 stdin (written to
stdout by old daemons), 1 stdout, 2 stderr, 3 an error of the engine itself. With a terminal there are only bytes.
Standard library only: the shim and the command line import this file.
"""

import struct

from scow.errors import InvalidArgument

STDIN, STDOUT, STDERR, SYSTEM = range(4)

_HEADER = struct.Struct(">BxxxI")
HEADER_SIZE = _HEADER.size

#: Largest payload a decoder accepts; the shim makes frames of at most 256 KiB, Docker of 32 KiB.
MAX_FRAME = 16 << 20


def header(stream: int, size: int) -> bytes:
    """The 8 bytes before a payload of `size` bytes."""
    return _HEADER.pack(stream, size)


def encode(stream: int, data: bytes) -> bytes:
    """One frame."""
    return _HEADER.pack(stream, len(data)) + data


class Decoder:
    """Frames out of chunks cut anywhere; payloads of a large frame are handed on as they come."""

    __slots__ = ("_head", "_left", "_stream")

    def __init__(self) -> None:
        self._head = b""
        self._stream = 0
        self._left = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """(stream, bytes) for everything that can be told after `data`; never an empty payload.

        Raises:
            InvalidArgument: these are not frames; most likely the container has a terminal.
        """
        found: list[tuple[int, bytes]] = []
        offset = 0
        while offset < len(data):
            if self._left:
                piece = data[offset : offset + self._left]
                found.append((self._stream, piece))
                self._left -= len(piece)
                offset += len(piece)
                continue
            missing = HEADER_SIZE - len(self._head)
            self._head += data[offset : offset + missing]
            offset += missing
            if len(self._head) == HEADER_SIZE:
                self._stream, self._left = _HEADER.unpack(self._head)
                if self._stream > SYSTEM or self._left > MAX_FRAME or self._head[1:4] != b"\0\0\0":
                    raise InvalidArgument(f"unrecognized stream: {self._stream}")
                self._head = b""
        return found

    @property
    def complete(self) -> bool:
        """Whether the bytes so far end at a frame's end."""
        return not self._head and not self._left
