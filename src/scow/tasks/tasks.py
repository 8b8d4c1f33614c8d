"""Every container process of one exec root: launched through the keeper, found again after a restart.

Owns ``<exec root>/tasks/<id>/``: config.json (the spec), state.json, exit.json, execs/, files/, shim.sock. The
folder of a task is made here and removed by `Task.delete`; in between only its shim writes to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scow.errors import Conflict, InvalidArgument, System
from scow.fileio import write_all
from scow.runtime.init import FILTER_NAME
from scow.shim import protocol
from scow.tasks.connection import Connection
from scow.tasks.keeper import KeeperHandle
from scow.tasks.pool import SandboxPool
from scow.tasks.succession import introduce, succeed
from scow.tasks.task import Task, TaskFailed, read_state, remove_folder, settle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from scow.logs.driver import LogConfig
    from scow.shim.protocol import Message
    from scow.tasks.attachment import Attachment

_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """One container to start.

    Attributes:
        id: names the task's folder; letters, digits, ".", "_", "-".
        spec: OCI runtime-spec 1.2 config.
        rootfs_fd: detached mount of the root file system; stays the caller's, who closes it after the launch.
        network_fd: namespace to join; None follows the spec's namespaces. Stays the caller's.
        stdin: the process has an input (it stays open until an attachment ends it); else it reads /dev/null.
        log: where the output is kept, or None.
        seccomp: compiled filter, or None.
        attachments: connected before the process runs, so that nothing of its output is missed.
        files: path in the container → content of a small file bound there, read-write, gone with the task.
    """

    id: str
    spec: dict[str, Any]
    rootfs_fd: int
    network_fd: int | None = None
    stdin: bool = False
    log: LogConfig | None = None
    seccomp: bytes | None = None
    attachments: Sequence[Attachment] = ()
    files: dict[str, bytes] = field(default_factory=dict)


class Tasks:
    """The tasks of `exec_root`. `open` before anything else; `close` leaves containers running.

    Args:
        pool: what the keeper keeps ready, for containers whose start begins alike.
    """

    def __init__(self, exec_root: Path, pool: SandboxPool | None = None) -> None:
        self._root = exec_root.absolute()
        self._pool = pool or SandboxPool()
        self._folder = self._root / "tasks"
        self._keeper: KeeperHandle | None = None
        self._introductions: asyncio.Task[None] | None = None
        self._tasks: dict[str, Task] = {}

    async def open(self) -> None:
        """Start or find the keeper, take up the containers of a former daemon.

        Live shims are reconnected; what ended meanwhile is read from its record; a container whose shim died without a
        record gets another. All of them are in `all` afterwards, ended ones until they are deleted.

        Raises:
            System: the keeper cannot be started.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._keeper = KeeperHandle(self._root, self._pool.message(), self._introduce)
        # The keeper first: if it cannot be had, nothing has been taken up yet.
        await self._keeper.open()
        async with asyncio.TaskGroup() as group:
            for entry in sorted(self._folder.iterdir()):
                group.create_task(self._recover(self._keeper, entry))
        if self._keeper.started:
            self._introduce()

    def _introduce(self) -> None:
        """A new keeper is to know the shims of the one before."""
        if self._introductions is not None:
            self._introductions.cancel()
        self._introductions = asyncio.get_running_loop().create_task(self._introduce_all(), name="introduce shims")

    async def _introduce_all(self) -> None:
        for task in list(self._tasks.values()):
            if self._keeper is not None and task.started.done() and not task.ended.done():
                await introduce(self._keeper, task)

    def _new(self, name: str, directory: Path) -> Task:
        task = Task(name, directory)
        task.succeed = self._succeed
        return task

    async def _succeed(self, task: Task) -> bool:
        return self._keeper is not None and await succeed(self._keeper, task)

    async def _recover(self, keeper: KeeperHandle, directory: Path) -> None:
        task = self._new(directory.name, directory)
        try:
            end = protocol.connect(str(directory), protocol.SOCKET_NAME)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            end = None
        if end is not None:
            self._connect(task, end)
            with contextlib.suppress(TaskFailed):
                await asyncio.shield(task.started)
                self._tasks[task.id] = task
                return
            task = self._new(directory.name, directory)  # it died while it was asked
        if await succeed(keeper, task):
            self._tasks[task.id] = task
            return
        if not read_state(directory).get("started_at") and not (directory / protocol.EXIT_NAME).exists():
            # Never ran: daemon or shim died while it was launched.
            await asyncio.to_thread(_sweep, directory)
            return
        task.hear({"event": "exit", **await asyncio.to_thread(settle, directory)})
        task.hear({"event": "removed"})
        self._tasks[task.id] = task

    def _connect(self, task: Task, end: socket.socket) -> None:
        task.connection = Connection(end, task.hear, task.shim_gone)

    def get(self, id: str) -> Task | None:  # noqa: A002 - the interface's own word
        """The task of that id, running or ended but not deleted."""
        task = self._tasks.get(id)
        return task if task is not None and task.directory.exists() else None

    def all(self) -> list[Task]:
        """Every task, running or ended but not deleted."""
        return [task for task in self._tasks.values() if task.directory.exists()]

    async def launch(self, request: LaunchRequest) -> Task:
        """Start a container; returns when its program runs.

        A task of the same id that has ended is deleted first.

        Raises:
            TaskFailed: it did not start; nothing is left of it.
            Conflict: it runs already.
            InvalidArgument: an impossible id or file.
        """
        if self._keeper is None:
            raise System("tasks are not open")
        if not _ID.fullmatch(request.id):
            raise InvalidArgument(f"invalid task id {request.id!r}")
        previous = self._tasks.get(request.id)
        if previous is not None:
            if not previous.ended.done():
                raise Conflict(f"container {request.id} is already running")
            await previous.delete()
        directory = self._folder / request.id
        task = self._tasks[request.id] = self._new(request.id, directory)
        try:
            _prepare(directory, request)
            await self._ask_for_shim(task, request)
            await asyncio.shield(task.started)
        except TaskFailed as error:
            await self._undo(task)
            raise await self._explained(error) from error
        except BaseException:
            await self._undo(task)
            raise
        finally:
            for attachment in request.attachments:
                attachment.release()
        return task

    async def _explained(self, error: TaskFailed) -> TaskFailed:
        """The keeper's own reason, where there was no shim to tell another."""
        if (error.stage, error.errno) == ("shim", 0) and self._keeper is not None:
            reason = (await self._keeper.count()).get("trouble")
            if reason:
                text = f"the host has no process, memory or descriptor left for it: {reason}"
                return TaskFailed(text, "keeper", 0, "")
        return error

    async def _ask_for_shim(self, task: Task, request: LaunchRequest) -> None:
        if self._keeper is None:
            raise System("tasks are not open")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._connect(task, ours)
            fds = [theirs.fileno(), request.rootfs_fd]
            if request.network_fd is not None:
                fds.append(request.network_fd)
            fds += [attachment.handed_over() for attachment in request.attachments]
            message = _message(task, request) | {"parked": self._pool.suits(request.spec)}
            await self._keeper.request(message, fds)

    async def _undo(self, task: Task) -> None:
        """Nothing is left of a task that did not start, or whose launch was cancelled."""
        if self._tasks.get(task.id) is task:
            del self._tasks[task.id]
        task.abandon()
        await asyncio.to_thread(_sweep, task.directory)

    async def parked(self) -> Message:
        """How many sandboxes are {"ready", "wanted"}, and the "most" there may be."""
        return await self._keeper.count() if self._keeper is not None else {"ready": 0, "wanted": 0, "most": 0}

    async def close(self, stop_keeper: bool = False) -> None:
        """Let go of every shim and of the keeper; containers run on.

        Args:
            stop_keeper: end the keeper too (it ends by itself when nothing is left to keep).
        """
        if self._introductions is not None:
            self._introductions.cancel()
        for task in self._tasks.values():
            task.abandon()
        if self._keeper is not None:
            await self._keeper.close(stop_keeper)
            self._keeper = None


