"""The default log driver's writer: chunks as they came, framed, one writev each.

A file is a header (``SCOWLOG1`` and 8 random bytes) and records: length u32, stream u8, flags u8, guard u16, time i64
(ns since 1970); the bytes; length u32 again. Little-endian. The guard and the second length are mixed with the random
bytes: a reader walks the file from either end, and a container that writes bytes looking like records fools nobody.
A torn record can only be the last one; it is cut off when the file is opened for writing.
"""

from __future__ import annotations

import os
import struct

from scow.errors import InvalidArgument
from scow.logs.options import limits
from scow.logs.rotate import Rotation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MAGIC = b"SCOWLOG1"
FILE_HEADER = len(MAGIC) + 8
HEADER = struct.Struct("<IBBHq")
FOOTER = struct.Struct("<I")
OVERHEAD = HEADER.size + FOOTER.size
#: The chunk goes on with a line its stream has begun in an earlier one.
CONTINUES = 1
#: The chunk is a remark of ours, not of the container.
NOTE = 2
LARGEST = 1 << 20


class Key:
    """The mixing values of one file."""

    __slots__ = ("guard", "length")

    def __init__(self, random: bytes) -> None:
        self.length, self.guard = struct.unpack_from("<IH", random)


def read_key(fd: int) -> Key | None:
    """The key in the header of a file, None if it is no log of this driver (or not one yet)."""
    header = os.pread(fd, FILE_HEADER, 0)
    if len(header) < FILE_HEADER or not header.startswith(MAGIC):
        return None
    return Key(header[len(MAGIC) :])


def previous(fd: int, key: Key, end: int) -> int:
    """Where the record that ends at `end` begins; -1 if none does."""
    footer = os.pread(fd, FOOTER.size, end - FOOTER.size) if end >= FILE_HEADER + OVERHEAD else b""
    if len(footer) < FOOTER.size:
        return -1
    length = FOOTER.unpack(footer)[0] ^ key.length
    start: int = end - OVERHEAD - length
    if length > LARGEST or start < FILE_HEADER:
        return -1
    header = os.pread(fd, HEADER.size, start)
    if len(header) < HEADER.size:
        return -1
    found, _stream, _flags, guard, _when = HEADER.unpack(header)
    return start if found == length and guard == key.guard else -1


def whole_length(fd: int, key: Key, size: int) -> int:
    """The end of the last whole record: `size`, unless the last one is torn."""
    if size == FILE_HEADER or previous(fd, key, size) >= 0:
        return size
    at = FILE_HEADER
    while True:
        header = os.pread(fd, HEADER.size, at)
        if len(header) < HEADER.size:
            return at
        length, _stream, _flags, guard, _when = HEADER.unpack(header)
        end = at + OVERHEAD + length
        if guard != key.guard or length > LARGEST or end > size or previous(fd, key, end) != at:
            return at
        at = end


class LocalWriter:
    """Appends records to ``path``; see the module for what survives what."""

    __slots__ = ("_fd", "_key", "_largest", "_last", "_lost", "_middle", "_path", "_rotation", "_size", "dropped")

    def __init__(self, path: str, options: Mapping[str, str]) -> None:
        self._path = path
        self._rotation = Rotation(path, limits("local", dict(options)))
        self._largest = min(LARGEST, max(4096, self._rotation.max_size))
        self._last = 0
        self._middle = [False, False, False]
        self.dropped = 0
        self._lost = 0
        self._fd = -1
        self._size = 0
        self._open()

    def _open(self) -> None:
        """Open the newest file, mending its end, or begin it.

        Raises:
            InvalidArgument: there is a file of another kind.
        """
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            size = os.fstat(fd).st_size
            key = read_key(fd)
            if key is None and size >= FILE_HEADER:
                raise InvalidArgument(f"{self._path} is not a log of the local driver: move it away")
            if key is None:  # new, or its header was cut short
                os.ftruncate(fd, 0)
                random = os.urandom(8)
                os.write(fd, MAGIC + random)
                key, size = Key(random), FILE_HEADER
            whole = whole_length(fd, key, size)
            if whole < size:
                os.ftruncate(fd, whole)
        except BaseException:
            os.close(fd)
            raise
        self._fd, self._key, self._size = fd, key, whole

    def write(self, stream: int, data: bytes, when_ns: int) -> None:
        """Append a chunk; a full disk costs the chunk, is counted in `dropped`, and noted once there is room again."""
        if not data:
            return
        if len(data) <= self._largest:
            self._append(stream, data, when_ns, CONTINUES if self._middle[stream] else 0)
        else:
            view = memoryview(data)
            for at in range(0, len(data), self._largest):
                going_on = at or self._middle[stream]
                self._append(stream, view[at : at + self._largest], when_ns, CONTINUES if going_on else 0)
        self._middle[stream] = data[-1] != 10

    def _append(self, stream: int, data: bytes | memoryview, when_ns: int, flags: int) -> None:
        try:
            if self._rotation.max_size and self._size > FILE_HEADER:
                if self._size + len(data) + OVERHEAD > self._rotation.max_size:
                    self._renew()
            elif self._fd < 0:
                self._open()
            if self._lost:
                text = f"[scow: {self._lost} bytes of output were lost here: the disk was full]\n".encode()
                self._put(2, text, when_ns, NOTE)
                self._lost = 0
            self._put(stream, data, when_ns, flags)
        except OSError:
            self.dropped += len(data)
            self._lost += len(data)

    def _renew(self) -> None:
        """Begin a new file."""
        self._rotation.rotate()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size = -1, 0
        self._open()

    def _put(self, stream: int, data: bytes | memoryview, when_ns: int, flags: int) -> None:
        """One record, whole or not at all."""
        self._last = when_ns = max(when_ns, self._last)
        length = len(data)
        header = HEADER.pack(length, stream, flags, self._key.guard, when_ns)
        footer = FOOTER.pack(length ^ self._key.length)
        total = length + OVERHEAD
        written = os.writev(self._fd, (header, data, footer))
        if written != total:
            rest = memoryview(header + bytes(data) + footer)[written:]
            try:
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
            except OSError:
                self._take_back()
                raise
        self._size += total

    def _take_back(self) -> None:
        """Cut half a record off; if even that fails, opening the file anew will."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            os.close(self._fd)
            self._fd = -1

    def close(self) -> None:
        """Let the file go."""
        self._rotation.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
