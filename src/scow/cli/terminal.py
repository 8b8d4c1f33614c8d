"""The caller's terminal: raw mode and back, its size, signals as numbers in a pipe, the keys that detach.

Invariants: a terminal set to raw is restored however the block ends; a signal handler does nothing but write its
number.
"""

import os
import signal
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from scow.errors import InvalidArgument

DEFAULT_KEYS = "ctrl-p,ctrl-q"

#: Signals that stay with this process: they are its own business or cannot be caught.
KEPT = frozenset(
    (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGURG, signal.SIGWINCH, signal.SIGSEGV,
     signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
)  # fmt: skip


@contextmanager
def raw(fd: int) -> Iterator[None]:
    """The terminal `fd` passes every key on at once, and is as it was after the block."""
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def size(fd: int) -> tuple[int, int]:
    """(rows, columns) of the terminal; (0, 0) when it has none."""
    try:
        found = os.get_terminal_size(fd)
    except OSError:
        return 0, 0
    return found.lines, found.columns


@contextmanager
def signals(numbers: set[int]) -> Iterator[int]:
    """Collect `numbers` for as long as the block runs.

    Yields:
        A descriptor that becomes readable with one byte, the number, for every signal.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = {}
    old = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        for number in numbers:
            with suppress(OSError, ValueError):
                before[number] = signal.signal(number, _nothing)
        yield reader
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old)
        os.close(reader)
        os.close(writer)


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
