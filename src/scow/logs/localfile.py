"""Reading one file of the local driver: forward from any record, backward to where the last lines begin."""

from __future__ import annotations

import os

from scow.logs.local import CONTINUES, FILE_HEADER, FOOTER, HEADER, LARGEST, OVERHEAD, previous, read_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from scow.logs.entry import Block, Stitcher

_READ = 1 << 20


class LocalFile:
    """One file; `offset` is behind the last whole record read, where reading goes on when more was written."""

    __slots__ = ("_fd", "_key", "offset")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._key = read_key(fd)
        self.offset = FILE_HEADER

    def batches(self, stitcher: Stitcher) -> Iterator[list[Block]]:
        """Lines from `offset` to the last whole record there is now; `offset` is behind the batch handed out."""
        if self._key is None:
            self._key = read_key(self._fd)
            if self._key is None:
                return
        wanted = _READ
        while True:
            data = os.pread(self._fd, wanted, self.offset)
            at = 0
            while len(data) - at >= OVERHEAD:
                length, stream, flags, guard, when = HEADER.unpack_from(data, at)
                if guard != self._key.guard or length > LARGEST or stream not in (1, 2):
                    return
                end = at + HEADER.size + length
                if end + FOOTER.size > len(data):
                    break
                payload = data[at + HEADER.size : end]
                at = end + FOOTER.size
                self.offset += OVERHEAD + length
                yield stitcher.feed(when, stream, payload, bool(flags & CONTINUES))
            if not at and (len(data) < wanted or wanted > LARGEST + OVERHEAD):
                return
            wanted = _READ if at else LARGEST + OVERHEAD + 1

    def seek_last(self, lines: int, open_streams: dict[int, bool]) -> int:
        """Move `offset` back from the end until at least `lines` lines begin behind it, in full.

        Args:
            open_streams: stream → whether the earliest chunk seen so far (in newer files) goes on with a line begun
                before; updated. While one does, the beginning of its line is still missing.

        Returns:
            How many lines begin behind `offset`; fewer than asked for if it is the beginning of the file.
        """
        if self._key is None:
            return 0
        at = os.fstat(self._fd).st_size
        found = 0
        self.offset = FILE_HEADER
        while found < lines or any(open_streams.values()):
            start = previous(self._fd, self._key, at)
            if start < 0:
                if at > FILE_HEADER and not found:
                    return 0  # the last record is torn, or just being written: everything has to be read
                break
            data = os.pread(self._fd, at - start, start)
            _length, stream, flags, _guard, _when = HEADER.unpack_from(data)
            found += data.count(b"\n", HEADER.size, len(data) - FOOTER.size)
            open_streams[stream] = bool(flags & CONTINUES)
            at = start
        self.offset = at
        return found
