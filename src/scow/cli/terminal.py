"""The caller's terminal: raw mode and back, its size, signals as numbers in a pipe, the keys that detach.

Invariants: a terminal set to raw is restored however the block ends; a signal handler does nothing but write its
number.
"""

from __future__ import annotations

import os

from scow.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from types import FrameType
    from typing import Any
else:
    import _signal as signal  # the part in C; the rest wraps every number in an enum, for three milliseconds

DEFAULT_KEYS = "ctrl-p,ctrl-q"

#: Signals that stay with this process: they are its own business or cannot be caught.
KEPT = frozenset(
    (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGURG, signal.SIGWINCH, signal.SIGSEGV,
     signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
)  # fmt: skip


class Raw:
    """The terminal `fd` passes every key on at once, and is as it was after `close` (or the block)."""

    __slots__ = ("_before", "_fd")

    def __init__(self, fd: int) -> None:
        import termios
        import tty

        self._fd = fd
        self._before = termios.tcgetattr(fd)
        try:
            tty.setraw(fd, termios.TCSANOW)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        import termios

        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def size(fd: int) -> tuple[int, int]:
    """(rows, columns) of the terminal; (0, 0) when it has none."""
    try:
        found = os.get_terminal_size(fd)
    except OSError:
        return 0, 0
    return found.lines, found.columns


class Signals:
    """Collects signals until `close`, or the end of the block: for each, one byte with its number comes out of `fd`."""

    __slots__ = ("_before", "_old", "_writer", "fd")

    def __init__(self, numbers: set[int]) -> None:
        self.fd, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before: dict[int, Any] = {}
        self._old = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in numbers:
            try:
                self._before[number] = signal.signal(number, _nothing)
            except (OSError, ValueError):
                continue  # not to be caught, or not known here

    def close(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old)
        os.close(self.fd)
        os.close(self._writer)

    def __enter__(self) -> int:
        return self.fd

    def __exit__(self, *error: object) -> None:
        self.close()


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler that lets the wake-up descriptor speak."""


def caught(fd: int) -> list[int]:
    """The signals that came since the last call."""
    try:
        return list(os.read(fd, 256))
    except BlockingIOError:
        return []


def proxied() -> set[int]:
    """The signals that --sig-proxy passes to the container."""
    return {int(number) for number in signal.valid_signals()} - {int(number) for number in KEPT}


class DetachKeys:
    """Watches what is typed for the key sequence that detaches.

    Raises:
        InvalidArgument: a key is neither a character nor "ctrl-" and a letter or one of ``@ [ \\ ] ^ _``.
    """

    def __init__(self, text: str) -> None:
        self._keys = bytes(_key(word) for word in (text or DEFAULT_KEYS).split(","))
        self._held = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(what to pass on, whether the sequence is complete). The keys of a beginning are held back."""
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._held]:
                self._held += 1
                if self._held == len(self._keys):
                    self._held = 0
                    return bytes(out), True
                continue
            if self._held:
                out += self._keys[: self._held]
                self._held = 0
                if byte == self._keys[0]:
                    self._held = 1
                    if len(self._keys) == 1:
                        return bytes(out), True
                    continue
            out.append(byte)
        return bytes(out), False


def _key(word: str) -> int:
    if len(word) == 1 and word.isascii():
        return ord(word)
    letter = word.lower().removeprefix("ctrl-")
    if word.lower().startswith("ctrl-") and len(letter) == 1 and letter in "abcdefghijklmnopqrstuvwxyz@[\\]^_":
        return ord(letter.upper()) & 0x1F
    raise InvalidArgument(f"Unknown character: '{word}' in the detach keys")
