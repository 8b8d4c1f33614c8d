"""Which blobs and snapshots are needed: marking is pure, sweeping is a short loop.

A blob is needed if an image leads to it, if somebody registered a claim to it (the build cache), or if work under way
counts on it (`content.leases`). A snapshot is needed if it is in the chain of an image or of a claim, or if something
is stacked on it.
"""

from collections.abc import Callable, Collection, Iterable, Sequence

from scow.content.store import ContentStore
from scow.errors import Conflict, NotFound
from scow.oci.descriptor import Descriptor
from scow.oci.digest import Digest
from scow.snapshots.snapshotter import COMMITTED, Snapshotter


def mark(roots: Iterable[Descriptor], children: Callable[[Descriptor], Sequence[Descriptor]]) -> set[Digest]:
    """Every digest reachable from `roots`; `children` tells what a blob refers to (nothing for layers and configs)."""
    reached: set[Digest] = set()
    pending = list(roots)
    while pending:
        descriptor = pending.pop()
        if descriptor.digest not in reached:
            reached.add(descriptor.digest)
            pending.extend(children(descriptor))
    return reached


def sweep_blobs(content: ContentStore, live: Collection[str], candidates: Iterable[Digest]) -> int:
    """Remove the `candidates` that are neither live nor in use by work under way; bytes freed."""
    return sum(content.collect(digest) for digest in candidates if digest not in live)


def sweep_chains(snapshots: Snapshotter, live: Collection[str], chains: Iterable[str]) -> tuple[list[str], int]:
    """Remove the snapshots `chains` (tops first) that are not live and carry nothing; (names removed, bytes freed)."""
    removed: list[str] = []
    freed = 0
    for name in chains:
        if name in live:
            continue
        try:
            size = snapshots.usage(name)
            snapshots.remove(name)
        except (NotFound, Conflict):
            continue
        removed.append(name)
        freed += size
    return removed, freed


def unreferenced_chains(snapshots: Snapshotter, live: Collection[str]) -> list[str]:
    """Committed snapshots named by chain ids that nobody claims, children before their parents."""
    names = [info.name for info in snapshots.walk() if info.kind == COMMITTED and info.name.startswith("sha256:")]
    return [name for name in reversed(names) if name not in live]
