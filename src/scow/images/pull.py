"""Pull: from a reference to an image that is here, proved and unpacked.

::

    resolve ─ manifest (index → the platform's) ─ config ─┬─ layer 1 ─ fetch ─┐ unpack 1
                                                          ├─ layer 2 ─ fetch ─┼──────── unpack 2
                                                          └─ layer 3 ─ fetch ─┘ …       └ images.put: the name appears

Layers are fetched `registry.config.downloads` at a time and unpacked in order, each as soon as it is there. Nothing
is visible before every digest is proved; what a broken-off pull fetched is kept, and the next one goes on from there.
A lease protects what is not yet named from the garbage collector. Progress messages are Docker's, word for word:
clients draw bars from them.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from scow.errors import DataLoss, InvalidArgument, NoSuchImage, NotFound, Unsupported, first_of
from scow.images.image import Image
from scow.images.store import Images
from scow.images.unpack import unpack
from scow.oci.config import MAX_CONFIG, ImageConfig
from scow.oci.descriptor import Descriptor
from scow.oci.digest import Digest
from scow.oci.document import MAX_DOCUMENT
from scow.oci.manifest import Index, Manifest
from scow.oci.mediatypes import CONFIGS, is_index, is_layer
from scow.oci.platform import Platform, host_platform
from scow.oci.reference import Reference
from scow.registry.auth import NOBODY, AuthConfig
from scow.registry.client.registry import Registry
from scow.snapshots.layers import chain_ids

Progress: TypeAlias = Callable[[dict[str, Any]], object]

#: Indexes inside indexes followed.
MAX_DEPTH = 3
#: Seconds between two progress messages of one layer.
INTERVAL = 0.1
#: Tags pulled by one request for all of them.
MAX_TAGS = 5000


@dataclass(frozen=True, slots=True)
class _Source:
    """Where this pull reads from, and to where."""

    images: Images
    registry: Registry
    reference: Reference
    auth: AuthConfig
    progress: Progress


@dataclass(frozen=True, slots=True)
class _Plan:
    """What was chosen: `target` is what the name will lead to, an index or `manifest` itself."""

    target: Descriptor
    descriptor: Descriptor
    manifest: Manifest
    config: ImageConfig


async def pull(
    images: Images,
    registry: Registry,
    reference: Reference,
    platform: Platform | None,
    auth: AuthConfig | None,
    progress: Progress,
) -> Image:
    """Bring the image `reference` names here, under that name.

    Args:
        platform: which image of an index; None takes this machine's.
        progress: told Docker's progress messages; called on the event loop only.

    Raises:
        NotFound: the registry does not have it, or not for that platform; "pull access denied for …".
        Unauthorized, Unavailable: the registry's answer.
        Unsupported: it is no container image.
        DigestMismatch, DataLoss: the registry sent something else than it announced.
        NoSpace: the disk is full; nothing is visible.
    """
    source = _Source(images, registry, reference, auth or NOBODY, progress)
    with images.content.leases.hold():
        resolved = await registry.resolve(reference, source.auth)
        return await _pull_resolved(source, resolved, platform)


async def pull_all(
    images: Images,
    registry: Registry,
    repository: Reference,
    platform: Platform | None,
    auth: AuthConfig | None,
    progress: Progress,
) -> list[Image]:
    """Pull every tag of a repository; the errors of `pull`, at the first tag that fails."""
    found = []
    tags = await registry.tags(repository, auth or NOBODY)
    if not tags:
        raise NotFound(f"repository {repository.familiar_name} has no tags")
    for tag in tags[:MAX_TAGS]:
        try:
            reference = repository.with_tag(tag)
        except InvalidArgument:
            continue  # a tag no reference can name
        found.append(await pull(images, registry, reference, platform, auth, progress))
    return found


async def _pull_resolved(source: _Source, resolved: Descriptor, platform: Platform | None) -> Image:
    reference, progress = source.reference, source.progress
    shown = reference.tag if reference.digest is None else reference.digest
    progress({"status": f"Pulling from {reference.path}", "id": str(shown)})
    before = await asyncio.to_thread(_present, source.images, reference)
    plan = await _plan(source, resolved, platform)
    await _fetch_layers(source, plan)
    index = plan.target if is_index(plan.target.media_type) else None
    image = await asyncio.to_thread(_name, source, plan, index)
    progress({"status": f"Digest: {plan.target.digest}"})
    fresh = before != image.id
    words = "Downloaded newer image for" if fresh else "Image is up to date for"
    progress({"status": f"Status: {words} {reference.familiar()}"})
    return image


def _name(source: _Source, plan: _Plan, index: Descriptor | None) -> Image:
    """Make the image known by its tag and by the digest the registry has it under."""
    images, reference = source.images, source.reference
    image = images.put(plan.descriptor, reference, index)
    images.note_digest(image.id, reference.with_digest(plan.target.digest))
    return images.resolve(str(reference))


def _present(images: Images, reference: Reference) -> Digest | None:
    """The image the name led to before."""
    try:
        return images.resolve(str(reference)).id
    except (NoSuchImage, InvalidArgument):
        return None


async def _plan(source: _Source, resolved: Descriptor, platform: Platform | None) -> _Plan:
    """Fetch manifests down to the platform's, and its config."""
    wanted = platform or host_platform()
    descriptor = resolved
    for _ in range(MAX_DEPTH):
        data, media_type = await _document(source, descriptor)
        descriptor = Descriptor(media_type, descriptor.digest, len(data))
        if not is_index(media_type):
            break
        if descriptor.digest == resolved.digest:
            resolved = descriptor
        descriptor = Index.parse(data, media_type).choose(wanted).bare()
    else:
        raise Unsupported(f"{source.reference.familiar()} is a list of lists of lists: this engine follows {MAX_DEPTH}")
    name = source.reference.familiar()
    manifest = Manifest.parse(data, media_type)
    if manifest.config.media_type and manifest.config.media_type not in CONFIGS:
        raise Unsupported(f"{name} is no container image but of type {manifest.config.media_type[:100]}")
    config = ImageConfig.parse(await _small_blob(source, manifest.config))
    if len(config.diff_ids) != len(manifest.layers):
        raise InvalidArgument(
            f"{name} is broken: {len(manifest.layers)} layers and a config for {len(config.diff_ids)}"
        )
    if platform is not None and not any(choice.matches(config.platform) for choice in platform.fallbacks()):
        raise NotFound(
            f"image with reference {name} was found but its platform ({config.platform}) does not match the specified "
            f"platform ({platform})"
        )
    target = resolved if is_index(resolved.media_type) else descriptor
    return _Plan(target.bare(), descriptor, manifest, config)


