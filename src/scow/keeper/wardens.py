"""The wardens: processes that are the shim of many quiet containers each (`scow.shim.warden`), and who goes where.

A container starts with a shim of its own and is given to a warden once it is quiet; one that becomes busy gets a shim
of its own again, and has to be quiet for longer from then on. New ones go where there are most, so that wardens that
became sparse run empty and end.

Only where the kernel tells through a pidfd how a process ended that somebody else has reaped (Linux 6.15): a container
without a shim of its own is the keeper's child, and its exit code is to outlive the keeper, too.
"""

from __future__ import annotations

import socket

from scow.linux import pidfd
from scow.shim import protocol
from scow.shim.loop import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scow.shim.loop import Loop
    from scow.shim.protocol import Message

#: Seconds for which a container is watched at least before it is called quiet.
LEAST = 0.02
#: Times the quiet time is doubled for a container that keeps becoming busy.
MOST_DOUBLED = 6


def fullest(counts: Sequence[int], most: int) -> int | None:
    """Which of the wardens that have so many containers gets the next one; None: a new one. Pure."""
    with_room = [(count, -index) for index, count in enumerate(counts) if count < most]
    return -max(with_room)[1] if with_room else None


def quiet_time(seconds: float, returned: int) -> float:
    """For how long a container has to be quiet that has got a shim of its own `returned` times. Pure."""
    return float(seconds * (1 << min(returned, MOST_DOUBLED)))


class Warden:
    """One of them: `end` leads to it, `count` containers are there or about to be; `alone`: made for just one."""

    __slots__ = ("alone", "count", "end")

    def __init__(self, end: socket.socket, alone: bool) -> None:
        self.end = end
        self.alone = alone
        self.count = 0


class Wardens:
    """None are wanted until `configure`. `fork` makes the process at the other side of a socket."""

    def __init__(self, loop: Loop, fork: Callable[[socket.socket], None]) -> None:
        self._loop = loop
        self._fork = fork
        self._wardens: list[Warden] = []
        self._most = 0
        self._quiet = 0.0

    def configure(self, told: Message) -> None:
        """What the daemon wants: "most" containers in one (0: every container keeps its shim), "quiet" seconds."""
        self._most = int(told["most"]) if told["most"] and pidfd.tells_after_reaping() else 0
        self._quiet = max(LEAST, float(told["quiet"]))

    def quiet(self, returned: int) -> float | None:
        """Seconds of quiet after which a container is to be handed over; None for never."""
        return quiet_time(self._quiet, returned) if self._most else None

    def reserve(self, alone: bool) -> Warden | None:
        """A place for one more container; None if there is none to be had, or wanted."""
        if not alone and not self._most:
            return None
        index = None if alone else fullest([warden.count for warden in self._wardens], self._most)
        try:
            warden = self._make(alone) if index is None else self._wardens[index]
        except OSError:
            return None
        warden.count += 1
        return warden

    def _make(self, alone: bool) -> Warden:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._fork(theirs)
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        warden = Warden(ours, alone)
        if not alone:
            self._wardens.append(warden)
            self._loop.watch(ours.fileno(), READ, lambda _events: self._gone(warden))
        return warden

    def tell(self, warden: Warden, message: Message, fds: list[int]) -> bool:
        """Have it expect a container; False if it cannot be told."""
        try:
            protocol.send(warden.end, message, fds)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return False
        finally:
            if warden.alone:
                warden.end.close()
        return True

    def leave(self, warden: Warden | None) -> None:
        """A container less. One that has none ends."""
        if warden is not None:
            warden.count -= 1
            if not warden.count:
                self._gone(warden)

    def _gone(self, warden: Warden) -> None:
        """It was killed, or is not needed any more."""
        if warden in self._wardens:
            self._wardens.remove(warden)
            self._loop.forget(warden.end.fileno())
        warden.end.close()
