"""How far a container's output has come into its log: kept on a tmpfs, for the successor of a writer that was killed.

Before each write the writer notes here what it is about to put where; the file's size then tells whether it came to
that. The note is one small `pwrite`, which a kill leaves whole or undone, and the write after it needs no second one.
"""

from __future__ import annotations

import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    #: (stream, from, to) → those bytes of the stream's output, as far as they are still kept.
    Source = Callable[[int, int, int], bytes]

#: inode, offset and length of the write; bytes of stdout and stderr in the log before it, and after; the streams whose
#: last byte in the log is no newline, as bits, before and after.
_NOTE = struct.Struct("<QQQQQQQBB")


class Cursor:
    """Owns the file at `path`.

    `done[stream]`: bytes of the stream's output that are in the log, or were given up for want of space.
    `open[stream]`: whether the last of them ended in the middle of a line.
    """

    __slots__ = ("_before", "_fd", "_note", "done", "open", "source")

    def __init__(self, path: str, source: Source) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self.source = source
        self.done = [0, 0, 0]
        self.open = [False, False, False]
        self._note = (0, 0, 0)
        self._before = (0, 0, 0)
        told = os.pread(self._fd, _NOTE.size, 0)
        if len(told) == _NOTE.size:
            inode, offset, length, *before, out, err, opened, left_open = _NOTE.unpack(told)
            self._note = (inode, offset, length)
            self._before = (*before, opened)
            self.done = [0, out, err]
            self.open = _flags(left_open)

    def begin(self, inode: int, offset: int, length: int, stream: int, count: int, open_: bool) -> None:
        """Note that `length` bytes are about to be written at `offset`, holding the next `count` bytes of `stream`."""
        done, opened = self.done, self.open
        before = (done[1], done[2], opened[1] | opened[2] << 1)
        done[stream] += count
        opened[stream] = open_
        flags = opened[1] | opened[2] << 1
        os.pwrite(
            self._fd, _NOTE.pack(inode, offset, length, before[0], before[1], done[1], done[2], before[2], flags), 0
        )

    def settle(self) -> None:
        """Note that what was begun is over, done or given up, and what file it was in no longer matters."""
        self._note = (0, 0, 0)
        self.begin(0, 0, 0, 1, 0, self.open[1])

    def unfinished(self, inode: int, size: int) -> tuple[int, int, int, int] | None:
        """(offset, stream, from, to) of the write that was cut off, if one was: the bytes of the stream it held.

        Args:
            inode, size: of the newest file there is. Another one than that of the note: it was begun after a whole one.
        """
        noted, offset, length = self._note
        if noted != inode or not offset <= size < offset + length:
            return None
        before, after = self._before[:2], (self.done[1], self.done[2])
        stream = 1 if before[0] != after[0] else 2
        return offset, stream, before[stream - 1], after[stream - 1]

    def take_back(self, stream: int, done: int) -> None:
        """Of the write that was cut off only what makes `done` is in the log."""
        opened = _flags(self._before[2])
        self.done[stream] = done
        self.open[stream] = opened[stream]
        self.settle()

    def close(self) -> None:
        """Let the file go."""
        os.close(self._fd)


def _flags(bits: int) -> list[bool]:
    return [False, bool(bits & 1), bool(bits & 2)]
