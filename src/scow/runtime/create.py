"""The creator's side of a start: fork a child, follow it until its program runs, say why if it does not.

Used by the shim (`scow.shim`), by execs and by the OCI command line. The caller becomes the parent of the child
and has to reap it. Single-threaded processes only.
"""

from __future__ import annotations

import os
import socket
import sys

from scow.errors import EngineError
from scow.linux.fds import close_all_but
from scow.linux.namespaces import CLONE_NEWPID, open_namespace, setns, unshare
from scow.runtime import hooks
from scow.runtime.cgroup import Cgroup
from scow.runtime.init import Setup, enter, leave_parent, stand_by
from scow.runtime.process import Progress
from scow.runtime.sync import Channel, Failed, channels, failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


#: What cgroups of parked children are called, before "-" and the number of the process.
PARKED = "parked"


class Started:
    """A child whose program runs (or waits at its gate); `master_fd` is its terminal's, None without one."""

    __slots__ = ("master_fd", "pid")

    def __init__(self, pid: int, master_fd: int | None) -> None:
        self.pid = pid
        self.master_fd = master_fd


class Following:
    """A start under way: child `pid` between fork and execve.

    `channel` becomes readable whenever `advance` has something to do. `status` is the child's wait status, if the
    caller has reaped it already. `born`: the child has forked the one that is followed now, and has ended.
    """

    __slots__ = ("_master_fd", "_running", "born", "channel", "pid", "setup", "status")

    def __init__(self, pid: int, channel: Channel) -> None:
        self.pid = pid
        self.channel = channel
        self.status: int | None = None
        self.born = False
        self.setup: Setup | None = None
        self._master_fd: int | None = None
        self._running = False

    def advance(self) -> Started | None:
        """Take one message, waiting for it if need be; the child, once its program runs (or waits at its gate).

        Raises:
            Failed: it told why it could not, or died; it has been reaped. The channel stays the caller's to close.
        """
        message, fds = self.channel.receive()
        try:
            if message is None:
                if not self._running:
                    raise self._died()
            elif "failed" in message:
                self._reap()
                raise failure(message)
            elif message["at"] == "terminal":
                self._master_fd = fds[0]
                return None
            elif message["at"] == "parked":
                return None
            elif message["at"] == "exec":
                self._running = True
                return None
            elif message["at"] == "born":
                os.waitpid(self.pid, 0)
                self.pid, self.born = message["pid"], True
                return None
            elif message["at"] == "hooks" and self.setup is not None:
                hooks.run(hooks.wanted(self.setup.spec, *hooks.CREATOR), {**self.setup.state, "pid": self.pid})
                self.channel.send({"go": True})
                return None
        except Failed:
            if self._master_fd is not None:
                os.close(self._master_fd)
            if self.status is None:  # it waits for the answer to a hook that failed
                self.channel.socket.shutdown(socket.SHUT_RDWR)
                self._reap()
            raise
        return Started(self.pid, self._master_fd)

    def wait(self) -> Started:
        """`advance` until it has an answer, then close the channel."""
        try:
            while True:
                started = self.advance()
                if started is not None:
                    return started
        finally:
            self.channel.close()

    def _reap(self) -> int:
        if self.status is None:
            self.status = os.waitpid(self.pid, 0)[1]
        return self.status

    def _died(self) -> Failed:
        """A child that said nothing: killed, most likely for want of memory."""
        code = os.waitstatus_to_exitcode(self._reap())
        if code < 0:
            text = f"killed by signal {-code} before the program ran: give the container more memory"
        else:
            text = f"ended with code {code} before the program ran"
        return Failed("start", 0, "", text)


def create(setup: Setup) -> Started:
    """Fork the container's first process and return once it runs its program, or waits at its gate.

    Raises:
        Failed: it could not; the child has been reaped.
    """
    return begin(setup).wait()


