"""``docker save`` and ``docker load``: images as one tar.

What is written is an OCI layout (oci-layout, index.json, blobs/) with Docker's manifest.json beside it, so that every
engine and skopeo read it. What is read is either, also Docker's old layout with ``<id>/layer.tar``. An archive is
hostile: nothing in it becomes a path, every blob goes into the content store under the digest it really has, JSON is
bounded, and the names are taken only when everything they need was there.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scow.content.store import ContentStore
from scow.errors import DigestMismatch, EngineError, InvalidArgument, NotFound
from scow.images.image import Image, now
from scow.images.layer import LayerWriter
from scow.oci import document
from scow.oci.config import MAX_CONFIG, History, ImageConfig
from scow.oci.descriptor import Descriptor
from scow.oci.digest import Digest, digest_of
from scow.oci.manifest import Index, Manifest
from scow.oci.mediatypes import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    is_index,
    is_manifest,
)
from scow.oci.platform import host_platform
from scow.oci.reference import Reference
from scow.snapshots.compression import sniff, unpacked
from scow.snapshots.tarstream import DIRECTORY, FILE, HARDLINK, SYMLINK, Entry, Readable, TarReader, split_name
from scow.snapshots.tarwriter import TarWriter

CONTAINERD_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"
_BLOBS = "blobs/sha256/"
_MAX_ENTRIES = 20_000
_MAX_IMAGES = 10_000
_MAX_HOPS = 40
_PIECE = 1 << 20
_TYPES = {"": OCI_LAYER, "gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD}
Progress = Callable[[dict[str, Any]], object]


def new_config(config: Mapping[str, Any], diff_id: Digest, step: History) -> ImageConfig:
    """The config of a new image of one layer for this machine, made by `step` now."""
    platform, when = host_platform(), now()
    return ImageConfig(
        platform.architecture,
        platform.os,
        platform.variant,
        when,
        config=dict(config),
        diff_ids=(diff_id,),
        history=(replace(step, created=when),),
    )


# ── saving ──


@dataclass(frozen=True, slots=True)
class Saved:
    """An image to save, and the name it is to have in the archive (None: none)."""

    image: Image
    name: Reference | None


def save(content: ContentStore, images: Sequence[Saved], out: Callable[[bytes], object]) -> None:
    """Write `images` to `out` as one tar: every blob once, the documents that name them at the end.

    The bytes depend on the images alone.

    Raises:
        NotFound: a blob is missing.
    """
    blobs: dict[Digest, Descriptor] = {}
    for saved in images:
        manifest = Manifest.parse(content.read(saved.image.manifest.digest), saved.image.manifest.media_type)
        for descriptor in (*manifest.layers, manifest.config, saved.image.manifest):
            blobs.setdefault(descriptor.digest, descriptor)
    writer = TarWriter(out)
    for folder in ("blobs", "blobs/sha256"):
        writer.add(Entry(folder, DIRECTORY, 0o755))
    for digest in sorted(blobs):
        with content.open(digest) as blob:
            writer.add_file(Entry(_BLOBS + digest.hex, FILE, 0o444, size=content.size(digest)), blob.fileno())
    for name, value in (("index.json", _index(images)), ("manifest.json", _docker_manifest(images))):
        writer.add(_plain(name, value), value)
    layout = b'{"imageLayoutVersion":"1.0.0"}'
    writer.add(_plain("oci-layout", layout), layout)
    writer.close()


def _plain(name: str, data: bytes) -> Entry:
    return Entry(name, FILE, 0o644, size=len(data))


def _index(images: Iterable[Saved]) -> bytes:
    entries = []
    for saved in images:
        notes = {}
        if saved.name is not None:
            notes = {CONTAINERD_NAME: str(saved.name), REF_NAME: saved.name.tag or ""}
        entry = replace(saved.image.manifest, annotations=notes, platform=saved.image.config.platform)
        if entry not in entries:
            entries.append(entry)
    return Index(OCI_INDEX, tuple(entries)).to_bytes()


def _docker_manifest(images: Iterable[Saved]) -> bytes:
    """Docker's manifest.json: a list with one entry an image, whatever the number of its names."""
    found: dict[Digest, dict[str, Any]] = {}
    for saved in images:
        item = found.setdefault(
            saved.image.manifest.digest,
            {
                "Config": _BLOBS + saved.image.id.hex,
                "RepoTags": [],
                "Layers": [_BLOBS + layer.digest.hex for layer in saved.image.layers],
            },
        )
        if saved.name is not None and saved.name.familiar() not in item["RepoTags"]:
            item["RepoTags"].append(saved.name.familiar())
    for item in found.values():
        item["RepoTags"] = item["RepoTags"] or None
    return document.dump(list(found.values()))


# ── loading ──


@dataclass(slots=True)
class LoadedImage:
    """An image whose blobs are all in the content store, and the names the archive gives it."""

    manifest: Descriptor
    names: list[Reference]
    index: Descriptor | None = None


