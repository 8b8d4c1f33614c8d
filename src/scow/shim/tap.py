"""From a container's pipes into its log, with nothing lost and nothing repeated when the shim is killed on the way.

What is read from a pipe and not yet written somewhere dies with its reader. So bytes are not read: they are spliced to
the end of a spool, a file in the task's folder (a tmpfs), which takes them out of the pipe in the moment it has them.
Its length is how far the pipe was read, the cursor beside it how far that has come into the log; a successor goes on
with what lies between. Pages of the spool that are logged are given back, so it holds a few at most.

(Peeking at the pipe with tee(2), and consuming after the write, costs a fifth less; but if the next bytes are the same
as the last ones, nobody can tell afterwards whether the last ones were consumed.)
"""

from __future__ import annotations

import contextlib
import os
import sys
import time

from scow.linux.memory import punch_hole
from scow.logs.cursor import Cursor
from scow.logs.driver import open_writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scow.logs.driver import LogConfig, Writer
    from scow.shim.courier import Courier
    from scow.shim.loop import Loop

#: Most bytes taken at a time.
CHUNK = 256 << 10
#: Logged bytes at which their pages are given back.
_SPENT = 16 << 10
_NAMES = ("", "stdout.spool", "stderr.spool")
_CURSOR_NAME = "log.cursor"


class Spool:
    """One stream's bytes on their way; `size` have come in all, those before `freed` are gone again."""

    __slots__ = ("fd", "freed", "size")

    def __init__(self, path: str, flags: int) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
        self.size = os.fstat(self.fd).st_size
        self.freed = 0


class Tap:
    """The log of one container. `take` for pipes; `write` for a terminal, whose bytes cannot be spliced.

    Args:
        config: of the log.
        directory: the task's folder; what an earlier shim left there is put into the log first.
        loop: serves the process that writes a log which may take long (`LogConfig.waits`).

    Raises:
        InvalidArgument: unknown driver or options.
        System, OSError: the log cannot be opened.
    """

    __slots__ = ("_cursor", "_directory", "_plain", "_spools", "courier", "writer")

    def __init__(self, config: LogConfig, directory: str, loop: Loop | None = None) -> None:
        self._directory = directory
        self._spools: list[Spool | None] = [None, None, None]
        self._cursor: Cursor | None = None
        self.courier: Courier | None = None
        if config.waits and loop is not None:
            from scow.shim.courier import Courier

            self.courier = Courier(config, loop)
        files = config.kept() if config.driver != "none" else config
        if files is config and self.courier is not None:
            files = None
        # Without files of ours there is no telling what of a chunk has come to where it belongs.
        self._plain = files is None or config.driver == "none"
        if not self._plain and os.path.exists(f"{directory}/{_CURSOR_NAME}"):
            self._cursor = Cursor(f"{directory}/{_CURSOR_NAME}", self._kept)
            for stream in (1, 2):
                with contextlib.suppress(FileNotFoundError):
                    self._spools[stream] = Spool(f"{directory}/{_NAMES[stream]}", 0)
        self.writer: Writer | None = open_writer(files, self._cursor) if files is not None else None
        for stream in (1, 2):
            self._resume(stream)

    def _resume(self, stream: int) -> None:
        """Give the log what was taken and had not come there."""
        spool, cursor = self._spools[stream], self._cursor
        if spool is None or cursor is None:
            return
        at = cursor.done[stream]
        spool.freed = max(0, at - CHUNK)
        while at < spool.size:
            data = os.pread(spool.fd, min(CHUNK, spool.size - at), at)
            if not data:
                break
            self.write(stream, data, time.time_ns())
            at += len(data)
        self._free(spool, cursor.done[stream])

    def _kept(self, stream: int, start: int, end: int) -> bytes:
        spool = self._spools[stream]
        return os.pread(spool.fd, end - start, start) if spool is not None else b""

    def take(self, fd: int, stream: int) -> bytes:
        """Move what the pipe `fd` holds, up to `CHUNK`, into the log; empty at the end of the pipe.

        Raises:
            BlockingIOError: nothing there for now.
        """
        if self._plain:
            data = os.read(fd, CHUNK)
            if data:
                self.write(stream, data, time.time_ns())
            return data
        try:
            spool = self._spools[stream] or self._begin(stream)
            count = os.splice(fd, spool.fd, CHUNK, offset_dst=spool.size, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            raise
        except OSError as error:
            self._do_without(error)
            return self.take(fd, stream)
        if not count:
            return b""
        data = os.pread(spool.fd, count, spool.size)
        spool.size += count
        self.write(stream, data, time.time_ns())
        if self._cursor is not None:
            self._free(spool, self._cursor.done[stream])
        return data

    def _begin(self, stream: int) -> Spool:
        if self._cursor is None:
            self._cursor = Cursor(f"{self._directory}/{_CURSOR_NAME}", self._kept)
            self._cursor.settle()
            if self.writer is not None:
                self.writer.cursor = self._cursor
        spool = self._spools[stream] = Spool(f"{self._directory}/{_NAMES[stream]}", os.O_CREAT | os.O_TRUNC)
        return spool

    def _do_without(self, error: OSError) -> None:
        """The task's folder is full, or on a file system that cannot: log on, as far as a kill allows."""
        print(f"log: without a spool from now on: {error}", file=sys.stderr, flush=True)
        self._plain = True
        self._forget()

    def _free(self, spool: Spool, logged: int) -> None:
        if logged - spool.freed >= _SPENT:
            with contextlib.suppress(OSError):  # it grows, then; the file system has no holes
                spool.freed = punch_hole(spool.fd, spool.freed, logged)

    def write(self, stream: int, data: bytes, when_ns: int) -> None:
        """Put `data` into the log; a log that cannot be written does not stop the container."""
        if self.courier is not None:
            self.courier.write(stream, data, when_ns)
        try:
            if self.writer is not None:
                self.writer.write(stream, data, when_ns)
        except OSError as error:
            print(f"log: {error}", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Empty the log; what comes from now on goes on in it.

        Raises:
            Unsupported: the driver keeps nothing that could be removed.
            OSError: a file cannot be removed, or no new one made.
        """
        for log in (self.writer, self.courier if self.writer is None else None):
            if log is not None:
                log.clear()

    def close(self) -> None:
        """Write what is held back, and let everything go: the container has ended."""
        with contextlib.suppress(OSError):
            if self.writer is not None:
                self.writer.close()
        if self.courier is not None:
            self.courier.close()
        self._forget()

    def _forget(self) -> None:
        """Remove spools and cursor."""
        if self.writer is not None:
            self.writer.cursor = None
        # The cursor first: without one a spool means nothing.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self._directory}/{_CURSOR_NAME}")
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None
        for stream in (1, 2):
            spool, self._spools[stream] = self._spools[stream], None
            if spool is not None:
                os.close(spool.fd)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{self._directory}/{_NAMES[stream]}")