def begin(setup: Setup) -> Following:
    """Fork the container's first process; the caller follows it, and may do other things meanwhile.

    Raises:
        Failed: the pid namespace cannot be entered, or there is no room for a process.
    """

    def body(channel: Channel, progress: Progress) -> None:
        leave_parent()
        # It may have been born into another container's pid namespace, to be looked at from there.
        own = (setup.root, setup.network_fd, setup.gate_fd, setup.life_fd, *(setup.stdio or ()))
        close_all_but({channel.socket.fileno(), *(fd for fd in own if isinstance(fd, int))})
        enter(setup, channel, progress)

    following = _fork_into(setup.namespaces().get("pid"), body)
    following.setup = setup
    return following


def park(first: dict[str, Any], parent: str | None, permitted: int) -> Following:
    """Fork a child in a pid namespace of its own that prepares a sandbox and waits for `adopt`; closing its channel
    ends it.

    Args:
        first: what to prepare, see `scow.runtime.prepare.split`.
        parent: cgroup below which it gets one of its own, `parked_group`, if it is to have one.

    Raises:
        Failed: as of `begin`.
    """

    def body(channel: Channel, progress: Progress) -> None:
        leave_parent()
        # Its number in the pid namespace of the host's /proc, which it has before its eyes still.
        pid = int(os.readlink("/proc/self"))
        stand_by(channel, progress, first, None if parent is None else parked_group(parent, pid), permitted)

    return _fork_into("", body)


def parked_group(parent: str, pid: int) -> str:
    """Path of the cgroup of a parked child."""
    return f"{parent}/{PARKED}-{pid}"


def unpark(parked: Following, parent: str | None) -> None:
    """End a parked child that is not wanted, and take its cgroup away."""
    parked.channel.close()
    if parked.status is None:
        os.waitpid(parked.pid, 0)
    if parent is not None:
        Cgroup.open(parked_group(parent, parked.pid)).remove()


def adopt(
    parked: Following,
    request: dict[str, Any],
    root_fd: int,
    network_fd: int | None,
    stdio: tuple[int, int, int] | None,
    life_fd: int,
) -> None:
    """Make a parked child the first process of the container `request` describes; follow it from now on.

    Args:
        life_fd: see `Setup`.
    """
    fds = [root_fd, life_fd, *(stdio or ()), *([] if network_fd is None else [network_fd])]
    parked.channel.send(request, fds)


def _fork_into(pid_namespace: str | None, body: Callable[[Channel, Progress], None]) -> Following:
    own_fd = open_namespace("pid", "self")
    try:
        _take_pid_namespace(pid_namespace)
        return fork(body)
    except OSError as error:
        raise Failed("namespaces", error.errno or 0, str(error.filename or "")) from None
    finally:
        setns(own_fd, CLONE_NEWPID)
        os.close(own_fd)


def _take_pid_namespace(path: str | None) -> None:
    """Children are born into it; this process itself stays where it is."""
    if path == "":
        unshare(CLONE_NEWPID)
    elif path is not None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(fd, CLONE_NEWPID)
        finally:
            os.close(fd)


def fork(body: Callable[[Channel, Progress], None]) -> Following:
    """Fork a child that runs `body` and never comes back here; what goes wrong in it goes out over its channel.

    Raises:
        OSError: EAGAIN or ENOMEM, no process to be had.
    """
    ours, theirs = channels()
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        raise
    if pid:
        theirs.close()
        return Following(pid, ours)
    progress = Progress()
    try:
        ours.close()
        body(theirs, progress)
    except Failed as error:
        theirs.send({"failed": {"stage": error.stage, "errno": error.errno, "path": error.path, "text": error.text}})
    except OSError as error:
        theirs.failed(progress.stage, error)
    except EngineError as error:
        theirs.failed(progress.stage, OSError(0, str(error)))
    except BaseException as error:
        # The last line of a forked child: nothing may unwind into its parent's code.
        theirs.failed(progress.stage, OSError(0, f"{type(error).__name__}: {error}"))
        sys.excepthook(type(error), error, error.__traceback__)
        sys.stderr.flush()
    finally:
        os._exit(1)


def own_capabilities() -> int:
    """The mask of capabilities this process may hand on."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"CapPrm:"):
                return int(line.split()[1], 16)
    return 0
