"""Archives by their first bytes: what compression, whether a tar at all, and a plain stream of what is inside.

Build contexts and ADD take the same five forms: plain, gzip, bzip2, xz, zstd. Blocking.
"""

import bz2
import lzma
from collections.abc import Callable
from io import RawIOBase
from typing import Any, BinaryIO, cast

import zstandard
from isal import isal_zlib

from scow.errors import InvalidArgument

#: Bytes needed to tell what a stream is.
HEAD = 512

_CHUNK = 256 << 10
_GZIP_WINDOW = 31  # zlib's wbits: 15 bits of window, gzip header and trailer
_FAILURES: tuple[type[Exception], ...] = (
    OSError, EOFError, ValueError, lzma.LZMAError, zstandard.ZstdError, isal_zlib.error,
)  # fmt: skip
_MAGICS = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)


def compression(head: bytes) -> str:
    """ "gzip", "bzip2", "xz", "zstd", or "" for anything else."""
    return next((name for magic, name in _MAGICS if head.startswith(magic)), "")


def is_tar(head: bytes) -> bool:
    """Whether the (decompressed) first `HEAD` bytes are a tar header: its checksum is right."""
    if len(head) < HEAD or not any(head):
        return False
    field = head[148:156].replace(b"\0", b" ").strip()
    try:
        stored = int(field, 8)
    except ValueError:
        return False
    return stored == sum(head[:148]) + 8 * 0x20 + sum(head[156:512])


def is_archive(stream: BinaryIO) -> bool:
    """Whether the file is a tar, compressed or not; leaves the stream anywhere."""
    try:
        head = opened(stream).read(HEAD)
    except InvalidArgument:
        return False
    return is_tar(head)


def opened(stream: BinaryIO) -> BinaryIO:
    """What is inside `stream`, decompressed; from its present position, which is read forward only."""
    head = _exactly(stream, 6)
    kind = compression(head)
    source = _Joined(head, stream)
    if not kind:
        return cast("BinaryIO", source)
    makers: dict[str, Callable[[], Any]] = {
        "gzip": lambda: isal_zlib.decompressobj(_GZIP_WINDOW),
        "bzip2": bz2.BZ2Decompressor,
        "xz": lzma.LZMADecompressor,
        "zstd": lambda: zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj(),
    }
    return cast("BinaryIO", _Decompressed(cast("BinaryIO", source), makers[kind], kind))


def _exactly(stream: BinaryIO, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count and (piece := stream.read(count - len(parts))):
        parts += piece
    return bytes(parts)


class _Joined(RawIOBase):
    """`head`, then the rest of `stream`."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head = head
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._head and size != 0:
            piece = self._head if size < 0 else self._head[:size]
            self._head = self._head[len(piece) :]
            return piece + self._stream.read() if size < 0 else piece
        return self._stream.read(size)


class _Decompressed(RawIOBase):
    """Decompresses as it is read; several members in a row count as one stream."""

    def __init__(self, source: BinaryIO, make: Callable[[], Any], kind: str) -> None:
        self._source = source
        self._make = make
        self._kind = kind
        self._machine: Any = make()
        self._ready = b""
        self._offset = 0
        self._fresh = True  # nothing of the present member was seen yet
        self._members = 0  # complete ones
        self._done = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        parts: list[bytes] = []
        wanted = size if size >= 0 else 1 << 62
        while wanted:
            if self._offset >= len(self._ready) and not self._fill():
                break
            piece = self._ready[self._offset : self._offset + wanted]
            self._offset += len(piece)
            wanted -= len(piece)
            parts.append(piece)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _fill(self) -> bool:
        """Decompress some more; False at the end."""
        while not self._done:
            left = b""
            if self._machine.eof:
                left = bytes(self._machine.unused_data)
                self._machine = self._make()
                self._fresh = True
                self._members += 1
            data = left or self._source.read(_CHUNK)
            if not data:
                self._done = True
                if not self._fresh:
                    raise InvalidArgument(f"the {self._kind} archive is cut off")
                return False
            if self._fresh and self._members and not data.strip(b"\0"):
                continue  # padding after the last member
            try:
                self._ready = self._machine.decompress(data)
            except _FAILURES as error:
                if self._fresh and self._members:
                    self._done = True  # rubbish after a complete member is ignored, as gzip does
                    return False
                raise InvalidArgument(f"the {self._kind} archive is damaged: {error}") from None
            self._fresh = False
            self._offset = 0
            if self._ready:
                return True
        return False
