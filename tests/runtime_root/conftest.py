"""A small world for real containers: busybox, overlays on it, tasks in an exec root of their own."""

import asyncio
import contextlib
import os
import shutil
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scow.api.streams import Decoder
from scow.linux.overlay import overlay_mount
from scow.tasks.attachment import Attachment
from scow.tasks.pool import MOST, SandboxPool
from scow.tasks.spec import default_spec
from scow.tasks.task import ExitStatus, Task
from scow.tasks.tasks import LaunchRequest, Tasks

BUSYBOX = "/usr/bin/busybox"
APPLETS = """
    sh ls cat echo sleep true id mount umount stat dd hostname ps env touch head wc grep kill tty stty rm mkdir readlink
    ip mknod sync yes printf chmod seq
"""
#: Where the containers' cgroups are: other test runs have theirs elsewhere.
PARENT = f"scow-test-{os.getpid()}"
DEADLINE = 60


class World:
    """Everything a test needs to run containers, and what it leaves is checked at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lower = folder / "lower"
        self.exec_root = folder / "exec"
        self.exec_root.mkdir()
        for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "root", "data"):
            (self.lower / name).mkdir(parents=True)
        shutil.copy(BUSYBOX, self.lower / "bin/busybox")
        for name in APPLETS.split():
            (self.lower / "bin" / name).symlink_to("busybox")
        (self.lower / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")
        #: SCOW_POOL_SIZE=0 has every start do everything itself.
        self.pool = SandboxPool(most=int(os.environ.get("SCOW_POOL_SIZE", MOST)), parent=f"/{PARENT}")
        self._layers = 0
        self.upper = folder

    def rootfs(self) -> int:
        """A fresh overlay, as a detached mount."""
        self._layers += 1
        self.upper = self.folder / f"upper{self._layers}"
        work = self.folder / f"work{self._layers}"
        self.upper.mkdir()
        work.mkdir()
        return overlay_mount([str(self.lower)], str(self.upper), str(work))

    def id(self) -> str:
        """A container id nobody has."""
        return f"test-{uuid.uuid4().hex[:12]}"

    def spec(self, id: str, *args: str, **options: Any) -> dict[str, Any]:  # noqa: A002
        """A default spec whose PATH is /bin."""
        return default_spec(
            args=args, cgroup=f"/{PARENT}/{id}", env=["PATH=/bin", "HOME=/root"], hostname="box", **options
        )

    async def launch(self, tasks: Tasks, spec: dict[str, Any], **options: Any) -> Task:
        """Launch on a fresh overlay."""
        rootfs_fd = self.rootfs()
        try:
            name = spec["linux"]["cgroupsPath"].rpartition("/")[2]
            return await tasks.launch(LaunchRequest(id=name, spec=spec, rootfs_fd=rootfs_fd, **options))
        finally:
            os.close(rootfs_fd)

    async def run(
        self,
        tasks: Tasks,
        *args: str,
        change: Callable[[dict[str, Any]], object] | None = None,
        **options: Any,
    ) -> tuple[ExitStatus, str, str]:
        """Run to the end: (status, stdout, stderr)."""
        spec = self.spec(self.id(), *args, **options)
        if change is not None:
            change(spec)
        attachment = Attachment.open()
        try:
            task = await self.launch(tasks, spec, attachments=[attachment])
            out, err = await outputs(attachment)
        finally:
            attachment.close()
        status = await task.wait()
        await task.delete()
        return status, out, err

    def do(self, scenario: Callable[[Tasks], Awaitable[None]]) -> None:
        """Run `scenario` with open tasks; afterwards nothing of it may be left."""

        async def main() -> None:
            tasks = Tasks(self.exec_root, self.pool)
            await tasks.open()
            try:
                async with asyncio.timeout(DEADLINE):
                    await scenario(tasks)
            finally:
                for task in tasks.all():
                    if not task.ended.done():
                        await task.kill(9)
                        await task.wait()
                    await task.delete()
                await tasks.close(stop_keeper=True)

        asyncio.run(main())
        log = (self.exec_root / "keeper.log").read_text()
        assert log == "", log
        assert list((self.exec_root / "tasks").iterdir()) == []


async def everything(attachment: Attachment) -> bytes:
    """All bytes until the end."""
    found = b""
    while data := await attachment.read():
        found += data
    attachment.close()
    return found


async def outputs(attachment: Attachment) -> tuple[str, str]:
    """(stdout, stderr) until the end."""
    parts: dict[int, bytes] = {1: b"", 2: b""}
    for stream, data in Decoder().feed(await everything(attachment)):
        parts[stream] += data
    return parts[1].decode(), parts[2].decode()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    left = [path for path in Path("/sys/fs/cgroup").glob(f"*/{PARENT}/*") if path.is_dir()]
    assert left == []
    for parent in (PARENT, "scow-runtime"):
        for path in Path("/sys/fs/cgroup").glob(f"*/{parent}"):
            with contextlib.suppress(OSError):  # another test run has something in it
                path.rmdir()


@pytest.fixture
def read_everything() -> Callable[[Attachment], Awaitable[bytes]]:
    return everything


@pytest.fixture
def read_outputs() -> Callable[[Attachment], Awaitable[tuple[str, str]]]:
    return outputs
