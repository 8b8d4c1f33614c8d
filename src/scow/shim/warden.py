"""A warden: one process that is the shim of many quiet containers, each as if it had one of its own.

Each container has its own `Shim`, its own connection to the keeper and a part of the loop (`Ward`), behind which it
cannot see the others. What goes wrong while one is served ends in the loss of that one, which the keeper gives to a
successor as if its shim had been killed. One that becomes busy asks for a shim of its own (`scow.shim.handover`). What
blocks blocks all of them: a log on a disk that does not answer, a freezer that waits.

A process that has one container only, taken over from a warden, is run by the same code.
"""

from __future__ import annotations

import socket
import sys
import time

from scow.linux import proc
from scow.shim import protocol, reaper, succession
from scow.shim.handover import FLOOD, OWN, WINDOW, Handed, Mover, retire
from scow.shim.link import close_all
from scow.shim.loop import READ, Loop
from scow.shim.main import Shim
from scow.shim.process import settle_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from scow.shim.loop import Handler
    from scow.shim.protocol import Message

TITLE = "scow-shims"


class Entry:
    """A container that is to come by `road`; `end` leads to the keeper, `kept` is what that holds for it."""

    __slots__ = ("end", "kept", "request", "road")

    def __init__(self, request: Message, road: int, end: int, kept: dict[str, int]) -> None:
        self.request = request
        self.road = socket.socket(fileno=road)
        self.end = socket.socket(fileno=end)
        self.kept = kept

    def close(self) -> None:
        """It has come, or will not come any more."""
        self.road.close()
        close_all(list(self.kept.values()))
        self.kept.clear()


class Ward(Loop):
    """One container's part of the warden's loop; what its shim takes for the loop. `stop` ends the part."""

    __slots__ = ("_keys", "_loop", "_mark", "_mover", "_since", "_warden", "_watched", "entry", "over", "shim")

    def __init__(self, loop: Loop, warden: Warden) -> None:
        self._loop = loop
        self._warden = warden
        self._watched: dict[int, tuple[int, Handler]] = {}
        self._keys: set[object] = set()
        self._mover: Mover | None = None
        self._mark = 0
        self._since = 0.0
        self.child = None
        self.over = False
        self.entry: Entry | None = None
        self.shim: Shim | None = None

    def watch(self, fd: int, mask: int, handler: Handler) -> None:
        """See `Loop.watch`."""
        self._watched[fd] = mask, handler
        self._loop.watch(fd, mask, lambda events: self._warden.run(self, lambda: handler(events)))

    def forget(self, fd: int) -> None:
        """See `Loop.forget`."""
        if self._watched.pop(fd, None) is not None:
            self._loop.forget(fd)

    def rest(self, fd: int, seconds: float) -> None:
        """See `Loop.rest`."""
        mask, handler = self._watched[fd]
        self.forget(fd)
        self.at(("rest", fd), seconds, lambda: self.watch(fd, mask, handler))

    def at(self, key: object, seconds: float, action: Callable[[], None]) -> None:
        """See `Loop.at`."""
        self._keys.add(key)

        def due() -> None:
            self._keys.discard(key)
            self._warden.run(self, action)

        self._loop.at((self, key), seconds, due)

    def cancel(self, key: object) -> None:
        """See `Loop.cancel`."""
        self._keys.discard(key)
        self._loop.cancel((self, key))

    def stop(self) -> None:
        """See `Loop.stop`."""
        self.over = True

    def leave_when_busy(self, shim: Shim) -> None:
        """Have the container get a shim of its own once it is busy."""
        self._mover = Mover(shim, OWN, self.give_up)

    def give_up(self) -> None:
        """Somebody else has it."""
        self.over = True
        if self.shim is not None:
            self.shim.keeper.hang_up()

    def look(self) -> None:
        """Something has been done for the container: if much was within a short time, it is busy."""
        first = self.shim.first if self.shim is not None else None
        if first is None or first.stdio is None or first.stdio.moved - self._mark < FLOOD:
            return
        now = time.monotonic()
        busy = now - self._since < WINDOW
        self._since, self._mark = now, first.stdio.moved
        if busy and self._mover is not None:
            self._mover.ask()

    def clear(self) -> None:
        """Nothing of the container is left in the loop, nor open because of it."""
        for key in list(self._keys):
            self.cancel(key)
        for fd in list(self._watched):  # streams which offspring of a process that has ended still holds
            self.forget(fd)
            close_all([fd])


