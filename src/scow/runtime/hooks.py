"""Hooks: programs of the spec that are run at fixed moments, with the container's state as JSON on their stdin.

A hook that fails or takes too long fails the start (runtime-spec config.md "POSIX-platform Hooks").
"""

from __future__ import annotations

import os
import select
import signal

from scow.fileio import write_all
from scow.linux import pidfd
from scow.runtime import documents
from scow.runtime.sync import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Moments before the program runs in which the creator, not the child, runs the hooks.
CREATOR = ("prestart", "createRuntime")


def wanted(spec: dict[str, Any], *moments: str) -> list[dict[str, Any]]:
    """The hooks of `moments`, in order."""
    hooks = spec.get("hooks") or {}
    return [hook for moment in moments for hook in hooks.get(moment) or []]


def run(hooks: list[dict[str, Any]], state: dict[str, Any]) -> None:
    """Run each hook to its end.

    Args:
        state: the container's state, runtime-spec runtime.md "State".

    Raises:
        Failed: stage "hook"; a hook is missing, failed, or was killed after its timeout (seconds).
    """
    for hook in hooks:
        _run(hook, documents.dump(state))


def _run(hook: dict[str, Any], state: bytes) -> None:
    path = hook["path"]
    environment = dict(entry.partition("=")[::2] for entry in hook.get("env") or [])
    state_fd = os.memfd_create("state")
    try:
        write_all(state_fd, state)
        os.lseek(state_fd, 0, os.SEEK_SET)
        try:
            pid = os.posix_spawn(
                path,
                hook.get("args") or [path],
                environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, state_fd, 0)],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
        except OSError as error:
            raise Failed("hook", error.errno or 0, path) from None
    finally:
        os.close(state_fd)
    code = _wait(pid, hook.get("timeout"))
    if code != 0:
        raise Failed("hook", 0, path, f"hook {path} failed: exit status {code}")


def _wait(pid: int, timeout: float | None) -> int:
    """Exit code of the hook; one that outlives its time is killed."""
    hook_fd = pidfd.pidfd_open(pid)
    try:
        if timeout is not None:
            poller = select.poll()
            poller.register(hook_fd, select.POLLIN)
            if not poller.poll(timeout * 1000):
                pidfd.kill(hook_fd)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(hook_fd)
