"""The keeper: a zygote that forks shims.

Started by the daemon as a fresh interpreter with the standard library and this package only. One thread, everything
imported, heap frozen: a fork costs a quarter of a millisecond and a third of a megabyte. It keeps nothing: shims do not
need it, it may be killed and started anew at any time. Without a daemon and without shims it ends by itself.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys

from scow.errors import Unavailable
from scow.fileio import lock_file
from scow.keeper.pool import Pool
from scow.keeper.protocol import LOCK_NAME, SOCKET_NAME, code
from scow.keeper.warm import warm
from scow.linux import proc
from scow.linux.constants import PR_SET_DUMPABLE
from scow.linux.fds import close_all_but
from scow.runtime.create import own_capabilities
from scow.shim import main as shim
from scow.shim import protocol, reaper
from scow.shim.loop import READ, Loop

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
        self.code = code()
        self.connections: set[socket.socket] = set()
        self.shims: set[int] = set()
        self.pool = Pool(self.loop, self._fork)
        self.ending = False
        self.listener = protocol.listen(exec_root, SOCKET_NAME)
        self.loop.watch(self.listener.fileno(), READ, self._accept)
        if inherited_fd is not None:
            self._serve(socket.socket(fileno=inherited_fd))
        self._perhaps_end()

    def _accept(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            connection, _ = self.listener.accept()
            self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connections.add(connection)
        self.loop.cancel(self)
        self.loop.watch(connection.fileno(), READ, lambda _events: self._hear(connection))
        # A daemon may be gone before it is greeted.
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            protocol.send(connection, {"event": "keeper", "pid": os.getpid(), "code": self.code})

    def _hear(self, connection: socket.socket) -> None:
        try:
            message, fds = protocol.receive(connection)
        except BlockingIOError:
            return
        except ValueError as error:
            print(f"keeper: {error}", file=sys.stderr, flush=True)
            return
        if message is None:
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
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                protocol.send(connection, {"n": message["n"], **self.pool.count()})
        elif message["do"] == "end":
            self._end()

    def _launch(self, request: Message, fds: list[int]) -> None:
        """Hand a request to a shim; a control socket that closes without a word tells of failure."""
        try:
            pid, end = self._shim(request["parked"])
            with end:
                protocol.send(end, request, fds)
            self.shims.add(pid)
        except OSError as error:
            print(f"keeper: cannot launch a shim: {error}", file=sys.stderr, flush=True)
        finally:
            for fd in fds:
                os.close(fd)

    def _shim(self, parked: bool) -> tuple[int, socket.socket]:
        """A shim of the pool if one is wanted and there; else a new one, which does everything from the beginning."""
        slot = self.pool.take() if parked else None
        if slot is not None:
            return slot.pid, slot.end
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            return self._fork(theirs), ours

    def _fork(self, end: socket.socket, first: Message | None = None, parent: str | None = None) -> int:
        pid = os.fork()
        if pid == 0:
            _become_shim(end, self.permitted, first, parent)
        return pid

    def _reap(self) -> None:
        for pid, _status in reaper.ended():
            if not self.pool.ended(pid):
                self.shims.discard(pid)
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


def _become_shim(end: socket.socket, permitted: int, first: Message | None, parent: str | None) -> None:
    """In the forked child: forget the keeper, be a shim, never come back."""
    code = 1
    try:
        close_all_but({end.fileno()})
        gc.enable()
        shim.main(end, permitted, first, parent)
        code = 0
    except BaseException as error:
        # The last line of a shim: nothing may unwind into the keeper's code.
        sys.excepthook(type(error), error, error.__traceback__)
        sys.stderr.flush()
    finally:
        os._exit(code)


def main(exec_root: str, inherited_fd: int | None) -> None:
    """Be the keeper of `exec_root` until there is nothing left to keep; ends at once if there is one already."""
    # What the daemon was given to inherit (a readiness pipe, a listening socket) is not for us to hold open.
    close_all_but(set() if inherited_fd is None else {inherited_fd})
    os.chdir("/")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    # Nobody in a container, though it be the same user, may look into this process or what is forked from it.
    proc.prctl(PR_SET_DUMPABLE, 0)
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