async def _document(source: _Source, descriptor: Descriptor) -> tuple[bytes, str]:
    """A manifest or index, from the content store or the registry; stored either way."""
    content = source.images.content
    here = await asyncio.to_thread(content.has, descriptor.digest)
    if here and descriptor.media_type:
        return await asyncio.to_thread(content.read, descriptor.digest, MAX_DOCUMENT), descriptor.media_type
    data, media_type = await source.registry.fetch_manifest(source.reference, descriptor, source.auth)
    await asyncio.to_thread(content.write, data, media_type)
    return data, media_type


async def _small_blob(source: _Source, descriptor: Descriptor) -> bytes:
    """A config's bytes."""
    if descriptor.size > MAX_CONFIG:
        raise InvalidArgument(f"the image's config is {descriptor.size} bytes, more than the {MAX_CONFIG} allowed")
    await _fetch(source, descriptor, None)
    data: bytes = await asyncio.to_thread(source.images.content.read, descriptor.digest, MAX_CONFIG)
    if len(data) != descriptor.size:
        raise DataLoss(f"the image's config is {len(data)} bytes, its manifest says {descriptor.size}")
    return data


async def _fetch(source: _Source, descriptor: Descriptor, arrived: Callable[[int], None] | None) -> None:
    """Bring one blob into the content store, unless it is there; one transfer at a time whoever wants it."""
    content = source.images.content
    async with source.registry.alone(descriptor.digest):
        if await asyncio.to_thread(content.has, descriptor.digest):
            return
        await source.registry.fetch_blob(
            source.reference,
            descriptor,
            lambda: content.open_ingest(f"layer {descriptor.digest}"),
            source.auth,
            arrived,
        )


# -- layers --------------------------------------------------------------------------------------------------------


