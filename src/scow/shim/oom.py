"""Running out of memory, told when the kernel says so: one event for a burst of kills, whoever it hits.

A burst ends when the kernel has been silent for `QUIET`: it wakes several times for one kill, kills several processes
for one shortage, and a container that does nothing else is not to fill everybody's list of events.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from scow.runtime.cgroup import Cgroup
    from scow.shim.loop import Loop

#: Seconds of silence after which the next shortage is another one.
QUIET = 0.2


class Watch:
    """Owns one descriptor until `close`; `told`: how often `tell` was called."""

    __slots__ = ("_cgroup", "_fd", "_in_burst", "_known", "_loop", "_tell", "_v1", "told")

    def __init__(self, loop: Loop, cgroup: Cgroup, tell: Callable[[], None], known: int = 0) -> None:
        """Watch from now on; kills before, but for `known` ones, are told at once.

        Raises:
            System: the group cannot be watched.
        """
        self._loop = loop
        self._cgroup = cgroup
        self._tell = tell
        self._known = known
        self._in_burst = False
        self.told = 0
        self._fd = -1
        self._v1 = cgroup.layout.where("memory") == 1
        found = cgroup.oom_watch()
        if found is not None:
            self._fd, events = found
            loop.watch(self._fd, events, lambda _events: self._woken())
        self._compare()

    def _woken(self) -> None:
        if self._v1:
            os.read(self._fd, 8)
            if not os.path.exists(f"{self._cgroup.folder('memory')}/memory.oom_control"):
                self.close()  # what woke us is the end of the group, taken away from under us
                return
            self._shortage()
            return
        try:
            os.pread(self._fd, 4096, 0)
        except OSError:
            self.close()
            return
        self._compare()

    def _compare(self) -> None:
        kills = self._cgroup.oom_events()
        if kills > self._known:
            self._known = kills
            self._shortage()

    def _shortage(self) -> None:
        if not self._in_burst:
            self._in_burst = True
            self.told += 1
            self._tell()
        self._loop.at(self, QUIET, self._over)

    def _over(self) -> None:
        self._in_burst = False
        self._known = max(self._known, self._cgroup.oom_events())

    def close(self) -> None:
        """Tell what has not been told yet, and let go. May be called twice."""
        if self._fd < 0:
            return
        self._loop.forget(self._fd)
        os.close(self._fd)
        self._fd = -1
        if not self._in_burst:
            self._compare()
        self._loop.cancel(self)
