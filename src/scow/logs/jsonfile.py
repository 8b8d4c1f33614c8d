"""Docker's json-file driver, the writing side: one JSON object a line, as other tools expect to find it.

``{"log":"text\\n","stream":"stdout","attrs":{…},"time":"2006-01-02T15:04:05.999999999Z"}``. A line the container has
not finished waits here, up to 16 KiB; a torn line at the end of the file is cut off when it is opened again.
"""

from __future__ import annotations

import codecs
import os
import time
from itertools import islice

from scow.logs.entry import PIECE, pieces
from scow.logs.filewriter import FileWriter
from scow.logs.options import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from scow.logs.cursor import Cursor

_WINDOW = PIECE // 2
_STREAMS = ("", "stdout", "stderr")
_BEGIN = b'{"log":"'
_TAIL = 64 << 10
#: Bytes that stand for themselves in JSON text; the newline too, which is treated last.
_PLAIN = bytes(byte for byte in range(256) if byte == 10 or (byte >= 32 and byte not in b'"\\'))
_REPLACING = "scow.logs.replace"


class JsonWriter(FileWriter):
    """Appends entries to ``path``."""

    __slots__ = ("_attributes", "_pending", "_second")

    def __init__(
        self, path: str, options: Mapping[str, str], attributes: Mapping[str, str], cursor: Cursor | None = None
    ) -> None:
        pairs = ",".join(f"{_quoted(name)}:{_quoted(attributes[name])}" for name in sorted(attributes))
        self._attributes = f'"attrs":{{{pairs}}},' if pairs else ""
        self._pending = [b"", b"", b""]
        self._second = (0, "")
        super().__init__(path, limits("json-file", dict(options)), cursor)

    def _mend(self, fd: int, size: int, inode: int) -> int:
        """Cut a torn last line off. Whole ones of a write that was cut off stay: somebody may have read them."""
        whole = _whole_length(fd, size)
        cursor = self.cursor
        torn = cursor.unfinished(inode, size) if cursor is not None else None
        if cursor is not None and torn is not None:
            offset, stream, start, end = torn
            whole = max(whole, offset)
            count = os.pread(fd, whole - offset, offset).count(b"\n")
            entries = islice(pieces(cursor.source(stream, start, end)), count)
            cursor.take_back(stream, start + sum(map(len, entries)))
        if whole < size:
            os.ftruncate(fd, whole)
        return whole

    def write(self, stream: int, data: bytes, when_ns: int) -> None:
        """Append what `data` completes; a full disk costs the lines, counted in `dropped` and noted later."""
        if not data:
            return
        if self._pending[stream]:
            data = self._pending[stream] + data
        when_ns = self._time(when_ns)
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        if end:
            self._keep(stream, data[:end] if rest else data, when_ns)
        if len(rest) >= PIECE:
            whole = len(rest) // PIECE * PIECE
            self._keep(stream, rest[:whole], when_ns)
            rest = rest[whole:]
        self._pending[stream] = rest

    def _keep(self, stream: int, data: bytes, when_ns: int) -> None:
        """Append the entries of `data` (whole lines, or whole pieces of one) in as many files as they need."""
        left = len(data)
        try:
            self._tell_lost()
            parts = self._entries(stream, data, when_ns)
            most = self._rotation.max_size
            if not most or sum(map(len, parts)) <= most - self._size:
                self._put(parts, stream, left, False)
                return
            text = b"".join(parts)
            entries = pieces(data)
            at = 0
            while at < len(text):
                room = max(most - self._size, 0)
                cut = len(text) if len(text) - at <= room else text.rfind(b"\n", at, at + room) + 1
                if cut <= at:
                    if self._size:
                        self._renew()
                        continue
                    cut = text.index(b"\n", at) + 1
                count = sum(map(len, islice(entries, text.count(b"\n", at, cut))))
                self._put((memoryview(text)[at:cut],), stream, count, False)
                at = cut
                left -= count
        except OSError:
            self._drop(stream, left)

    def _entries(self, stream: int, data: bytes, when_ns: int) -> tuple[bytes | memoryview, ...]:
        """The text of all entries of `data`: encoded in one go unless a line is overlong."""
        short = data[-1:] == b"\n" and (
            len(data) <= PIECE
            or all(data.find(b"\n", at, at + _WINDOW) >= 0 for at in range(0, len(data) - _WINDOW, _WINDOW))
        )
        if not short:
            return (b"".join([self._entry(stream, piece, when_ns) for piece in pieces(data)]),)
        text = _escape(data).replace(b"\n", b'\\n"' + self._after(stream, when_ns) + _BEGIN)
        return _BEGIN, memoryview(text)[: -len(_BEGIN)]

    def _entry(self, stream: int, piece: bytes, when_ns: int) -> bytes:
        return _BEGIN + _escape(piece).replace(b"\n", b"\\n") + b'"' + self._after(stream, when_ns)

    def _note(self, text: bytes, when_ns: int) -> bytes:
        return self._entry(2, text, when_ns)

    def _after(self, stream: int, when_ns: int) -> bytes:
        return f',"stream":"{_STREAMS[stream]}",{self._attributes}"time":"{self._text(when_ns)}"}}\n'.encode()

    def _text(self, when_ns: int) -> str:
        """RFC 3339 without trailing zeros, as Go prints it."""
        second, fraction = divmod(when_ns, 1_000_000_000)
        if second != self._second[0]:
            self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        digits = f".{fraction:09d}".rstrip("0") if fraction else ""
        return f"{self._second[1]}{digits}Z"

    def close(self) -> None:
        """Write the lines the container never finished, and let the file go."""
        for stream in (1, 2):
            rest, self._pending[stream] = self._pending[stream], b""
            if rest:
                self._keep(stream, rest, self._last)
        super().close()


def _quoted(text: str) -> str:
    return '"' + _escape(text.encode("utf-8", "replace")).replace(b"\n", b"\\n").decode() + '"'


def _escape(data: bytes) -> bytes:
    """`data` as the inside of a JSON text, but for newlines; bytes that are no UTF-8 are replaced one by one, as Docker
    does.

    By bytes because that is three times as fast as the standard library's encoder: most output has nothing to escape.
    """
    try:
        if not data.isascii():
            data.decode()
    except UnicodeDecodeError:
        data = data.decode("utf-8", _REPLACING).encode()
    special = set(data.translate(None, _PLAIN))
    if special:
        data = data.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        for byte in special - {34, 92}:
            data = data.replace(bytes((byte,)), b"\\u%04x" % byte)
    return data


def _whole_length(fd: int, size: int) -> int:
    """The end of the last whole line."""
    end = size
    while end > 0:
        start = max(0, end - _TAIL)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _one_by_one(error: UnicodeError) -> tuple[str, int]:
    """Go's rule: each byte that begins no character becomes one U+FFFD (Python's own makes one of several)."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error(_REPLACING, _one_by_one)