async def _fetch_layers(source: _Source, plan: _Plan) -> None:
    """Fetch layers side by side, unpack them in order."""
    layers = plan.manifest.layers
    for number, layer in enumerate(layers, 1):
        if layer.media_type and not is_layer(layer.media_type):
            raise Unsupported(f"layer {number} is of type {layer.media_type[:100]!r}, which is no filesystem layer")
    there = await asyncio.to_thread(_unpacked, source, plan)
    for layer in layers:
        known = layer.digest in there
        status = "Already exists" if known else "Pulling fs layer"
        source.progress({"status": status, "progressDetail": {}, "id": layer.digest.short})
    missing = {layer.digest: layer for layer in layers if layer.digest not in there}
    limit = source.registry.config.downloads
    slots = asyncio.Semaphore(limit)
    try:
        async with asyncio.TaskGroup() as group:
            fetched = {
                digest: group.create_task(_fetch_layer(source, layer, slots, waits=number >= limit))
                for number, (digest, layer) in enumerate(missing.items())
            }
            for height, layer in enumerate(layers):
                if layer.digest in fetched:
                    await fetched[layer.digest]
                    await _unpack_layer(source, plan, height)
    except BaseExceptionGroup as failures:
        raise first_of(failures) from None


def _unpacked(source: _Source, plan: _Plan) -> set[Digest]:
    """Layers whose blob and snapshot are both here: nothing is to be done for them."""
    chain = chain_ids(plan.config.diff_ids)
    content, snapshots = source.images.content, source.images.snapshots
    return {
        layer.digest
        for layer, name in zip(plan.manifest.layers, chain, strict=True)
        if content.has(layer.digest) and snapshots.exists(name)
    }


async def _fetch_layer(source: _Source, layer: Descriptor, slots: asyncio.Semaphore, *, waits: bool) -> None:
    identity = layer.digest.short
    if waits:
        source.progress({"status": "Waiting", "progressDetail": {}, "id": identity})
    bar = _Bar(source.progress, identity)
    async with slots:
        await _fetch(source, layer, lambda done: bar.move("Downloading", done, layer.size))
    if bar.moved:
        source.progress({"status": "Verifying Checksum", "progressDetail": {}, "id": identity})
    source.progress({"status": "Download complete", "progressDetail": {}, "id": identity})


async def _unpack_layer(source: _Source, plan: _Plan, height: int) -> None:
    """Unpack the layer at `height`; all below it are unpacked already."""
    loop = asyncio.get_running_loop()
    layer = plan.manifest.layers[height]
    bar = _Bar(source.progress, layer.digest.short)

    def tell(_index: int, done: int, size: int) -> None:
        if bar.due():
            loop.call_soon_threadsafe(bar.show, "Extracting", done, size)

    layers, diff_ids = plan.manifest.layers[: height + 1], plan.config.diff_ids[: height + 1]
    images = source.images
    thread = asyncio.ensure_future(asyncio.to_thread(unpack, images.content, images.snapshots, layers, diff_ids, tell))
    try:
        await asyncio.shield(thread)
    except asyncio.CancelledError:
        await asyncio.wait({thread})  # a thread cannot be stopped; nobody is to unpack beside it
        raise
    bar.show("Extracting", layer.size, layer.size)
    source.progress({"status": "Pull complete", "progressDetail": {}, "id": layer.digest.short})


class _Bar:
    """Progress messages of one layer, at most one every `INTERVAL` seconds."""

    def __init__(self, progress: Progress, identity: str) -> None:
        self._progress = progress
        self._identity = identity
        self._clock = asyncio.get_running_loop().time
        self._last = 0.0
        self.moved = False

    def due(self) -> bool:
        """Whether it is time for another message; asking is counted as sending it."""
        now = self._clock()
        if now - self._last < INTERVAL:
            return False
        self._last = now
        return True

    def move(self, status: str, done: int, total: int) -> None:
        """Show when it is time."""
        self.moved = True
        if self.due():
            self.show(status, done, total)

    def show(self, status: str, done: int, total: int) -> None:
        """Send a message."""
        detail: Mapping[str, int] = {"current": done, "total": total}
        self._progress({"status": status, "progressDetail": dict(detail), "id": self._identity})
