"""How processes ended: collecting them, and the records that outlive the shim.

A record is JSON, written whole and durable before anybody is told: ``exit.json`` for the first process,
``execs/<id>.json`` for the others.
"""

from __future__ import annotations

import os
import time

from scow.fileio import atomic_write
from scow.runtime import documents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def ended() -> list[tuple[int, int]]:
    """(pid, wait status) of every child that has ended since the last call."""
    found: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        found.append((pid, status))


def record(status: int, oom_killed: bool = False, error: str = "") -> dict[str, Any]:
    """The record for a wait status: code 0 to 255 (128 + n for signal n), time in nanoseconds since 1970."""
    code = os.waitstatus_to_exitcode(status)
    return {
        "code": code if code >= 0 else 128 - code,
        "finished_at": time.time_ns(),
        "oom_killed": oom_killed,
        "error": error,
    }


def write(path: str, told: dict[str, Any]) -> None:
    """Make a record durable.

    Raises:
        OSError, NoSpace: it could not be; the caller goes on and tells whoever listens.
    """
    atomic_write(path, documents.dump(told))


def read(path: str) -> dict[str, Any] | None:
    """The record at `path`, None if there is none, or half of one."""
    try:
        told = documents.load(path)
    except (FileNotFoundError, ValueError):
        return None
    return told if isinstance(told, dict) and "code" in told else None