def _message(task: Task, request: LaunchRequest) -> Message:
    log = request.log
    kept = ("driver", "path", "options", "attributes", "fields")
    return {
        "do": "shim",
        "id": request.id,
        "directory": str(task.directory),
        "cgroup": request.spec["linux"].get("cgroupsPath") or None,
        "terminal": bool(request.spec["process"].get("terminal")),
        "stdin": request.stdin,
        "log": None if log is None else {name: getattr(log, name) for name in kept},
        "network": request.network_fd is not None,
        "filter": request.seccomp is not None,
        "attachments": [attachment.streams.to_json() for attachment in request.attachments],
    }


def _prepare(directory: Path, request: LaunchRequest) -> None:
    """The task's folder with the spec and the small files in it."""
    spec = request.spec
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:  # a start that failed for want of descriptors, or memory, could not be cleaned up after
        _sweep(directory)
        directory.mkdir(mode=0o700)
    if request.files:
        (directory / "files").mkdir(mode=0o700)
        mounts = list(spec.get("mounts") or [])
        for number, (path, content) in enumerate(request.files.items()):
            if not path.startswith("/"):
                raise InvalidArgument(f"invalid path {path!r} of a file in the container: it must be absolute")
            source = directory / "files" / str(number)
            _write(source, content, 0o644)
            mounts.append({"destination": path, "source": str(source), "type": "bind", "options": ["bind", "rprivate"]})
        spec = {**spec, "mounts": mounts}
    if request.seccomp is not None:
        _write(directory / FILTER_NAME, request.seccomp)
    _write(directory / protocol.SPEC_NAME, json.dumps(spec).encode())


def _write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """A new file in a folder nobody knows of yet: no need for it to appear at once."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        if mode != 0o600:
            os.fchmod(fd, mode)
        write_all(fd, content)
    finally:
        os.close(fd)


def _sweep(directory: Path) -> None:
    """Remove a task's folder and whatever may still run on its behalf."""
    if directory.is_dir():
        settle(directory)
    remove_folder(directory)
    if directory.exists() and not directory.is_dir():
        directory.unlink()