@dataclass(frozen=True, slots=True)
class _Member:
    """A file of the archive, now a blob; `diff_id` if it is a layer that was packed on the way in."""

    descriptor: Descriptor
    diff_id: Digest | None = None


def load(content: ContentStore, stream: Readable, progress: Progress, blobs: set[Digest]) -> list[LoadedImage]:
    """Bring everything in the archive into the content store and find its images.

    Args:
        blobs: filled with what came in, also when this fails; the caller collects what no image takes.

    Raises:
        InvalidArgument: not an image archive.
        DigestMismatch: a blob is not what its name says.
        DataLoss: the archive is cut off.
    """
    loading = _Loading(content, progress, blobs)
    loading.read(unpacked(stream))
    return loading.finish()


class _Loading:
    def __init__(self, content: ContentStore, progress: Progress, blobs: set[Digest]) -> None:
        self._images: list[LoadedImage] = []
        self._blobs = blobs
        self._content = content
        self._progress = progress
        self._files: dict[str, _Member] = {}
        self._links: dict[str, str] = {}

    def read(self, stream: Readable) -> None:
        """Store every file; links are remembered, folders and the rest mean nothing."""
        reader = TarReader(stream)
        for count, entry in enumerate(reader):
            if count >= _MAX_ENTRIES:
                raise InvalidArgument(f"the archive has more than {_MAX_ENTRIES} files: it is no image archive")
            path = "/".join(part for part in split_name(entry.name) if part)
            if entry.kind == FILE and entry.segments is None:
                self._store(reader, entry, path)
            elif entry.kind == HARDLINK:
                self._links[path] = "/".join(part for part in split_name(entry.link) if part)
            elif entry.kind == SYMLINK:
                folder = path.rpartition("/")[0]
                self._links[path] = "/".join(part for part in split_name(f"{folder}/{entry.link}") if part)

    def finish(self) -> list[LoadedImage]:
        """Find the images, by the OCI index if there is one, else by Docker's manifest."""
        docker = self._docker_entries()
        if "index.json" in self._files and "oci-layout" in self._files:
            self._oci(docker)
        if not self._images:
            for entry in docker:
                self._docker(entry)
        if not self._images:
            raise InvalidArgument("the archive has no image: it needs a manifest.json or an index.json that names one")
        return self._images

    # ── members ──

    def _store(self, reader: TarReader, entry: Entry, path: str) -> None:
        if path in self._files:
            raise InvalidArgument(f"the archive has two files called {path[:200]!r}")
        head = bytes(reader.read(_PIECE))
        if _is_old_layer(path) and not sniff(head):
            member = self._pack(reader, head)
        else:
            member = self._keep(reader, entry, path, head)
        self._files[path] = member
        self._blobs.add(member.descriptor.digest)

    def _keep(self, reader: TarReader, entry: Entry, path: str, head: bytes) -> _Member:
        """Store a file as it is; under blobs/ its name is the digest it must have."""
        expected = Digest.parse("sha256:" + path[len(_BLOBS) :]) if path.startswith(_BLOBS) else None
        with self._content.open_ingest(f"load {id(self)} {path}") as ingest:
            ingest.truncate(0)
            try:
                ingest.write(head)
                for piece in reader.chunks():
                    ingest.write(piece)
                    if entry.size > 8 * _PIECE:
                        self._tell(path, ingest.offset, entry.size)
                found = ingest.commit(expected)
            except BaseException:
                ingest.abort()
                raise
        return _Member(replace(found, media_type=_TYPES.get(sniff(head), "")))

    def _pack(self, reader: TarReader, head: bytes) -> _Member:
        """Store an uncompressed layer of the old layout compressed, so that pushing it later is cheap."""
        with LayerWriter(self._content) as writer:
            writer.write(head)
            for piece in reader.chunks():
                writer.write(bytes(piece))
            descriptor, diff_id = writer.commit()
        return _Member(descriptor, diff_id)

    def _tell(self, path: str, done: int, size: int) -> None:
        name = path.removeprefix(_BLOBS)[:12]
        self._progress({"status": "Loading layer", "id": name, "progressDetail": {"current": done, "total": size}})

    def _member(self, path: str) -> _Member:
        """The file at `path`, links followed.

        Raises:
            InvalidArgument: it is not in the archive, or a loop.
        """
        path = "/".join(part for part in split_name(path) if part)
        for _ in range(_MAX_HOPS):
            if path in self._files:
                return self._files[path]
            if path not in self._links:
                break
            path = self._links[path]
        raise InvalidArgument(f"the archive has no file {path[:200]!r}, which one of its images needs")

    def _text(self, path: str, limit: int) -> bytes:
        return self._content.read(self._member(path).descriptor.digest, limit)

    # ── OCI layout ──

    def _oci(self, docker: Sequence[Mapping[str, Any]]) -> None:
        tags: dict[str, list[Reference]] = {}
        for entry in docker:
            tags.setdefault(str(entry.get("Config", "")).rpartition("/")[2], []).extend(_tags(entry))
        index = Index.parse(self._text("index.json", document.MAX_DOCUMENT), OCI_INDEX)
        found: dict[Digest, LoadedImage] = {}
        for target in index.manifests[:_MAX_IMAGES]:
            manifest = self._choose(target)
            if manifest is None:
                continue
            image_id = Manifest.parse(self._content.read(manifest.digest), manifest.media_type).config.digest
            outer = target.bare() if manifest.digest != target.digest else None
            image = found.setdefault(manifest.digest, LoadedImage(manifest.bare(), [], outer))
            names = _annotated(target) or tags.get(image_id.hex, [])
            image.names += [name for name in names if name not in image.names]
        self._images = list(found.values())

    def _choose(self, target: Descriptor) -> Descriptor | None:
        """The manifest for this machine (else the first whose blobs are here); None if `target` is no image that is
        here."""
        if is_manifest(target.media_type):
            return target if self._complete(target) else None
        if not is_index(target.media_type) or not self._content.has(target.digest):
            return None
        index = Index.parse(self._content.read(target.digest), target.media_type)
        preferred: list[Descriptor] = []
        with contextlib.suppress(NotFound):
            preferred = [index.choose(host_platform())]
        for entry in [*preferred, *index.images()]:
            if is_manifest(entry.media_type) and self._complete(entry):
                return entry
        return None

    def _complete(self, manifest: Descriptor) -> bool:
        """Whether an image's manifest, config and layers are all in the content store."""
        if not self._content.has(manifest.digest):
            return False
        parsed = Manifest.parse(self._content.read(manifest.digest), manifest.media_type)
        return all(self._content.has(part.digest) for part in (parsed.config, *parsed.layers))

    # ── Docker's manifest.json ──

    def _docker_entries(self) -> list[dict[str, Any]]:
        if "manifest.json" not in self._files:
            return []
        found = document.load_any(self._text("manifest.json", document.MAX_DOCUMENT), "manifest.json")
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise InvalidArgument("manifest.json of the archive is not a list of images")
        return found[:_MAX_IMAGES]

    def _docker(self, entry: Mapping[str, Any]) -> None:
        """Make a manifest for an image that came without one."""
        what = "manifest.json"
        data = self._text(document.text(entry, "Config", what), MAX_CONFIG)
        config = ImageConfig.parse(data)
        members = [self._member(path) for path in document.strings(entry, "Layers", what)]
        if len(members) != len(config.diff_ids):
            raise InvalidArgument(
                f"an image of the archive has {len(members)} layers but its config lists {len(config.diff_ids)}"
            )
        layers = [self._layer(member, diff_id) for member, diff_id in zip(members, config.diff_ids, strict=True)]
        manifest = Manifest(OCI_MANIFEST, Descriptor(OCI_CONFIG, digest_of(data), len(data)), tuple(layers))
        stored = self._content.write(manifest.to_bytes(), OCI_MANIFEST)
        self._blobs.add(stored.digest)
        self._images.append(LoadedImage(stored, _tags(entry)))

    def _layer(self, member: _Member, diff_id: Digest) -> Descriptor:
        descriptor = member.descriptor
        if member.diff_id is not None:
            if member.diff_id != diff_id:
                raise DigestMismatch(diff_id, member.diff_id, "a layer of the archive")
            return descriptor
        if descriptor.media_type in (OCI_LAYER_GZIP, OCI_LAYER_ZSTD) or descriptor.digest == diff_id:
            return replace(descriptor, media_type=descriptor.media_type or OCI_LAYER)
        return self._repack(descriptor, diff_id)

    def _repack(self, descriptor: Descriptor, diff_id: Digest) -> Descriptor:
        """Layers packed in a way no manifest can say (bzip2, xz) become gzip."""
        with self._content.open(descriptor.digest) as blob, LayerWriter(self._content) as writer:
            plain = unpacked(blob)
            running = hashlib.sha256()
            while piece := plain.read(_PIECE):
                running.update(piece)
                writer.write(piece)
            found = Digest.of_hash(running)
            if found != diff_id:
                raise DigestMismatch(diff_id, found, "a layer of the archive")
            packed, _ = writer.commit()
        self._blobs.add(packed.digest)
        return packed


def _is_old_layer(path: str) -> bool:
    return not path.startswith(_BLOBS) and path.endswith(".tar")


def _tags(entry: Mapping[str, Any]) -> list[Reference]:
    return [Reference.parse(tag) for tag in document.strings(entry, "RepoTags", "manifest.json")]


def _annotated(target: Descriptor) -> list[Reference]:
    """The name a descriptor of an index carries: containerd's full one, or a reference name that is more than a tag."""
    name = target.annotations.get(CONTAINERD_NAME) or ""
    short = target.annotations.get(REF_NAME, "")
    if not name and ("/" in short or ":" in short):
        name = short
    try:
        return [Reference.parse(name)] if name else []
    except EngineError:
        return []