class Warden:
    """Serves what the keeper behind `end` gives it; ends when that has hung up and the last container has gone."""

    def __init__(self, end: socket.socket, permitted: int, loop: Loop) -> None:
        self._end = end
        self._permitted = permitted
        self._loop = loop
        self._wards: set[Ward] = set()
        self._open = True
        end.setblocking(False)
        loop.child = self._reap
        loop.watch(end.fileno(), READ, self._hear)

    def _hear(self, _events: int) -> None:
        try:
            message, fds = protocol.receive(self._end)
        except BlockingIOError:
            return
        if message is None:
            self._open = False
            self._loop.forget(self._end.fileno())
            self._end.close()
            self._perhaps_end()
        elif message["do"] == "expect" and "starved" not in message:  # else nobody is there for it to be given to
            self._expect(message, fds)
        close_all(fds)

    def _expect(self, message: Message, fds: list[int]) -> None:
        """A container is about to come.

        Args:
            message: "request" as of `scow.shim.succession.main`, with "quiet" if it is to move once it is quiet;
                "kept": names of what the keeper holds.
            fds: the road it comes by, the connection to the keeper, what is kept.
        """
        ward = Ward(self._loop, self)
        road, end, *kept = fds
        fds.clear()
        ward.entry = Entry(message["request"], road, end, dict(zip(message["kept"], kept, strict=True)))
        self._wards.add(ward)
        ward.watch(road, READ, lambda _events: self._take(ward))

    def _take(self, ward: Ward) -> None:
        """Take up what comes by the road."""
        entry = ward.entry
        if entry is None:
            return
        told, fds = protocol.receive(entry.road)
        ward.forget(entry.road.fileno())
        if told is None or "starved" in told:  # it stays where it is
            ward.over = True
            return
        shim = ward.shim = Shim(entry.request, entry.end, self._permitted, ward)
        begin = succession.take_over(shim, entry.kept, Handed(told, fds))
        try:
            protocol.send(entry.road, {"event": "taken"})
        except (BrokenPipeError, ConnectionResetError):  # it could not wait, or has died, which the keeper sees
            ward.give_up()
            return
        ward.entry = None
        entry.close()
        begin()
        if entry.request.get("quiet") is None:
            ward.leave_when_busy(shim)
        else:
            proc.set_title("scow-shim")
            retire(shim)

    def run(self, ward: Ward, action: Callable[[], None]) -> None:
        """Do something for one container, such that the others do not notice whatever comes of it."""
        if ward.over:
            return
        try:
            action()
            ward.look()
        except Exception as error:
            who = ward.shim.id if ward.shim is not None else "a container"
            print(f"{who}: its shim has failed, and gets a successor:", file=sys.stderr, flush=True)
            sys.excepthook(type(error), error, error.__traceback__)
            self._lose(ward)
        else:
            if ward.over:
                if ward.shim is not None:
                    ward.shim.keeper.done()
                self._lose(ward)
            elif ward.shim is not None:
                ward.shim.forget_container()

    def _lose(self, ward: Ward) -> None:
        """Close what is open for a container that has ended, moved, or is to be taken up by somebody else."""
        ward.over = True
        self._wards.discard(ward)
        try:
            if ward.entry is not None:
                ward.forget(ward.entry.road.fileno())
                ward.entry.close()
            if ward.shim is not None:
                ward.shim.leave()
            elif ward.entry is not None:
                ward.entry.end.close()
        except OSError as error:  # a descriptor that was not what it was thought to be: better lost than all the others
            print(f"{ward.shim and ward.shim.id}: {error}", file=sys.stderr, flush=True)
        ward.clear()
        self._perhaps_end()

    def _reap(self) -> None:
        for pid, status in reaper.ended():
            for ward in list(self._wards):
                child = ward.shim.children.get(pid) if ward.shim is not None else None
                if ward.shim is not None and child is not None:
                    self._reaped(ward, ward.shim, pid, status)
                    break

    def _reaped(self, ward: Ward, shim: Shim, pid: int, status: int) -> None:
        self.run(ward, lambda: shim.reaped(shim.children[pid], status))

    def _perhaps_end(self) -> None:
        if not self._open and not self._wards:
            self._loop.stop()


def main(end: socket.socket, permitted: int) -> None:
    """Be a warden, in a process just forked for it; returns when there is nothing left to do."""
    loop = settle_in()
    proc.set_title(TITLE)
    Warden(end, permitted, loop)
    loop.run()
