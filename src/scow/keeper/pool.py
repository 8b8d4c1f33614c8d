"""The pool of parked sandboxes: shims, each with a child that has done the first phase of a start for nobody yet.

How many there should be follows demand (`target`); they are made in batches, a little after the start that took the
last, so that making them is not in the way of it. Without starts nothing happens here at all.

::

    daemon                                     keeper                          parked shim
    {"do": "pool", "most", "rate", "first"} ──▶ forks a batch ────────────────▶ parks a child
                                                              ◀── {"at": "parked"}
    {"do": "shim", "parked": true, …} ───────▶ ─── the request as it came ────▶ launches
    {"n": 1, "do": "count"} ─────────────────▶ {"n": 1, "ready", "wanted", "most"}
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time

from scow.linux import cgroup, proc
from scow.runtime.cgroup import Cgroup
from scow.runtime.create import PARKED, parked_group
from scow.shim import protocol
from scow.shim.loop import BREATH, READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scow.shim.loop import Loop
    from scow.shim.protocol import Message

    Fork = Callable[[socket.socket, Message, str | None], int]

#: Kept ready when nothing is going on, if the pool may hold as many.
LEAST = 2
#: Starts that come within WINDOW seconds of each other want their sandboxes to be there at the same time; for how long
#: that is remembered. Seconds.
WINDOW, MEMORY = 0.25, 10.0
#: Seconds between a start and the making of what takes its place, and between two batches.
REFILL = 0.03


def target(starts: Sequence[float], now: float, most: int) -> int:
    """How many sandboxes should be ready: as many as were started in the busiest WINDOW of the last MEMORY seconds.

    Pure. Args: `starts`, when the last ones were, ascending; `most`, what the pool may hold.
    """
    recent = [when for when in starts if now - when < MEMORY]
    busiest = begin = 0
    for end, when in enumerate(recent):
        while when - recent[begin] >= WINDOW:
            begin += 1
        busiest = max(busiest, end - begin + 1)
    return min(most, max(LEAST, busiest))


class Slot:
    """One parked sandbox; `end` leads to its shim."""

    __slots__ = ("end", "pid", "ready")

    def __init__(self, pid: int, end: socket.socket) -> None:
        self.pid = pid
        self.end = end
        self.ready = False


class Pool:
    """Made empty; `configure` fills it. `fork` makes a shim that parks a child: (end, first part, cgroup parent)."""

    def __init__(self, loop: Loop, fork: Fork) -> None:
        self._loop = loop
        self._fork = fork
        self._slots: list[Slot] = []
        self._leaving: set[int] = set()
        self._starts: list[float] = []
        self._first: Message | None = None
        self._parent: str | None = None
        self._most = 0
        self._batch = 1
        self._filling = False
        self._starved = False
        self.wanted = 0

    def configure(self, told: Message | None) -> None:
        """What the daemon wants: {"most", "rate" (sandboxes a second), "first" (see `scow.runtime.prepare.split`)}.

        None: there is no daemon, so nobody will want any.
        """
        first = told["first"] if told is not None and told["most"] > 0 else None
        if first != self._first:
            self._drop(len(self._slots))
        self._first = first
        self._most = int(told["most"]) if told is not None else 0
        self._batch = max(1, int(told["rate"] * REFILL)) if told is not None else 1
        if first is not None:
            self._parent = first["linux"].get("cgroupsPath")
            if self._parent is not None:
                sweep(self._parent)
        self._aim()
        self._fill_soon(0)

    def take(self) -> Slot | None:
        """A sandbox for a start, ready if there is one, else on its way; None if a shim has to do it all."""
        now = time.monotonic()
        self._starts = [when for when in self._starts if now - when < MEMORY][-4 * self._most - 1 :]
        self._starts.append(now)
        slot = next((slot for slot in self._slots if slot.ready), self._slots[0] if self._slots else None)
        if slot is not None:
            self._forget(slot)
        self._aim()
        if self._first is not None:
            self._fill_soon(REFILL)
            self._loop.at(self, MEMORY, self._settle)
        return slot

    def count(self) -> Message:
        """What `GET /info` tells."""
        return {"ready": sum(slot.ready for slot in self._slots), "wanted": self.wanted, "most": self._most}

    def _aim(self) -> None:
        self.wanted = target(self._starts, time.monotonic(), self._most) if self._first is not None else 0
        self._drop(len(self._slots) - self.wanted)

    def _settle(self) -> None:
        """There was no start for a while: keep only a few ready."""
        self._starts.clear()
        self._aim()

    def _fill_soon(self, seconds: float) -> None:
        if not self._filling and len(self._slots) < self.wanted:
            self._filling = True
            self._loop.at("fill", seconds, self._fill)

    def _fill(self) -> None:
        """Fork one batch; in one go, so that the pages this process changes are the same for all of them."""
        self._filling = False
        if self._first is None:
            return
        pairs: list[tuple[socket.socket, socket.socket]] = []
        made: list[Slot] = []
        pause = REFILL
        try:
            number = min(self._batch, self.wanted - len(self._slots))
            pairs.extend(socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(number))
            for ours, theirs in pairs:
                made.append(Slot(self._fork(theirs, self._first, self._parent), ours))
        except OSError as error:  # no process or descriptor to be had: starts do without, and it is tried again
            pause = BREATH
            if not self._starved:
                print(f"keeper: cannot park a shim: {error.strerror}", file=sys.stderr, flush=True)
        self._starved = pause == BREATH
        for ours, theirs in pairs:
            theirs.close()
            ours.setblocking(False)
        for ours, _theirs in pairs[len(made) :]:
            ours.close()
        for slot in made:
            self._slots.append(slot)
            self._watch(slot)
        self._fill_soon(pause)

    def _watch(self, slot: Slot) -> None:
        self._loop.watch(slot.end.fileno(), READ, lambda _events: self._hear(slot))

    def _hear(self, slot: Slot) -> None:
        """It is parked; or it could not be, and says so in keeper.log. The next start has another made."""
        try:
            message, _ = protocol.receive(slot.end)
        except BlockingIOError:
            return
        if message is not None:
            slot.ready = True
        else:
            self._let_go(slot)

    def _drop(self, number: int) -> None:
        """Let go of what is too much."""
        for slot in self._slots[-number:] if number > 0 else []:
            self._let_go(slot)

    def _let_go(self, slot: Slot) -> None:
        """A shim whose keeper hangs up ends, and takes away what it made."""
        self._forget(slot)
        self._leaving.add(slot.pid)
        slot.end.close()

    def ended(self, pid: int) -> bool:
        """A child of ours has ended; True if it was one of the pool's."""
        for slot in self._slots:
            if slot.pid == pid:  # killed while it was parked
                self._forget(slot)
                slot.end.close()
                return True
        was_ours = pid in self._leaving
        self._leaving.discard(pid)
        return was_ours

    def orphaned(self, pid: int) -> None:
        """A child of a shim that was killed has ended: if it was parked, its cgroup is nobody's any more."""
        if self._parent is not None:
            with contextlib.suppress(OSError):
                Cgroup.open(parked_group(self._parent, pid)).remove()

    @property
    def empty(self) -> bool:
        """Nothing is parked any more, and what was has gone."""
        return not self._slots and not self._leaving

    def _forget(self, slot: Slot) -> None:
        if slot in self._slots:
            self._slots.remove(slot)
            self._loop.forget(slot.end.fileno())


def sweep(parent: str) -> None:
    """Remove the cgroups of parked children that are gone: their shims were killed."""
    for mount in cgroup.layout().v1_mounts().values():
        for folder in cgroup.children(mount + parent):
            name, _, number = folder.rpartition("/")[2].rpartition("-")
            if name == PARKED and number.isdecimal() and not proc.alive(int(number)):
                with contextlib.suppress(OSError):
                    cgroup.remove(folder, 0)
