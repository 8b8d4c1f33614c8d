"""Image configs: what to run and how the layers came about (image-spec 1.1 config.md; Docker's image JSON is a
superset).

The digest of the config is the image's id, so fields this engine does not know are kept and written back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scow.errors import InvalidArgument
from scow.oci import document
from scow.oci.digest import Digest
from scow.oci.manifest import MAX_LAYERS
from scow.oci.platform import Platform

MAX_CONFIG = 8 << 20
_KNOWN = frozenset({"created", "author", "architecture", "variant", "os", "os.version", "config", "rootfs", "history"})


@dataclass(frozen=True, slots=True)
class History:
    """One step in the making of an image; ``empty_layer`` when it added no layer. ``created`` is RFC 3339 or None."""

    created: str | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "History":
        """One entry of the config's ``history``."""
        what = "image history"
        return cls(
            created=document.text(value, "created", what, "") or None,
            created_by=document.text(value, "created_by", what, ""),
            author=document.text(value, "author", what, ""),
            comment=document.text(value, "comment", what, ""),
            empty_layer=value.get("empty_layer") is True,
        )

    def to_json(self) -> dict[str, Any]:
        """The wire form; empty fields are left out."""
        found: dict[str, Any] = {}
        if self.created is not None:
            found["created"] = self.created
        if self.created_by:
            found["created_by"] = self.created_by
        if self.author:
            found["author"] = self.author
        if self.comment:
            found["comment"] = self.comment
        if self.empty_layer:
            found["empty_layer"] = True
        return found


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """A parsed config; ``config`` is Docker's ContainerConfig as JSON (Env, Cmd, Entrypoint, …), ``diff_ids`` from the
    bottom up.
    """

    architecture: str
    os: str
    variant: str = ""
    created: str | None = None
    author: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    diff_ids: tuple[Digest, ...] = ()
    history: tuple[History, ...] = ()
    os_version: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes) -> "ImageConfig":
        """The config in `data`.

        Raises:
            InvalidArgument: over 8 MiB, not JSON, no rootfs of type layers, or a field of the wrong kind.
        """
        what = "image config"
        found = document.load(data, what, MAX_CONFIG)
        rootfs = document.mapping(found, "rootfs", what)
        if not rootfs:
            raise InvalidArgument(f"{what} has no rootfs: it is not the config of a container image")
        if document.text(rootfs, "type", what, "layers") != "layers":
            raise InvalidArgument(f"{what}: rootfs.type must be layers")
        diff_ids = tuple(Digest.parse(diff_id) for diff_id in document.items(rootfs, "diff_ids", what))
        if len(diff_ids) > MAX_LAYERS:
            raise InvalidArgument(f"{what} has {len(diff_ids)} layers, more than the {MAX_LAYERS} allowed")
        return cls(
            architecture=document.text(found, "architecture", what, ""),
            os=document.text(found, "os", what, "linux") or "linux",
            variant=document.text(found, "variant", what, ""),
            created=document.text(found, "created", what, "") or None,
            author=document.text(found, "author", what, ""),
            config=document.mapping(found, "config", what),
            diff_ids=diff_ids,
            history=tuple(History.from_json(entry) for entry in document.objects(found, "history", what)),
            os_version=document.text(found, "os.version", what, ""),
            extra={key: value for key, value in found.items() if key not in _KNOWN},
        )

    def to_bytes(self) -> bytes:
        """The config as a new JSON document, fields in image-spec's order, then the unknown ones by name."""
        found: dict[str, Any] = {}
        if self.created is not None:
            found["created"] = self.created
        if self.author:
            found["author"] = self.author
        found["architecture"] = self.architecture
        if self.variant:
            found["variant"] = self.variant
        found["os"] = self.os
        if self.os_version:
            found["os.version"] = self.os_version
        found["config"] = self.config
        found["rootfs"] = {"type": "layers", "diff_ids": [str(diff_id) for diff_id in self.diff_ids]}
        if self.history:
            found["history"] = [entry.to_json() for entry in self.history]
        for key in sorted(self.extra):
            found[key] = self.extra[key]
        return document.dump(found)

    @property
    def platform(self) -> Platform:
        """The machine this image is for."""
        return Platform(self.os, self.architecture, self.variant, self.os_version)
