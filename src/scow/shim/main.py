"""The shim: parent of one container's first process and of its execs, for as long as any of them lives.

Forked by the keeper for one container, in a session of its own; one thread. Owns the stdio, the log, the cgroup
and the exit records of its container, and serves any number of daemons, one after the other or at once. Nobody need be
connected: containers, logs and records go on. It ends when its processes have ended and everything is told.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import contextlib
import errno
import os
import signal
import socket
import sys
import time

from scow.errors import EngineError
from scow.fileio import atomic_write
from scow.linux import pidfd, proc, pty
from scow.linux.constants import PR_SET_CHILD_SUBREAPER
from scow.linux.namespaces import open_namespace
from scow.logs.driver import LogConfig
from scow.runtime import documents
from scow.runtime.cgroup import Cgroup
from scow.runtime.create import adopt, begin, park, parked_group, unpark
from scow.runtime.exec import begin_exec, may_look
from scow.runtime.init import Setup
from scow.runtime.sync import Failed
from scow.shim import oom, protocol, reaper
from scow.shim.child import STDIN_NAME, Child, end_input, forget_exec, record_exec
from scow.shim.link import Link, close_all
from scow.shim.loop import BREATH, READ, Loop
from scow.shim.protocol import Streams
from scow.shim.streams import Stdio
from scow.shim.tap import Tap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from scow.runtime.create import Following, Started
    from scow.shim.protocol import Message


#: Seconds after its start from which a container's memory is watched; what was before is counted.
SETTLED = 0.005
_IGNORED = (int(signal.SIGTERM), int(signal.SIGINT), int(signal.SIGHUP))


class Shim:
    """One container, to be launched (`launch`) or taken up from a shim that was killed (`scow.shim.succession`).

    Args:
        request: what the daemon asked the keeper for, see `main`.
        end: to the keeper.
        permitted: capabilities this process holds.
    """

    def __init__(self, request: Message, end: socket.socket, permitted: int, loop: Loop) -> None:
        self.id: str = request["id"]
        self.directory: str = request["directory"]
        self.request = request
        self.permitted = permitted
        self.loop = loop
        self.parked: Following | None = None
        self.loop.child = self._reap
        self.keeper = Link(loop, end, self._hear_keeper, self._kept)
        self.hear_ends: Callable[[Message | None, list[int]], None] | None = None  # a successor's
        self.connections: set[socket.socket] = set()
        self.children: dict[int, Child] = {}
        self.busy: set[Child] = set()
        self.exit: Message | None = None
        self.paused = False
        self.removed = False
        self.rootfs_fd = -1
        self.network_fd: int | None = None
        self._setup: Setup | None = None
        self._cgroup: Cgroup | None = None
        self.oom: oom.Watch | None = None
        self.held: list[int] = []
        self.first: Child | None = None
        self.log: Any = None

    # ── the first process ───────────────────────────────────────────────────────────────────────────────────────────

    def launch(self, fds: list[int], parked: Following | None) -> None:
        """Start the first process; the answer goes out over the control socket when its program runs."""
        self.parked = parked
        control, self.rootfs_fd, *ends = fds
        self.network_fd = ends.pop(0) if self.request["network"] else None
        child = self.first = Child(None, self.request["terminal"], [])
        try:
            try:
                # First of all: the child has the longest way, and goes it on the other processor. The daemon hears
                # `control` close only when the child is gone, too, or runs.
                following = self._begin(child, control)
            finally:
                self.serve(socket.socket(fileno=control))
                wishes = map(Streams.from_json, self.request["attachments"])
                child.attachments = [(socket.socket(fileno=fd), wants) for fd, wants in zip(ends, wishes, strict=True)]
            self._follow(child, following)
            self.keeper.keep()
            if self.request["log"] is not None:
                self.log = Tap(LogConfig(**self.request["log"]), self.directory, self.loop)
            self.record_state(child)
            self.listen()
        except Failed as error:
            self._failed_to_launch(error)
        except (EngineError, OSError, ValueError) as error:
            number, path = (error.errno or 0, error.filename) if isinstance(error, OSError) else (0, "")
            self._failed_to_launch(Failed("shim", number, str(path or ""), str(error)))

    def listen(self) -> None:
        """Let daemons come."""
        self.listener = protocol.listen(self.directory, protocol.SOCKET_NAME)
        self.loop.watch(self.listener.fileno(), READ, self._accept)

    def record_state(self, child: Child) -> None:
        """Who the container is, for a daemon that finds it without us, and, once it has started, for a successor."""
        state = {
            "version": protocol.VERSION,
            "id": self.id,
            "pid": child.pid,
            "start_time": child.start_time,
            "boot": proc.boot_id(),
            "shim": os.getpid(),
            "started_at": child.started_at,
            "request": {**self.request, "attachments": []},
        }
        atomic_write(f"{self.directory}/{protocol.STATE_NAME}", documents.dump(state), durable=False)

    def _begin(self, child: Child, life_fd: int) -> Following:
        """The parked child becomes the container; without one, a child does everything from the beginning."""
        stdio = None if child.terminal else child.pipes.make(bool(self.request["stdin"]), self.directory)
        if self.request["cgroup"]:
            Cgroup.make_way(self.request["cgroup"])
        if self.parked is not None:
            adopt(self.parked, self.request, self.rootfs_fd, self.network_fd, stdio, life_fd)
            return self.parked
        setup = Setup.load(self.request, self.rootfs_fd, self.network_fd, stdio, self.permitted)
        setup.life_fd = life_fd
        return begin(setup)

    def _failed_to_launch(self, error: Failed) -> None:
        """Say why, leave nothing."""
        if self.first is not None and self.first.following is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.first.following.pid, signal.SIGKILL)
        paths = [self.request["cgroup"]]
        if self.parked is not None:  # perhaps it never got the container's name
            paths.append(parked_group(os.path.dirname(self.request["cgroup"]), self.parked.pid))
        for group in (Cgroup.open(path) for path in paths if path):
            group.kill()
            group.remove()
        self._tell({"event": "failed", **_failure(error)})
        self.loop.stop()

    def _follow(self, child: Child, following: Following) -> None:
        """Serve a start until it has succeeded or failed."""
        child.following = following
        # Now, while nobody can have reaped it: the number is certainly its own.
        child.pid = following.pid
        child.pidfd = pidfd.pidfd_open(child.pid)
        child.start_time = proc.start_time(child.pid)
        child.pipes.close_theirs()
        self.children[following.pid] = child
        self.busy.add(child)
        self.loop.watch(following.channel.socket.fileno(), READ, lambda _events: self._advance(child))

    def _advance(self, child: Child) -> None:
        following = child.following
        if following is None:
            return
        try:
            started = following.advance()
            if started is None:
                return
        except Failed as error:
            self._unfollow(child, following)
            self._not_started(child, error)
        else:
            self._unfollow(child, following)
            self._started(child, started)

    def _unfollow(self, child: Child, following: Following) -> None:
        self.loop.forget(following.channel.socket.fileno())
        following.channel.close()
        child.following = None

    def _started(self, child: Child, started: Started) -> None:
        child.started_at = time.time_ns()
        if started.master_fd is not None:
            sources = [(started.master_fd, 1)]
            stdin: int | None = started.master_fd
        else:
            *before, out, err = child.pipes.ours
            sources = [(out, 1), (err, 2)]
            stdin = before[0] if before else None
        if child is self.first:
            self._record_start(child)
        stdio = self.join(child, sources, stdin)
        for end, wants in child.attachments:
            stdio.attach(end, wants)
        child.attachments = []
        if child is self.first:
            self._tell({"event": "started", **self._status()})
            if child.terminal:
                self.keeper.keep()
            # Held until the exit is told: what the kernel does to take an overlay and a mount namespace down (sync,
            # RCU) would else come between the process's end and our hearing of it.
            self.held = [self.rootfs_fd]
            with contextlib.suppress(FileNotFoundError):  # it has ended already
                self.held.append(open_namespace("mount", child.pid))
            if self.network_fd is not None:
                os.close(self.network_fd)
            # What it says first goes first, and many have ended by then.
            self.loop.at(self.settle, SETTLED, self.settle)
        else:
            self._answer(child, {"pid": child.pid, "started_at": child.started_at})

    def _kept(self) -> dict[str, int]:
        return {} if self.first is None or self.exit is not None else self.first.to_keep()

    @property
    def cgroup(self) -> Cgroup | None:
        """The container's, once it runs."""
        if self._cgroup is None and self.request["cgroup"]:
            self._cgroup = Cgroup.open(self.request["cgroup"])
        return self._cgroup

    def settle(self, known: int | None = 0) -> None:
        """Watch the cgroup.

        Args:
            known: kills for memory that have been told, None: as many as there were.
        """
        if self.cgroup is not None and self.exit is None:
            with contextlib.suppress(EngineError):  # its group was taken away: nothing is counted there any more
                known = self.cgroup.oom_events() if known is None else known
                self.oom = oom.Watch(self.loop, self.cgroup, lambda: self._tell({"event": "oom"}), known)

    def join(self, child: Child, sources: list[tuple[int, int]], stdin: int | None) -> Stdio:
        """Serve a process's streams from now on."""
        log = self.log if child is self.first else None
        stdio = child.stdio = Stdio(self.loop, sources, stdin, child.terminal, log, lambda: self._done(child))
        if child is self.first:
            stdio.input_ended = self._input_ended
        return stdio

    def _input_ended(self) -> None:
        """A successor is not to hold it open."""
        end_input(self.directory)
        self.keeper.drop(STDIN_NAME)

    def _record_start(self, child: Child) -> None:
        try:
            self.record_state(child)
        except (OSError, EngineError) as error:  # it runs, but nobody could take it up
            print(f"{self.id}: {error}", file=sys.stderr, flush=True)

    def _not_started(self, child: Child, error: Failed) -> None:
        self.children = {pid: other for pid, other in self.children.items() if other is not child}
        self.busy.discard(child)
        child.pipes.close()
        forget_exec(self.directory, child)
        os.close(child.pidfd)
        for end, _wants in child.attachments:
            end.close()
        if child is self.first:
            self._failed_to_launch(error)
        else:
            self._answer(child, {"failed": _failure(error)})
            self._perhaps_leave()

    # ── ends ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _reap(self) -> None:
        for pid, status in reaper.ended():
            child = self.children.get(pid)
            if child is None:
                continue  # an orphan that came to us, the subreaper
            while child.following is not None:
                child.following.status = status
                self._advance(child)
            if pid in self.children:
                self.ended(child, status)

    def ended(self, child: Child, status: int | None) -> None:
        """Output first, so that whoever hears of the end finds the log whole; then the record; then the news.

        Args:
            status: as of wait(2); None if nobody knows.
        """
        self.children.pop(child.pid, None)
        stdio = child.stdio
        if stdio is None:
            return
        first = child is self.first
        if first:
            self.loop.cancel(self.settle)
        oom_killed = self.cgroup is not None and self.cgroup.oom_killed() if first else False
        if first and self.oom is not None:
            self.oom.close()
        if first and self.cgroup is not None:
            self.cgroup.kill()  # without a pid namespace of its own its offspring lives on
        stdio.read_rest()
        if first and self.log is not None:
            stdio.log = None
            self.log.close()
            self.log = None
        told = reaper.record(status, oom_killed, started_at=child.started_at, ran=proc.age(child.start_time))
        if first:
            self.exit = told
            self._record(protocol.EXIT_NAME, told)
            self._tell({"event": "exit", **told})
            while self.held:
                os.close(self.held.pop())
        else:
            self._record(f"{protocol.EXECS_NAME}/{child.exec_id}.json", told)
            self._tell({"event": "exec_exit", "exec": child.exec_id, **told})
        if child.pidfd >= 0:
            os.close(child.pidfd)
        stdio.finish()
        self._perhaps_remove()

    def _record(self, name: str, told: Message) -> None:
        try:
            reaper.write(f"{self.directory}/{name}", told)
        except (OSError, EngineError) as error:
            told["error"] = f"the exit could not be recorded: {error}"
            print(f"{self.id}: {told['error']}", file=sys.stderr, flush=True)

    def _done(self, child: Child) -> None:
        """A process has ended and its streams are done."""
        self.busy.discard(child)
        self._perhaps_leave()

    def _perhaps_remove(self) -> None:
        """The cgroup goes with the last process, not with the last reader."""
        if self.exit is not None and not self.children and not self.removed:
            self.removed = True
            if self.cgroup is not None:
                self.cgroup.remove()
            self._tell({"event": "removed"})
            self._perhaps_leave()

    def _perhaps_leave(self) -> None:
        if self.removed and not self.busy:
            self.loop.stop()

    # ── daemons ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _accept(self, _events: int) -> None:
        try:
            connection, _ = self.listener.accept()
        except BlockingIOError:
            return
        except OSError:
            self.loop.rest(self.listener.fileno(), BREATH)
            return
        self.greet(connection)

    def greet(self, connection: socket.socket) -> None:
        """Serve one more daemon, which hears first how things are."""
        self.serve(connection)
        self._send(connection, {"event": "status", **self._status()})

    def _hear_keeper(self, message: Message | None, fds: list[int]) -> None:
        """From the keeper: somebody to be served, or what became of a process taken up."""
        if message is not None and message["event"] == "serve" and fds:
            self.greet(socket.socket(fileno=fds.pop(0)))
        if self.hear_ends is not None:
            self.hear_ends(message, fds)
        close_all(fds)

    def serve(self, connection: socket.socket) -> None:
        """Obey a daemon, and tell it what happens."""
        connection.setblocking(False)
        self.connections.add(connection)
        self.loop.watch(connection.fileno(), READ, lambda _events: self._hear(connection))

    def _hear(self, connection: socket.socket) -> None:
        try:
            message, fds = protocol.receive(connection)
        except BlockingIOError:
            return
        if message is None:
            self._hang_up(connection)
            return
        try:
            answer = self._obey(connection, message, fds)
        except Failed as error:
            answer = {"failed": _failure(error)}
        except (OSError, EngineError, KeyError, ValueError) as error:
            answer = {"failed": {"stage": message.get("do"), "errno": 0, "path": "", "text": protocol.reason(error)}}
        finally:
            for fd in fds:
                os.close(fd)
        if answer is not None:
            self._send(connection, {"n": message["n"], **answer})

    def _obey(self, connection: socket.socket, message: Message, fds: list[int]) -> Message | None:
        """Do what is asked; the answer, or None if it comes later. What is kept of `fds` is taken out of the list."""
        asked = message["do"]
        if "starved" in message:
            raise Failed(asked, 0, "", os.strerror(errno.EMFILE).lower())
        if asked == "exec":
            self._exec(connection, message, fds)
            return None
        child = self._child(message.get("exec"))
        if asked == "attach":
            if child.stdio is None:
                raise Failed("attach", 0, "", "the process is not running")
            child.stdio.attach(socket.socket(fileno=fds.pop(0)), Streams.from_json(message["streams"]))
        elif asked == "kill" and message.get("group"):
            with contextlib.suppress(ProcessLookupError):  # ours and not reaped yet: the number is its own
                os.killpg(child.pid, message["signal"])
        elif asked == "kill":
            pidfd.pidfd_send_signal(child.pidfd, message["signal"])
        elif asked == "resize":
            self._resize(child, message["rows"], message["columns"])
        elif asked == "close_stdin" and child.stdio is not None:
            child.stdio.close_stdin()
        elif asked in ("pause", "resume") and self.cgroup is not None:
            if asked == "pause":
                self.cgroup.freeze()
            else:
                self.cgroup.thaw()
            self.paused = asked == "pause"
        elif asked == "clear_log":
            if self.log is None:
                raise Failed("log", 0, "", "the log is complete: it can be cleared without us")
            self.log.clear()
        elif asked == "serve":
            self.greet(socket.socket(fileno=fds.pop(0)))
        elif asked == "keeper":
            self.keeper.use(socket.socket(fileno=fds.pop(0)))
        elif asked == "status":
            return self._status()
        return {}

    def _child(self, exec_id: str | None) -> Child:
        for child in self.children.values():
            if child.exec_id == exec_id:
                return child
        if exec_id is None and self.first is not None:
            return self.first
        raise Failed("exec", 0, "", f"no such exec: {exec_id}")

    def _resize(self, child: Child, rows: int, columns: int) -> None:
        master = child.stdio.master if child.stdio is not None else None
        if master is None:
            raise Failed("resize", 0, "", "the process has no terminal")
        pty.resize(master, rows, columns)

    def _exec(self, connection: socket.socket, message: Message, fds: list[int]) -> None:
        exec_id = str(message["exec"])
        if "/" in exec_id or exec_id.startswith("."):
            raise Failed("exec", 0, "", f"invalid exec id {exec_id!r}")
        process = protocol.read_document(fds.pop(0))
        if self.exit is not None or self.first is None or self.first.stdio is None:
            raise Failed("exec", 0, "", "the container is not running")
        if self.paused:
            raise Failed("exec", 0, "", "the container is paused")
        terminal = bool(process.get("terminal"))
        streams = message.get("streams")
        attachments = [(socket.socket(fileno=fds.pop(0)), Streams.from_json(streams))] if streams else []
        child = Child(exec_id, terminal, attachments)
        child.answer = (connection, int(message["n"]))
        stdio = None if terminal else child.pipes.make(bool(message["stdin"]))
        container = self._container()
        try:
            following = begin_exec(
                self.first.pidfd,
                process,
                id=self.id,
                cgroup=self.cgroup,
                stdio=stdio,
                filter_program=container.filter_program,
                permitted=self.permitted,
                watched=may_look(container.spec),
            )
        except Failed:
            child.pipes.close()
            for end, _wants in attachments:
                end.close()
            raise
        self._follow(child, following)
        record_exec(self.directory, child)

    def _container(self) -> Setup:
        """The container's config and filter, read when the first exec asks for them."""
        if self._setup is None:
            self._setup = Setup.load(self.request, -1, None, None, self.permitted)
        return self._setup

    def _status(self) -> Message:
        first = self.first
        return {
            "version": protocol.VERSION,
            "id": self.id,
            "pid": first.pid if first else 0,
            "started_at": first.started_at if first else 0,
            "terminal": first.terminal if first else False,
            "paused": self.paused,
            "execs": {
                child.exec_id: {"pid": child.pid, "started_at": child.started_at, "terminal": child.terminal}
                for child in self.children.values()
                if child.exec_id is not None and child.stdio is not None
            },
            "oom": self.oom is not None and self.oom.told > 0,
            "exit": self.exit,
            "removed": self.removed,
            "shim": os.getpid(),
            "shim_start_time": proc.start_time(os.getpid()),
        }

    def _answer(self, child: Child, answer: Message) -> None:
        if child.answer is not None:
            connection, number = child.answer
            if connection in self.connections:
                self._send(connection, {"n": number, **answer})

    def _tell(self, message: Message) -> None:
        for connection in list(self.connections):
            self._send(connection, message)

    def _send(self, connection: socket.socket, message: Message) -> None:
        """A daemon that does not read is cut off: it finds everything again when it connects anew."""
        try:
            protocol.send(connection, message)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            self._hang_up(connection)

    def _hang_up(self, connection: socket.socket) -> None:
        if connection in self.connections:
            self.connections.discard(connection)
            self.loop.forget(connection.fileno())
            connection.close()


