"""A small event loop: descriptors, child processes' ends and deadlines, in one thread.

Handlers are plain functions; they may watch and forget any descriptor at any time, also one whose event is still to
come in the same round.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import select
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Handler = Callable[[int], None]

#: Seconds until a listener is asked again when there were no descriptors left to accept with.
BREATH = 1.0
READ = select.EPOLLIN
WRITE = select.EPOLLOUT


_SIGCHLD = int(signal.SIGCHLD)


def _nothing(_number: int, _frame: object) -> None:
    """A signal is handled by being noticed."""


class Loop:
    """Owns the epoll descriptor and the wakeup pipe of SIGCHLD; `child` is called when a child may have ended."""

    __slots__ = ("_deadlines", "_epoll", "_handlers", "_masks", "_running", "child")

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._masks: dict[int, int] = {}
        self._deadlines: dict[object, tuple[float, Callable[[], None]]] = {}
        self._running = True
        self.child: Callable[[], None] | None = None
        woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        _signal.signal(_SIGCHLD, _nothing)

        def reap(_mask: int) -> None:
            os.read(woken, 4096)
            if self.child is not None:
                self.child()

        self.watch(woken, READ, reap)

    def watch(self, fd: int, mask: int, handler: Handler) -> None:
        """Call ``handler(events)`` when `fd` is ready for READ or WRITE in `mask`; mask 0 only hears of hang-ups."""
        if fd in self._masks:
            if self._masks[fd] != mask:
                self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._masks[fd] = mask
        self._handlers[fd] = handler

    def forget(self, fd: int) -> None:
        """Stop watching `fd`; to be called before it is closed. Not watched is fine."""
        if self._masks.pop(fd, None) is not None:
            self._epoll.unregister(fd)
            del self._handlers[fd]

    def rest(self, fd: int, seconds: float) -> None:
        """Do not watch `fd` for a while: what it has to offer cannot be taken now."""
        mask, handler = self._masks[fd], self._handlers[fd]
        self.forget(fd)
        self.at(("rest", fd), seconds, lambda: self.watch(fd, mask, handler))

    def at(self, key: object, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` once, `seconds` from now, unless `key` is set again or cancelled before."""
        self._deadlines[key] = (time.monotonic() + seconds, action)

    def cancel(self, key: object) -> None:
        """Forget the deadline `key`, if it is set."""
        self._deadlines.pop(key, None)

    def stop(self) -> None:
        """Let `run` return after this round."""
        self._running = False

    def run(self) -> None:
        """Serve until `stop`."""
        while self._running:
            timeout = -1.0
            if self._deadlines:
                soonest = min(when for when, _ in self._deadlines.values())
                timeout = max(0.0, soonest - time.monotonic())
            for fd, events in self._epoll.poll(timeout):
                handler = self._handlers.get(fd)
                if handler is not None:
                    handler(events)
            if self._deadlines:
                self._due()

    def _due(self) -> None:
        now = time.monotonic()
        for key, (when, action) in list(self._deadlines.items()):
            if when <= now and self._deadlines.pop(key, None) is not None:
                action()
