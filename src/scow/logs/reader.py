"""Reading a container's log, across rotations: the last lines without reading the rest, and what comes after.

Synchronous: the daemon runs `LogReader.read` and `render` in a thread, and registers `Follower.fileno` in its loop.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque

from scow.errors import InvalidArgument, Unsupported
from scow.linux import inotify
from scow.logs.driver import DRIVERS
from scow.logs.entry import Stitcher
from scow.logs.jsonlines import JsonFile
from scow.logs.localfile import LocalFile
from scow.logs.render import Format
from scow.logs.rotate import Part, open_parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from scow.logs.driver import LogConfig
    from scow.logs.entry import Block, Entry

    LogFile = LocalFile | JsonFile

_KINDS: dict[str, type[LocalFile] | type[JsonFile]] = {"local": LocalFile, "json-file": JsonFile}
_BATCH = 256 << 10
#: Bytes a follower hands out at a time, so that one log cannot hold up the loop.
_TURN = 1 << 20


class LogReader:
    """One reading of one log: first what there is (`blocks`, `read`, `render`), then `follow` for what comes."""

    def __init__(self, config: LogConfig) -> None:
        """Raises:
        Unsupported: the driver keeps nothing to read.
        InvalidArgument: there is no such driver.
        """
        if config.driver not in DRIVERS:
            raise InvalidArgument(f"logger: no log driver named '{config.driver}' is registered")
        kept = config.kept()
        if kept is None:
            raise Unsupported("configured logging driver does not support reading")
        self._kind = _KINDS[kept.driver]
        self._path = config.path
        self._stitcher = Stitcher()
        self._fd = -1
        self._file: LogFile | None = None

    def close(self) -> None:
        """Let the file go; a follower made from this reader keeps its own."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def blocks(self, tail: int | None = None, finished: bool = True) -> Iterator[Block]:
        """Everything, or the last `tail` lines of both streams, oldest first, as of now.

        Args:
            finished: show unfinished last lines too; False if `follow` comes after, which will.
        """
        try:
            parts = open_parts(self._path)
        except FileNotFoundError:
            return
        try:
            yield from self._forward(parts) if tail is None else self._last(parts, tail, finished)
            if finished and tail is None:
                yield from self._stitcher.flush()
        finally:
            for part in parts:
                part.close()

    def _forward(self, parts: list[Part]) -> Iterator[Block]:
        for part in parts:
            for batch in self._up_to_now(self._take(part, None)):
                yield from batch

    def _up_to_now(self, file: LogFile) -> Iterator[list[Block]]:
        """What is in the file at hand now: who writes faster than we read would keep us for ever."""
        size = os.fstat(self._fd).st_size
        for batch in file.batches(self._stitcher):
            yield batch
            if file.offset >= size:
                return

    def _take(self, part: Part, offset: int | None) -> LogFile:
        """Make `part` the file at hand, to be read from `offset` or its beginning."""
        self.close()
        self._fd = part.take()
        self._file = self._kind(self._fd)
        if offset is not None:
            self._file.offset = offset
        return self._file

    def _last(self, parts: list[Part], tail: int, finished: bool) -> Iterator[Block]:
        """From the newest file back until enough lines begin, then forward, keeping the last of them."""
        open_streams: dict[int, bool] = {}
        chosen: list[tuple[Part, int]] = []
        found = 0
        for part in reversed(parts):
            file = self._kind(part.plain())
            found += file.seek_last(max(0, tail - found), open_streams)
            chosen.append((part, file.offset))
            if found >= tail and not any(open_streams.values()):
                break
        kept: deque[Block] = deque()
        count = 0
        for part, offset in reversed(chosen):
            for batch in self._up_to_now(self._take(part, offset)):
                for block in batch:
                    count = _keep(kept, block, count, tail)
        for block in self._stitcher.flush() if finished else ():
            count = _keep(kept, block, count, tail)
        if kept and count > tail:
            kept[0] = kept[0].last(kept[0].lines() - (count - tail))
        yield from kept

    def read(
        self,
        tail: int | None = None,
        since_ns: int | None = None,
        until_ns: int | None = None,
        stdout: bool = True,
        stderr: bool = True,
        finished: bool = True,
    ) -> Iterator[Entry]:
        """Entries, oldest first; as in Docker, `tail` counts lines of both streams, whatever the other conditions."""
        form = Format(stdout, stderr, since_ns, until_ns)
        for block in self.blocks(tail, finished):
            if form.over(block):
                return
            if form.shows(block):
                yield from block.entries()

    def render(self, form: Format, tail: int | None = None, finished: bool = True) -> Generator[bytes, None, None]:
        """The same as bytes for the wire, some hundred KiB at a time."""
        batch: list[bytes] = []
        size = 0
        for block in self.blocks(tail, finished):
            if form.over(block):
                break
            data = form.render(block)
            batch.append(data)
            size += len(data)
            if size >= _BATCH:
                yield b"".join(batch)
                batch, size = [], 0
        if size:
            yield b"".join(batch)

    def rest(self) -> Iterator[Block]:
        """What has come since, of a log that was removed while it was read: nothing follows."""
        if self._file is not None:
            for batch in self._file.batches(self._stitcher):
                yield from batch
        yield from self._stitcher.flush()

    def follow(self) -> Follower:
        """What is written after the place reading has come to; call it when `blocks` (or `read`, `render`) is through,
        with ``finished=False``, or instead of them with ``blocks(tail=0)``.

        Raises:
            FileNotFoundError: the log has been removed; see `rest`.
            OSError: no watch can be had.
        """
        return Follower(self._path, self._kind, self._fd, self._file, self._stitcher)


