"""A stream between the daemon and a process's stdio: a socket whose other end the shim holds.

What is read are Docker's 8-byte frames, made by the shim (plain bytes with a terminal), to be copied to the client
as they are.
"""

import asyncio
import contextlib
import socket

from scow.shim.protocol import Streams

_BUFFER = 1 << 20


class Attachment:
    """Both ends until it is attached, then the daemon's; close it when the client is done."""

    def __init__(self, ours: socket.socket, theirs: socket.socket, streams: Streams) -> None:
        self.streams = streams
        self._ours = ours
        self._theirs: socket.socket | None = theirs
        self._open = True
        self._users = 0

    @classmethod
    def open(
        cls, *, stdin: bool = False, stdout: bool = True, stderr: bool = True, ends_stdin: bool = True
    ) -> "Attachment":
        """A new attachment, to be passed to `Tasks.launch`, `Task.attach` or `Task.exec`.

        Args:
            ends_stdin: `write_eof`, or closing, ends the process's own stdin (Docker's StdinOnce, and every exec).
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for end in (ours, theirs):
            end.setblocking(False)
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        return cls(ours, theirs, Streams(stdin, stdout, stderr, ends_stdin))

    def handed_over(self) -> int:
        """The descriptor the shim is to get; call `release` when it has been sent."""
        if self._theirs is None:
            raise ValueError("an attachment is attached once")
        return self._theirs.fileno()

    def release(self) -> None:
        """Close the shim's end here."""
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None

    async def read(self, limit: int = 1 << 18) -> bytes:
        """The next bytes; empty when the process has ended and everything has been read."""
        if not self._open:
            return b""
        self._users += 1
        try:
            return await asyncio.get_running_loop().sock_recv(self._ours, limit)
        except (ConnectionResetError, BrokenPipeError):
            return b""
        finally:
            self._leave()

    async def write(self, data: bytes) -> None:
        """Pass input on; returns when the shim has room. What nobody reads any more is dropped."""
        if not self._open:
            return
        self._users += 1
        try:
            await asyncio.get_running_loop().sock_sendall(self._ours, data)
        except (ConnectionResetError, BrokenPipeError):
            return
        finally:
            self._leave()

    def write_eof(self) -> None:
        """No more input; output goes on."""
        if self._open:
            with contextlib.suppress(OSError):
                self._ours.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Detach. The process goes on; a `read` or `write` under way returns."""
        self.release()
        if self._open:
            self._open = False
            with contextlib.suppress(OSError):
                self._ours.shutdown(socket.SHUT_RDWR)
            self._users += 1
            self._leave()

    def _leave(self) -> None:
        """The descriptor is closed by the last who uses it: the event loop must not be left watching a number."""
        self._users -= 1
        if not self._open and not self._users:
            self._ours.close()
