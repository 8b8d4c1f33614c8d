"""What the steps of one build share: the rooms they stand on, the context, a folder of their own, and the cache."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from scow.build.cache import Cache
from scow.build.context import Context
from scow.build.options import BuildOptions
from scow.content.store import ContentStore
from scow.images.store import Images
from scow.networks.service import Networks
from scow.oci.digest import Digest
from scow.snapshots.snapshotter import Snapshotter
from scow.tasks.tasks import Tasks

#: Keys of snapshots, tasks and sandboxes of builds begin so: what a crash leaves behind is found by it.
KEY_PREFIX = "build-"


class MountFolders:
    """The folders of ``RUN --mount=type=cache``, and who uses which; shared by all builds of a daemon."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.locks: dict[str, asyncio.Lock] = {}
        self.users: dict[str, int] = {}
        self.making = asyncio.Lock()

    def name_of(self, identity: str) -> str:
        """The folder of a cache mount: a hash, for ids may hold anything."""
        return hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:32]


@dataclass(slots=True)
class Workplace:
    """One build's.

    Attributes:
        id: 32 hex digits, in every key the build makes.
        folder: temporary files of this build; removed with it.
        pace: awaited while a command prints: returns when whoever reads the progress has caught up.
        chains, blobs: what this build counts on; nobody may remove it meanwhile.
    """

    id: str
    folder: Path
    context: Context
    options: BuildOptions
    cache: Cache
    content: ContentStore
    images: Images
    snapshots: Snapshotter
    networks: Networks
    tasks: Tasks
    mounts: MountFolders
    pace: Callable[[], Awaitable[None]]
    chains: set[str] = field(default_factory=set)
    blobs: set[Digest] = field(default_factory=set)
    _made: int = 0

    def key(self, step: int) -> str:
        """The key of a step's snapshot, task and sandbox."""
        return f"{KEY_PREFIX}{self.id}-{step}"

    def new_folder(self, name: str) -> Path:
        """An empty folder for one purpose."""
        self._made += 1
        folder = self.folder / f"{self._made}-{name}"
        folder.mkdir(mode=0o700)
        return folder
