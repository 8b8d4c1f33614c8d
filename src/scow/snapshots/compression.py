"""Unpacking what layers and archives are packed with: gzip, zstd, bzip2, xz, or nothing, told by the first bytes.

`Unpacked` is a plain reader: memory stays bounded however well the data compresses, several members after one another
are one stream, a cut-off member is `CutOff`. What it costs to read (a bomb) is the caller's `ratio`.
"""

import bz2
import io
import lzma
import zlib
from typing import Protocol, cast

import zstandard
from isal import isal_zlib

from scow.errors import CutOff, InvalidArgument
from scow.snapshots.tarstream import Readable

_IsalError = cast("type[Exception]", isal_zlib.error)
_READ = 256 << 10
_PIECE = 1 << 20
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
_LONGEST_MAGIC = 6
_XZ_MEMORY = 512 << 20
_ZSTD_WINDOW = 128 << 20
_FREE = 64 << 20
"""Bytes that may come out before the ratio counts: small inputs compress absurdly well."""


class _Member(Protocol):
    """The part of the standard decompressors' interface that bz2 and lzma share."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Inflate:
    """isal's inflate behind the interface of `_Member`."""

    def __init__(self) -> None:
        self._object = isal_zlib.decompressobj(wbits=31)
        self._pending = b""

    @property
    def eof(self) -> bool:
        return bool(self._object.eof)

    @property
    def needs_input(self) -> bool:
        return not self._pending

    @property
    def unused_data(self) -> bytes:
        return bytes(self._object.unused_data)

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        found = self._object.decompress(self._pending + data if self._pending else data, max_length)
        self._pending = self._object.unconsumed_tail
        return bytes(found)


def sniff(head: bytes) -> str:
    """What data beginning with `head` is packed with: gzip, zstd, bzip2, xz, or "" (not packed)."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "")


def unpacked(stream: Readable, ratio: float | None = None) -> "Unpacked":
    """`stream` without its compression, whatever that is.

    Args:
        ratio: bytes out for every byte in from which the data is refused as a bomb; None: no limit.
    """
    return Unpacked(stream, ratio)


class Unpacked(io.RawIOBase):
    """A reader of unpacked bytes; closing it does not close the stream below."""

    def __init__(self, stream: Readable, ratio: float | None = None) -> None:
        self._stream = stream
        self._ratio = ratio
        self.packed = 0
        """Bytes taken from the stream below."""
        self.size = 0
        """Bytes given out."""
        head = b""
        while len(head) < _LONGEST_MAGIC and (more := stream.read(_LONGEST_MAGIC - len(head))):
            head += more
        self.compression = sniff(head)
        self.packed = len(head)
        self._input = head
        self._member: _Member | None = None
        self._zstd: zstandard.ZstdDecompressionReader | None = None
        if self.compression == "zstd":
            source = _Rest(head, self)
            context = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
            self._zstd = context.stream_reader(source, read_size=_READ, read_across_frames=True)  # type: ignore[arg-type]
        elif self.compression:
            self._member = self._new_member()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes (all that is left if negative); empty at the end.

        Raises:
            CutOff: the data is cut off.
            InvalidArgument: it is damaged, or a bomb.
        """
        if size < 0:
            return b"".join(iter(lambda: self.read(_PIECE), b""))
        try:
            data = self._read(min(size, _PIECE))
        except (OSError, EOFError, zlib.error, _IsalError, lzma.LZMAError, zstandard.ZstdError) as error:
            raise InvalidArgument(f"the {self.compression} data is damaged: {error}") from error
        self.size += len(data)
        if self._ratio is not None and self.size > _FREE + self.packed * self._ratio:
            raise InvalidArgument(f"the data unpacks to more than {self._ratio:g} times its size and was refused")
        return data

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def take_packed(self, size: int) -> bytes:
        """Bytes from below, counted; for the decompressors."""
        data = self._stream.read(size)
        self.packed += len(data)
        return data

    def _read(self, size: int) -> bytes:
        if self._zstd is not None:
            return self._zstd.read(size)
        if self._member is None:
            if self._input:
                data, self._input = self._input[:size], self._input[size:]
                return data
            return self.take_packed(size)
        while True:
            if self._member.eof:
                rest = (self._member.unused_data or self.take_packed(_READ)).lstrip(b"\0")  # padding between members
                while not rest:
                    rest = self.take_packed(_READ)
                    if not rest:
                        return b""
                    rest = rest.lstrip(b"\0")
                self._member, self._input = self._new_member(), rest
            if self._member.needs_input and not self._input:
                self._input = self.take_packed(_READ)
                if not self._input:
                    raise CutOff(f"the {self.compression} data ends in the middle: the transfer was cut off")
            data, self._input = self._member.decompress(self._input, size), b""
            if data:
                return data

    def _new_member(self) -> _Member:
        if self.compression == "gzip":
            return _Inflate()
        if self.compression == "bzip2":
            return bz2.BZ2Decompressor()
        return lzma.LZMADecompressor(memlimit=_XZ_MEMORY)


class _Rest:
    """The packed stream with the sniffed bytes put back, for zstd's reader."""

    def __init__(self, head: bytes, owner: Unpacked) -> None:
        self._head = head
        self._owner = owner

    def read(self, size: int) -> bytes:
        if self._head:
            data, self._head = self._head, b""
            return data
        return self._owner.take_packed(size)
