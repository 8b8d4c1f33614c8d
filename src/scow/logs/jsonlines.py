"""Reading one file of the json-file driver, also when Docker or another program wrote it."""

from __future__ import annotations

import os
from calendar import timegm

from scow.logs.entry import Block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from scow.logs.entry import Stitcher

_READ = 1 << 20
_LONGEST = 4 << 20
_BEGIN = b'{"log":"'
_MIDDLE = {b'","stream":"stdout","time":"': 1, b'","stream":"stderr","time":"': 2}
_TIME = 64
_ENDING = b'\\n","stream":"'
_RUN = 64 << 10


def _run(data: bytes, ending: bytes) -> tuple[bytes, int]:
    """The text of the lines at the beginning of `data` up to the last one with this `ending`, and their length.

    Empty text if something else stands between them.
    """
    length = data.rfind(ending)
    texts = data[len(_BEGIN) : length].split(ending + b"\n" + _BEGIN)
    joined = b"\n".join(texts)
    if b"\\" in joined or b'"' in joined:
        import json

        try:
            joined = json.loads(b'"' + b"\\n".join(texts) + b'"').encode("utf-8", "replace")
        except (ValueError, AttributeError):
            return b"", 0
    return joined + b"\n", length + len(ending)


class JsonFile:
    """One file; `offset` is behind the last whole line read."""

    __slots__ = ("_fd", "_second", "offset")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._second = (b"", 0)
        self.offset = 0

    def batches(self, _stitcher: Stitcher) -> Iterator[list[Block]]:
        """Entries from `offset` to the last whole line there is now, each a block; lines that are no entries are left
        out. `offset` is behind the batch handed out."""
        wanted = _READ
        while True:
            data = os.pread(self._fd, wanted, self.offset)
            end = data.rfind(b"\n") + 1
            if not end:
                if len(data) < wanted or wanted >= _LONGEST:
                    return
                wanted = _LONGEST
                continue
            wanted = _READ
            self.offset += end
            yield self._blocks(data[: end - 1])

    def _blocks(self, data: bytes) -> list[Block]:
        """Entries of whole lines; runs of lines that end alike (one stream, one moment) are taken together, for our own
        writer makes long ones."""
        found: list[Block] = []
        at = 0
        while at < len(data):
            end = data.find(b"\n", at)
            end = len(data) if end < 0 else end
            cut = data.rfind(_ENDING, max(at, end - _TIME - len(_ENDING)), end)
            if cut > 0 and data.endswith(data[cut:end], end + 1, max(data.find(b"\n", end + 1), end + 1)):
                text, length = _run(data[at : at + _RUN], data[cut:end])
                block = self._block(_BEGIN + data[cut:end])
                if text and block is not None:
                    found.append(Block(block.time_ns, block.stream, text))
                    at += length + 1
                    continue
            block = self._block(data[at:end])
            if block is not None:
                found.append(block)
            at = end + 1
        return found

    def _block(self, line: bytes) -> Block | None:
        """One entry: our own spelling by cutting, any other by the JSON reader."""
        if line.startswith(_BEGIN) and line.endswith(b'"}'):
            cut = line.rfind(b'","stream":"', -_TIME - 32)
            stream = _MIDDLE.get(line[cut : cut + 28], 0) if cut > 0 else 0
            if stream:
                text = line[8:cut]
                when = self._time(line[cut + 28 : -2])
                if b"\\" not in text:
                    return Block(when, stream, text) if text else None
                if text.endswith(b"\\n") and b"\\" not in text[:-2]:
                    return Block(when, stream, text[:-2] + b"\n")
        return self._slowly(line)

    def _slowly(self, line: bytes) -> Block | None:
        import json

        try:
            found = json.loads(line)
            text = found["log"].encode("utf-8", "replace")
            stream = 2 if found["stream"] == "stderr" else 1
            return Block(self._time(found["time"].encode()), stream, text) if text else None
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def _time(self, text: bytes) -> int:
        """RFC 3339 in UTC → ns since 1970; what cannot be read is the last time there was."""
        second = text[:19]
        if second != self._second[0]:
            try:
                numbers = [int(second[at:end]) for at, end in ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16), (17, 19))]
                self._second = (second, timegm((*numbers, 0, 0, 0)))
            except ValueError:
                return self._second[1] * 1_000_000_000
        fraction = text[20:].rstrip(b"Z")[:9]
        return self._second[1] * 1_000_000_000 + (int(fraction.ljust(9, b"0")) if fraction.isdigit() else 0)

    def seek_last(self, lines: int, _open_streams: dict[int, bool]) -> int:
        """Move `offset` back from the end until `lines` entries lie behind it; returns how many do."""
        at = self._whole()
        self.offset = at
        found = 0
        begun = 0  # where the entry that ends at the newline looked at begins is known at the newline before it
        while at > 0 and found < lines:
            start = max(0, at - _READ)
            data = os.pread(self._fd, at - start, start)
            cut = len(data)
            while found < lines:
                cut = data.rfind(b"\n", 0, cut)
                if cut < 0:
                    break
                found += begun
                begun = 1
                if found == lines:
                    self.offset = start + cut + 1
                    return found
            at = start
        if found < lines and self.offset:
            self.offset = 0
            found += 1
        return found

    def _whole(self) -> int:
        """The end of the last whole line."""
        at = os.fstat(self._fd).st_size
        while at > 0:
            start = max(0, at - _READ)
            newline = os.pread(self._fd, at - start, start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            at = start
        return 0
