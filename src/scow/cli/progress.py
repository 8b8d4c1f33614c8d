"""Streams of progress messages: a line for each on a pipe, a block of lines rewritten in place on a terminal.

A message with an id is a line of its own that later messages with the id replace; one with an error ends the stream.
Source: Engine API, ImageCreate and ImageBuild (JSONMessage).
"""

from __future__ import annotations

import os

from scow.api import units
from scow.cli.console import columns, is_terminal
from scow.errors import EngineError
from scow.fileio import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

Message = dict[str, "Any"]
ERASE_LINE = "\x1b[2K"
NARROW = 110


class StreamError(EngineError):
    """The daemon reported a failure in the middle of a stream; `code` is a command's exit code, 0 for none."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


def show(
    messages: Iterable[Message], fd: int = 1, aux: Callable[[Any], None] | None = None, plain: bool = False
) -> None:
    """Write `messages` to `fd` as they come.

    Args:
        plain: a line for each message even on a terminal.
        aux: called with the value of each "aux" message, which is not shown.

    Raises:
        StreamError: a message says that the work failed.
    """
    screen = Screen(fd, plain)
    for message in messages:
        if message.get("aux") is not None and not message.get("status"):
            if aux:
                aux(message["aux"])
            continue
        check(message)
        screen.show(message)


def check(message: Message) -> None:
    """Raise for a message that reports a failure."""
    detail = message.get("errorDetail") or {}
    failure = detail.get("message") or message.get("error")
    if failure:
        raise StreamError(str(failure), int(detail.get("code") or 0))


class Screen:
    """Where messages are shown."""

    def __init__(self, fd: int, plain: bool = False) -> None:
        self._fd = fd
        self._terminal = is_terminal(fd) and not plain
        self._lines: dict[str, int] = {}  # id → line, counted from the first of the block

    def show(self, message: Message) -> None:
        text = message.get("stream")
        if isinstance(text, str) and text:
            self._lines.clear()
            self._write(text)
        elif self._terminal:
            self._on_terminal(message)
        elif not (message.get("progressDetail") or {}).get("current") and message.get("status"):
            self._write(plain_line(message) + "\n")

    def _on_terminal(self, message: Message) -> None:
        identifier = str(message.get("id") or "")
        line = line_of(message, columns(self._fd))
        if not identifier:
            self._lines.clear()
            if message.get("status"):
                self._write(f"{line}\n")
            return
        if identifier not in self._lines:
            self._lines[identifier] = len(self._lines)
            self._write(f"{ERASE_LINE}\r{line}\n")
            return
        up = len(self._lines) - self._lines[identifier]
        self._write(f"\x1b[{up}A{ERASE_LINE}\r{line}\x1b[{up}B\r")

    def _write(self, text: str) -> None:
        write_all(self._fd, text.encode("utf-8", "surrogateescape"))


def plain_line(message: Message) -> str:
    identifier = message.get("id")
    status = str(message.get("status") or "")
    return f"{identifier}: {status}" if identifier else status


def line_of(message: Message, width: int) -> str:
    """ "id: status [====>   ]  1.2MB/3.4MB" for a terminal of `width` columns."""
    bar = progress_bar(message.get("progressDetail") or {}, width)
    return f"{plain_line(message)} {bar}" if bar else plain_line(message)


def progress_bar(detail: dict[str, Any], width: int) -> str:
    """The bar for {"current", "total"}; without a total only what came so far; "" for nothing."""
    current, total = int(detail.get("current") or 0), int(detail.get("total") or 0)
    if current <= 0 and total <= 0:
        return ""
    unit = str(detail.get("units") or "")
    shown = f"{current} {unit}" if unit else f"{units.human_size(current):>8}"
    if total <= 0:
        return shown
    share = min(100, current * 100 // total) // 2
    bar = ""
    if width > NARROW:
        bar = f"[{'=' * share}>{' ' * (50 - share)}]  " if share < 50 else f"[{'=' * 50}>]  "
    if current > total:
        return bar + shown
    return bar + (f"{current}/{total} {unit}" if unit else f"{shown}/{units.human_size(total)}")


def source(path: str) -> Iterable[bytes]:
    """A file, or stdin for "-", as chunks to send."""
    fd = 0 if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while data := os.read(fd, 1 << 18):
            yield data
    finally:
        if fd:
            os.close(fd)
