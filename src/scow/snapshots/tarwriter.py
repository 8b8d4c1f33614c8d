"""Writing tar archives: ustar where it is enough, pax records where it is not, two zero blocks at the end.

The bytes depend on the entries alone, so equal trees give equal layers.
"""

import os
import zlib
from collections.abc import Callable, Iterable

from scow.errors import InvalidArgument, System
from scow.snapshots import pax
from scow.snapshots.tarstream import BLOCK, BLOCK_DEVICE, CHAR, DIRECTORY, FIFO, FILE, HARDLINK, SYMLINK, Entry

_CHUNK = 1 << 20
_FLAGS = {FILE: b"0", HARDLINK: b"1", SYMLINK: b"2", CHAR: b"3", BLOCK_DEVICE: b"4", DIRECTORY: b"5", FIFO: b"6"}
_MAX_SIZE = 0o77777777777
_MAX_ID = 0o7777777
_PADDING = bytes(BLOCK)


class TarWriter:
    """Writes entries to `out`, which takes the archive piece by piece; end with `close`."""

    def __init__(self, out: Callable[[bytes], object]) -> None:
        self._out = out

    def add(self, entry: Entry, content: bytes | Iterable[bytes | memoryview] = b"") -> None:
        """Append `entry` with `content`: exactly its size, or for a sparse file its data runs one after the other.

        Raises:
            InvalidArgument: the content has another length than the entry says.
        """
        self._begin(entry)
        if isinstance(content, bytes):
            content = (content,)
        expected = _stored(entry)
        written = 0
        for piece in content:
            written += len(piece)
            if written > expected:
                break
            self._out(bytes(piece))
        if written != expected:
            raise InvalidArgument(f"{entry.name[:200]!r} has {written} bytes where {expected} were announced")
        self._pad(expected)

    def add_file(self, entry: Entry, fd: int) -> None:
        """Append `entry` with the bytes of the open file `fd`.

        A file that grew meanwhile is cut at the announced size, one that shrank is filled with zeros: a running program
        may write while its container is copied.
        """
        self._begin(entry)
        for offset, length in [(0, entry.size)] if entry.segments is None else entry.segments:
            self._copy(fd, offset, length)
        self._pad(_stored(entry))

    def close(self) -> None:
        """Write the end of the archive."""
        self._out(_PADDING + _PADDING)

    def _copy(self, fd: int, offset: int, length: int) -> None:
        while length:
            try:
                data = os.pread(fd, min(_CHUNK, length), offset)
            except OSError as error:
                raise System(f"cannot read a file that is being archived: {error.strerror}") from error
            if not data:
                data = bytes(min(_CHUNK, length))
            self._out(data)
            offset += len(data)
            length -= len(data)

    def _begin(self, entry: Entry) -> None:
        records, name, link = _records(entry)
        size = _stored(entry)
        if entry.segments is not None:
            lines = [len(entry.segments), *(number for segment in entry.segments for number in segment)]
            table = "".join(f"{number}\n" for number in lines).encode()
            table += bytes(-len(table) % BLOCK)
            size += len(table)
            if size > _MAX_SIZE:
                records.append(("size", str(size).encode()))
        else:
            table = b""
        if records:
            body = pax.format_records(records)
            shadow = b"PaxHeaders.0/" + name.rstrip(b"/").rpartition(b"/")[2][:80]
            self._out(_header(shadow, b"x", 0o644, 0, 0, len(body), 0, b"", (0, 0)) + body + bytes(-len(body) % BLOCK))
        header = _header(
            name,
            _FLAGS[entry.kind],
            entry.mode,
            entry.uid,
            entry.gid,
            size,
            entry.mtime_ns // 10**9,
            link,
            entry.device,
        )
        self._out(header + table if table else header)

    def _pad(self, size: int) -> None:
        if rest := -size % BLOCK:
            self._out(_PADDING[:rest])


def _stored(entry: Entry) -> int:
    """Bytes of content the archive holds for `entry`, without a sparse map."""
    if entry.kind != FILE:
        return 0
    return entry.size if entry.segments is None else sum(length for _, length in entry.segments)


def _records(entry: Entry) -> tuple[list[tuple[str, bytes]], bytes, bytes]:
    """The pax records `entry` needs beside its header, and name and link as the header has them."""
    records: list[tuple[str, bytes]] = []
    name = pax.encode(entry.name)
    if entry.kind == DIRECTORY and not name.endswith(b"/"):
        name += b"/"
    link = pax.encode(entry.link)
    sparse = entry.segments is not None
    if sparse:
        records += [
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", name),
            ("GNU.sparse.realsize", str(entry.size).encode()),
        ]
        name = b"GNUSparseFile.0/" + name.rpartition(b"/")[2][:80]
    elif not _fits(name):
        records.append(("path", name))
    if len(link) > 100 or not link.isascii():
        records.append(("linkpath", link))
    if not sparse and entry.kind == FILE and entry.size > _MAX_SIZE:
        records.append(("size", str(entry.size).encode()))
    if entry.uid > _MAX_ID:
        records.append(("uid", str(entry.uid).encode()))
    if entry.gid > _MAX_ID:
        records.append(("gid", str(entry.gid).encode()))
    if entry.mtime_ns % 10**9 or not 0 <= entry.mtime_ns // 10**9 <= _MAX_SIZE:
        records.append(("mtime", pax.ns_to_seconds(entry.mtime_ns)))
    records += [(pax.SCHILY_XATTR + key, entry.xattrs[key]) for key in sorted(entry.xattrs)]
    return records, name, link


def _fits(name: bytes) -> bool:
    return name.isascii() and (len(name) <= 100 or _split(name) is not None)


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """(prefix, name) of a ustar header for a name of more than 100 bytes; None when no slash is at a fitting place."""
    if len(name) > 256:
        return None
    slash = name.rfind(b"/", 0, min(156, len(name) - 1))
    if slash <= 0 or len(name) - slash - 1 > 100:
        return None
    return name[:slash], name[slash + 1 :]


def _octal(value: int, digits: int) -> bytes:
    """`value` in octal; 0 when it does not fit, for then a pax record says it."""
    return b"%0*o\0" % (digits, value if 0 <= value < 1 << (3 * digits) else 0)


def _header(
    name: bytes,
    flag: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    link: bytes,
    device: tuple[int, int],
) -> bytes:
    prefix = b""
    if len(name) > 100:
        prefix, name = _split(name) or (b"", name[:100])
    major, minor = device
    if flag in (b"3", b"4") and not (0 <= major <= _MAX_ID and 0 <= minor <= _MAX_ID):
        raise InvalidArgument(f"device {major}:{minor} does not fit in an archive")
    head = b"%s%s%s%s%s%s" % (
        name.ljust(100, b"\0"),
        _octal(mode, 7),
        _octal(uid, 7),
        _octal(gid, 7),
        _octal(size, 11),
        _octal(mtime, 11),
    )
    tail = b"%s%sustar\x0000%s%s%s%s" % (
        flag,
        link[:100].ljust(100, b"\0"),
        bytes(64),
        _octal(major, 7),
        _octal(minor, 7),
        prefix.ljust(155, b"\0"),
    )
    # adler32's low half is 1 + the sum of the bytes, exact for up to 256 of them: the sum in C.
    checksum = (zlib.adler32(head) & 0xFFFF) + (zlib.adler32(tail) & 0xFFFF) - 2 + 8 * 32
    return b"%s%06o\0 %s" % (head, checksum, tail.ljust(356, b"\0"))
