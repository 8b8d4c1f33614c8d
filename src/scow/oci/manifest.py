"""Manifests (one image: config and layers) and indexes (one manifest a platform).

Both come from outside: at most 4 MiB, every field checked. `to_bytes` writes a new document; what was received is kept
as the blob it came as, so its digest never changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scow.errors import InvalidArgument, NotFound, Unsupported
from scow.oci import document
from scow.oci.descriptor import Descriptor
from scow.oci.mediatypes import (
    DOCKER_SCHEMA1,
    DOCKER_SCHEMA1_SIGNED,
    OCI_INDEX,
    OCI_MANIFEST,
    is_index,
    is_manifest,
)
from scow.oci.platform import Platform

MAX_LAYERS = 1024
ATTESTATION = "vnd.docker.reference.type"
"""Annotation of index entries that are not images but statements about one."""


def sniff(data: bytes, media_type: str | None = None) -> str:
    """The media type of a manifest or index: its own word, else `media_type`, else what its fields show.

    Raises:
        InvalidArgument: neither a manifest nor an index, or its own word contradicts `media_type`.
        Unsupported: Docker's schema 1, gone since 2024.
    """
    found = document.load(data, "manifest")
    stated = document.text(found, "mediaType", "manifest", "")
    if found.get("schemaVersion") == 1 or stated in (DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED):
        raise Unsupported(
            "the image has a schema 1 manifest, which no current engine reads: push it again with a current client"
        )
    if stated and media_type and stated != media_type and (is_manifest(media_type) or is_index(media_type)):
        raise InvalidArgument(f"manifest calls itself {stated[:100]} but was announced as {media_type}")
    kind = stated or (media_type if media_type and (is_manifest(media_type) or is_index(media_type)) else "")
    lists = "manifests" in found
    if lists == ("layers" in found or "config" in found):
        raise InvalidArgument("manifest must have either config and layers or a list of manifests")
    if not kind:
        kind = OCI_INDEX if lists else OCI_MANIFEST
    if is_index(kind) != lists or not (is_index(kind) or is_manifest(kind)):
        raise InvalidArgument(f"manifest of type {kind[:100]!r} has the fields of another type")
    return kind


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image: ``config`` and ``layers`` from the bottom up."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: dict[str, str] = field(default_factory=dict)
    subject: Descriptor | None = None
    artifact_type: str = ""

    @classmethod
    def parse(cls, data: bytes, media_type: str | None = None) -> "Manifest":
        """The manifest in `data`; `media_type` is what the server or descriptor called it.

        Raises:
            InvalidArgument: not a manifest of one image.
            Unsupported: schema 1.

        Source: image-spec 1.1 manifest.md; distribution manifest-v2-2.md.
        """
        kind = sniff(data, media_type)
        if not is_manifest(kind):
            raise InvalidArgument("a list of manifests is where one image's manifest is needed: choose a platform")
        found = document.load(data, "manifest")
        layers = document.objects(found, "layers", "manifest")
        if len(layers) > MAX_LAYERS:
            raise InvalidArgument(f"manifest has {len(layers)} layers, more than the {MAX_LAYERS} allowed")
        subject = found.get("subject")
        return cls(
            media_type=kind,
            config=Descriptor.from_json(found.get("config")),
            layers=tuple(Descriptor.from_json(layer) for layer in layers),
            annotations=document.text_mapping(found, "annotations", "manifest"),
            subject=Descriptor.from_json(subject) if isinstance(subject, Mapping) else None,
            artifact_type=document.text(found, "artifactType", "manifest", ""),
        )

    def to_bytes(self) -> bytes:
        """The manifest as a new JSON document."""
        found: dict[str, Any] = {"schemaVersion": 2, "mediaType": self.media_type}
        if self.artifact_type:
            found["artifactType"] = self.artifact_type
        found["config"] = self.config.to_json()
        found["layers"] = [layer.to_json() for layer in self.layers]
        if self.subject is not None:
            found["subject"] = self.subject.to_json()
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        return document.dump(found)

    @property
    def size(self) -> int:
        """Bytes of config and layers as stored (compressed)."""
        return self.config.size + sum(layer.size for layer in self.layers)


@dataclass(frozen=True, slots=True)
class Index:
    """A list of manifests, one a platform (and statements about them)."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: dict[str, str] = field(default_factory=dict)
    subject: Descriptor | None = None
    artifact_type: str = ""

    @classmethod
    def parse(cls, data: bytes, media_type: str | None = None) -> "Index":
        """The index in `data`.

        Raises:
            InvalidArgument: not an index.

        Source: image-spec 1.1 image-index.md; distribution manifest list v2.
        """
        kind = sniff(data, media_type)
        if not is_index(kind):
            raise InvalidArgument("this is one image's manifest where a list of manifests is needed")
        found = document.load(data, "index")
        subject = found.get("subject")
        return cls(
            media_type=kind,
            manifests=tuple(Descriptor.from_json(entry) for entry in document.objects(found, "manifests", "index")),
            annotations=document.text_mapping(found, "annotations", "index"),
            subject=Descriptor.from_json(subject) if isinstance(subject, Mapping) else None,
            artifact_type=document.text(found, "artifactType", "index", ""),
        )

    def to_bytes(self) -> bytes:
        """The index as a new JSON document."""
        found: dict[str, Any] = {"schemaVersion": 2, "mediaType": self.media_type}
        if self.artifact_type:
            found["artifactType"] = self.artifact_type
        found["manifests"] = [entry.to_json() for entry in self.manifests]
        if self.subject is not None:
            found["subject"] = self.subject.to_json()
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        return document.dump(found)

    def images(self) -> tuple[Descriptor, ...]:
        """The entries that are images: no attestations, no artifacts of other types."""
        return tuple(
            entry
            for entry in self.manifests
            if ATTESTATION not in entry.annotations
            and (is_manifest(entry.media_type) or is_index(entry.media_type) or not entry.media_type)
        )

    def choose(self, platform: Platform) -> Descriptor:
        """The entry to run on `platform`: its own, else one for an older variant of its processor.

        An index of one entry without a platform is taken as it is.

        Raises:
            NotFound: nothing runs there; the text lists what there is.
        """
        images = self.images()
        for wanted in platform.fallbacks():
            for entry in images:
                if entry.platform is not None and wanted.matches(entry.platform):
                    return entry
        if len(images) == 1 and images[0].platform is None:
            return images[0]
        there = ", ".join(sorted({str(entry.platform) for entry in images if entry.platform})[:20]) or "none"
        raise NotFound(f"no matching manifest for {platform} in the manifest list entries: there is {there}")
