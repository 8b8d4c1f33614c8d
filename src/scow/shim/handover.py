"""A running container changes hands: a quiet one goes to a shim that serves many, a busy one gets one of its own again.

Whoever has it asks the keeper, which finds or makes the next one and lays a road between the two. Sockets go over it as
they are: nobody who is connected, connecting or attached notices. Everything else the next one finds as if this one had
been killed (`scow.shim.succession`). Until it has said that it has the container, this one keeps all of it, and goes on
if it says nothing: whichever of the three is killed at whatever moment, one of the two has it.

::

    shim                              keeper                                   next shim
    {"do": "move", "to"}          ──▶ finds or forks one: {"do": "expect", …}
                                      + road, connection, what was kept   ──▶ waits
                                  ◀── {"event": "move"} + road; or {"event": "stay"}
    {"names", …} + sockets        ═══════════════════════════════════════════▶ takes it up
                                  ◀═══════════════════════════════════════════ {"event": "taken"}
    {"do": "moved"} or "stay"     ──▶ talks to the next one from now on, or not
"""

from __future__ import annotations

import contextlib
import select
import socket

from scow.errors import EngineError
from scow.shim import protocol
from scow.shim.protocol import MOST_HANDED, Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from scow.shim.main import Shim
    from scow.shim.protocol import Message

#: What a container that is called quiet may say in a second, and what one that is called busy says in WINDOW seconds,
#: in bytes; each read counts as `scow.shim.streams.READ_COST` more.
QUIET_RATE = 40 << 10
FLOOD, WINDOW = 1 << 20, 2.0
LISTENER, DAEMON, ATTACHED = "listener", "daemon", "attached"
SHARED, OWN = "shared", "own"
#: Seconds in which the next shim has to take a container: nobody is served meanwhile.
PATIENCE = 1.0


class Handed:
    """What one shim leaves to the next; owns the descriptors until they are taken out."""

    __slots__ = ("attached", "begun", "daemons", "known", "listener")

    def __init__(self, told: Message, fds: list[int]) -> None:
        """
        Args:
            told: "names" of the descriptors, "attached" streams, "known" kills, "begun" lines.
            fds: taken over.
        """
        ends = [(name, socket.socket(fileno=fd)) for name, fd in zip(told["names"], fds, strict=True)]
        fds.clear()
        self.listener = next(end for name, end in ends if name == LISTENER)
        self.daemons = [end for name, end in ends if name == DAEMON]
        streams = map(Streams.from_json, told["attached"])
        self.attached = list(zip((end for name, end in ends if name == ATTACHED), streams, strict=True))
        self.known: int = told["known"]
        self.begun: list[Any] | None = told["begun"]


def offer(shim: Shim) -> tuple[Message, list[int]] | None:
    """What goes to the next shim, and its descriptors, which stay open; None if the container cannot change hands now.

    It can when all that is in the shim's memory alone is in the message: no exec runs, nothing waits to be written.
    """
    first = shim.first
    alone = shim.busy == {first} and len(shim.children) == 1
    if first is None or first.stdio is None or shim.exit is not None or not alone or not shim.settled:
        return None
    attached = first.stdio.to_hand_over()
    log = shim.log
    if attached is None or (log is not None and not log.can_be_left):
        return None
    named = [(LISTENER, shim.listener)] if shim.listener is not None else []
    named += [*((DAEMON, end) for end in shim.connections)]
    named += [(ATTACHED, end) for end, _wants in attached]
    if len(named) > MOST_HANDED:
        return None
    message = {
        "names": [name for name, _end in named],
        "attached": [wants.to_json() for _end, wants in attached],
        "known": shim.oom.counted() if shim.oom is not None else 0,
        "begun": log.begun() if log is not None else None,
    }
    return message, [end.fileno() for _name, end in named]


class Mover:
    """Gets `shim`'s container another supervisor. `gone`: called when it has one; this one is to touch nothing more."""

    __slots__ = ("_asked", "_gone", "_shim", "_to")

    def __init__(self, shim: Shim, to: str, gone: Callable[[], None]) -> None:
        self._shim = shim
        self._to = to
        self._gone = gone
        self._asked = False
        shim.hear_move = self.hear

    def ask(self) -> None:
        """Begin, unless it has begun, or nothing can change hands anyway."""
        if not self._asked and self._shim.keeper.open and offer(self._shim) is not None:
            self._asked = True
            self._shim.keeper.tell({"do": "move", "to": self._to})

    def hear(self, event: str | None, fds: list[int]) -> None:
        """The keeper has found somebody ("move"), or not ("stay"), or is gone itself (None)."""
        self._asked = False
        if event == "move" and fds:
            with socket.socket(fileno=fds.pop(0)) as road:
                given = self._give(road)
            self._shim.keeper.tell({"do": "moved" if given else "stay"})
            if given:
                self._gone()
                return
        self.stays(event is not None)

    def _give(self, road: socket.socket) -> bool:
        """Whether the next one has it."""
        made = offer(self._shim)
        if made is None:
            return False
        try:
            protocol.send(road, *made)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return False
        if _taken(road):
            return True
        if self._shim.first is not None:
            with contextlib.suppress(OSError, EngineError):  # perhaps the other one had put its name there
                self._shim.record_state(self._shim.first)
        return False

    def stays(self, kept: bool) -> None:
        """It was not the moment. `kept`: there is still a keeper to ask another time."""


def _taken(road: socket.socket) -> bool:
    """Wait for the next one's word. What has not come by then cannot be said any more."""
    poll = select.poll()
    poll.register(road, select.POLLIN)
    poll.poll(PATIENCE * 1000)
    try:
        road.shutdown(socket.SHUT_RDWR)
        return bool(road.recv(64, socket.MSG_DONTWAIT))
    except OSError:
        return False


class Retirement(Mover):
    """Has a shim of its own give its container away once that is quiet: looks every `seconds`, until then."""

    __slots__ = ("_said", "_seconds")

    def __init__(self, shim: Shim, seconds: float, gone: Callable[[], None]) -> None:
        super().__init__(shim, SHARED, gone)
        self._seconds = seconds
        self._said = 0
        self._wait()

    def _wait(self) -> None:
        self._shim.loop.at(self, self._seconds, self._look)

    def _look(self) -> None:
        first = self._shim.first
        if not self._shim.keeper.open:
            return
        said = first.stdio.moved if first is not None and first.stdio is not None else 0
        quiet = said - self._said <= QUIET_RATE * self._seconds
        self._said = said
        if quiet and offer(self._shim) is not None and not self._attached():
            if self._shim.may_look():  # to start an exec there means to wait for it
                return
            self.ask()
        if not self._asked:
            self._wait()

    def _attached(self) -> bool:
        """Whether somebody is, who may want to see much."""
        first = self._shim.first
        return first is not None and first.stdio is not None and bool(first.stdio.to_hand_over())

    def stays(self, kept: bool) -> None:
        """Ask again later; without the keeper that is to be the parent, never."""
        if kept:
            self._wait()
        else:
            self._shim.loop.cancel(self)


def retire(shim: Shim) -> None:
    """Have a shim end once its container is quiet, if the keeper asked for that with the request."""
    seconds = shim.request.get("quiet")
    if seconds is None:
        return

    def gone() -> None:
        shim.keeper.hang_up()
        shim.loop.stop()

    Retirement(shim, float(seconds), gone)
