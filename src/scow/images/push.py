"""Push: an image's blobs, then its manifest, to the repository its name says.

What the registry has is not sent; what another repository there has is mounted. The manifest is sent byte for byte as
it is stored, so the digest is the one it was pulled or built with. An index is pushed whole when all its images are
here, otherwise the image of this machine is. Progress messages are Docker's.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from scow.errors import InvalidArgument, NotFound, first_of
from scow.images.image import Image
from scow.images.store import Images
from scow.oci.descriptor import Descriptor
from scow.oci.digest import Digest
from scow.oci.document import MAX_DOCUMENT
from scow.oci.manifest import Index, Manifest
from scow.oci.mediatypes import is_foreign, is_index
from scow.oci.platform import Platform
from scow.oci.reference import Reference
from scow.registry.auth import NOBODY, AuthConfig
from scow.registry.client.registry import Registry

Progress: TypeAlias = Callable[[dict[str, Any]], object]

#: Seconds between two progress messages of one layer.
INTERVAL = 0.1
#: Repositories a layer is tried to be mounted from.
MAX_SOURCES = 3


@dataclass(frozen=True, slots=True)
class _Target:
    images: Images
    registry: Registry
    reference: Reference
    auth: AuthConfig
    progress: Progress
    slots: asyncio.Semaphore


def references(images: Images, repository: Reference, *, all_tags: bool = False) -> list[Reference]:
    """What a push of `repository` means: its tag, or with `all_tags` every tag of it that is here. Blocking.

    Raises:
        NotFound: "An image does not exist locally with the tag: x", as Docker words it.
        InvalidArgument: a digest cannot be pushed to.
    """
    if repository.digest is not None:
        raise InvalidArgument("cannot push a digest reference")
    names = [name for image in images.list() for name in image.names]
    found = [Reference.parse(name) for name in sorted(set(names)) if name.startswith(f"{repository.name}:")]
    if not found:
        raise NotFound(f"An image does not exist locally with the tag: {repository.familiar_name}")
    if not all_tags and repository not in found:
        raise NotFound(f"tag does not exist: {repository.familiar()}")
    return found if all_tags else [repository]


async def push(
    images: Images,
    registry: Registry,
    reference: Reference,
    auth: AuthConfig | None,
    progress: Progress,
    platform: Platform | None = None,
) -> Descriptor:
    """Push the image `reference` names to where that name says; the descriptor of what the tag there points to now.

    Args:
        platform: push that image of an index, and only that.
        progress: told Docker's progress messages; called on the event loop only.

    Raises:
        NoSuchImage: nothing here has that name.
        Forbidden, Unauthorized, Unavailable: the registry's answer.
    """
    image: Image = await asyncio.to_thread(images.resolve, str(reference))
    progress({"status": f"The push refers to repository [{reference.name}]"})
    slots = asyncio.Semaphore(registry.config.uploads)
    target = _Target(images, registry, reference, auth or NOBODY, progress, slots)
    with images.content.leases.hold():
        top, manifests = await asyncio.to_thread(_choose, images, image, platform)
        await _push_blobs(target, manifests)
        for descriptor in manifests:
            if descriptor.digest != top.digest:
                await _push_manifest(target, descriptor, by_digest=True)
        pushed = await _push_manifest(target, top)
    await asyncio.to_thread(images.note_digest, image.id, reference.with_digest(pushed.digest))
    progress({"status": f"{reference.tag}: digest: {pushed.digest} size: {pushed.size}"})
    aux = {"Tag": reference.tag, "Digest": str(pushed.digest), "Size": pushed.size}
    progress({"progressDetail": {}, "aux": aux})
    return pushed


def _choose(images: Images, image: Image, platform: Platform | None) -> tuple[Descriptor, list[Descriptor]]:
    """What the tag will point to, and the manifests of single images that come with it."""
    content = images.content
    if image.index is None or platform is not None:
        if platform is not None and not platform.matches(image.config.platform):
            raise NotFound(f"the image is for {image.config.platform}, not for {platform}")
        return image.manifest, [image.manifest]
    index = Index.parse(content.read(image.index.digest, MAX_DOCUMENT), image.index.media_type)
    manifests = [entry.bare() for entry in index.manifests]
    whole = all(content.has(entry.digest) and not is_index(entry.media_type) for entry in manifests)
    if whole and all(content.has(blob.digest) for entry in manifests for blob in _blobs(images, entry)):
        return image.index, manifests
    return image.manifest, [image.manifest]


def _blobs(images: Images, descriptor: Descriptor) -> Iterator[Descriptor]:
    """The layers and the config a manifest needs; layers that live elsewhere are left out."""
    manifest = Manifest.parse(images.content.read(descriptor.digest, MAX_DOCUMENT), descriptor.media_type or None)
    yield from (layer for layer in manifest.layers if not is_foreign(layer.media_type))
    yield manifest.config


async def _push_blobs(target: _Target, manifests: list[Descriptor]) -> None:
    blobs: dict[Digest, Descriptor] = {}
    layers: set[Digest] = set()
    for descriptor in manifests:
        *found, config = await asyncio.to_thread(lambda one=descriptor: list(_blobs(target.images, one)))  # type: ignore[misc]
        blobs |= {layer.digest: layer for layer in found} | {config.digest: config}
        layers |= {layer.digest for layer in found}
    sources = await asyncio.to_thread(_sources, target, layers)
    for number, digest in enumerate(layers):
        status = "Preparing" if number < target.registry.config.uploads else "Waiting"
        target.progress({"status": status, "progressDetail": {}, "id": digest.short})
    try:
        async with asyncio.TaskGroup() as group:
            for digest, blob in blobs.items():
                group.create_task(_push_blob(target, blob, sources.get(digest, []), shown=digest in layers))
    except BaseExceptionGroup as failures:
        raise first_of(failures) from None


def _sources(target: _Target, layers: set[Digest]) -> dict[Digest, list[str]]:
    """Repositories of the same registry whose images have a layer: there it can be mounted from."""
    found: dict[Digest, list[str]] = {}
    for image in target.images.list():
        names = {Reference.parse(name) for name in (*image.names, *image.digests)}
        paths = {name.path for name in names if name.domain == target.reference.domain} - {target.reference.path}
        for layer in image.layers if paths else ():
            if layer.digest in layers:
                known = found.setdefault(layer.digest, [])
                known += sorted(paths - set(known))[: MAX_SOURCES - len(known)]
    return found


async def _push_blob(target: _Target, blob: Descriptor, sources: list[str], *, shown: bool) -> None:
    content, identity = target.images.content, blob.digest.short
    clock, last = asyncio.get_running_loop().time, 0.0

    def tell(status: str, detail: dict[str, int] | None = None) -> None:
        if shown:
            target.progress({"status": status, "progressDetail": detail or {}, "id": identity})

    def sent(done: int) -> None:
        nonlocal last
        if clock() - last >= INTERVAL or done == blob.size:
            last = clock()
            tell("Pushing", {"current": done, "total": blob.size})

    async with target.slots:
        if await target.registry.has_blob(target.reference, blob, target.auth):
            tell("Layer already exists")
            return
        mounted = await target.registry.push_blob(
            target.reference, blob, lambda: content.open(blob.digest), target.auth, sent, sources
        )
    tell(f"Mounted from {mounted}" if mounted else "Pushed")


async def _push_manifest(target: _Target, descriptor: Descriptor, *, by_digest: bool = False) -> Descriptor:
    data = await asyncio.to_thread(target.images.content.read, descriptor.digest, MAX_DOCUMENT)
    return await target.registry.push_manifest(
        target.reference, data, descriptor.media_type, target.auth, by_digest=by_digest
    )
