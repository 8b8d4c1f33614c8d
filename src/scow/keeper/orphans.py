"""How processes ended that became the keeper's children when their shim was killed; for the shim that succeeds it.

A process is named by its number and its start time, read while it is a zombie, so that a number used again means
nobody else. Statuses are kept until they are crowded out: a successor may be killed before it has put them down.
"""

from __future__ import annotations

import os

from scow.linux import proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Name = tuple[int, int]

#: Statuses kept, the newest.
MOST = 1024


class Orphans:
    """Statuses by (pid, start time), and who wants to hear of them."""

    __slots__ = ("_statuses", "_watchers")

    def __init__(self) -> None:
        self._statuses: dict[Name, int] = {}
        self._watchers: dict[Name, Callable[[Name, int], None]] = {}

    def ended(self, name: Name, status: int) -> None:
        """Note a wait status, and tell who watches."""
        self._statuses[name] = status
        if len(self._statuses) > MOST:
            del self._statuses[next(iter(self._statuses))]
        watcher = self._watchers.pop(name, None)
        if watcher is not None:
            watcher(name, status)

    def watch(self, name: Name, tell: Callable[[Name, int], None]) -> None:
        """Have `tell` called once, at once or later, with the status of a process."""
        status = self._statuses.get(name)
        if status is None:
            self._watchers[name] = tell
        else:
            tell(name, status)

    def forget(self, names: list[Name]) -> None:
        """Whoever watched these has gone."""
        for name in names:
            self._watchers.pop(name, None)


def reap() -> list[tuple[int, int, int]]:
    """(pid, start time, wait status) of every child that has ended since the last call; 0 for an unknown time."""
    found: list[tuple[int, int, int]] = []
    while True:
        try:
            seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return found
        if seen is None:
            return found
        try:
            started = proc.start_time(seen.si_pid)
        except (OSError, ValueError):
            started = 0
        pid, status = os.waitpid(seen.si_pid, 0)
        found.append((pid, started, status))
