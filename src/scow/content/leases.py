"""Leases: which blobs must not be collected although no image names them yet.

A pull asks "is this layer here?", skips the download, and an hour later writes the manifest that refers to it.
Meanwhile another request may remove the last image that had the layer. So whoever asked for a blob or committed one
has *touched* it, and what was touched is left alone:

* inside ``with hold():`` until that block ends, however long it takes (the block is found through the context, which
  tasks and `asyncio.to_thread` carry along);
* without a lease, or when a lease ends whose blobs no image has adopted (`settle`), for `GRACE` seconds: the next
  attempt finds them.

All of it is in memory: after a restart nothing is under way.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar

from scow.oci.digest import Digest

GRACE = 3600.0
"""Seconds a blob is left alone that was touched by nobody's lease and is no image's."""

_SWEEP_ABOVE = 10_000


class _Lease:
    """What one piece of work has touched, and which of that an image has adopted since."""

    __slots__ = ("settled", "touched")

    def __init__(self) -> None:
        self.touched: set[Digest] = set()
        self.settled: set[Digest] = set()


_held: ContextVar[tuple[_Lease, ...]] = ContextVar("held", default=())


class Leases:
    """What is in use by work under way; every method may be called from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._loose: dict[Digest, float] = {}
        self._open: list[_Lease] = []

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Protect everything this work touches until the block ends; may be nested."""
        lease = _Lease()
        with self._lock:
            self._open.append(lease)
        token = _held.set((*_held.get(), lease))
        try:
            yield
        finally:
            _held.reset(token)
            with self._lock:
                self._open.remove(lease)
                when = self._clock()
                self._loose.update((digest, when) for digest in lease.touched - lease.settled)

    def touch(self, digest: Digest) -> None:
        """Note that the work at hand counts on `digest`."""
        with self._lock:
            mine = [lease for lease in _held.get() if lease in self._open]
            for lease in mine:
                lease.touched.add(digest)
                lease.settled.discard(digest)
            if not mine:
                if len(self._loose) > _SWEEP_ABOVE:
                    limit = self._clock() - GRACE
                    self._loose = {known: when for known, when in self._loose.items() if when >= limit}
                self._loose[digest] = self._clock()

    def settle(self, digests: Iterable[Digest]) -> None:
        """These now belong to an image (or to nobody): no grace for them. Open leases go on protecting them."""
        with self._lock:
            digests = set(digests)
            for digest in digests:
                self._loose.pop(digest, None)
            for lease in _held.get():
                lease.settled |= digests

    def protected(self, digest: Digest) -> bool:
        """Whether `digest` must be left alone."""
        with self._lock:
            if any(digest in lease.touched for lease in self._open):
                return True
            when = self._loose.get(digest)
            return when is not None and when >= self._clock() - GRACE
