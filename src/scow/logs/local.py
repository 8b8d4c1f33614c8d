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
from scow.logs.filewriter import FileWriter
from scow.logs.options import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from scow.logs.cursor import Cursor

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


class LocalWriter(FileWriter):
    """Appends records to ``path``; see the module for what survives what."""

    __slots__ = ("_key", "_largest", "_middle")

    def __init__(self, path: str, options: Mapping[str, str], cursor: Cursor | None = None) -> None:
        rotation = limits("local", dict(options))
        self._largest = min(LARGEST, max(4096, rotation.max_size))
        self._middle = [False, False, False]
        super().__init__(path, rotation, cursor)
        if cursor is not None:
            self._middle = list(cursor.open)

    def _mend(self, fd: int, size: int, inode: int) -> int:
        """Cut a torn last record off, or make the header.

        Raises:
            InvalidArgument: there is a file of another kind.
        """
        key = read_key(fd)
        if key is None and size >= FILE_HEADER:
            raise InvalidArgument(f"{self._path} is not a log of the local driver: move it away")
        if key is None:  # new, or its header was cut short
            os.ftruncate(fd, 0)
            random = os.urandom(8)
            os.write(fd, MAGIC + random)
            key, size = Key(random), FILE_HEADER
        self._key = key
        whole = whole_length(fd, key, size)
        torn = self.cursor.unfinished(inode, size) if self.cursor is not None else None
        if self.cursor is not None and torn is not None:
            offset, stream, start, _end = torn
            whole = offset
            self.cursor.take_back(stream, start)
        if whole < size:
            os.ftruncate(fd, whole)
        return whole

    def write(self, stream: int, data: bytes, when_ns: int) -> None:
        """Append a chunk; a full disk costs the chunk, is counted in `dropped`, and noted once there is room again."""
        if not data:
            return
        when_ns = self._time(when_ns)
        if len(data) <= self._largest:
            self._append(stream, data, when_ns)
        else:
            view = memoryview(data)
            for at in range(0, len(data), self._largest):
                self._append(stream, view[at : at + self._largest], when_ns)

    def _append(self, stream: int, data: bytes | memoryview, when_ns: int) -> None:
        flags = CONTINUES if self._middle[stream] else 0
        self._middle[stream] = data[-1] != 10
        length = len(data)
        try:
            most = self._rotation.max_size
            if most and self._size > FILE_HEADER and self._size + length + OVERHEAD > most:
                self._renew()
            elif self._fd < 0:
                self._open()
            self._tell_lost()
            self._put(self._record(stream, data, when_ns, flags), stream, length, self._middle[stream])
        except OSError:
            self._drop(stream, length)

    def _record(
        self, stream: int, data: bytes | memoryview, when_ns: int, flags: int
    ) -> tuple[bytes, bytes | memoryview, bytes]:
        header = HEADER.pack(len(data), stream, flags, self._key.guard, when_ns)
        return header, data, FOOTER.pack(len(data) ^ self._key.length)

    def _note(self, text: bytes, when_ns: int) -> bytes:
        return b"".join(self._record(2, text, when_ns, NOTE))
