"""What an image is to the rest of the engine: a config (its digest is the id), layers, and the names that lead to
it."""

import datetime
import re
from dataclasses import dataclass

from scow.oci.config import ImageConfig
from scow.oci.descriptor import Descriptor
from scow.oci.digest import Digest

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?\d*(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True)
class Image:
    """One image at one moment.

    Attributes:
        id: digest of the config, as Docker's classic store shows it.
        manifest: descriptor of the manifest.
        layers: layer blobs as stored, from the bottom up.
        names: canonical references with tags, sorted ("docker.io/library/x:tag").
        digests: repositories it was pulled from or pushed to, with the digest there ("docker.io/library/x@sha256:…").
        size: bytes on disk of its unpacked layers.
        top: chain id: the snapshot to build a container on; None for an image without layers.
        tagged_at: RFC 3339 time of the last naming, None if never named.
        index: descriptor of the list of manifests it was chosen from, None if there was none.
    """

    id: Digest
    manifest: Descriptor
    config: ImageConfig
    layers: tuple[Descriptor, ...]
    names: tuple[str, ...]
    digests: tuple[str, ...]
    size: int
    top: str | None
    tagged_at: str | None = None
    index: Descriptor | None = None

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the config; what is no text in a hostile config is left out."""
        labels = self.config.config.get("Labels")
        if not isinstance(labels, dict):
            return {}
        return {key: value for key, value in labels.items() if isinstance(value, str)}

    @property
    def created(self) -> float:
        """Seconds since 1970 of its making; 0 when the config does not say."""
        return seconds(self.config.created)


def seconds(when: str | None) -> float:
    """RFC 3339 text (any fraction) as seconds since 1970; 0 for None and for what cannot be read."""
    found = _RFC3339.fullmatch(when) if when else None
    if found is None:
        return 0.0
    zone = "+00:00" if found[3] == "Z" else found[3]
    try:
        base = datetime.datetime.fromisoformat(found[1] + zone).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return base + (int(found[2]) / 10 ** len(found[2]) if found[2] else 0.0)


def now() -> str:
    """The present time as RFC 3339."""
    return datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
