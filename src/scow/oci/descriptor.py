"""Descriptors: digest, size and type of a blob, as every document refers to every other (image-spec 1.1
descriptor.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from scow.errors import InvalidArgument
from scow.oci import document
from scow.oci.digest import Digest
from scow.oci.platform import Platform


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Where bytes are: ``digest`` and ``size`` (bytes) prove them, ``media_type`` says how to read them."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: dict[str, str] = field(default_factory=dict)
    urls: tuple[str, ...] = ()
    artifact_type: str = ""

    @classmethod
    def from_json(cls, value: object) -> "Descriptor":
        """The descriptor in a parsed document.

        Raises:
            InvalidArgument: a field is missing or of the wrong kind.
        """
        what = "descriptor"
        if not isinstance(value, Mapping):
            raise InvalidArgument(f"{what} is not a JSON object")
        platform = value.get("platform")
        return cls(
            media_type=document.text(value, "mediaType", what, ""),
            digest=Digest.parse(value.get("digest")),
            size=document.integer(value, "size", what),
            platform=Platform.from_json(platform) if isinstance(platform, Mapping) else None,
            annotations=document.text_mapping(value, "annotations", what),
            urls=document.strings(value, "urls", what),
            artifact_type=document.text(value, "artifactType", what, ""),
        )

    def to_json(self) -> dict[str, Any]:
        """The wire form; empty fields are left out."""
        found: dict[str, Any] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.urls:
            found["urls"] = list(self.urls)
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        if self.platform is not None:
            found["platform"] = self.platform.to_json()
        if self.artifact_type:
            found["artifactType"] = self.artifact_type
        return found

    def with_annotations(self, annotations: Mapping[str, str]) -> "Descriptor":
        """The same blob with other annotations."""
        return replace(self, annotations=dict(annotations))

    def bare(self) -> "Descriptor":
        """Type, digest and size only: what identifies the bytes, without what one document said about them."""
        return Descriptor(self.media_type, self.digest, self.size)
