"""The shims the keeper looks after: their connections, what they have it hold for a successor, and the succession.

A shim that hangs up without a farewell was killed. If its container had started and has no exit record, a successor
is forked with what was kept; one that cannot keep going is tried again a few times.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys

from scow.keeper.orphans import Orphans
from scow.shim import protocol
from scow.shim.child import PROCESS
from scow.shim.loop import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from scow.shim.loop import Loop
    from scow.shim.protocol import Message

    Fork = Callable[[socket.socket, Message, dict[str, int], int | None], None]

#: Successors that may die one after the other without having begun to serve.
ATTEMPTS = 3
#: Descriptors kept for one container.
MOST_KEPT = 8


class Charge:
    """One container's shim. `forked`: its parent is this keeper; `attempts`: successors since one served."""

    __slots__ = ("attempts", "directory", "end", "forked", "id", "kept", "watched")

    def __init__(self, id: str, directory: str, end: socket.socket, forked: bool) -> None:  # noqa: A002
        self.id = id
        self.directory = directory
        self.end = end
        self.forked = forked
        self.kept: dict[str, int] = {}
        self.watched: list[tuple[int, int]] = []
        self.attempts = 0


class Shims:
    """By the folder of their task.

    Args:
        fork: forks a successor that has these descriptors and nothing else of ours, and calls it with its connection.
        fewer: called when there is one less.
    """

    def __init__(self, loop: Loop, fork: Fork, fewer: Callable[[], None]) -> None:
        self._loop = loop
        self._fork = fork
        self._fewer = fewer
        self._charges: dict[str, Charge] = {}
        self.orphans = Orphans()

    def __len__(self) -> int:
        return len(self._charges)

    def add(self, id: str, directory: str, end: socket.socket) -> None:  # noqa: A002
        """Look after one more, launched here."""
        former = self._charges.get(directory)
        if former is not None:
            self._forget(former)
        charge = Charge(id, directory, end, forked=True)
        self._charges[directory] = charge
        self._watch(charge)

    def adopt(self, id: str, directory: str, end: socket.socket) -> None:  # noqa: A002
        """Look after one that a daemon brings: of an earlier keeper, or known already, then over another connection."""
        charge = self._charges.get(directory)
        if charge is None:
            charge = self._charges[directory] = Charge(id, directory, end, forked=False)
        else:
            self._loop.forget(charge.end.fileno())
            charge.end.close()
            charge.end = end
        self._watch(charge)

    def succeed(self, id: str, directory: str, fds: list[int]) -> None:  # noqa: A002
        """Have a container's shim serve a daemon: the living one, or a successor.

        Args:
            fds: socket of the daemon, and the pidfd it has of the first process, if it has one.
        """
        charge = self._charges.get(directory)
        if charge is not None:
            try:
                protocol.send(charge.end, {"event": "serve"}, fds)
            except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                # What it said last comes first.
                while self._charges.get(directory) is charge and self._hear(charge, fds):
                    pass
        else:
            self._begin(Charge(id, directory, socket.socket(), False), fds)

    def _watch(self, charge: Charge) -> None:
        charge.end.setblocking(False)

        def ready(_events: int) -> None:
            self._hear(charge)

        self._loop.watch(charge.end.fileno(), READ, ready)

    def _hear(self, charge: Charge, daemon: list[int] | None = None) -> bool:
        """Take one message; False when there is none for now, or ever again: then `daemon` wants to be served."""
        try:
            message, fds = protocol.receive(charge.end)
        except BlockingIOError:
            return False
        except (OSError, ValueError) as error:
            print(f"keeper: {charge.id}: {error}", file=sys.stderr, flush=True)
            return True
        try:
            if message is None:
                self._gone(charge, daemon or [])
                return False
            if message.get("do") == "keep" and fds:
                for name in message["names"][: len(fds)]:
                    self._keep(charge, str(name), fds.pop(0))
            elif message.get("do") == "drop":
                self._drop(charge, str(message["name"]))
            elif message.get("do") == "watch":
                self._tell_ends(charge, [(int(pid), int(started)) for pid, started in message["processes"]])
            elif message.get("do") == "done":
                self._forget(charge)
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _keep(self, charge: Charge, name: str, fd: int) -> None:
        self._drop(charge, name)
        if len(charge.kept) < MOST_KEPT:
            charge.kept[name] = fd
        else:
            os.close(fd)

    def _drop(self, charge: Charge, name: str) -> None:
        fd = charge.kept.pop(name, None)
        if fd is not None:
            os.close(fd)

    def _tell_ends(self, charge: Charge, names: list[tuple[int, int]]) -> None:
        """A successor serves, and asks how its processes end."""
        charge.attempts = 0
        charge.watched = names

        def tell(name: tuple[int, int], status: int) -> None:
            self._say(charge, {"event": "reaped", "pid": name[0], "start_time": name[1], "status": status})

        for name in names:
            self.orphans.watch(name, tell)
        self._say(charge, {"event": "noted"})

    def _say(self, charge: Charge, message: Message) -> None:
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            protocol.send(charge.end, message)

    def _gone(self, charge: Charge, fds: list[int]) -> None:
        """A shim was killed: see whether it needs a successor."""
        if self._charges.get(charge.directory) is not charge:
            return
        self._unwatch(charge)
        self._charges.pop(charge.directory)
        if charge.attempts < ATTEMPTS and _runs_on(charge.directory):
            self._begin(charge, fds)
        else:
            self._close(charge)
            self._fewer()

    def _begin(self, charge: Charge, fds: list[int]) -> None:
        """Fork a successor that gets what was kept, and perhaps a daemon to serve and what that has."""
        for fd in fds[1:2]:
            self._keep(charge, PROCESS, os.dup(fd))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = {"id": charge.id, "directory": charge.directory, "forked": charge.forked}
        try:
            with theirs:
                self._fork(theirs, request, charge.kept, fds[0] if fds else None)
        except OSError as error:
            print(f"keeper: {charge.id}: no successor: {error}", file=sys.stderr, flush=True)
            ours.close()
            self._close(charge)
            self._fewer()
            return
        charge.end.close()
        charge.end = ours
        charge.forked = True
        charge.attempts += 1
        self._charges[charge.directory] = charge
        self._watch(charge)

    def _forget(self, charge: Charge) -> None:
        if self._charges.get(charge.directory) is charge:
            del self._charges[charge.directory]
            self._unwatch(charge)
            self._close(charge)
            self._fewer()

    def _unwatch(self, charge: Charge) -> None:
        self._loop.forget(charge.end.fileno())
        self.orphans.forget(charge.watched)
        charge.watched = []

    def _close(self, charge: Charge) -> None:
        charge.end.close()
        for name in list(charge.kept):
            self._drop(charge, name)


def _runs_on(directory: str) -> bool:
    """Whether a container has (perhaps) started, and has not ended as far as its folder says."""
    return os.path.exists(f"{directory}/{protocol.STATE_NAME}") and not os.path.exists(
        f"{directory}/{protocol.EXIT_NAME}"
    )
