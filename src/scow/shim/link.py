"""The shim's end of its connection to the keeper, which outlives the start: what is to survive the shim lies there.

::

    shim                                        keeper
    {"do": "keep", "names": ["stdin", …]} + descriptors ──▶ held open, handed on to a successor (`Child.to_keep`)
    {"do": "drop", "name": …}                   ──▶ closed
    {"do": "watch", "processes": [[pid, start time], …]}      ──▶ of a successor: whose end it wants to hear of
                                                ◀── {"event": "reaped", "pid": …, "start_time": …, "status": …}
                                                ◀── {"event": "noted"}     that was all there is for now
                                                ◀── {"event": "serve"} + socket of a daemon, perhaps its pidfd
    {"do": "done"}                              ──▶ a hang-up without this is a shim that was killed

A keeper that dies takes nothing along: the shim goes on without, until a daemon brings it together with another.
"""

from __future__ import annotations

import contextlib
import os

from scow.shim import protocol
from scow.shim.loop import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from scow.shim.loop import Loop
    from scow.shim.protocol import Message

    Hear = Callable[[Message | None, list[int]], None]


class Link:
    """A connection to the keeper, or to none.

    Args:
        hear: called with every message and its descriptors, which it closes; with None when the keeper has gone.
        kept: what is to be held for a successor now, by name.
    """

    __slots__ = ("_end", "_hear", "_kept", "_loop")

    def __init__(self, loop: Loop, end: socket.socket, hear: Hear, kept: Callable[[], dict[str, int]]) -> None:
        self._loop = loop
        self._hear = hear
        self._kept = kept
        self._end: socket.socket | None = None
        self._take(end)

    def use(self, end: socket.socket) -> None:
        """Talk to the keeper behind `end` from now on: it gets what the last one had."""
        self.hang_up()
        self._take(end)
        self.keep()

    def _take(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._loop.watch(end.fileno(), READ, self._ready)

    def _ready(self, _events: int) -> None:
        if self._end is None:
            return
        try:
            message, fds = protocol.receive(self._end)
        except BlockingIOError:
            return
        if message is None:
            self.hang_up()
        self._hear(message, fds)

    def keep(self) -> None:
        """Have what there is held for a successor; the descriptors stay open here, too."""
        kept = self._kept()
        if kept:
            self._send({"do": "keep", "names": list(kept)}, list(kept.values()))

    def drop(self, name: str) -> None:
        """Have the keeper close something it holds."""
        self._send({"do": "drop", "name": name})

    def watch(self, processes: list[tuple[int, int]]) -> None:
        """Ask how these (pid, start time) ended, now or later; only a keeper that is their parent knows."""
        self._send({"do": "watch", "processes": [list(each) for each in processes]})

    def done(self) -> None:
        """Nobody is to succeed this shim."""
        self._send({"do": "done"})

    def _send(self, message: Message, fds: list[int] | None = None) -> None:
        # A keeper that cannot be told is dead, or has thousands of messages waiting: either way the next one will hear.
        if self._end is not None:
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                protocol.send(self._end, message, fds)

    @property
    def open(self) -> bool:
        """Whether there is a keeper."""
        return self._end is not None

    def hang_up(self) -> None:
        """Forget the keeper; it takes this for a shim that was killed."""
        if self._end is not None:
            self._loop.forget(self._end.fileno())
            self._end.close()
            self._end = None


def close_all(fds: list[int]) -> None:
    """Close descriptors nobody wants."""
    while fds:
        os.close(fds.pop())
