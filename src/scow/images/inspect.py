"""Images as the Engine API shows them: inspect, and the lines of the list."""

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from scow.api.filters import Filters
from scow.api.units import parse_time
from scow.images.image import Image
from scow.oci.digest import Digest
from scow.oci.reference import Reference
from scow.snapshots.layers import chain_ids

LIST_FILTERS = frozenset({"dangling", "label", "label!", "before", "since", "reference", "until"})


def inspect(image: Image, driver: str, details: Mapping[str, str] | None) -> dict[str, Any]:
    """The API's ImageInspect (v1.55); `details` are the snapshotter's words about the top, None without layers."""
    config = image.config
    target = image.index or image.manifest
    found: dict[str, Any] = {
        "Id": str(image.id),
        "RepoTags": familiar(image.names),
        "RepoDigests": familiar(image.digests),
        "Comment": config.history[-1].comment if config.history else "",
        "Author": config.author,
        "Config": image_config(config.config),
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": image.size,
        "GraphDriver": {"Name": driver, "Data": dict(details) if details else None},
        "RootFS": {"Type": "layers", "Layers": [str(diff_id) for diff_id in config.diff_ids]},
        "Metadata": {"LastTagTime": image.tagged_at or "0001-01-01T00:00:00Z"},
        "Descriptor": {"mediaType": target.media_type, "digest": str(target.digest), "size": target.size},
    }
    if config.created is not None:
        found["Created"] = config.created
    if config.variant:
        found["Variant"] = config.variant
    if config.os_version:
        found["OsVersion"] = config.os_version
    return found


def image_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a container config that belongs to an image, with the fields clients expect to be there."""
    found = {key: value for key, value in config.items() if key in _IMAGE_FIELDS and value is not None}
    for key, empty in _EXPECTED:
        found.setdefault(key, empty)
    return found


_EXPECTED = (("User", ""), ("Env", None), ("Cmd", None), ("WorkingDir", ""), ("Entrypoint", None), ("Labels", None))
_IMAGE_FIELDS = frozenset({
    "User", "ExposedPorts", "Env", "Cmd", "Healthcheck", "ArgsEscaped", "Volumes", "WorkingDir", "Entrypoint",
    "OnBuild", "Labels", "StopSignal", "Shell",
})  # fmt: skip


def summary(image: Image, containers: int, shared: int) -> dict[str, Any]:
    """One ImageSummary; -1 for `containers` or `shared` means not counted."""
    target = image.index or image.manifest
    return {
        "Id": str(image.id),
        "ParentId": "",
        "RepoTags": familiar(image.names),
        "RepoDigests": familiar(image.digests),
        "Created": int(image.created),
        "Size": image.size,
        "SharedSize": shared,
        "Labels": image.labels or None,
        "Containers": containers,
        "Descriptor": {"mediaType": target.media_type, "digest": str(target.digest), "size": target.size},
    }


def familiar(names: Iterable[str]) -> list[str]:
    """Canonical references as people write them."""
    return [Reference.parse(name, None).familiar() for name in names]


def select(images: Sequence[Image], filters: Filters, resolve: Callable[[str], Image]) -> list[Image]:
    """The images that meet every filter, newest first; with a reference filter only their matching names are left.

    Args:
        resolve: finds the image a `before` or `since` filter names.

    Raises:
        InvalidArgument: an unknown filter or a value that cannot be read.
        NoSuchImage: `before` or `since` names no image.
    """
    filters.require(LIST_FILTERS)
    dangling = filters.boolean("dangling", False) if "dangling" in filters else None
    before = min((resolve(ref).created for ref in filters.get("before", ())), default=None)
    since = max((resolve(ref).created for ref in filters.get("since", ())), default=None)
    until = min((parse_time(text) / 1e9 for text in filters.get("until", ())), default=None)
    found: list[Image] = []
    for image in sorted(images, key=lambda image: (-image.created, image.id)):
        if dangling is not None and dangling == bool(image.names):
            continue
        if before is not None and image.created >= before:
            continue
        if since is not None and image.created <= since:
            continue
        if until is not None and image.created > until:
            continue
        if not filters.labels(image.labels):
            continue
        if "reference" in filters:
            narrowed = _narrowed(image, filters["reference"])
            if narrowed is None:
                continue
            image = narrowed
        found.append(image)
    return found


def _narrowed(image: Image, patterns: Sequence[str]) -> Image | None:
    """`image` with only the names a pattern matches; None if none does."""
    names = tuple(name for name in image.names if any(_matches(name, pattern) for pattern in patterns))
    digests = tuple(name for name in image.digests if any(_matches(name, pattern) for pattern in patterns))
    if not names and not digests:
        return None
    return replace(image, names=names, digests=digests)


def _matches(name: str, pattern: str) -> bool:
    """Docker's rule: the pattern (shell style, * stops at /) fits the familiar reference with or without its tag."""
    reference = Reference.parse(name, None)
    return any(
        candidate.count("/") == pattern.count("/") and fnmatch.fnmatchcase(candidate, pattern)
        for candidate in (reference.familiar(), reference.familiar_name, name, reference.name)
    )


def shared_sizes(images: Sequence[Image], usage: Callable[[str], int]) -> dict[Digest, int]:
    """For each image the bytes of the layers it shares with others."""
    users: dict[str, int] = {}
    chains = {image.id: chain_ids(image.config.diff_ids) for image in images}
    for chain in chains.values():
        for name in chain:
            users[name] = users.get(name, 0) + 1
    return {image_id: sum(usage(name) for name in chain if users[name] > 1) for image_id, chain in chains.items()}
