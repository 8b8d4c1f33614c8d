"""Root file systems mounted ahead: made with the container, used by its first start.

A mount belongs to one place at a time: here, or with whoever took it. At most `LIMIT` are held, the youngest; a
container whose mount was dropped (or whose daemon was another) gets a new one at its start. Whoever else mounts a
container's snapshot drops this one first: two mounts with the same upper folder do not see each other's changes.
"""

import os
import resource
import threading
from collections import OrderedDict
from dataclasses import dataclass

from scow.containers.users import Identity

#: Mounts held at most; each is a descriptor and some kilobytes of the kernel's.
LIMIT = 64
#: Users of images that are remembered.
IDENTITIES = 256
#: Descriptors kept free of mounts made ahead.
RESERVE = 128


@dataclass(slots=True)
class Root:
    """A container's mounted root file system, and who its first process is by the files in it."""

    fd: int
    identity: Identity

    def close(self) -> None:
        """Let go of the mount; a container that runs in it keeps it alive."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Roots:
    """The mounts that are held, by container id. Safe from any thread."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        # A new descriptor is the lowest free number, so a high one says that nearly all are taken.
        self._highest = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVE
        self._held: OrderedDict[str, Root] = OrderedDict()
        self._identities: OrderedDict[tuple[str | None, ...], Identity] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, key: tuple[str | None, ...], identity: Identity) -> None:
        """Note who runs as what in the files of an image."""
        with self._lock:
            while len(self._identities) >= IDENTITIES:
                self._identities.popitem(last=False)
            self._identities[key] = identity

    def known(self, key: tuple[str | None, ...]) -> Identity | None:
        """What was noted under `key`."""
        return self._identities.get(key)

    def hold(self, id: str, root: Root) -> None:  # noqa: A002
        """Keep `root` for the container's start; the oldest goes if there are too many, this one if files are few."""
        with self._lock:
            dropped = [self._held.pop(id)] if id in self._held else []
            if root.fd < self._highest:
                self._held[id] = root
            else:
                dropped.append(root)
            if len(self._held) > self._limit:
                dropped.append(self._held.popitem(last=False)[1])
        for one in dropped:
            one.close()

    def take(self, id: str) -> Root | None:  # noqa: A002
        """The container's mount, the caller's from now on; None if there is none."""
        with self._lock:
            return self._held.pop(id, None)

    def drop(self, id: str) -> None:  # noqa: A002
        """Let go of the container's mount, if there is one."""
        found = self.take(id)
        if found is not None:
            found.close()

    def __contains__(self, key: object) -> bool:
        return key in self._held

    def __len__(self) -> int:
        return len(self._held)

    def close(self) -> None:
        """Let go of all."""
        with self._lock:
            held, self._held = self._held, OrderedDict()
        for root in held.values():
            root.close()
