"""What the daemon and a shim say to each other over ``shim.sock``: one JSON object per packet, descriptors beside it.

::

    daemon                                        shim
    (socket handed over at launch, or connected)
                                             ◀──  {"event": "started", "pid": …, "started_at": …, …}
                                             ◀──  {"event": "failed", "stage": …, "errno": …, "path": …, "text": …}
                                             ◀──  {"event": "status", …}            to whoever connects later
    {"n": 1, "do": "attach", "streams": …} + socket ──▶
    {"n": 2, "do": "exec", "exec": …} + process (memfd), socket ──▶
    {"n": 3, "do": "kill" | "resize" | "pause" | "resume" | "close_stdin" | "clear_log" | "status", …} ──▶
                                             ◀──  {"n": 3} | {"n": 3, "failed": {…}} | {"n": 2, "pid": …}
                                             ◀──  {"event": "oom"}                  memory ran out; it may run on
                                             ◀──  {"event": "exec_exit", "exec": …, "code": …, …}
                                             ◀──  {"event": "exit", "code": …, "finished_at": …, …}
                                             ◀──  {"event": "removed"}              cgroup and mounts are gone

Pure but for `receive` and `send`. Times are nanoseconds since 1970; codes are 0 to 255, 128 + n for signal n.
An exit is on disk (``exit.json``, ``execs/<id>.json``) before it is told: who hears a closed socket reads there.
"""

from __future__ import annotations

import os
import socket

from scow.linux.fds import Starved, receive_with_fds, send_with_fds
from scow.runtime import documents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]

#: Of the messages and of the files in a task's folder: daemon, keeper and shims may be of different ages. What one does
#: not know it ignores, what is missing has a default; a number that has grown says that this is not enough.
VERSION = 1

#: Largest packet; what may be larger (an exec's process) travels as a memfd.
MAX_PACKET = 128 << 10
#: Largest document in a memfd or bundle file.
MAX_DOCUMENT = 16 << 20
MAX_FDS = 16

SOCKET_NAME = "shim.sock"
SPEC_NAME = "config.json"
STATE_NAME = "state.json"
EXIT_NAME = "exit.json"
EXECS_NAME = "execs"


class Streams:
    """What an attached socket carries; `ends_stdin`: its end of file is the end of the container's stdin."""

    __slots__ = ("ends_stdin", "stderr", "stdin", "stdout")

    def __init__(self, stdin: bool, stdout: bool, stderr: bool, ends_stdin: bool) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.ends_stdin = ends_stdin

    def to_json(self) -> Message:
        """As a member of a message."""
        return {"stdin": self.stdin, "stdout": self.stdout, "stderr": self.stderr, "ends_stdin": self.ends_stdin}

    @classmethod
    def from_json(cls, told: Message) -> Streams:
        """The reverse of `to_json`."""
        return cls(*(bool(told.get(name)) for name in ("stdin", "stdout", "stderr", "ends_stdin")))


def receive(end: socket.socket) -> tuple[Message | None, list[int]]:
    """One message and its descriptors (the caller's from now on); None when the peer has closed.

    A message whose descriptors could not be taken, for there are none left here, comes without them and with "starved".

    Raises:
        BlockingIOError: nothing has arrived on a non-blocking socket.
    """
    try:
        data, fds = receive_with_fds(end, MAX_PACKET, MAX_FDS)
    except ConnectionResetError:
        return None, []
    except Starved as error:
        return {**documents.parse(error.data), "starved": True}, []
    return (documents.parse(data) if data else None), fds


def send(end: socket.socket, message: Message, fds: list[int] | None = None) -> None:
    """Send one message with descriptors (which stay the caller's, too).

    Raises:
        BlockingIOError, BrokenPipeError, ConnectionResetError: as of send(2).
    """
    send_with_fds(end, documents.dump(message), fds)


def reason(error: Exception) -> str:
    """Why something failed, for a message: the kernel's own words where they are its."""
    return error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)


def document(value: Any) -> int:
    """A memfd holding `value` as JSON, to be sent and then closed by the caller."""
    fd = os.memfd_create("document", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(documents.dump(value))
    return fd


def read_document(fd: int) -> Any:
    """The value in a memfd made by `document`; the descriptor is closed.

    Raises:
        ValueError: larger than MAX_DOCUMENT, or not JSON.
    """
    with os.fdopen(fd, "rb") as file:
        size = os.fstat(fd).st_size
        if size > MAX_DOCUMENT:
            raise ValueError(f"a document of {size} bytes")
        return documents.parse(os.pread(file.fileno(), MAX_DOCUMENT, 0))


def at(directory: str, name: str) -> tuple[int, str]:
    """(directory descriptor, address) of a UNIX socket whose path may be longer than the 108 bytes an address holds.

    The address is good as long as the descriptor, which the caller closes, is open.
    """
    directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return directory_fd, f"/proc/self/fd/{directory_fd}/{name}"


def listen(directory: str, name: str) -> socket.socket:
    """A listening socket at `directory`/`name`, non-blocking, for root only; a dead process's is replaced."""
    directory_fd, address = at(directory, name)
    try:
        if os.path.lexists(address):
            os.unlink(address)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        previous = os.umask(0o177)
        try:
            listener.bind(address)
        finally:
            os.umask(previous)
        listener.listen(16)
        return listener
    finally:
        os.close(directory_fd)


def connect(directory: str, name: str) -> socket.socket:
    """A socket connected to the listener at `directory`/`name`.

    Raises:
        FileNotFoundError, ConnectionRefusedError: nobody listens there.
    """
    directory_fd, address = at(directory, name)
    try:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            end.connect(address)
        except OSError:
            end.close()
            raise
        return end
    finally:
        os.close(directory_fd)
