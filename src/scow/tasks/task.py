"""A running (or just ended) container process as the daemon sees it, and its execs.

The shim supervises; this is a handle. A handle whose shim has gone without a word reads the record on disk; if there is
none it gets a successor, and whoever asks for something meanwhile waits for it. Only a container that nobody can take
up is killed and counted as killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scow.errors import Conflict, NoSuchExec, System, Unavailable
from scow.linux import pidfd, proc
from scow.runtime import documents
from scow.runtime.cgroup import Cgroup
from scow.runtime.create import parked_group
from scow.runtime.sync import Failed
from scow.shim import protocol, reaper
from scow.shim.child import hold_output

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from scow.shim.protocol import Message
    from scow.tasks.attachment import Attachment
    from scow.tasks.connection import Connection


#: Attempts to remove a task's folder: a shim that is about to end may put one more file into it.
REMOVALS = 5


class TaskFailed(System):
    """A container or exec did not start.

    Attributes:
        stage: "exec" and "cwd" are the user's doing, all others the engine's or the kernel's.
        errno: the kernel's reason: ENOENT is 127 to Docker's clients, EACCES and the rest of stage "exec" 126.
        path: the program, folder or mount point.
    """

    def __init__(self, text: str, stage: str, number: int, path: str) -> None:
        super().__init__(text)
        self.stage = stage
        self.errno = number
        self.path = path


def task_failed(told: Message) -> TaskFailed:
    """The exception for a "failed" message of the shim."""
    error = Failed(str(told["stage"]), int(told["errno"]), str(told["path"]), str(told["text"]))
    return TaskFailed(str(error), error.stage, error.errno, error.path)


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended: `code` 0 to 255 (128 + n for signal n), `finished_at` in nanoseconds since 1970; `ran`:
    nanoseconds by a clock that nobody sets, None if that is not known."""

    code: int
    finished_at: int
    oom_killed: bool = False
    error: str = ""
    ran: int | None = None

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> ExitStatus:
        """From an exit record or message."""
        return cls(
            int(told["code"]),
            int(told["finished_at"]),
            bool(told.get("oom_killed")),
            str(told.get("error") or ""),
            None if told.get("ran") is None else int(told["ran"]),
        )


class ExecTask:
    """One exec of a running container."""

    def __init__(self, task: Task, exec_id: str, pid: int, started_at: int, tty: bool) -> None:
        self.id = exec_id
        self.pid = pid
        self.started_at = started_at
        self.tty = tty
        self._task = task
        self.ended: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()

    async def wait(self) -> ExitStatus:
        """How it ended, once it has."""
        return await asyncio.shield(self.ended)

    async def resize(self, rows: int, cols: int) -> None:
        """Tell its terminal the size."""
        await self._task.ask({"do": "resize", "exec": self.id, "rows": rows, "columns": cols})

    async def kill(self, signal: int, *, everyone: bool = False) -> None:
        """Signal its process (or `everyone` of the group it leads); one that has ended is left alone."""
        if not self.ended.done():
            with contextlib.suppress(TaskFailed):
                await self._task.ask({"do": "kill", "exec": self.id, "signal": signal, "group": everyone})