def _failure(error: Failed) -> Message:
    return {"stage": error.stage, "errno": error.errno, "path": error.path, "text": error.text}


def main(end: socket.socket, permitted: int, first: Message | None = None, parent: str | None = None) -> None:
    """Be a shim, in a process just forked for it (`scow.keeper.nursery`); returns when there is nothing left to do.

    The request comes over `end`: {"id", "directory" (of the task; holds config.json and perhaps seccomp.bpf), "cgroup"
    (path or null), "terminal", "stdin", "log" (LogConfig's fields or null), "network" (a descriptor of the namespace is
    passed), "filter" (there is one), "attachments": [streams]} with the control socket, the root file system (a
    detached mount), [the network namespace], and a socket per attachment.

    Args:
        end: to the keeper; if it closes before a request came there is none to serve.
        permitted: capabilities this process holds.
        first: park a child with this prepared (see `scow.runtime.prepare.split`), and tell the keeper when it is.
        parent: cgroup below which the parked child has one.
    """
    loop = settle_in()
    parked = None if first is None else park(first, parent, permitted)
    try:
        if parked is not None:
            parked.advance()
            with contextlib.suppress(BrokenPipeError):  # the keeper has gone
                protocol.send(end, {"at": "parked"})
        request, fds = protocol.receive(end)
        if request is None:
            # A keeper that hangs up without having read our word resets the connection; what it sent is still there.
            request, fds = protocol.receive(end)
    except BaseException:
        request = None
        raise
    finally:
        if parked is not None and request is None:
            unpark(parked, parent)
    if request is None:
        return
    shim = Shim(request, end, permitted, loop)
    shim.launch(fds, parked)
    loop.run()
    shim.keeper.done()


def settle_in() -> Loop:
    """What every shim does first, besides what it has from the process it was forked from (`turn_deaf`)."""
    os.setsid()
    proc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    proc.set_title("scow-shim")
    return Loop()


def turn_deaf() -> None:
    """Ignore what is meant for the daemon; what is forked from this process does, too."""
    for number in _IGNORED:
        _signal.signal(number, _signal.SIG_IGN)
