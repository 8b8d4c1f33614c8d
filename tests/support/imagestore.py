"""An image store with images made in code."""

import io
from pathlib import Path
from typing import Any

from scow.content.store import ContentStore
from scow.images.image import Image
from scow.images.layer import LayerWriter
from scow.images.store import Images
from scow.oci.config import History, ImageConfig
from scow.oci.descriptor import Descriptor
from scow.oci.digest import Digest
from scow.oci.platform import host_platform
from scow.oci.reference import Reference
from scow.snapshots.overlay import OverlaySnapshotter
from scow.snapshots.snapshotter import Snapshotter
from support.tars import tar


class ImageWorld:
    """`images` over a content store and a snapshotter in one folder."""

    def __init__(self, root: Path, snapshotter: type[Snapshotter] = OverlaySnapshotter) -> None:
        self.root = root
        self._snapshotter = snapshotter
        self.reopen()

    def reopen(self) -> None:
        """As after a restart of the daemon."""
        self.content = ContentStore(self.root / "content")
        self.snapshots = self._snapshotter(self.root / "snapshots")  # type: ignore[call-arg]
        self.images = Images(self.content, self.snapshots)

    def blob(self, stream: io.BytesIO, compression: str = "gzip") -> tuple[Descriptor, Digest]:
        """Store a layer: its descriptor and diff id."""
        with LayerWriter(self.content, compression) as writer:
            writer.write(stream.getvalue())
            return writer.commit()

    def make(
        self, name: str | None, *layers: tuple[Descriptor, Digest], created: str = "2026-01-02T03:04:05Z", **config: Any
    ) -> Image:
        """An image of `layers` (one small one if none are given)."""
        layers = layers or (self.blob(tar(("etc/name", str(name).encode()))),)
        platform = host_platform()
        made = ImageConfig(
            platform.architecture,
            platform.os,
            created=created,
            config=config,
            diff_ids=tuple(diff_id for _, diff_id in layers),
            history=tuple(History(created, f"step {index}") for index in range(len(layers))),
        )
        return self.images.add(made, [layer for layer, _ in layers], Reference.parse(name) if name else None)

    def names(self) -> list[list[str]]:
        """The names of every image, newest first."""
        return [item["RepoTags"] for item in self.images.summaries()]

    def empty(self) -> bool:
        """Whether no blob and no snapshot is left."""
        return not list(self.content.walk()) and not list(self.snapshots.walk())
