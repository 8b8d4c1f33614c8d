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
#: Shims kept waiting, each with a child, so that a start finds both forked; and seconds between two being forked, which
#: are not to get in the way of a start.
PARKED = 2
REFILL = 0.03


class Keeper:
    """Serves ``<exec root>/keeper.sock`` and the daemon that started it."""

    def __init__(self, exec_root: str, inherited_fd: int | None) -> None:
        self.loop = Loop()
        self.loop.child = self._reap
        self.permitted = own_capabilities()
        self.code = code()
        self.connections: set[socket.socket] = set()
        self.shims: set[int] = set()
        self.parked: dict[int, socket.socket] = {}
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
            self._perhaps_end()
        elif message["do"] == "shim":
            self._launch(message, fds)
        elif message["do"] == "end":
            self.loop.stop()

    def _launch(self, request: Message, fds: list[int]) -> None:
        """Hand a request to a parked shim; a control socket that closes without a word tells of failure."""
        try:
            while True:
                if not self.parked:
                    self._park()
                pid, end = self.parked.popitem()
                try:
                    protocol.send(end, request, fds)
                except (BrokenPipeError, ConnectionResetError):
                    continue  # it died while it was parked
                finally:
                    end.close()
                self.shims.add(pid)
                break
        except OSError as error:
            print(f"keeper: cannot launch a shim: {error}", file=sys.stderr, flush=True)
        finally:
            for fd in fds:
                os.close(fd)
        self.loop.at("park", REFILL, self.fill)

    def fill(self) -> None:
        """Park one shim, and another a little later, until there are enough."""
        if self.connections and len(self.parked) < PARKED:
            self._park()
            self.loop.at("park", REFILL, self.fill)

    def _park(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            pid = os.fork()
            if pid == 0:
                _become_shim(theirs, self.permitted)
            self.parked[pid] = ours

    def _reap(self) -> None:
        for pid, _status in reaper.ended():
            self.shims.discard(pid)
            end = self.parked.pop(pid, None)
            if end is not None:
                end.close()
        self._perhaps_end()

    def _perhaps_end(self) -> None:
        if not self.connections and not self.shims:
            self.loop.at(self, IDLE, self.loop.stop)


def _become_shim(end: socket.socket, permitted: int) -> None:
    """In the forked child: forget the keeper, be a shim, never come back."""
    code = 1
    try:
        close_all_but({end.fileno()})
        gc.enable()
        shim.main(end, permitted)
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
            keeper.loop.at("park", 0, keeper.fill)
            keeper.loop.run()
    except Unavailable as error:
        print(f"keeper: {error}", file=sys.stderr, flush=True)
