"""The contract of a snapshotter: stacked directory trees, writable on top.

How pull and run use one::

    pull:  prepare("unpack-1", parent)  →  apply(layer, upper("unpack-1"))  →  commit(chain id, "unpack-1")
    run:   prepare(container id, chain id)  →  mount(container id) → the container's root  →  remove(container id)
    build: prepare, mount, run, diff, commit

*key* names an active snapshot (somebody writes), *name* a committed one (nobody does, ever again), *parent* a
committed one below. Both live in one name space. Every method blocks and may be called from any thread.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

ACTIVE = "active"
COMMITTED = "committed"


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What there is to know about a snapshot; ``created`` is RFC 3339."""

    name: str
    kind: str
    parent: str | None
    created: str


class Snapshotter(Protocol):
    """Implemented by `overlay.OverlaySnapshotter` and `plain.PlainSnapshotter`; tests/contract holds them to it."""

    @property
    def driver(self) -> str:
        """What `docker info` calls it."""

    @property
    def merged(self) -> bool:
        """Whether `upper` holds the whole tree (a whiteout deletes) or only what differs from the parents."""

    def prepare(self, key: str, parent: str | None, durable: bool = True) -> None:
        """Make an active snapshot on top of `parent` (None: empty).

        Args:
            durable: False leaves it to `sync` that it survives a power cut; the daemon it survives at once.

        Raises:
            AlreadyExists: the key is taken.
            NotFound: no committed snapshot `parent`.
            NoSpace: the disk is full.
        """

    def sync(self, key: str) -> None:
        """Make durable what `prepare` has made and nobody has synced; anything else is left alone.

        Raises:
            NoSpace, System: the disk.
        """

    def mount(self, key_or_name: str, readonly: bool = False) -> int:
        """A detached mount of the tree, close-on-exec; the caller closes it. A committed one is always read-only.

        Raises:
            NotFound: no such snapshot.
            System: the kernel refused.
        """

    def commit(self, name: str, key: str) -> None:
        """Turn the active snapshot `key` into the committed `name`.

        Raises:
            AlreadyExists: the name is taken, by the same content for chain ids; `key` is removed.
            NotFound: no active snapshot `key`.
        """

    def remove(self, key_or_name: str) -> None:
        """Remove a snapshot that nothing is stacked on.

        Raises:
            NotFound: no such snapshot.
            Conflict: it has children.
        """

    def discard(self, key_or_name: str) -> Callable[[], None]:
        """`remove`, but its files are deleted by the function that is returned: at leisure, and in a thread.

        Raises:
            NotFound, Conflict: as of `remove`.
        """

    def info(self, key_or_name: str) -> SnapshotInfo:
        """Kind, parent and age; NotFound."""

    def exists(self, key_or_name: str) -> bool:
        """Whether there is such a snapshot."""

    def usage(self, key_or_name: str) -> int:
        """Bytes on disk that belong to this snapshot and not to its parents; NotFound."""

    def walk(self) -> Iterator[SnapshotInfo]:
        """All snapshots there are at this moment, parents before children."""

    def upper(self, key_or_name: str) -> Path:
        """The snapshot's own directory (see `merged`); written to only while it is active; NotFound."""

    def details(self, key_or_name: str) -> dict[str, str]:
        """The driver's own words for ``GraphDriver.Data`` of inspect; NotFound."""
