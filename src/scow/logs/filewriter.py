"""What writers of log files share: one file at a time, whole records or none, rotation, full disks, kills."""

from __future__ import annotations

import os

from scow.logs.rotate import Rotation, remove_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from scow.logs.cursor import Cursor
    from scow.logs.options import Limits

    Part = bytes | memoryview


class FileWriter:
    """Appends records to the file at `path`; a driver's writer says what a record is.

    `dropped`: bytes of output that did not fit on the disk. `cursor`: where the progress is noted, if anywhere.
    """

    __slots__ = ("_fd", "_inode", "_last", "_lost", "_path", "_rotation", "_size", "cursor", "dropped")

    def __init__(self, path: str, limits: Limits, cursor: Cursor | None) -> None:
        self._path = path
        self._rotation = Rotation(path, limits)
        self.cursor = cursor
        self.dropped = 0
        self._lost = 0
        self._last = 0
        self._fd = -1
        self._inode = 0
        self._size = 0
        self._open()
        if cursor is not None:
            cursor.settle()

    def _mend(self, fd: int, size: int, inode: int) -> int:
        """Make the opened file end at the end of its last whole record; returns where that is."""
        raise AssertionError("every driver has its own")

    def _note(self, text: bytes, when_ns: int) -> bytes:
        """A record that holds a remark of ours."""
        raise AssertionError("every driver has its own")

    def _open(self) -> None:
        """Open the newest file, mending its end, or begin it."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            told = os.fstat(fd)
            size = self._mend(fd, told.st_size, told.st_ino)
        except BaseException:
            os.close(fd)
            raise
        self._fd, self._inode, self._size = fd, told.st_ino, size

    def _time(self, when_ns: int) -> int:
        """`when_ns`, or the last time there was: time in a log never runs backwards."""
        self._last = max(when_ns, self._last)
        return self._last

    def _tell_lost(self) -> None:
        """Say in the log what is missing from it, if something is.

        Raises:
            OSError: there is still no room.
        """
        if self._lost:
            text = f"[scow: {self._lost} bytes of output were lost here: the disk was full]\n".encode()
            self._put((self._note(text, self._last),), 2, 0, False)
            self._lost = 0

    def _drop(self, stream: int, count: int) -> None:
        """Give up the next `count` bytes of `stream`."""
        self.dropped += count
        self._lost += count
        if self.cursor is not None:
            self.cursor.done[stream] += count
            self.cursor.settle()

    def _put(self, parts: Sequence[Part], stream: int, count: int, open_: bool) -> None:
        """Write whole records holding the next `count` bytes of `stream`, or none of them.

        Raises:
            OSError: they do not fit; `count` is for the caller to drop.
        """
        if self._fd < 0:
            self._open()
        cursor = self.cursor
        total = sum(map(len, parts))
        if cursor is not None:
            cursor.begin(self._inode, self._size, total, stream, count, open_)
        try:
            written = os.writev(self._fd, parts)
            if written != total:
                rest = memoryview(b"".join(parts))[written:]
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
        except OSError:
            self._take_back()
            if cursor is not None:
                cursor.done[stream] -= count
            raise
        self._size += total

    def _take_back(self) -> None:
        """Cut half a record off; if even that fails, opening the file anew will."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            self._shut()

    def _shut(self) -> None:
        fd, self._fd, self._size = self._fd, -1, 0
        if fd >= 0:
            os.close(fd)

    def _renew(self) -> None:
        """Begin a new file."""
        if self.cursor is not None:
            self.cursor.settle()
        self._rotation.rotate()
        self._shut()
        self._open()

    def clear(self) -> None:
        """Remove what was logged, older files too; followers go on with the new file.

        Raises:
            OSError: a file cannot be removed, or no new one made.
        """
        if self.cursor is not None:
            self.cursor.settle()
        remove_files(self._path)
        self._shut()
        self._open()

    def close(self) -> None:
        """Let the file go."""
        self._rotation.close()
        self._shut()
