"""Tasks without processes: what containers ask of the tasks room, answered from memory by the test."""

import asyncio
import os
import time
from pathlib import Path

from scow.errors import Conflict
from scow.tasks.task import ExitStatus, TaskFailed


class FakeExec:
    """An exec that ends when the test says so."""

    def __init__(self, exec_id, process, attachment):
        self.id = exec_id
        self.process = process
        self.pid = 4242
        self.sizes = []
        self.ended = asyncio.get_running_loop().create_future()
        self.theirs = attachment._theirs.dup() if attachment is not None else None

    def say(self, data):
        """Write to whoever is attached, as the shim would."""
        self.theirs.sendall(data)

    def end(self, code):
        if self.theirs is not None:
            self.theirs.close()
        self.ended.set_result(ExitStatus(code, time.time_ns()))

    async def wait(self):
        return await asyncio.shield(self.ended)

    async def resize(self, rows, cols):
        self.sizes.append((rows, cols))

    async def kill(self, signal, *, everyone=False):
        if not self.ended.done():
            self.end(128 + signal)


class FakeTask:
    """A container's first process; dies of the signals in `deadly`, or of `end`."""

    def __init__(self, request, tasks):
        self.id = request.id
        self.request = request
        self.pid = 1234
        self.started_at = time.time_ns()
        self.tty = request.spec["process"]["terminal"]
        self.paused = False
        self.oom = False
        self.on_oom = None
        self.deadly = tasks.deadly
        self.signals = []
        self.sizes = []
        self.updates = []
        self.execs = []
        self.forgotten = []
        self.deleted = False
        self.ended = asyncio.get_running_loop().create_future()
        self.removed = asyncio.get_running_loop().create_future()
        self.attached = [attachment._theirs.dup() for attachment in request.attachments]
        self._tasks = tasks

    def say(self, data):
        for end in self.attached:
            end.sendall(data)

    def end(self, code, *, oom_killed=False):
        """The process ends by itself."""
        for end in self.attached:
            end.close()
        self.attached = []
        if not self.ended.done():
            self.ended.set_result(ExitStatus(code, time.time_ns(), oom_killed))
            self.removed.set_result(None)

    async def wait(self):
        return await asyncio.shield(self.ended)

    async def kill(self, signal, *, everyone=False):
        if self.ended.done():
            raise Conflict("container is not running")
        self.signals.append(signal)
        if signal in self.deadly and not self.paused:
            self.end(128 + signal)

    async def pause(self):
        self.paused = True

    async def resume(self):
        self.paused = False
        if self.signals and self.signals[-1] in self.deadly:
            self.end(128 + self.signals[-1])

    async def resize(self, rows, cols):
        self.sizes.append((rows, cols))

    async def update(self, resources):
        self.updates.append(resources)

    async def attach(self, attachment):
        self.attached.append(attachment._theirs.dup())
        attachment.release()

    async def exec(self, exec_id, process, *, stdin=False, attachment=None):
        if self._tasks.exec_failure is not None:
            attachment and attachment.release()
            raise self._tasks.exec_failure
        made = FakeExec(exec_id, process, attachment)
        self.execs.append(made)
        if attachment is not None:
            attachment.release()
        return made

    def forget_exec(self, exec_id):
        self.forgotten.append(exec_id)

    def forget_ended_execs(self):
        self.forgotten.append("ended")

    def root_fd(self):
        return os.open(self._tasks.root / self.id, os.O_PATH)

    async def delete(self):
        await asyncio.shield(self.removed)
        self.deleted = True
        self._tasks.known.pop(self.id, None)


class FakeTasks:
    """`failure`: raised by the next launches; `deadly`: signals new tasks die of; `gate`: launches wait for it."""

    def __init__(self, root: Path):
        self.root = root
        self.known = {}
        self.launched = []
        self.failure = None
        self.exec_failure = None
        self.deadly = {9, 15}
        self.gate = None

    async def launch(self, request):
        if self.gate is not None:
            await self.gate.wait()
        try:
            if self.failure is not None:
                raise self.failure
            os.fstat(request.rootfs_fd)
            (self.root / request.id).mkdir(exist_ok=True, parents=True)
            task = self.known[request.id] = FakeTask(request, self)
            self.launched.append(task)
            return task
        finally:
            for attachment in request.attachments:
                attachment.release()

    def get(self, id):  # noqa: A002
        return self.known.get(id)

    def all(self):
        return list(self.known.values())


def not_found(program="nope"):
    return TaskFailed(f'exec "{program}": no such file or directory', "exec", 2, program)
