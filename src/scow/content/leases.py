"""Leases: which blobs must not be collected although no image names them yet.

A pull asks "is this layer here?", skips the download, and an hour later writes the manifest that refers to it.
Meanwhile another request may remove the last image that had the layer. Two rules close the gap, both in memory (after
a restart nothing is under way):

* whatever was committed or asked for (*touched*) stays for `GRACE` seconds, or until an image adopts it (`settle`);
* while a lease is open, everything touched since it was opened stays, however long that takes.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from scow.oci.digest import Digest

GRACE = 3600.0
"""Seconds an unadopted blob is left alone; a pull that takes longer holds a lease."""

_SWEEP_ABOVE = 10_000


class Leases:
    """What is in use by work under way; every method may be called from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._touched: dict[Digest, float] = {}
        self._open: dict[int, float] = {}
        self._next = 0

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Protect everything touched from now until the block ends."""
        with self._lock:
            self._next += 1
            key = self._next
            self._open[key] = self._clock()
        try:
            yield
        finally:
            with self._lock:
                del self._open[key]

    def touch(self, digest: Digest) -> None:
        """Note that somebody now counts on `digest`."""
        with self._lock:
            if len(self._touched) > _SWEEP_ABOVE:
                limit = self._limit()
                self._touched = {known: when for known, when in self._touched.items() if when >= limit}
            self._touched[digest] = self._clock()

    def settle(self, digests: Iterable[Digest]) -> None:
        """These now belong to an image, which protects them; other work under way keeps its own claim by its lease."""
        with self._lock:
            if not self._open:
                for digest in digests:
                    self._touched.pop(digest, None)

    def protected(self, digest: Digest) -> bool:
        """Whether `digest` must be left alone."""
        with self._lock:
            when = self._touched.get(digest)
            return when is not None and when >= self._limit()

    def _limit(self) -> float:
        return min(self._clock() - GRACE, min(self._open.values(), default=float("inf")))
