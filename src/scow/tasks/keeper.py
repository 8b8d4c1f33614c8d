"""The daemon's handle on the keeper: started when there is none, replaced when its code is another, asked for shims."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

from scow.errors import EngineError, System, Unavailable
from scow.keeper import protocol as keeper
from scow.linux.mount import MOUNT_ATTR_RDONLY, clone_tree, mount_setattr
from scow.shim import protocol
from scow.tasks.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scow.shim.protocol import Message

log = logging.getLogger("scow.tasks")

#: Seconds for a keeper to say hello: a fresh interpreter on a busy machine takes a few tenths.
HELLO = 30.0
#: Seconds for it to say what it has ready, before one does without knowing.
COUNT = 2.0
#: Seconds between two deaths of keepers that are not their own fault: another is started at once then, else that later.
LONG_ENOUGH = 1.0

_START = "import sys; sys.path.insert(0, {folder!r}); from scow.keeper.main import main; main({root!r}, {fd})"
_INHERITED = 3
_EXECUTABLE = 4
_FREE = 10


class KeeperHandle:
    """One keeper at a time; if it dies another is started.

    Args:
        pool: what it is to keep ready, see `scow.keeper.pool`.
        replaced: called when another has been, which knows nothing of the shims there are.

    Attributes:
        started: the keeper was started by `open`, not found.
    """

    def __init__(self, exec_root: Path, pool: Message, replaced: Callable[[], None]) -> None:
        self._root = exec_root
        self._pool = pool
        self._replaced = replaced
        self.started = False
        self._serving = False  # from the first `open` to `close`
        self._again: asyncio.Task[None] | None = None
        self._last_death = -LONG_ENOUGH
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()
        self._pid = 0  # of a keeper that is our own child and wants to be reaped

    async def open(self) -> None:
        """Find the keeper a former daemon left, or start one.

        Raises:
            System: it cannot be started; its own words are in keeper.log.
        """
        async with self._lock:
            if await self._open() and self._connection is not None:
                await self._connection.send({"do": "pool", **self._pool})
            self._serving = True

    def _died(self) -> None:
        """Start another at once: it is to hold what shims have kept, before one of them is killed too."""
        before, self._last_death = self._last_death, time.monotonic()
        wait = 0 if self._last_death - before >= LONG_ENOUGH else LONG_ENOUGH
        if self._serving:
            self._again = asyncio.get_running_loop().create_task(self._open_again(wait), name="restart the keeper")

    async def _open_again(self, wait: float) -> None:
        await asyncio.sleep(wait)  # one that cannot live is not to be born all the time
        try:
            await self.open()
        except EngineError as error:
            log.error("the keeper has died: %s", error)

    async def _open(self) -> bool:
        """True if this is another keeper, or another connection to it, than before."""
        if self._connection is not None and self._connection.open:
            return False
        try:
            end = protocol.connect(str(self._root), keeper.SOCKET_NAME)
        except (FileNotFoundError, ConnectionRefusedError):
            await self._start()
            return True
        told = await self._greet(end)
        if told.get("code") != keeper.code() and self._connection is not None:
            await self._connection.send({"do": "end"})
            await self._gone()
            await self._start()
        return True

    async def _start(self) -> None:
        self.started = True
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._reap()
            self._pid = _spawn(self._root, theirs.fileno())
        try:
            await self._greet(ours)
        except Unavailable:
            log = self._root / keeper.LOG_NAME
            raise System(f"the keeper did not start: {log} says why") from None
        if self._serving:
            self._replaced()

    async def _greet(self, end: socket.socket) -> Message:
        loop = asyncio.get_running_loop()
        hello: asyncio.Future[Message] = loop.create_future()

        def told(message: Message) -> None:
            if not hello.done():
                hello.set_result(message)

        def closed() -> None:
            if not hello.done():
                hello.set_exception(Unavailable("the keeper has gone"))
            else:
                self._died()

        self._connection = Connection(end, told, closed)
        try:
            async with asyncio.timeout(HELLO):
                return await hello
        except TimeoutError:
            self._connection.close()
            raise Unavailable("the keeper does not answer") from None

    async def request(self, message: Message, fds: list[int]) -> None:
        """Ask for a shim; a keeper that has died is replaced first.

        Raises:
            System: there is no keeper to be had.
        """
        for attempt in range(2):
            await self.open()
            connection = self._connection
            if connection is None:
                break
            try:
                await connection.send(message, fds)
            except Unavailable:
                if attempt:
                    raise
            else:
                return
        raise System("the keeper cannot be reached")

    async def count(self) -> Message:
        """How many sandboxes are {"ready", "wanted"}, and the "most" there may be; zeros without a keeper.

        And why the last shim could not be launched, as "trouble", if it was not.
        """
        if self._connection is not None:
            with contextlib.suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(COUNT):
                    return await self._connection.ask({"do": "count"})
        return {"ready": 0, "wanted": 0, "most": 0}

    async def close(self, stop: bool) -> None:
        """Hang up; with `stop` the keeper ends (shims stay either way)."""
        self._serving = False
        if self._again is not None:
            self._again.cancel()
        if self._connection is not None:
            if stop:
                with contextlib.suppress(Unavailable):
                    await self._connection.send({"do": "end"})
                    await self._gone()
            self._connection.close()
        self._reap()

    async def _gone(self) -> None:
        """Wait until the keeper has closed its socket, which it does by ending."""
        connection = self._connection
        if connection is not None and connection.open:
            await connection.until_closed()
        if self._pid:
            await asyncio.to_thread(_wait, self._pid)
            self._pid = 0

    def _reap(self) -> None:
        """Collect a keeper of ours that has died."""
        if self._pid:
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(self._pid, os.WNOHANG)[0] == self._pid:
                    self._pid = 0


def _wait(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _spawn(root: Path, end: int) -> int:
    """Start the interpreter from a read-only mount, so that nothing that gets hold of it can write to it.

    A container whose program is "#!/proc/self/exe" runs the executable of whoever started it, and could otherwise
    overwrite it for everybody (CVE-2019-5736).
    """
    interpreter = os.path.realpath(sys.executable)
    script = _START.format(folder=keeper.package_folder(), root=str(root), fd=_INHERITED)
    arguments = [interpreter, "-I", "-S", "-X", "utf8", "-c", script]
    executable = os.open(interpreter, os.O_PATH | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # without CAP_SYS_ADMIN containers do not run either; say so then, not here
            copy = clone_tree(interpreter)
            os.dup2(copy, executable, inheritable=False)
            os.close(copy)
            mount_setattr(executable, add=MOUNT_ATTR_RDONLY)
        log = os.open(root / keeper.LOG_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        # Out of the way of the numbers they are given: dup2 onto one of them would close the other.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FREE) for fd in (end, executable, log)]
        try:
            return os.posix_spawn(
                f"/proc/self/fd/{_EXECUTABLE}",
                arguments,
                {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, high[2], 1),
                    (os.POSIX_SPAWN_DUP2, high[2], 2),
                    (os.POSIX_SPAWN_DUP2, high[0], _INHERITED),
                    (os.POSIX_SPAWN_DUP2, high[1], _EXECUTABLE),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
            )
        finally:
            os.close(log)
            for fd in high:
                os.close(fd)
    finally:
        os.close(executable)
