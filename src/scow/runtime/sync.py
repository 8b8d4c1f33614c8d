"""The messages between a container's creator and the child that becomes its first process.

::

    creator                                   child
    fork ───────────────────────────────────▶ namespaces, cgroup, mounts
                 ◀── at "hooks"               (only where the spec has hooks)
    run them     ──▶ go                       hooks of its own, pivot_root
                 ◀── at "terminal" + master fd (only with a terminal)
                                              user, capabilities, seccomp
                 ◀── at "exec"                execve: the channel closes by itself, which is the good news
                 ◀── failed(stage, errno, path, text)     at any moment

Invariant: end of channel without "exec" before it means the child died on the way. One packet is one JSON object.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket

from scow.errors import System
from scow.linux.fds import receive_with_fds, send_with_fds
from scow.runtime import documents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Largest message: a failure with two paths of PATH_MAX.
_PACKET = 64 << 10
_MAX_FDS = 8


class Failed(System):
    """A container or exec could not be started.

    Attributes:
        stage: what was being done: "namespaces", "cgroup", "mount", "user", "cwd", "exec", …
        errno: the kernel's reason, 0 if it was not the kernel's.
        path: the file, mount point or program it was about; empty if none.
    """

    def __init__(self, stage: str, number: int, path: str, text: str = "") -> None:
        self.stage = stage
        self.errno = number
        self.path = path
        super().__init__(f"unable to start container process: {text or describe(stage, number, path)}")
        self.text = text


def describe(stage: str, number: int, path: str) -> str:
    """The sentence for a failure; the words after the last colon are those Docker's clients search for."""
    reason = os.strerror(number).lower() if number else "failed"
    if stage == "exec":
        if number == errno.ENOENT and "/" not in path:
            return f'exec: "{path}": executable file not found in $PATH'
        if number == errno.ENOENT:
            return f'exec: "{path}": stat {path}: no such file or directory'
        return f'exec: "{path}": {reason}'
    if stage == "cwd":
        return f'chdir to cwd ("{path}") set in config.json failed: {reason}'
    return f"{stage} {path}: {reason}" if path else f"{stage}: {reason}"


class Channel:
    """One end of the conversation; owns its socket."""

    __slots__ = ("socket",)

    def __init__(self, end: socket.socket) -> None:
        self.socket = end

    def send(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        """Send one message; a peer that went away is not an error (its exit says more)."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            send_with_fds(self.socket, documents.dump(message), fds)

    def receive(self) -> tuple[dict[str, Any] | None, list[int]]:
        """The next message and the descriptors that came with it; None when the other end is closed."""
        try:
            data, fds = receive_with_fds(self.socket, _PACKET, _MAX_FDS)
        except ConnectionResetError:
            return None, []
        return (documents.parse(data) if data else None), fds

    def failed(self, stage: str, error: OSError) -> None:
        """Tell why the child gives up."""
        text = "" if error.strerror == os.strerror(error.errno or 0) else str(error.strerror or error)
        path = error.filename if isinstance(error.filename, str) else ""
        self.send({"failed": {"stage": stage, "errno": error.errno or 0, "path": path, "text": text}})

    def close(self) -> None:
        """Close this end."""
        self.socket.close()


def channels() -> tuple[Channel, Channel]:
    """Both ends of a new conversation."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(ours), Channel(theirs)


def failure(message: dict[str, Any]) -> Failed:
    """The exception a "failed" message stands for."""
    told = message["failed"]
    number, path, text = int(told["errno"]), str(told["path"]), str(told["text"])
    if text:
        text = f"{told['stage']} {path}: {text}" if path else f"{told['stage']}: {text}"
    return Failed(str(told["stage"]), number, path, text)
