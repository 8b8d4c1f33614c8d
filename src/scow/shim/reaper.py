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


#: The exit code of a process that ended while all that supervised it were dead (Docker's of one lost with the machine).
UNKNOWN = 255
_UNKNOWN = (
    "the exit code is not known: the process ended while its supervisors were dead, and was reaped by somebody else "
    "(from Linux 6.15 on the kernel mostly tells nevertheless)"
)


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


def record(
    status: int | None,
    oom_killed: bool = False,
    error: str = "",
    *,
    started_at: int = 0,
    ran: int | None = None,
    now: int | None = None,
) -> dict[str, Any]:
    """The record for a wait status: code 0 to 255 (128 + n for signal n), times in nanoseconds since 1970.

    Args:
        status: None if nobody knows how the process ended: its code is UNKNOWN, and the record says why.
        started_at: the end is not before it, whatever has become of the clock meanwhile.
        ran: how long it ran, in ns by a clock that nobody sets, if that is known.
        now: what the clock says, if not asked for here.
    """
    code = os.waitstatus_to_exitcode(status) if status is not None else UNKNOWN
    return {
        "code": code if code >= 0 else 128 - code,
        "started_at": started_at,
        "finished_at": max(time.time_ns() if now is None else now, started_at),
        "ran": ran,
        "oom_killed": oom_killed,
        "error": error or (_UNKNOWN if status is None else ""),
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
