"""What the build cache holds, and taking things out of it.

A layer blob and snapshot go with the last record that names them, unless an image has them. Cache mounts go as a whole.
Blocking.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from scow.api.units import rfc3339
from scow.build.cache import Cache, Record
from scow.build.workplace import MountFolders
from scow.content.store import ContentStore
from scow.errors import Conflict, NotFound
from scow.images.store import Images
from scow.snapshots.layers import chain_ids
from scow.snapshots.removal import remove_at
from scow.snapshots.snapshotter import Snapshotter
from scow.snapshots.store import tree_usage

_SECOND = 1_000_000_000

InUse = Callable[[str], bool]


def _never(chain: str) -> bool:
    """No build is under way."""
    return False


@dataclass(frozen=True, slots=True)
class Pruned:
    """What to remove.

    Attributes:
        everything: also what images use (only the record goes then).
        before: seconds since 1970: only what was last used before; None for all.
        keep: bytes of layers and mounts that may stay, the most recently used first.
        ids: only these, empty for all.
        types: only these kinds ("regular", "exec.cachemount"), empty for all.
    """

    everything: bool = False
    before: float | None = None
    keep: int = 0
    ids: frozenset[str] = field(default_factory=frozenset)
    types: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing in the cache."""

    id: str
    type: str
    description: str
    size: int
    made: int
    used: int
    uses: int
    shared: bool
    in_use: bool
    record: Record | None = None


def items(cache: Cache, mounts: MountFolders, images: Images, in_use: InUse = _never) -> list[Item]:
    """Everything in the cache, least recently used first; `in_use` knows the chain ids of builds under way."""
    chains = _image_chains(images)
    found = [_step_item(record, chains, in_use(record.chain)) for record in cache.records()]
    for name, description, made, used in cache.mounts():
        folder = mounts.root / name
        size = tree_usage(str(folder)) if folder.is_dir() else 0
        busy = bool(mounts.users.get(name))
        found.append(Item(name, "exec.cachemount", description, size, made, used, 0, False, busy))
    return sorted(found, key=lambda item: item.used)


def _step_item(record: Record, chains: set[str], in_use: bool) -> Item:
    size = record.size if record.layer else 0
    shared = record.layer is not None and record.chain in chains
    return Item(
        record.key, "regular", record.description, size, record.made, record.used, record.uses, shared, in_use, record
    )


def _image_chains(images: Images) -> set[str]:
    return {chain for image in images.list() for chain in chain_ids(image.config.diff_ids)}


def disk_usage(cache: Cache, mounts: MountFolders, images: Images) -> list[dict[str, object]]:
    """The API's BuildCache objects."""
    return [
        {
            "ID": item.id,
            "Type": item.type,
            "Description": item.description,
            "InUse": item.in_use,
            "Shared": item.shared,
            "Size": item.size,
            "CreatedAt": rfc3339(item.made * _SECOND),
            "LastUsedAt": rfc3339(item.used * _SECOND),
            "UsageCount": item.uses,
        }
        for item in items(cache, mounts, images)
    ]


def prune(
    cache: Cache,
    mounts: MountFolders,
    images: Images,
    snapshots: Snapshotter,
    content: ContentStore,
    pruned: Pruned,
    in_use: InUse = _never,
) -> tuple[list[str], int]:
    """Remove what `pruned` says but for what builds under way stand on; ids of what went and bytes set free."""
    chosen = _chosen(items(cache, mounts, images, in_use), pruned)
    freed = 0
    for item in chosen:
        if item.record is None:
            _remove_mount(cache, mounts, item.id)
            freed += item.size
        else:
            cache.forget(item.id)
    freed += _remove_layers(cache, images, snapshots, content, [item.record for item in chosen if item.record], in_use)
    return [item.id for item in chosen], freed


def _chosen(found: list[Item], pruned: Pruned) -> list[Item]:
    chosen = [
        item
        for item in found
        if not item.in_use
        and (pruned.everything or not item.shared)
        and (pruned.before is None or item.used < pruned.before)
        and (not pruned.ids or item.id in pruned.ids)
        and (not pruned.types or item.type in pruned.types)
    ]
    if not pruned.keep:
        return chosen
    excess = sum(item.size for item in found) - pruned.keep
    taken: list[Item] = []
    for item in chosen:  # least recently used first
        if excess <= 0:
            break
        taken.append(item)
        excess -= item.size
    return taken


def _remove_mount(cache: Cache, mounts: MountFolders, name: str) -> None:
    fd = os.open(mounts.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_at(fd, name)
    finally:
        os.close(fd)
    cache.forget_mount(name)


def _remove_layers(
    cache: Cache, images: Images, snapshots: Snapshotter, content: ContentStore, gone: Iterable[Record], in_use: InUse
) -> int:
    """Snapshots and blobs nothing else names; those on top first, since one below has children."""
    kept_chains = _image_chains(images) | {record.chain for record in cache.records()}
    kept_blobs = {layer.digest for image in images.list() for layer in image.layers}
    kept_blobs |= {record.layer.digest for record in cache.records() if record.layer}
    freed = 0
    waiting = {record.chain for record in gone if record.layer and record.chain not in kept_chains}
    while waiting:
        removed = {chain for chain in waiting if not in_use(chain) and _remove_snapshot(snapshots, chain)}
        if not removed:
            break
        waiting -= removed
    for digest in {record.layer.digest for record in gone if record.layer}:
        if digest not in kept_blobs:
            freed += content.collect(digest)
    return freed


def _remove_snapshot(snapshots: Snapshotter, chain: str) -> bool:
    try:
        snapshots.remove(chain)
    except NotFound:
        return True
    except Conflict:
        return False
    return True
