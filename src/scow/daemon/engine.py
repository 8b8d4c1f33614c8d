"""The engine: every room put together. It has fields and opens and closes them; the verbs are in the rooms."""

import contextlib
import logging
from dataclasses import dataclass, field

from scow.build.builder import Builder
from scow.containers.service import Containers
from scow.content.store import ContentStore
from scow.daemon.config import Config
from scow.events import Bus
from scow.images.store import Images
from scow.networks.service import Networks
from scow.registry.client.registry import Registry
from scow.snapshots.snapshotter import Snapshotter
from scow.tasks.tasks import Tasks
from scow.volumes.service import Volumes

log = logging.getLogger("scow.daemon")


@dataclass
class Engine:
    """Every room of one engine, opened from `config`; two engines need two data roots and two exec roots."""

    config: Config
    id: str
    content: ContentStore
    snapshots: Snapshotter
    images: Images
    registry: Registry
    networks: Networks
    volumes: Volumes
    tasks: Tasks
    containers: Containers
    builder: Builder
    events: Bus
    _held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    async def close(self) -> None:
        """Stop what needs stopping and let go of everything; with live-restore containers go on."""
        keep = self.config.flag("live-restore")
        await self.builder.close()
        await self.containers.close(stop=not keep, timeout=self.config.number("shutdown-timeout"))
        await self.networks.close()
        await self.tasks.close(stop_keeper=not keep)
        self._held.close()
