"""One process of a container as its shim knows it, and its pipes, made so that they outlive whoever reads them.

Without a terminal its stdout and stderr are open for reading and writing inside: while nobody reads, a write waits for
room in the pipe, and nobody gets SIGPIPE. For the first process they are FIFOs in the task's folder, which a successor
opens by name; for an exec they have no name, and a successor finds them through the process. stdin is for reading only,
or its end would never be seen: its name goes away with the end of input.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time

from scow.runtime import documents
from scow.shim.protocol import EXECS_NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from scow.runtime.create import Following
    from scow.shim.protocol import Streams
    from scow.shim.streams import Stdio

_SIZE = 256 << 10
STDIN_NAME, STDOUT_NAME, STDERR_NAME = "stdin", "stdout", "stderr"
#: What the keeper keeps besides the pipes.
TERMINAL, PROCESS = "terminal", "process"


class Pipes:
    """Both ends of the pipes of one process that is being started; `ours`: stdin (if there is one), stdout, stderr."""

    __slots__ = ("ours", "theirs")

    def __init__(self) -> None:
        self.ours: list[int] = []
        self.theirs: list[int] = []

    def make(self, stdin: bool, directory: str | None = None) -> tuple[int, int, int]:
        """The child's descriptors 0 to 2.

        Args:
            stdin: it has an input; else it reads /dev/null.
            directory: where the FIFOs are made; None for pipes without names.
        """
        if not stdin:
            self.theirs.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        elif directory is None:
            inner, outer = os.pipe2(os.O_CLOEXEC)
            self.ours.append(outer)
            self.theirs.append(inner)
        else:
            path = f"{directory}/{STDIN_NAME}"
            os.mkfifo(path, 0o600)
            inner = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.set_blocking(inner, True)
            self.theirs.append(inner)
            self.ours.append(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
        for name in (STDOUT_NAME, STDERR_NAME):
            self._make_output(None if directory is None else f"{directory}/{name}")
        return self.theirs[0], self.theirs[1], self.theirs[2]

    def _make_output(self, path: str | None) -> None:
        if path is None:
            outer, inner = os.pipe2(os.O_CLOEXEC)
            self.ours.append(outer)
            self.theirs.append(os.open(f"/proc/self/fd/{inner}", os.O_RDWR | os.O_CLOEXEC))
            os.close(inner)
        else:
            os.mkfifo(path, 0o600)
            outer = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self.ours.append(outer)
            self.theirs.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        with contextlib.suppress(OSError):  # beyond the user's share of pipe memory the usual 64 KiB do
            fcntl.fcntl(outer, fcntl.F_SETPIPE_SZ, _SIZE)

    def close_theirs(self) -> None:
        """After the fork they are the child's."""
        while self.theirs:
            os.close(self.theirs.pop())

    def close(self) -> None:
        """The start failed."""
        self.close_theirs()
        while self.ours:
            os.close(self.ours.pop())


class Child:
    """The first process (`exec_id` None) or an exec, from its fork until its streams are done."""

    __slots__ = (
        "answer",
        "attachments",
        "exec_id",
        "following",
        "pid",
        "pidfd",
        "pipes",
        "start_time",
        "started_at",
        "stdio",
        "terminal",
    )

    def __init__(self, exec_id: str | None, terminal: bool, attachments: list[tuple[socket.socket, Streams]]) -> None:
        self.exec_id = exec_id
        self.terminal = terminal
        self.attachments = attachments
        self.pipes = Pipes()
        self.following: Following | None = None
        self.pid = 0
        self.pidfd = -1
        self.start_time = 0
        self.started_at = 0
        self.stdio: Stdio | None = None
        self.answer: tuple[socket.socket, int] | None = None  # whom to tell of the exec's start

    def to_keep(self) -> dict[str, int]:
        """What would be lost if its shim were killed: an input's end, a terminal, output nobody has read of a process
        that ends just then, and how it ended."""
        kept = {PROCESS: self.pidfd} if self.pidfd >= 0 else {}
        if self.stdio is not None:
            sources, stdin = self.stdio.ends()
        elif self.terminal:
            return kept  # it opens one by itself, later
        else:
            *before, out, err = self.pipes.ours
            sources, stdin = {out: 1, err: 2}, before[0] if before else None
        if stdin is not None:
            kept[TERMINAL if self.terminal else STDIN_NAME] = stdin
        if not self.terminal:
            kept |= {(STDOUT_NAME, STDERR_NAME)[stream - 1]: fd for fd, stream in sources.items()}
        return kept


def record_exec(directory: str, child: Child) -> None:
    """Note which process an exec is, for a successor; its exit record takes the place."""
    os.makedirs(f"{directory}/{EXECS_NAME}", mode=0o700, exist_ok=True)
    state = {
        "pid": child.pid,
        "start_time": child.start_time,
        "started_at": time.time_ns(),
        "terminal": child.terminal,
        "pipes": [os.fstat(fd).st_ino for fd in child.pipes.ours[-2:]],
    }
    with open(f"{directory}/{EXECS_NAME}/{child.exec_id}.json", "wb") as file:
        file.write(documents.dump(state))


def forget_exec(directory: str, child: Child) -> None:
    """It did not start (or is no exec)."""
    if child.exec_id is not None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{directory}/{EXECS_NAME}/{child.exec_id}.json")


def end_input(directory: str) -> None:
    """No more stdin: whoever takes the task up later is not to open it again."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{directory}/{STDIN_NAME}")


def hold_output(directory: str) -> list[int]:
    """Descriptors of the first process's stdout and stderr, as far as there are any: as long as one is open, what is in
    the pipes is not lost. Not to be read from."""
    held = []
    for name in (STDOUT_NAME, STDERR_NAME):
        with contextlib.suppress(OSError):
            held.append(_open_fifo(f"{directory}/{name}", os.O_RDONLY))
    return held


def reopen(directory: str) -> tuple[list[tuple[int, int]], int | None]:
    """The first process's streams for a successor: (descriptor, number) of what it writes, and where its input goes.

    What nobody has open any more reads as ended; an input that has ended, or whose reader has gone, is None.
    """
    sources = []
    for name, number in ((STDOUT_NAME, 1), (STDERR_NAME, 2)):
        with contextlib.suppress(FileNotFoundError):
            sources.append((_open_fifo(f"{directory}/{name}", os.O_RDONLY), number))
    stdin = None
    try:
        stdin = _open_fifo(f"{directory}/{STDIN_NAME}", os.O_WRONLY)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENXIO):
            raise
    return sources, stdin


def reopen_of(pid: int, inodes: list[int]) -> list[tuple[int, int]]:
    """What an exec writes, opened through the process as far as its stdout and stderr are still what they were.

    Args:
        inodes: of the two pipes: the process may have put anything else in their place, also its container's log.
    """
    sources = []
    for number, inode in zip((1, 2), inodes, strict=False):
        with contextlib.suppress(OSError):
            path = f"/proc/{pid}/fd/{number}"
            if not _is_pipe(os.stat(path), inode):  # opening a device does things
                continue
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if _is_pipe(os.fstat(fd), inode):
                sources.append((fd, number))
            else:
                os.close(fd)
    return sources


def _is_pipe(found: os.stat_result, inode: int) -> bool:
    return stat.S_ISFIFO(found.st_mode) and found.st_ino == inode


def _open_fifo(path: str, flags: int) -> int:
    """Open a FIFO of ours without waiting for the other side."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
