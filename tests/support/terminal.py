"""A program on a terminal of its own, as a person at a keyboard has it."""

import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from typing import Any


class Terminal:
    """`command` on a new terminal. Use as a context manager; leaving it ends the program."""

    def __init__(self, command: Sequence[str], *, rows: int = 24, cols: int = 80, env: dict[str, str]) -> None:
        self._master, slave = os.openpty()
        self.seen = b""
        self.resize(rows, cols)
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True, preexec_fn=_control
        )
        os.close(slave)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: Any) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)

    def resize(self, rows: int, cols: int) -> None:
        """Another window size; the program gets SIGWINCH."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, text: bytes) -> None:
        """Press keys."""
        os.write(self._master, text)

    def until(self, text: bytes, timeout: float = 20) -> bytes:
        """Read until `text` appears on the screen; all that appeared since the last call."""
        end = time.monotonic() + timeout
        while text not in self.seen:
            ready, _, _ = select.select([self._master], [], [], max(end - time.monotonic(), 0))
            assert ready, f"{text!r} did not appear in {self.seen!r}"
            self.seen += self._read()
        shown, _, self.seen = self.seen.partition(text)
        return shown + text

    def end(self, timeout: float = 20) -> tuple[int, bytes]:
        """Read until the program has ended; its exit status and what appeared since the last `until`."""
        end = time.monotonic() + timeout
        while True:
            ready, _, _ = select.select([self._master], [], [], max(end - time.monotonic(), 0))
            assert ready, f"the program did not end: {self.seen!r}"
            data = self._read()
            if not data:
                return self.process.wait(timeout=timeout), self.seen
            self.seen += data

    def _read(self) -> bytes:
        try:
            return os.read(self._master, 65536)
        except OSError:  # EIO: nobody has the other end open any more
            return b""


def _control() -> None:
    """In the child: its standard input becomes its controlling terminal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