def _keep(kept: deque[Block], block: Block, count: int, tail: int) -> int:
    """Add `block`, drop what is no longer among the last `tail` lines; returns how many lines are kept."""
    if not tail:
        return 0
    kept.append(block)
    count += block.lines()
    while count - kept[0].lines() >= tail:
        count -= kept.popleft().lines()
    return count


class Follower:
    """What is written to a log from some point on, across rotations; never blocks.

    When `fileno` is readable, call `blocks` (or `entries`, `render`) until it is empty. When the container has ended,
    call `finish` and then `blocks` until it is empty: that includes lines that were never finished.
    """

    def __init__(
        self,
        path: str,
        kind: type[LogFile],
        fd: int,
        file: LogFile | None,
        stitcher: Stitcher,
    ) -> None:
        self._path = path
        self._kind = kind
        self._stitcher = stitcher
        self._newer: deque[Part] = deque()
        self._finished = False
        self._fd = -1
        self._file: LogFile | None = None
        self._watch_fd = inotify.inotify_init()
        try:
            # The folder, not the file: a rotation brings a new one, and its making must not be missed.
            mask = inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO
            inotify.add_watch(self._watch_fd, os.path.dirname(path) or ".", mask)
            if fd >= 0 and file is not None:
                self._fd = os.dup(fd)
                self._file = kind(self._fd)
                self._file.offset = file.offset
        except OSError:
            os.close(self._watch_fd)
            raise

    def fileno(self) -> int:
        """A descriptor that is readable when there may be something new."""
        return self._watch_fd

    def finish(self) -> None:
        """Nothing more will be written."""
        self._finished = True

    def blocks(self) -> list[Block]:
        """What has come since the last call, about a MiB at most; empty when there is nothing more for now."""
        inotify.read_events(self._watch_fd)
        found: list[Block] = []
        size = 0
        while True:
            if self._file is not None:
                for batch in self._file.batches(self._stitcher):
                    found += batch
                    size += sum([len(block.data) for block in batch])
                    if size >= _TURN:
                        return found
            if not self._advance():
                break
        if self._finished:
            found += self._stitcher.flush()
        return found

    def _advance(self) -> bool:
        """Go to the next newer file; True if the file at hand has to be read (again)."""
        if not self._newer:
            with contextlib.suppress(FileNotFoundError):
                self._newer.extend(open_parts(self._path, self._fd if self._fd >= 0 else None))
            # The old file may have grown between our last look and the rotation; once rotated it is complete.
            return bool(self._newer)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._fd = self._newer.popleft().take()
        self._file = self._kind(self._fd)
        return True

    def entries(self) -> list[Entry]:
        """`blocks`, line by line."""
        return [entry for block in self.blocks() for entry in block.entries()]

    def render(self, form: Format) -> tuple[bytes, bool]:
        """`blocks` as bytes for the wire, and whether to ask again right now (what is not shown renders to nothing)."""
        blocks = self.blocks()
        return b"".join([form.render(block) for block in blocks]), bool(blocks)

    def close(self) -> None:
        """Let everything go."""
        for fd in (self._watch_fd, self._fd):
            if fd >= 0:
                os.close(fd)
        self._watch_fd = self._fd = -1
        while self._newer:
            self._newer.popleft().close()

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
