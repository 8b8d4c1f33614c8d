"""The rooms below containers, without a kernel: images by name, snapshots as folders, networks as records."""

import asyncio
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from scow.containers.context import ContainersConfig
from scow.containers.service import Containers
from scow.errors import NoSuchImage, NoSuchNetwork, NotFound, System
from scow.events import Bus
from scow.images.image import Image
from scow.oci.config import ImageConfig
from scow.oci.descriptor import Descriptor
from scow.oci.digest import digest_of
from scow.oci.mediatypes import OCI_MANIFEST
from scow.oci.platform import host_platform
from scow.snapshots.snapshotter import SnapshotInfo
from scow.volumes.service import Volumes

from .fake_tasks import FakeTasks


class FakeImages:
    def __init__(self):
        self.known = {}

    def put(self, name, architecture=None, **config):
        platform = host_platform()
        made = ImageConfig(architecture or platform.architecture, platform.os, config=config)
        id_ = digest_of(name.encode())
        image = Image(
            id_, Descriptor(OCI_MANIFEST, id_, 10), made, (), (f"docker.io/library/{name}:latest",), (), 100, None
        )
        self.known[name] = self.known[f"{name}:latest"] = self.known[str(id_)] = image
        return image

    def resolve(self, ref):
        if ref not in self.known:
            raise NoSuchImage(ref)
        return self.known[ref]


class FakeSnapshots:
    driver = "fake"

    def __init__(self, root):
        self.root = Path(root)
        self.root.mkdir()
        self.open_fds = []
        self.fail_mount = False
        self.unsynced = []

    def prepare(self, key, parent, durable=True):
        if not durable:
            self.unsynced.append(key)
        (self.root / key / "etc").mkdir(parents=True)
        (self.root / key / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\napp:x:10:20::/home/app:/bin/sh\n")

    def mount(self, key, readonly=False):
        if self.fail_mount:
            raise System("cannot mount")
        if not (self.root / key).exists():
            raise NotFound(f"no snapshot {key}")
        fd = os.open(self.root / key, os.O_RDONLY | os.O_DIRECTORY)
        self.open_fds.append(fd)
        return fd

    def sync(self, key):
        if key in self.unsynced:
            self.unsynced.remove(key)

    def exists(self, key):
        return (self.root / key).exists()

    def remove(self, key):
        self.discard(key)()

    def discard(self, key):
        if not self.exists(key):
            raise NotFound(f"no snapshot {key}")
        (self.root / key).rename(self.root / f"rm-{key}")
        return lambda: shutil.rmtree(self.root / f"rm-{key}")

    def usage(self, key):
        return 7

    def details(self, key):
        return {"UpperDir": str(self.root / key)}

    def walk(self):
        for entry in self.root.iterdir():
            yield SnapshotInfo(entry.name, "active", None, "")


@dataclass
class FakeSandbox:
    key: str
    fd: int | None = None
    closed: bool = False

    def close(self):
        self.closed = True


@dataclass
class FakeNetwork:
    name: str
    id: str
    has_names: bool = False
    enable_ipv6: bool = False


@dataclass
class FakeNetworks:
    known: dict = field(default_factory=lambda: {n: FakeNetwork(n, f"id-{n}") for n in ("bridge", "host", "none")})
    connected: dict = field(default_factory=dict)
    sandboxes: list = field(default_factory=list)
    failure: Exception | None = None
    renamed: list = field(default_factory=list)
    expected: list = field(default_factory=list)

    def get(self, ref):
        for network in self.known.values():
            if ref in (network.name, network.id):
                return network
        raise NoSuchNetwork(ref)

    def expect(self, wishes):
        self.expected.append(list(wishes))

    async def sandbox(self, key, *, dns=(), host=False, wishes=None):
        self.sandboxes.append(FakeSandbox(key))
        return self.sandboxes[-1]

    async def adopt(self, key, pid):
        return await self.sandbox(key)

    async def connect(self, sandbox, network, request):
        if self.failure is not None:
            raise self.failure
        self.connected.setdefault(sandbox.key, {})[network] = request

    async def disconnect(self, key, network):
        del self.connected[key][network]

    async def release(self, key):
        self.connected.pop(key, None)

    def endpoints(self, key):
        return {}

    def host_gateway(self):
        return ("172.17.0.1",)

    def rename(self, key, name):
        self.renamed.append((key, name))


class House:
    """Containers on fake rooms; `reopen` is a restart of the daemon."""

    def __init__(self, root: Path, **config):
        self.root = Path(root)
        self.images = FakeImages()
        self.images.put("busybox", Cmd=["sh"], Env=["PATH=/bin"])
        self.snapshots = FakeSnapshots(self.root / "snapshots")
        self.networks = FakeNetworks()
        self.tasks = FakeTasks(self.root / "tasks")
        self.config = ContainersConfig(**config)
        self.reopen()

    def reopen(self):
        self.events = Bus()
        self.volumes = Volumes(self.root / "volumes", self.events)
        self.containers = Containers(
            self.root, self.root / "run", images=self.images, snapshots=self.snapshots, networks=self.networks,
            volumes=self.volumes, tasks=self.tasks, events=self.events, config=self.config,
        )  # fmt: skip
        return self.containers

    def task(self):
        """The youngest task."""
        return self.tasks.launched[-1]

    async def waits(self, *arguments):
        """Wait for a container, as a client does."""
        return await self.containers.wait(*arguments)

    async def until(self, holds):
        """Return once `holds()`, for what no change of a container tells."""
        while not holds():
            await asyncio.sleep(0.001)

    async def no_tasks(self):
        """Return once every ended task was deleted."""
        await self.until(lambda: not self.tasks.known)

    async def saved(self):
        """Return once every record on disk says what is."""
        await self.until(lambda: self.containers._context.janitor.idle)

    async def die(self):
        """The daemon is killed: nothing is finished, its descriptors are closed."""
        context = self.containers._context
        await context.background.close()
        await context.janitor.abandon()
        context.roots.close()

    def told(self, kind="container"):
        """Actions of the events so far."""
        return [event.action for event in self.events.past({"type": [kind]}, 0)]

    def leaked(self):
        """Descriptors of root file systems that are still open, but for those mounted ahead."""
        ahead = [root.fd for root in self.containers._context.roots._held.values()]
        found = []
        for fd in self.snapshots.open_fds:
            try:
                if fd not in ahead and os.readlink(f"/proc/self/fd/{fd}").startswith(str(self.snapshots.root)):
                    found.append(fd)
            except FileNotFoundError:
                continue
        return found
