"""The keeper: a zygote that forks shims.

Started by the daemon as a fresh interpreter with the standard library and this package only. One thread, everything
imported, heap frozen: a fork costs a quarter of a millisecond and a third of a megabyte. It keeps nothing: shims do not
need it, it may be killed and started anew at any time. Without a daemon and without shims it ends by itself.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import socket
import sys

from scow.errors import Unavailable
from scow.fileio import lock_file
from scow.keeper.nursery import Nursery, become
from scow.keeper.orphans import reap
from scow.keeper.pool import Pool
from scow.keeper.protocol import LOCK_NAME, SOCKET_NAME, code
from scow.keeper.shims import Shims
from scow.keeper.warm import warm
from scow.linux import proc
from scow.linux.constants import PR_SET_CHILD_SUBREAPER, PR_SET_DUMPABLE
from scow.linux.fds import close_all_but
from scow.runtime.create import own_capabilities
from scow.shim import protocol, succession
from scow.shim.loop import BREATH, READ, Loop
from scow.shim.main import turn_deaf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scow.shim.protocol import Message

#: Seconds without daemon and shims after which the keeper ends: a daemon that restarts finds it again.
IDLE = 10.0


class Keeper:
    """Serves ``<exec root>/keeper.sock`` and the daemon that started it."""

    def __init__(self, exec_root: str, inherited_fd: int | None) -> None:
        self.loop = Loop()
        self.loop.child = self._reap
        self.permitted = own_capabilities()
        self.nursery = Nursery(self.permitted)
        self.code = code()
        self.connections: set[socket.socket] = set()
        self.shims = Shims(self.loop, self._fork_successor, self._perhaps_end)
        self.pool = Pool(self.loop, self._park)
        self.forked: set[int] = set()  # shims of all kinds; other children are orphans
        self.ending = False
        self.trouble = ""  # why the last shim could not be launched
        self.listener = protocol.listen(exec_root, SOCKET_NAME)
        self.loop.watch(self.listener.fileno(), READ, self._accept)
        if inherited_fd is not None:
            self._serve(socket.socket(fileno=inherited_fd))
        self._perhaps_end()

    def _accept(self, _events: int) -> None:
        try:
            connection, _ = self.listener.accept()
        except BlockingIOError:
            return
        except OSError:
            self.loop.rest(self.listener.fileno(), BREATH)
            return
        self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connections.add(connection)
        self.loop.cancel(self)
        self.loop.watch(connection.fileno(), READ, lambda _events: self._hear(connection))
        # A daemon may be gone before it is greeted.
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            hello = {"event": "keeper", "version": protocol.VERSION, "pid": os.getpid(), "code": self.code}
            protocol.send(connection, hello)

    def _hear(self, connection: socket.socket) -> None:
        try:
            message, fds = protocol.receive(connection)
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            print(f"keeper: {error}", file=sys.stderr, flush=True)
            return
        if message is not None and "starved" in message:
            self._trouble(f"cannot {message['do']}", OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
        elif message is None:
            self.connections.discard(connection)
            self.loop.forget(connection.fileno())
            connection.close()
            if not self.connections:
                self.pool.configure(None)
            self._perhaps_end()
        elif message["do"] == "shim":
            self._launch(message, fds)
        elif message["do"] == "pool":
            self.pool.configure(message)
        elif message["do"] == "count":
            told = {"trouble": self.trouble} if self.trouble else {}
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                protocol.send(connection, {"n": message["n"], **self.pool.count(), **told})
        elif message["do"] in ("succeed", "adopt"):
            self._take_up(message, fds)
        elif message["do"] == "end":
            self._end()

    def _take_up(self, message: Message, fds: list[int]) -> None:
        """Find a container's shim or fork a successor ("succeed"); get to know one of an earlier keeper ("adopt")."""
        try:
            if message["do"] == "succeed":
                self.shims.succeed(message["id"], message["directory"], fds)
            else:
                self.shims.adopt(message["id"], message["directory"], socket.socket(fileno=fds.pop(0)))
        finally:
            for fd in fds:
                os.close(fd)

    def _fork_successor(self, end: socket.socket, request: Message, kept: dict[str, int], daemon: int | None) -> None:
        needed = {end.fileno(), *kept.values(), *([] if daemon is None else [daemon])}
        pid = os.fork()
        if pid == 0:
            become(needed, lambda: _succeed(end, self.permitted, request, kept, daemon))
        self.forked.add(pid)

    def _launch(self, request: Message, fds: list[int]) -> None:
        """Hand a request to a shim; a control socket that closes without a word tells of failure."""
        try:
            while True:
                end = self._shim(request["parked"])
                try:
                    protocol.send(end, request, fds)
                except (BrokenPipeError, ConnectionResetError):  # it was killed
                    end.close()
                else:
                    break
            self.shims.add(request["id"], request["directory"], end)
            self.trouble = ""
        except OSError as error:
            self._trouble("cannot launch a shim", error)
        finally:
            for fd in fds:
                os.close(fd)

    def _trouble(self, what: str, error: OSError) -> None:
        """Write it down, and have it ready for a daemon that asks why."""
        self.trouble = error.strerror or str(error)
        print(f"keeper: {what}: {self.trouble}", file=sys.stderr, flush=True)

    def _shim(self, parked: bool) -> socket.socket:
        """A shim of the pool if one is wanted and there; else a new one, which does everything from the beginning."""
        slot = self.pool.take() if parked else None
        if slot is not None:
            return slot.end
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.forked.add(self.nursery.fork(theirs))
            return ours

    def _park(self, end: socket.socket, first: Message, parent: str | None) -> int:
        pid = self.nursery.park(end, first, parent)
        self.forked.add(pid)
        return pid

    def _reap(self) -> None:
        for pid, started, status in reap():
            if self.nursery.ended(pid):
                continue
            if pid not in self.forked:
                self.shims.orphans.ended((pid, started), status)
                self.pool.orphaned(pid)
            self.forked.discard(pid)
            self.pool.ended(pid)
        self._perhaps_end()

    def _end(self) -> None:
        """End once the pool is empty, so that nothing is left behind."""
        self.ending = True
        self.pool.configure(None)
        self.loop.at("end", IDLE, self.loop.stop)
        self._perhaps_end()

    def _perhaps_end(self) -> None:
        if self.ending and self.pool.empty:
            self.loop.stop()
        elif not self.connections and not self.shims:
            self.loop.at(self, IDLE, self.loop.stop)


def _succeed(end: socket.socket, permitted: int, request: Message, kept: dict[str, int], daemon: int | None) -> None:
    turn_deaf()
    succession.main(end, permitted, request, kept, daemon)


def main(exec_root: str, inherited_fd: int | None) -> None:
    """Be the keeper of `exec_root` until there is nothing left to keep; ends at once if there is one already."""
    # What the daemon was given to inherit (a readiness pipe, a listening socket) is not for us to hold open.
    close_all_but(set() if inherited_fd is None else {inherited_fd})
    os.chdir("/")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    # Nobody in a container, though it be the same user, may look into this process or what is forked from it.
    proc.prctl(PR_SET_DUMPABLE, 0)
    # Processes whose shim was killed come here, and with them their exit status.
    proc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    proc.set_title("scow-keeper")
    try:
        with lock_file(f"{exec_root}/{LOCK_NAME}", "the keeper"):
            warm()
            keeper = Keeper(exec_root, inherited_fd)
            gc.collect()
            gc.freeze()
            gc.disable()
            keeper.loop.run()
    except Unavailable as error:
        print(f"keeper: {error}", file=sys.stderr, flush=True)