class Task:
    """One container's first process. Made by `Tasks`; `wait` may be called by many."""

    def __init__(self, id: str, directory: Path) -> None:  # noqa: A002 - the interface's own word
        self.id = id
        self.directory = directory
        self.pid = 0
        self.started_at = 0
        self.tty = False
        self.paused = False
        #: Memory has run out, and nobody has been told yet; `on_oom` is called when it does from then on.
        self.oom = False
        self.on_oom: Callable[[], None] | None = None
        self.execs: dict[str, ExecTask] = {}
        loop = asyncio.get_running_loop()
        self.started: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[ExitStatus] = loop.create_future()
        self.removed: asyncio.Future[None] = loop.create_future()
        self.connection: Connection | None = None
        self.shim = (0, 0)  # pid and start time of the one that spoke last
        self.succeed: Callable[[Task], Awaitable[bool]] | None = None  # gets another; False if nobody can take it up
        self.pidfd = -1  # of the first process; it may tell how that ended when nobody else can
        self._held: list[int] = []  # its pipes: what nobody has read when it ends is there for a successor
        self._settling: asyncio.Task[None] | None = None

    # ── what the shim says ──────────────────────────────────────────────────────────────────────────────────────────

    def hear(self, message: Message) -> None:
        """An event from the shim."""
        event = message["event"]
        if event in ("started", "status"):
            self._take_status(message)
        elif event == "failed":
            _settle(self.started, task_failed(message))
            self._never_ran()
        elif event == "exit":
            self.started_at = self.started_at or int(message.get("started_at") or 0)
            self._end(ExitStatus.from_json(message))
        elif event == "oom":
            if self.on_oom is None:
                self.oom = True
            else:
                self.on_oom()
        elif event == "exec_exit":
            found = self.execs.get(message["exec"])
            if found is not None and not found.ended.done():
                found.ended.set_result(ExitStatus.from_json(message))
        elif event == "removed":
            _settle(self.removed)

    def _take_status(self, message: Message) -> None:
        self.pid, self.started_at = int(message["pid"]), int(message["started_at"])
        self.tty, self.paused = bool(message.get("terminal")), bool(message.get("paused"))
        self.oom = self.oom or bool(message.get("oom"))
        self.shim = int(message.get("shim") or 0), int(message.get("shim_start_time") or 0)
        self._take_execs(message.get("execs") or {})
        if message.get("exit") is not None:
            self._end(ExitStatus.from_json(message["exit"]))
        else:
            # Without descriptors to spare it runs all the same: whoever needs the process tries again, and is told.
            with contextlib.suppress(OSError):
                self._hold()
        if message.get("removed"):
            _settle(self.removed)
        if self.pid:
            _settle(self.started)

    def _hold(self) -> None:
        """Take hold of the process, and of what it says for as long as nobody reads it.

        Raises:
            OSError: no descriptor to be had.
        """
        if self.pid and self.pidfd < 0 and not self.ended.done():
            # It may have ended meanwhile, but is the shim's zombie until the shim has told us: the number is still its.
            with contextlib.suppress(ProcessLookupError):
                self.pidfd = pidfd.pidfd_open(self.pid)
                self._held = hold_output(str(self.directory))

    def _take_execs(self, running: Mapping[str, Message]) -> None:
        for exec_id, told in running.items():
            found = self.execs.get(exec_id)
            if found is None:
                found = self.execs[exec_id] = ExecTask(self, exec_id, 0, 0, bool(told.get("terminal")))
            found.pid, found.started_at = int(told["pid"]), int(told["started_at"])
        for exec_id, found in self.execs.items():
            # Of a former shim, which had put it down but not told.
            if exec_id not in running and found.pid and not found.ended.done():
                record = self._exec_record(exec_id) or reaper.record(None, started_at=found.started_at)
                found.ended.set_result(ExitStatus.from_json(record))

    def _exec_record(self, exec_id: str) -> Message | None:
        return reaper.read(str(self.directory / protocol.EXECS_NAME / f"{exec_id}.json"))

    def _end(self, status: ExitStatus) -> None:
        if not self.ended.done():
            self.ended.set_result(status)
        self._let_go()

    def _let_go(self) -> None:
        for fd in (*self._held, *([self.pidfd] if self.pidfd >= 0 else [])):
            os.close(fd)
        self._held = []
        self.pidfd = -1

    def shim_gone(self) -> None:
        """The shim's socket has closed: it has ended, or died."""
        if not self.ended.done() or not self.removed.done():
            self._settling = asyncio.get_running_loop().create_task(self._settle_lost(), name=f"settle {self.id}")

    def _never_ran(self) -> None:
        """Whoever launched it tidies up; there is no end to wait for."""
        self.removed.cancel()
        self.ended.cancel()

    async def _settle_lost(self) -> None:
        if self.succeed is not None and await self.succeed(self):
            return
        if not (self.started.done() or (self.directory / protocol.EXIT_NAME).exists()):
            words = "the shim died before the container started: keeper.log says why"
            self.started.set_exception(TaskFailed(words, "shim", 0, ""))
            self._never_ran()
            return
        told = await asyncio.to_thread(settle, self.directory)
        for found in self.execs.values():
            if not found.ended.done():
                found.ended.set_result(ExitStatus.from_json(self._exec_record(found.id) or told))
        self.hear({"event": "exit", **told})
        _settle(self.started)
        _settle(self.removed)

    # ── what may be asked ───────────────────────────────────────────────────────────────────────────────────────────

    async def ask(self, message: Message, fds: list[int] | None = None) -> Message:
        """One request to the shim.

        Raises:
            Conflict: the container has ended.
            TaskFailed: it could not be done.
        """
        while True:
            try:
                return await self._ask_once(message, fds)
            except Unavailable:
                continue  # nothing but an exec, which has a way of its own, does harm when it is done twice

    async def _settled(self) -> None:
        """Wait for a succession that is under way."""
        while self._settling is not None and not self._settling.done():
            await asyncio.wait({self._settling})

    async def _ask_once(self, message: Message, fds: list[int] | None = None) -> Message:
        """As `ask`, but Unavailable if the shim was killed before it answered."""
        await self._settled()
        if self.connection is None or not self.connection.open or self.ended.done():
            raise Conflict(f"container {self.id} is not running")
        answer = await self.connection.ask(message, fds)
        if "failed" in answer:
            raise task_failed(answer["failed"])
        return answer

    async def wait(self) -> ExitStatus:
        """How the first process ended, once it has."""
        return await asyncio.shield(self.ended)

    async def kill(self, signal: int, *, everyone: bool = False) -> None:
        """Signal the first process, or `everyone` in the container.

        Raises:
            Conflict: it has ended.
        """
        self._hold()
        if self.ended.done() or self.pidfd < 0:
            raise Conflict(f"container {self.id} is not running")
        if everyone:
            await asyncio.to_thread(self.cgroup().kill, signal)
            return
        try:
            pidfd.pidfd_send_signal(self.pidfd, signal)
        except ProcessLookupError:
            raise Conflict(f"container {self.id} is not running") from None

    async def pause(self) -> None:
        """Freeze every process."""
        await self.ask({"do": "pause"})
        self.paused = True

    async def resume(self) -> None:
        """Thaw them."""
        await self.ask({"do": "resume"})
        self.paused = False

    async def resize(self, rows: int, cols: int) -> None:
        """Tell the terminal its size."""
        await self.ask({"do": "resize", "rows": rows, "columns": cols})

    async def close_stdin(self) -> None:
        """End of file for the first process."""
        await self.ask({"do": "close_stdin"})

    async def clear_log(self) -> None:
        """Empty the log between two writes.

        Raises:
            Conflict: the container has ended, and nobody writes the log any more.
            TaskFailed: a file cannot be removed.
        """
        await self.ask({"do": "clear_log"})

    async def update(self, resources: dict[str, Any]) -> None:
        """Change limits (OCI linux.resources) while it runs."""
        await asyncio.to_thread(self.cgroup().apply, resources)

    async def attach(self, attachment: Attachment) -> None:
        """Connect one more client to the streams, from now on."""
        try:
            await self.ask({"do": "attach", "streams": attachment.streams.to_json()}, [attachment.handed_over()])
        finally:
            attachment.release()

    async def exec(
        self, exec_id: str, process: dict[str, Any], *, stdin: bool = False, attachment: Attachment | None = None
    ) -> ExecTask:
        """Start one more process (an OCI "process") in the container.

        Args:
            exec_id: names the exit record; letters, digits, "-", "_".
            stdin: it has an input; else it reads /dev/null.

        Raises:
            TaskFailed: it could not be started.
            Conflict: the container has ended, or is paused.
        """
        document = protocol.document(process)
        try:
            fds = [document]
            message: Message = {"do": "exec", "exec": exec_id, "stdin": stdin, "streams": None}
            if attachment is not None:
                fds.append(attachment.handed_over())
                message["streams"] = attachment.streams.to_json()
            # Known before it is asked for: its end may be told in the same breath as its start.
            found = self.execs[exec_id] = ExecTask(self, exec_id, 0, 0, bool(process.get("terminal")))
            try:
                await self._start_exec(found, message, fds)
            except BaseException:
                self.execs.pop(exec_id, None)
                raise
            return found
        finally:
            os.close(document)
            if attachment is not None:
                attachment.release()

    async def _start_exec(self, found: ExecTask, message: Message, fds: list[int]) -> None:
        """Have it started once, also if the shim is killed while it does: what had not come to running is gone then."""
        while not found.pid:
            try:
                answer = await self._ask_once(message, fds)
            except Unavailable:
                await self._settled()
                record = self._exec_record(found.id)
                if record is not None:  # it ran, and is over
                    found.ended.set_result(ExitStatus.from_json(record))
                    return
            else:
                found.pid, found.started_at = int(answer["pid"]), int(answer["started_at"])

    def exec_exit(self, exec_id: str) -> ExitStatus:
        """How an exec ended, also one of a former daemon.

        Raises:
            NoSuchExec: no record of it.
        """
        record = self._exec_record(exec_id)
        if record is None:
            raise NoSuchExec(exec_id)
        return ExitStatus.from_json(record)

    def forget_exec(self, exec_id: str) -> None:
        """Nobody will ask how this exec ended: drop its record."""
        self.execs.pop(exec_id, None)
        with contextlib.suppress(FileNotFoundError):
            (self.directory / protocol.EXECS_NAME / f"{exec_id}.json").unlink()

    def forget_ended_execs(self) -> None:
        """Drop the records of execs a former daemon began."""
        with contextlib.suppress(FileNotFoundError):
            for path in list((self.directory / protocol.EXECS_NAME).iterdir()):
                path.unlink(missing_ok=True)

    def cgroup(self) -> Cgroup:
        """The container's cgroup; blocking."""
        return Cgroup.open(_cgroup_path(self.directory) or f"/scow/{self.id}")

    def root_fd(self) -> int:
        """An O_PATH descriptor of the container's root as it sees it; the caller closes it, and opens below it with
        `scow.linux.fds.open_in_root` only.

        Raises:
            Conflict: the container has ended.
        """
        try:
            fd = os.open(f"/proc/{self.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            if self.pidfd < 0:
                os.close(fd)
                raise Conflict(f"container {self.id} is not running")
            try:
                pidfd.pidfd_send_signal(self.pidfd, 0)
            except ProcessLookupError:
                os.close(fd)
                raise
        except (FileNotFoundError, ProcessLookupError):
            raise Conflict(f"container {self.id} is not running") from None
        return fd

    async def delete(self) -> None:
        """Forget an ended container: its records and bundle go. Waits for its cgroup and mounts to be gone."""
        await asyncio.shield(self.removed)
        self.hang_up()
        await asyncio.to_thread(remove_folder, self.directory)

    def abandon(self) -> None:
        """Let go of the shim without caring what becomes of the task; who still waits for it is cancelled."""
        for waited in (self.started, self.removed):
            waited.cancel()
        for ended in (self.ended, *(found.ended for found in self.execs.values())):
            ended.cancel()
        self.hang_up()
        self._let_go()

    def hang_up(self) -> None:
        """Let go of the shim, which goes on."""
        if self.connection is not None:
            connection, self.connection = self.connection, None
            connection.close()


def _settle(future: asyncio.Future[None], error: BaseException | None = None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def settle(directory: Path) -> Message:
    """What became of a container nobody supervises: the exit record, or one made now, after ending what still runs.

    Blocking.
    """
    record = reaper.read(str(directory / protocol.EXIT_NAME))
    kill_leftovers(directory)
    if record is None:
        record = reaper.record(9, error="the process that supervised the container died, and nobody could take it up")
        if directory.is_dir():
            reaper.write(str(directory / protocol.EXIT_NAME), record)
    return record


def remove_folder(directory: Path) -> None:
    """Remove a task's folder; first what a successor goes by, so that none finds half of it. Blocking."""
    with contextlib.suppress(OSError):
        (directory / protocol.STATE_NAME).unlink()
    for _ in range(REMOVALS):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return


def kill_leftovers(directory: Path) -> None:
    """End the first process (if the number still is that process) and everything in the cgroup, and remove that."""
    state = read_state(directory)
    path = _cgroup_path(directory)
    paths = [path] if path else []
    if path and state:
        paths.append(parked_group(os.path.dirname(path), int(state["pid"])))  # what it has before it has that one
    if state:
        _kill(state)
    for path in paths:
        group = Cgroup.open(path)
        group.kill()
        group.remove()


def _kill(state: dict[str, Any]) -> None:
    pid = int(state["pid"])
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        fd = pidfd.pidfd_open(pid)
        try:
            if proc.start_time(pid) == state["start_time"] and proc.boot_id() == state["boot"]:
                pidfd.kill(fd)
        finally:
            os.close(fd)


def read_state(directory: Path) -> dict[str, Any]:
    """The shim's state.json; empty if there is none."""
    try:
        told = documents.load(directory / protocol.STATE_NAME)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return told if isinstance(told, dict) and {"pid", "start_time", "boot"} <= told.keys() else {}


def _cgroup_path(directory: Path) -> str | None:
    try:
        spec = documents.load(directory / protocol.SPEC_NAME)
        return str(spec["linux"]["cgroupsPath"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
