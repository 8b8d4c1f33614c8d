"""A builder with everything it stands on, in this process: for tests of real builds, without a daemon."""

import asyncio
import io
import os
import tarfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from scow.build.builder import Builder
from scow.build.options import BuildOptions
from scow.content.store import ContentStore
from scow.events import Bus
from scow.images.image import Image
from scow.images.store import Images
from scow.linux import links
from scow.linux.fds import open_in_root
from scow.linux.namespaces import CLONE_NEWNET, unshare
from scow.linux.netlink import NetlinkSocket
from scow.networks.config import NetworkConfig
from scow.networks.service import Networks
from scow.oci.reference import Reference
from scow.snapshots.overlay import OverlaySnapshotter
from scow.tasks.tasks import Tasks

APPLETS = ("sh", "cat", "ls", "echo", "mkdir", "rm", "id", "sleep", "touch", "stat", "env", "pwd", "ln", "true", "ip")


def tar_of(files: dict[str, bytes | str], mtime: int = 1_700_000_000, mode: int = 0o644) -> bytes:
    """A tar of small files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode, member.uid = len(data), mtime, mode, 1234
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def busybox_tar() -> bytes:
    """A root file system: the static busybox, its links, passwd and group."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in ("bin", "etc", "tmp", "root", "dev", "proc", "sys"):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            archive.addfile(member)
        archive.add("/usr/bin/busybox", "bin/busybox")
        for applet in APPLETS:
            member = tarfile.TarInfo(f"bin/{applet}")
            member.type, member.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(member)
        for name, text in (
            ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1001:Bob:/home/bob:/bin/sh\n"),
            ("etc/group", "root:x:0:\nbob:x:1001:\nstaff:x:50:bob\n"),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


async def chunks(data: bytes, size: int = 50_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def in_yard(root: Path, scenario: Callable[["Yard"], Awaitable[None]]) -> None:
    """Run `scenario` with a yard in a thread that has left for a network namespace of its own."""
    failures: list[BaseException] = []

    async def run() -> None:
        async with Yard(root) as yard:
            yard.busybox()
            await scenario(yard)

    def work() -> None:
        try:
            unshare(CLONE_NEWNET)
            with NetlinkSocket() as kernel:
                kernel.request(links.link_up(1), "lo")
            asyncio.run(run())
        except BaseException as error:  # handed to the test's own thread
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


class Yard:
    """A builder and its rooms under one folder; use with ``async with``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events = Bus()
        self.content = ContentStore(root / "content")
        (root / "snapshots").mkdir(parents=True, exist_ok=True)
        self.snapshots = OverlaySnapshotter(root / "snapshots")
        self.images = Images(self.content, self.snapshots)
        config = NetworkConfig(bridge_name="scowt0", bip="10.177.0.1/24", iptables=False, ip_forward=False)
        self.networks = Networks(root / "networks", root / "run", config, self.events)
        self.tasks = Tasks(root / "run")
        self.builder = Builder(
            root / "build", images=self.images, snapshots=self.snapshots, tasks=self.tasks, networks=self.networks,
            content=self.content, events=self.events,
        )  # fmt: skip
        self.lines: list[dict[str, Any]] = []

    async def __aenter__(self) -> "Yard":
        (self.root / "run").mkdir(exist_ok=True)
        await self.tasks.open()
        await self.networks.open({task.id for task in self.tasks.all()})
        await self.builder.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.builder.close()
        await self.networks.close()
        await self.tasks.close(stop_keeper=True)

    def busybox(self) -> Image:
        """The base image."""
        return self.images.import_rootfs(
            io.BytesIO(busybox_tar()), Reference.parse("busybox"), {"Cmd": ["sh"], "Env": ["PATH=/bin"]}
        )

    async def build(self, files: dict[str, bytes | str], mtime: int = 1_700_000_000, **options: Any) -> Image:
        """Build from a context of small files; `lines` and `text` are what was said."""
        self.lines = []
        options.setdefault("network", "none")
        return await self.builder.build(chunks(tar_of(files, mtime)), BuildOptions(**options), self.lines.append)

    def cat(self, image: Image | str, path: str) -> str:
        """The content of a file in an image."""
        with self.opened(image, path) as file:
            return file.read().decode()

    def opened(self, image: Image | str, path: str) -> BinaryIO:
        found = self.images.resolve(image) if isinstance(image, str) else image
        root_fd = self.snapshots.mount(found.top or "", readonly=True)
        try:
            return os.fdopen(open_in_root(root_fd, path, os.O_RDONLY), "rb")
        finally:
            os.close(root_fd)

    def stat(self, image: Image, path: str) -> os.stat_result:
        """lstat of a file in an image."""
        root_fd = self.snapshots.mount(image.top or "", readonly=True)
        try:
            fd = open_in_root(root_fd, path, os.O_PATH | os.O_NOFOLLOW)
            try:
                return os.fstat(fd)
            finally:
                os.close(fd)
        finally:
            os.close(root_fd)

    def names(self, image: Image, path: str = "/") -> list[str]:
        """The names in a folder of an image."""
        root_fd = self.snapshots.mount(image.top or "", readonly=True)
        try:
            fd = open_in_root(root_fd, path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                return sorted(os.listdir(fd))
            finally:
                os.close(fd)
        finally:
            os.close(root_fd)

    @property
    def text(self) -> str:
        """Everything the last build said."""
        return "".join(str(line.get("stream", "")) for line in self.lines)
