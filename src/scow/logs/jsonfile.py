"""Docker's json-file driver, the writing side: one JSON object a line, as other tools expect to find it.

``{"log":"text\\n","stream":"stdout","attrs":{…},"time":"2006-01-02T15:04:05.999999999Z"}``. A line the container has
not finished waits here, up to 16 KiB; a torn line at the end of the file is cut off when it is opened again.
"""

from __future__ import annotations

import os
import time

from scow.logs.options import limits
from scow.logs.rotate import Rotation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: Longest piece of a line in one entry.
PIECE = 16 << 10
_WINDOW = PIECE // 2
_STREAMS = ("", "stdout", "stderr")
_BEGIN = b'{"log":"'
_TAIL = 64 << 10
#: Bytes that stand for themselves in JSON text; the newline too, which is treated last.
_PLAIN = bytes(byte for byte in range(256) if byte == 10 or (byte >= 32 and byte not in b'"\\'))


class JsonWriter:
    """Appends entries to ``path``."""

    __slots__ = (
        "_attributes",
        "_fd",
        "_last",
        "_lost",
        "_path",
        "_pending",
        "_rotation",
        "_second",
        "_size",
        "dropped",
    )

    def __init__(self, path: str, options: Mapping[str, str], attributes: Mapping[str, str]) -> None:
        self._path = path
        self._rotation = Rotation(path, limits("json-file", dict(options)))
        pairs = ",".join(f"{_quoted(name)}:{_quoted(attributes[name])}" for name in sorted(attributes))
        self._attributes = f'"attrs":{{{pairs}}},' if pairs else ""
        self._pending = [b"", b"", b""]
        self._last = 0
        self._second = (0, "")
        self.dropped = 0
        self._lost = 0
        self._fd = -1
        self._size = 0
        self._open()

    def _open(self) -> None:
        """Open the newest file without its torn last line, or begin it."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            size = os.fstat(fd).st_size
            whole = _whole_length(fd, size)
            if whole < size:
                os.ftruncate(fd, whole)
        except BaseException:
            os.close(fd)
            raise
        self._fd, self._size = fd, whole

    def write(self, stream: int, data: bytes, when_ns: int) -> None:
        """Append what `data` completes; a full disk costs the lines, counted in `dropped` and noted later."""
        if not data:
            return
        if self._pending[stream]:
            data = self._pending[stream] + data
        self._last = when_ns = max(when_ns, self._last)
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        if end:
            self._lines(stream, data[:end] if rest else data, when_ns)
        while len(rest) >= PIECE:
            self._keep(self._entry(stream, rest[:PIECE], when_ns), PIECE)
            rest = rest[PIECE:]
        self._pending[stream] = rest

    def _lines(self, stream: int, data: bytes, when_ns: int) -> None:
        """Whole lines: encoded in one go unless one is overlong."""
        short = len(data) <= PIECE or all(
            data.find(b"\n", at, at + _WINDOW) >= 0 for at in range(0, len(data) - _WINDOW, _WINDOW)
        )
        if short:
            finish = b'\\n"' + self._after(stream, when_ns)
            text = _BEGIN + _escape(data[:-1]).replace(b"\n", finish + _BEGIN) + finish
        else:
            text = b"".join(
                self._entry(stream, (line + b"\n")[at : at + PIECE], when_ns)
                for line in data[:-1].split(b"\n")
                for at in range(0, len(line) + 1, PIECE)
            )
        self._keep(text, len(data))

    def _entry(self, stream: int, piece: bytes, when_ns: int) -> bytes:
        return _BEGIN + _escape(piece).replace(b"\n", b"\\n") + b'"' + self._after(stream, when_ns)

    def _after(self, stream: int, when_ns: int) -> bytes:
        return f',"stream":"{_STREAMS[stream]}",{self._attributes}"time":"{self._time(when_ns)}"}}\n'.encode()

    def _time(self, when_ns: int) -> str:
        """RFC 3339 without trailing zeros, as Go prints it."""
        second, fraction = divmod(when_ns, 1_000_000_000)
        if second != self._second[0]:
            self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        digits = f".{fraction:09d}".rstrip("0") if fraction else ""
        return f"{self._second[1]}{digits}Z"

    def _keep(self, data: bytes, size: int) -> None:
        """Append entries, in as many files as they need."""
        try:
            if self._lost:
                note = f"[scow: {self._lost} bytes of output were lost here: the disk was full]\n".encode()
                self._put(self._entry(2, note, self._last))
                self._lost = 0
            while data:
                room = self._rotation.max_size - self._size if self._rotation.max_size else len(data)
                if len(data) > room:
                    cut = data.rfind(b"\n", 0, max(room, 0)) + 1
                    if not cut and self._size:
                        self._renew()
                        continue
                    cut = cut or data.index(b"\n") + 1
                else:
                    cut = len(data)
                self._put(data[:cut])
                data = data[cut:]
        except OSError:
            self.dropped += size
            self._lost += size

    def _renew(self) -> None:
        """Begin a new file."""
        self._rotation.rotate()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size = -1, 0
        self._open()

    def _put(self, data: bytes) -> None:
        """Write whole lines, or none of them."""
        if self._fd < 0:
            self._open()
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            self._take_back()
            raise
        self._size += len(data)

    def _take_back(self) -> None:
        """Cut half a line off; if even that fails, opening the file anew will."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            os.close(self._fd)
            self._fd = -1

    def close(self) -> None:
        """Write the lines the container never finished, and let the file go."""
        for stream in (1, 2):
            rest, self._pending[stream] = self._pending[stream], b""
            if rest:
                self._keep(self._entry(stream, rest, self._last), len(rest))
        self._rotation.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _quoted(text: str) -> str:
    return '"' + _escape(text.encode("utf-8", "replace")).replace(b"\n", b"\\n").decode() + '"'


def _escape(data: bytes) -> bytes:
    """`data` as the inside of a JSON text, but for newlines; what is not UTF-8 is replaced, as Docker does.

    By bytes because that is three times as fast as the standard library's encoder: most output has nothing to escape.
    """
    try:
        data.decode()
    except UnicodeDecodeError:
        data = data.decode("utf-8", "replace").encode()
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
