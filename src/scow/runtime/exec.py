"""One more process in a running container: join its namespaces through the first process's pidfd, then the program.

The pidfd, not the number, says whose namespaces are meant: a container that ended meanwhile cannot be mistaken for
whatever got its pid.

A process on its way in is seen by those inside from its first moment, when it still has the host's root and every
capability. It cannot be looked into, for it is not dumpable, unless the container has CAP_SYS_PTRACE. Such a container
gets its execs born a second time: all is joined and given up outside, then the pid namespace is entered by a fork.
"""

from __future__ import annotations

import contextlib
import errno
import os

from scow.linux import pty
from scow.linux.fds import close_all_but, join_session_keyring
from scow.linux.namespaces import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    fork_sibling,
    open_namespace,
    setns,
)
from scow.runtime import process as program
from scow.runtime import terminal
from scow.runtime.create import Following, fork
from scow.runtime.init import leave_parent
from scow.runtime.sync import Channel, Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from scow.runtime.cgroup import Cgroup


#: What has run out if a fork fails so; a pid namespace whose first process has ended answers ENOMEM.
_SCARCE = frozenset({errno.EAGAIN, errno.EMFILE, errno.ENFILE})
_JOINED = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP


def begin_exec(
    target_fd: int,
    process: dict[str, Any],
    *,
    id: str,  # noqa: A002 - the spec's own word
    cgroup: Cgroup | None,
    stdio: tuple[int, int, int] | None,
    filter_program: bytes | None,
    permitted: int,
    watched: bool,
) -> Following:
    """Start `process` (runtime-spec "process") in the container whose first process is behind pidfd `target_fd`.

    Args:
        id: the container's, which names its session keyring.
        watched: the container's processes may look into others (`may_look`).
        stdio: descriptors 0 to 2, or None for a terminal from the container's own devpts.

    Returns:
        The start under way, for the caller to follow.

    Raises:
        Failed: the container is not running; if it is `watched`, whatever went wrong on the way in.
    """

    def body(channel: Channel, progress: program.Progress) -> None:
        _enter(target_fd, process, id, cgroup, stdio, filter_program, permitted, watched, channel, progress)

    if watched:
        return _born_inside(body)
    own_fd = open_namespace("pid", "self")
    try:
        setns(target_fd, CLONE_NEWPID)
        return fork(body)
    except OSError as error:  # also while its pid namespace is being taken down
        words = "" if error.errno in _SCARCE else "the container is not running"
        raise Failed("namespaces", error.errno or 0, "", words) from None
    finally:
        setns(own_fd, CLONE_NEWPID)
        os.close(own_fd)


def may_look(spec: dict[str, Any]) -> bool:
    """Whether the processes of a container made from `spec` may have the capability to look into any other."""
    capabilities = spec["process"].get("capabilities") or {}
    return any("CAP_SYS_PTRACE" in names for names in capabilities.values())


def _born_inside(body: Callable[[Channel, program.Progress], None]) -> Following:
    """Follow a start until the process that is to be the program has been forked by the one that went in for it."""
    try:
        following = fork(body)
    except OSError as error:
        raise Failed("start", error.errno or 0, "") from None
    try:
        while not following.born:
            if following.advance() is not None:
                break
    except Failed:
        following.channel.close()
        raise
    return following


def _be_born(channel: Channel) -> None:
    """Fork into the pid namespace set for children; the child returns, its parent is the parent of this process."""
    pid = fork_sibling()
    if pid:
        channel.send({"at": "born", "pid": pid})
        os._exit(0)
    os.setsid()


def _enter(
    target_fd: int,
    process: dict[str, Any],
    id: str,  # noqa: A002
    cgroup: Cgroup | None,
    stdio: tuple[int, int, int] | None,
    filter_program: bytes | None,
    permitted: int,
    watched: bool,
    channel: Channel,
    progress: program.Progress,
) -> None:
    """The child, in order; returns only by raising."""
    leave_parent()
    # Before anybody in there can see this process: what is not open cannot be taken (CVE-2016-9962, CVE-2024-21626).
    close_all_but({channel.socket.fileno(), target_fd, *(stdio or ())})
    progress.stage = "limits"
    program.limit(process)
    program.score(process)
    if cgroup is not None:
        progress.stage = "cgroup"
        cgroup.join_self(beside=target_fd)
    progress.stage = "namespaces"
    try:
        setns(target_fd, _JOINED | (CLONE_NEWPID if watched else 0))
    except ProcessLookupError:
        raise Failed("namespaces", errno.ESRCH, "", "the container is not running") from None
    with contextlib.suppress(OSError):  # as for the first process: goes on without a keyring of its own
        join_session_keyring(f"_ses.{id}")
    if stdio is None:
        progress.stage = "terminal"
        root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        slave = terminal.open_terminal(root_fd, channel, terminal.console_size(process))
        stdio = (slave, slave, slave)
    if process.get("terminal") and not watched:
        pty.make_controlling(stdio[0])
    progress.stage = "stdio"
    program.take_stdio(stdio, int((process.get("user") or {}).get("uid", 0)))
    program.become(process, filter_program, permitted, channel, progress)
    if watched:
        progress.stage = "start"
        _be_born(channel)
        if process.get("terminal"):
            pty.make_controlling(0)
    program.execute(process, channel, progress)
