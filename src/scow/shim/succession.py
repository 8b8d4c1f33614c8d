"""Taking up a container whose shim was killed: from the task's folder, the process itself and what the keeper kept.

The successor is no parent of the processes it finds. They became the keeper's, if it forked the shim that died, and it
tells how they end; else the kernel is asked, through the process while nobody has reaped it, through its pidfd after
that (Linux 6.15). Of one that was gone before, keeper or daemon may have the pidfd. What nobody knows is recorded so.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys

from scow.errors import EngineError
from scow.linux import pidfd, proc
from scow.linux.namespaces import open_namespace
from scow.logs.driver import LogConfig
from scow.runtime import documents
from scow.shim import protocol
from scow.shim.child import PROCESS, STDIN_NAME, TERMINAL, Child, reopen, reopen_of
from scow.shim.loop import READ
from scow.shim.main import Shim, settle_in
from scow.shim.tap import Tap

#: Seconds in which a daemon that has the pidfd of a process comes with it.
PATIENCE = 2.0

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scow.shim.protocol import Message


def main(end: socket.socket, permitted: int, request: Message, kept: dict[str, int], daemon: int | None) -> None:
    """Be the successor of a shim, in a process just forked for it; returns when there is nothing left to do.

    Args:
        end: to the keeper.
        request: "id" and "directory" of the task; "forked": the keeper was the parent of the shim that died.
        kept: what the keeper held for it, by name.
        daemon: a socket of a daemon that wants to be served.
    """
    loop = settle_in()
    shim = Shim(request, end, permitted, loop)
    try:
        _take_up(shim, kept, daemon)
    except (OSError, EngineError, ValueError, KeyError, TypeError) as error:
        # The daemon, which hears the socket close, ends what cannot be supervised.
        if os.path.exists(f"{shim.directory}/{protocol.STATE_NAME}"):  # else it was being removed meanwhile
            print(f"{shim.id}: cannot be taken up: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    shim.keeper.done()


def _take_up(shim: Shim, kept: dict[str, int], daemon: int | None) -> None:
    try:
        state = documents.load(f"{shim.directory}/{protocol.STATE_NAME}")
    except FileNotFoundError:  # the folder is being removed
        return
    # Killed while it started the container, a shim leaves a launch that failed, for the daemon to clean up.
    if state.get("started_at") and _is_mine(shim, daemon):
        shim.request = {**state["request"], **shim.request}
        Successor(shim, state, kept).begin(daemon)
        shim.loop.run()


def _is_mine(shim: Shim, daemon: int | None) -> bool:
    """Listen in the task's folder, unless somebody does: another keeper's successor may have been quicker."""
    folder = os.open(shim.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if _is_served(shim, daemon) or os.path.exists(f"{shim.directory}/{protocol.EXIT_NAME}"):
            return False
        shim.listen()
    finally:
        os.close(folder)
    return True


def _is_served(shim: Shim, daemon: int | None) -> bool:
    """Whether another shim listens; then it gets the daemon."""
    try:
        other = protocol.connect(shim.directory, protocol.SOCKET_NAME)
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    with other:
        if protocol.receive(other)[0] is None:  # who lives says so at once; one about to die hangs up
            return False
        if daemon is not None:
            protocol.send(other, {"n": 0, "do": "serve"}, [daemon])
        return True


class Successor:
    """Makes `shim` the supervisor of what runs; afterwards only ends are different from a shim that began it all.

    Raises:
        OSError, EngineError, ValueError, KeyError, TypeError: the folder does not say enough, or the kernel refuses.
    """

    def __init__(self, shim: Shim, state: dict[str, Any], kept: dict[str, int]) -> None:
        self.shim = shim
        self.state = state
        self.parents: dict[int, bool] = {}
        shim.paused = shim.cgroup is not None and shim.cgroup.exists and shim.cgroup.frozen()
        if shim.request["log"] is not None:
            shim.log = Tap(LogConfig(**shim.request["log"]), shim.directory, shim.loop)
        self._take_first(kept)
        for exec_id, told in _running_execs(shim.directory).items():
            self._take_exec(exec_id, told, str(state["boot"]))
        shim.keeper.keep()
        shim.settle(None)

    def _take_first(self, kept: dict[str, int]) -> None:
        shim, state = self.shim, self.state
        child = shim.first = Child(None, bool(shim.request["terminal"]), [])
        self._take(child, state, str(state["boot"]))
        self.process = kept.pop(PROCESS, -1)
        if child.terminal:
            stdin = kept.pop(TERMINAL, None)
            sources = [] if stdin is None else [(stdin, 1)]
        else:
            sources, stdin = reopen(shim.directory)
        shim.join(child, sources, stdin)
        for name, fd in kept.items():
            os.close(fd)  # ours have been opened anew
            if name == STDIN_NAME and stdin is None:
                shim.keeper.drop(name)
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            shim.held = [open_namespace("mount", child.pid)] if child.pidfd >= 0 else []
        shim.record_state(child)

    def _take_exec(self, exec_id: str, told: dict[str, Any], boot: str) -> None:
        child = Child(exec_id, bool(told.get("terminal")), [])
        self._take(child, told, boot)
        sources = reopen_of(child.pid, told.get("pipes") or []) if child.pidfd >= 0 else []
        self.shim.join(child, sources, None)

    def _take(self, child: Child, told: dict[str, Any], boot: str) -> None:
        """Find the process that is meant, if it is still there."""
        child.pid, child.start_time = int(told["pid"]), int(told["start_time"])
        child.started_at = int(told["started_at"])
        if boot == proc.boot_id():
            child.pidfd = _open(child.pid, child.start_time)
        self.shim.children[child.pid] = child
        self.shim.busy.add(child)

    # ── ends ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, daemon: int | None) -> None:
        """Serve from now on: tell the daemon, ask the keeper what it knows, and watch the processes."""
        shim = self.shim
        shim.hear_ends = self._hear
        for child in list(shim.children.values()):
            if child.pidfd >= 0:
                self.parents[child.pid] = self._is_keepers(child.pid)
                shim.loop.watch(child.pidfd, READ, self._watcher(child))
        if daemon is not None:
            shim.greet(socket.socket(fileno=daemon))
        shim.keeper.watch([(child.pid, child.start_time) for child in shim.children.values()])
        if self.process >= 0:
            self._ask_process(self.process)
            os.close(self.process)

    def _ask_process(self, fd: int) -> None:
        """If the first process was gone before we came, its pidfd, which others had, may tell how it ended."""
        first = self.shim.first
        if first is not None and first.pidfd < 0 and first.pid in self.shim.children:
            status = pidfd.exit_status(fd)
            if status is not None:
                self._ended(first, status)

    def _is_keepers(self, pid: int) -> bool:
        """Whether the keeper is the parent of `pid`, or will be as soon as the kernel is done with the dead shim."""
        parent = _parent(pid)
        return parent == os.getppid() or bool(self.shim.request.get("forked") and parent == self.state.get("shim"))

    def _watcher(self, child: Child) -> Any:
        return lambda _events: self._over(child)

    def _over(self, child: Child) -> None:
        """The process has ended, and perhaps been reaped."""
        status = proc.zombie_status(child.pid, child.start_time)
        if status is None:
            status = pidfd.exit_status(child.pidfd)
        if status is None and self._keeper_knows(child):
            self.shim.loop.forget(child.pidfd)  # its word is on the way
        else:
            self._ended(child, status)

    def _keeper_knows(self, child: Child) -> bool:
        return self.parents.get(child.pid, False) and self.shim.keeper.open

    def _hear(self, message: Message | None, fds: list[int]) -> None:
        """From the keeper: how a process ended; a daemon's pidfd; that it knows no more; None: that it is gone."""
        children = self.shim.children
        if message is not None and message["event"] == "serve":
            for fd in fds:
                self._ask_process(fd)
            return
        if message is not None and message["event"] == "reaped":
            child = children.get(message["pid"])
            if child is not None and child.start_time == message["start_time"]:
                self._ended(child, message["status"])
            return
        # Those that had ended before anybody looked are known to it now or never.
        unseen = self._ended_unseen(message is None)
        for child in [each for each in children.values() if each.pid in unseen]:
            if child is self.shim.first:
                self.shim.loop.at("unknown", PATIENCE, self._give_up)
            else:
                self._ended(child, None)
        if message is None:
            self.parents = dict.fromkeys(self.parents, False)

    def _give_up(self) -> None:
        """Nobody has come who could tell how the first process ended."""
        first = self.shim.first
        if first is not None and first.pid in self.shim.children:
            self._ended(first, None)

    def _ended_unseen(self, alone: bool) -> set[int]:
        """Processes that are gone, and whose status will not come any more."""
        children = self.shim.children.values()
        gone = {child.pid for child in children if child.pidfd < 0 and child.pid not in self.parents}
        if alone:
            gone |= {child.pid for child in children if self.parents.get(child.pid) and not _runs(child)}
        return gone

    def _ended(self, child: Child, status: int | None) -> None:
        if child.pidfd >= 0:
            self.shim.loop.forget(child.pidfd)
        self.shim.ended(child, status)


def _runs(child: Child) -> bool:
    try:
        pidfd.pidfd_send_signal(child.pidfd, 0)
    except ProcessLookupError:
        return False
    return True


def _open(pid: int, start_time: int) -> int:
    """A pidfd of that very process, -1 if it has been reaped."""
    try:
        fd = pidfd.pidfd_open(pid)
    except ProcessLookupError:
        return -1
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        if proc.start_time(pid) == start_time:
            return fd
    os.close(fd)
    return -1


def _parent(pid: int) -> int:
    try:
        return int(proc.stat_fields(pid)[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _running_execs(directory: str) -> dict[str, dict[str, Any]]:
    """What `Shim` noted of the execs that have not ended: id → pid, start_time, …"""
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(f"{directory}/{protocol.EXECS_NAME}"):
            if not name.endswith(".json"):
                continue
            with contextlib.suppress(FileNotFoundError, ValueError):  # half written: it had not been told of
                told = documents.load(f"{directory}/{protocol.EXECS_NAME}/{name}")
                if "code" not in told and "pid" in told:
                    found[name.removesuffix(".json")] = told
    return found
