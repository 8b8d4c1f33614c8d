"""One more process in a running container: join its namespaces through the first process's pidfd, then the program.

The pidfd, not the number, says whose namespaces are meant: a container that ended meanwhile cannot be mistaken for
whatever got its pid.
"""

from __future__ import annotations

import contextlib
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
    from typing import Any

    from scow.runtime.cgroup import Cgroup


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
) -> Following:
    """Start `process` (runtime-spec "process") in the container whose first process is behind pidfd `target_fd`.

    Args:
        id: the container's, which names its session keyring.
        stdio: descriptors 0 to 2, or None for a terminal from the container's own devpts.

    Returns:
        The start under way, for the caller to follow.

    Raises:
        Failed: the container is not running.
    """
    own_fd = open_namespace("pid", "self")

    def body(channel: Channel, progress: program.Progress) -> None:
        _enter(target_fd, process, id, cgroup, stdio, filter_program, permitted, channel, progress)

    try:
        setns(target_fd, CLONE_NEWPID)
        return fork(body)
    except OSError as error:  # also while its pid namespace is being taken down
        raise Failed("namespaces", error.errno or 0, "", "the container is not running") from None
    finally:
        setns(own_fd, CLONE_NEWPID)
        os.close(own_fd)


def _enter(
    target_fd: int,
    process: dict[str, Any],
    id: str,  # noqa: A002
    cgroup: Cgroup | None,
    stdio: tuple[int, int, int] | None,
    filter_program: bytes | None,
    permitted: int,
    channel: Channel,
    progress: program.Progress,
) -> None:
    """The child, in order; returns only by raising."""
    leave_parent()
    # Before anybody in there can see this process: what is not open cannot be taken (CVE-2016-9962, CVE-2024-21626).
    close_all_but({channel.socket.fileno(), target_fd, *(stdio or ())})
    progress.stage = "limits"
    program.limit(process)
    if cgroup is not None:
        progress.stage = "cgroup"
        cgroup.join_self(beside=target_fd)
    progress.stage = "namespaces"
    setns(target_fd, _JOINED)
    with contextlib.suppress(OSError):  # as for the first process: goes on without a keyring of its own
        join_session_keyring(f"_ses.{id}")
    if stdio is None:
        progress.stage = "terminal"
        root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        slave = terminal.open_terminal(root_fd, channel, terminal.console_size(process))
        pty.make_controlling(slave)
        stdio = (slave, slave, slave)
    progress.stage = "stdio"
    program.take_stdio(stdio, int((process.get("user") or {}).get("uid", 0)))
    program.become(process, filter_program, permitted, channel, progress)
    program.execute(process, channel, progress)
