"""The creator's side of a start: fork a child, follow it until its program runs, say why if it does not.

Used by the shim (`scow.shim`), by execs and by the OCI command line. The caller becomes the parent of the child
and has to reap it. Single-threaded processes only.
"""

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from scow.errors import EngineError
from scow.linux.namespaces import CLONE_NEWPID, open_namespace, setns, unshare
from scow.runtime import hooks
from scow.runtime.init import Setup, enter
from scow.runtime.process import Progress
from scow.runtime.sync import Channel, Failed, channels, failure


class Started:
    """A child whose program runs (or waits at its gate); `master_fd` is its terminal's, None without one."""

    __slots__ = ("master_fd", "pid")

    def __init__(self, pid: int, master_fd: int | None) -> None:
        self.pid = pid
        self.master_fd = master_fd


def create(setup: Setup) -> Started:
    """Fork the container's first process and return once it runs its program, or waits at its gate.

    Raises:
        Failed: it could not; the child has been reaped.
    """
    ours, theirs = channels()
    own_fd = open_namespace("pid", "self")
    try:
        try:
            _take_pid_namespace(setup)
        except OSError as error:
            raise Failed("namespaces", error.errno or 0, str(error.filename or "")) from None
        try:
            pid = fork(lambda channel, progress: enter(setup, channel, progress), ours, theirs)
        finally:
            setns(own_fd, CLONE_NEWPID)
        return follow(pid, ours, setup)
    finally:
        os.close(own_fd)
        theirs.close()
        ours.close()


def _take_pid_namespace(setup: Setup) -> None:
    """Children are born into it; this process itself stays where it is."""
    path = setup.namespaces().get("pid")
    if path == "":
        unshare(CLONE_NEWPID)
    elif path is not None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(fd, CLONE_NEWPID)
        finally:
            os.close(fd)


def fork(body: Callable[[Channel, Progress], None], ours: Channel, theirs: Channel) -> int:
    """Fork a child that runs `body` and never comes back here; what goes wrong in it goes out over `theirs`."""
    pid = os.fork()
    if pid:
        theirs.close()
        return pid
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
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(1)


def follow(pid: int, channel: Channel, setup: Setup | None = None) -> Started:
    """Serve child `pid` until its program runs.

    Raises:
        Failed: it told why, or died; it has been reaped.
    """
    master_fd: int | None = None
    running = False
    try:
        while True:
            message, fds = channel.receive()
            if message is None:
                if not running:
                    raise _died(pid)
                return Started(pid, master_fd)
            if "failed" in message:
                os.waitpid(pid, 0)
                raise failure(message)
            moment = message["at"]
            if moment == "terminal":
                master_fd = fds[0]
            elif moment == "exec":
                running = True
            elif moment == "ready":
                return Started(pid, master_fd)
            elif setup is not None:
                hooks.run(hooks.wanted(setup.spec, *hooks.CREATOR), {**setup.state, "pid": pid})
                channel.send({"go": True})
    except Failed:
        if master_fd is not None:
            os.close(master_fd)
        raise


def _died(pid: int) -> Failed:
    """A child that said nothing: killed, most likely for want of memory."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code < 0:
        return Failed(
            "start", 0, "", f"killed by signal {-code} before the program ran: give the container more memory"
        )
    return Failed("start", 0, "", f"ended with code {code} before the program ran")


def own_capabilities() -> int:
    """The mask of capabilities this process may hand on."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"CapPrm:"):
                return int(line.split()[1], 16)
    return 0


def state_of(id: str, status: str, pid: int, bundle: str, annotations: dict[str, Any]) -> dict[str, Any]:  # noqa: A002
    """A container's state as hooks and ``state`` show it (runtime-spec runtime.md "State")."""
    return {
        "ociVersion": "1.2.0",
        "id": id,
        "status": status,
        "pid": pid,
        "bundle": bundle,
        "annotations": annotations,
    }
