"""The three standard streams as the commands use them; text is UTF-8 whatever the locale."""

import os
import sys


class Console:
    """Writes to stdout and stderr, reads answers from stdin."""

    def out(self, text: str) -> None:
        """Write `text` to stdout, buffered until `flush`."""
        self.out_bytes(text.encode("utf-8", "surrogateescape"))

    def out_bytes(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)

    def line(self, text: object) -> None:
        self.out(f"{text}\n")

    def flush(self) -> None:
        sys.stdout.buffer.flush()

    def error(self, text: str) -> None:
        """Write one line to stderr at once, after what stdout still holds."""
        self.flush()
        self.error_bytes(f"{text}\n".encode("utf-8", "surrogateescape"))

    def error_bytes(self, data: bytes) -> None:
        sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()

    def confirm(self, question: str) -> bool:
        """Ask on stdout; True for "y" or "yes"."""
        self.out(question)
        self.flush()
        answer = sys.stdin.readline().strip().lower()
        return answer in ("y", "yes")


def is_terminal(fd: int) -> bool:
    """Whether `fd` is a terminal (False when it is closed)."""
    try:
        return os.isatty(fd)
    except OSError:
        return False


def columns(fd: int = 1, default: int = 80) -> int:
    """Width of the terminal at `fd`; `default` when it is none."""
    try:
        return os.get_terminal_size(fd).columns or default
    except OSError:
        return default
