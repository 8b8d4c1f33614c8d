"""A disk that is full at whatever write: one clear sentence, nothing half made, and all is well once there is room.

Model: data root and registry on small tmpfs each; a file of ballast leaves as many bytes as a test asks for.
"""

import contextlib
import gzip
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from support.raw import RawClient
from support.registries import start_scow_registry
from support.world import World, container

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

SIZE = 48 << 20
REGISTRY = "127.0.0.1:5000"
BIG = f"{REGISTRY}/big:1"
#: Bytes left: none at all, a page, a few documents, some of a layer.
LEVELS = (0, 4 << 10, 64 << 10, 3 << 20)
NO_SPACE = "no space left on"


class Disk:
    """A small file system at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=711", "tmpfs", str(path)], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)

    @property
    def free(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_bsize

    @contextlib.contextmanager
    def full(self, left: int) -> Iterator[None]:
        """Only `left` bytes are free within the block."""
        ballast = self.path / "ballast"
        with ballast.open("wb") as file:
            # What is written in between has its room already; it is the rest that is taken.
            while (size := self.free - left) > 0:
                with contextlib.suppress(OSError):
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
        try:
            yield
        finally:
            ballast.unlink()


class Machine:
    """An engine on a small disk, with its registry on another."""

    def __init__(self, world: World, disk: Disk, shelf: Disk, folder: Path) -> None:
        self.world, self.disk, self.shelf, self.folder = world, disk, shelf, folder
        self.noise = os.urandom(5 << 20)
        self.context("context", "FROM busybox\nCOPY noise /noise\n", noise=self.noise)
        self.context("bigger", "FROM busybox\nCOPY noise /noise\n", noise=os.urandom(1 << 20) * 60)
        self.context("filler", "FROM busybox\nRUN dd if=/dev/urandom of=/noise bs=64k count=80\n")
        world.scow("build", "-q", "-t", BIG, str(folder / "context"))
        world.scow("save", "-o", str(folder / "big.tar"), BIG)
        world.scow("push", "-q", BIG)
        with tarfile.open(folder / "tree.tar", "w") as archive:
            info = tarfile.TarInfo("noise")
            info.size = len(self.noise)
            archive.addfile(info, io.BytesIO(self.noise))
        world.scow("create", "--name", "stopped", "busybox", "true")
        world.scow(
            "run",
            "-d",
            "--init",
            "--name",
            "running",
            "busybox",
            "sh",
            "-c",
            "head -c 5m /dev/urandom > /noise; sleep 1000",
        )
        self.tidy()

    def context(self, name: str, dockerfile: str, **files: bytes) -> None:
        folder = self.folder / name
        folder.mkdir()
        (folder / "Dockerfile").write_text(dockerfile)
        for file, data in files.items():
            (folder / file).write_bytes(data)

    def tidy(self) -> None:
        """Remove what a success leaves, caches included."""
        for name in self.world.scow("images", "--format", "{{.Repository}}:{{.Tag}}").split():
            if name != "busybox:latest":
                self.world.scow("rmi", "-f", name)
        self.world.scow("builder", "prune", "-af")
        self.world.scow("image", "prune", "-f")
        self.world.scow("volume", "prune", "-af")

    def state(self) -> list[str]:
        """Everything a user can see."""
        scow = self.world.scow
        return [
            scow("images", "-a", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"),
            scow("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}"),
            scow("volume", "ls", "-q"),
            scow("network", "ls", "-q"),
        ]

    def run(self, words: tuple[str, ...], data: IO[bytes] | None = None) -> tuple[int, str]:
        """Exit status and everything said."""
        from support.world import BIN

        command = [str(BIN / "scow"), "-H", f"unix://{self.world.socket}", *words]
        inside = self.world.inside(*command)
        done = subprocess.run(inside, capture_output=True, text=True, timeout=100, cwd=self.folder, stdin=data)
        return done.returncode, done.stdout + done.stderr

    def alive(self) -> None:
        assert self.world.process is not None
        assert self.world.process.poll() is None, self.world.log[-3000:]
        client = RawClient(str(self.world.socket))
        assert client.request("GET", "/_ping")[0] == 200
        client.close()
        assert "Traceback" not in self.world.log, self.world.log[-5000:]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    root = tmp_path_factory.mktemp("full")
    with contextlib.ExitStack() as held:
        disks = [Disk(root / "data"), Disk(root / "registry")]
        for disk in disks:
            held.callback(disk.unmount)
        world = held.enter_context(World(root))
        world.start()
        world.scow("image", "bootstrap", "busybox")
        start_scow_registry(world, REGISTRY)
        yield Machine(world, *disks, root)


OPERATIONS: dict[str, tuple[str, ...]] = {
    "load": ("load", "-i", "big.tar"),
    "import": ("import", "tree.tar", "imported"),
    "pull": ("pull", "-q", BIG),
    "build": ("build", "-q", "-t", "built", "context"),
    "commit": ("commit", "running", "committed"),
    "volume": ("volume", "create", "vol"),
    "network": ("network", "create", "net"),
    "create": ("create", "--name", "new", "busybox", "true"),
    "tag": ("tag", "busybox", "another"),
    "copy": ("cp", "tree.tar", "stopped:/tree.tar"),
}
UNDO: dict[str, tuple[str, ...]] = {
    "volume": ("volume", "rm", "vol"),
    "network": ("network", "rm", "net"),
    "create": ("rm", "new"),
}


@pytest.mark.parametrize("left", LEVELS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_what_does_not_fit(machine: Machine, name: str, left: int) -> None:
    before, free = machine.state(), machine.disk.free
    with machine.disk.full(left):
        status, said = machine.run(OPERATIONS[name])
        machine.alive()
        if status:
            assert NO_SPACE in said.lower(), said
            assert "internal" not in said.lower()
            assert machine.state() == before
    small = name in ("volume", "network", "create", "tag")
    assert status or small, f"{name} with {left} bytes left: {said}"
    if status:
        machine.tidy()
        assert machine.state() == before
        assert machine.disk.free >= free - (256 << 10), "what was half written is gone"
        status, said = machine.run(OPERATIONS[name])
        assert status == 0, said
    if name in UNDO:
        machine.world.scow(*UNDO[name])
    if name == "copy":
        machine.world.scow("rm", "stopped")
        machine.world.scow("create", "--name", "stopped", "busybox", "true")
    machine.tidy()


def test_a_context_larger_than_the_disk(machine: Machine) -> None:
    before, free = machine.state(), machine.disk.free
    status, said = machine.run(("build", "-t", "built", "bigger"))
    assert status == 1
    assert NO_SPACE in said.lower(), said
    machine.alive()
    assert machine.state() == before
    assert machine.disk.free >= free - (64 << 10)


@pytest.mark.parametrize("how", ["import", "load", "build", "copy"])
def test_a_bomb(machine: Machine, how: str) -> None:
    """Ten gigabytes of zeros, packed to ten megabytes: stopped when the disk has no room, and gone."""
    before, free = machine.state(), machine.disk.free
    bomb = machine.folder / "bomb.tar.gz"
    info = tarfile.TarInfo("zeros")
    info.size = 10 << 30
    # Members of a gzip file follow one another; this one repeats.
    zeros = gzip.compress(bytes(16 << 20), 9)
    bomb.write_bytes(gzip.compress(info.tobuf()) + zeros * (info.size >> 24))
    if how == "import":
        words: tuple[str, ...] = ("import", "bomb.tar.gz", "bomb")
    elif how == "copy":
        words = ("cp", "-", "stopped:/tmp")
    elif how == "build":
        machine.context("explosive", "FROM busybox\nADD bomb.tar.gz /\n", **{"bomb.tar.gz": bomb.read_bytes()})
        words = ("build", "-q", "-t", "bomb", "explosive")
    else:
        archive(machine.folder / "bomb.tar", bomb.read_bytes())
        words = ("load", "-i", "bomb.tar")
    with bomb.open("rb") as data:
        status, said = machine.run(words, data)
    assert status == 1
    assert NO_SPACE in said.lower(), said
    machine.alive()
    assert machine.state() == before
    machine.tidy()
    assert machine.disk.free >= free - (256 << 10)


def archive(path: Path, layer: bytes) -> None:
    """A docker-archive with one layer, given as it is packed."""
    diff_id = "sha256:" + "0" * 64
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    manifest = [{"Config": "config.json", "RepoTags": ["bomb:1"], "Layers": ["layer.tar"]}]
    documents = {"manifest.json": manifest, "config.json": config}
    files = {name: json.dumps(document).encode() for name, document in documents.items()} | {"layer.tar": layer}
    with tarfile.open(path, "w") as made:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))


def test_a_command_of_a_build_that_fills_the_disk(machine: Machine) -> None:
    before = machine.state()
    with machine.disk.full(3 << 20):
        status, said = machine.run(("build", "-t", "built", "filler"))
        assert status == 1
        assert NO_SPACE in said.lower(), said
        assert machine.state() == before
    machine.alive()
    assert machine.run(("build", "-q", "-t", "built", "filler"))[0] == 0
    machine.tidy()


def test_a_push_into_a_full_registry(machine: Machine) -> None:
    world = machine.world
    machine.context("other", "FROM busybox\nCOPY noise /noise\n", noise=os.urandom(4 << 20))
    name = f"{REGISTRY}/other:1"
    world.scow("build", "-q", "-t", name, str(machine.folder / "other"))
    for left in LEVELS:
        with machine.shelf.full(left):
            status, said = machine.run(("push", "-q", name))
            assert status == 1
            assert NO_SPACE in said.lower(), said
        machine.alive()
        assert machine.run(("pull", "-q", name))[0] == 1, "nothing of it can be had"
    assert machine.run(("push", "-q", name))[0] == 0
    machine.tidy()
    assert machine.run(("pull", "-q", name))[0] == 0
    machine.tidy()


@pytest.mark.parametrize("driver", ["local", "json-file"])
def test_a_log_that_cannot_be_written(machine: Machine, driver: str) -> None:
    """The container goes on, and so does its log once there is room."""
    world = machine.world
    count = "i=$((i+1)); echo line $i of very many lines to fill a page; [ $((i % 500)) = 0 ] && sleep 0.05"
    script = f"i=0; while true; do {count}; done"
    with container(world, "--log-driver", driver, "--init", "busybox", "sh", "-c", script) as made:
        with machine.disk.full(64 << 10):
            reader = subprocess.Popen(
                world.inside(*_scow(world), "logs", "-f", made), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            assert reader.stdout is not None
            attached = subprocess.Popen(
                world.inside(*_scow(world), "attach", "--no-stdin", "--sig-proxy=false", made),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            assert attached.stdout is not None
            for _ in range(20_000):  # far more than fits
                assert attached.stdout.readline().startswith(b"line ")
            assert machine.disk.free < 64 << 10
            machine.alive()
            assert world.scow("inspect", "-f", "{{.State.Status}}", made) == "running\n"
            assert world.scow("exec", made, "echo", "here") == "here\n"
        for _ in range(5_000):
            assert attached.stdout.readline().startswith(b"line ")
        last = world.scow("logs", "--tail", "1", made)
        assert last.startswith("line "), last
        number = int(last.split()[1])
        for _ in range(1_000):
            assert attached.stdout.readline().startswith(b"line ")
        assert int(world.scow("logs", "--tail", "1", made).split()[1]) > number
        for process in (reader, attached):
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _scow(world: World) -> list[str]:
    from support.world import BIN

    return [str(BIN / "scow"), "-H", f"unix://{world.socket}"]


@pytest.mark.parametrize(
    "work",
    [
        lambda world: world.scow("stop", "-t", "0", "running"),
        lambda world: world.scow("rm", "-f", "running"),
        lambda world: world.scow("rmi", BIG),
    ],
    ids=["stop", "rm", "rmi"],
)
def test_what_frees_the_disk_works_on_a_full_one(machine: Machine, work: Callable[[World], str]) -> None:
    world = machine.world
    world.scow("rm", "-f", "running")
    world.scow("load", "-i", str(machine.folder / "big.tar"))
    world.scow("run", "-d", "--init", "--name", "running", "busybox", "sleep", "1000")
    with machine.disk.full(0):
        work(world)
    machine.alive()
    machine.tidy()


def test_starting_on_a_full_disk(machine: Machine) -> None:
    """The daemon must come up: it is what a user removes things with."""
    world = machine.world
    world.scow("rm", "-f", "running")
    world.scow("run", "-d", "--init", "--name", "running", "busybox", "sleep", "1000")
    with machine.disk.full(0):
        world.kill()
        world.start()
        assert world.scow("inspect", "-f", "{{.State.Status}}", "running") == "running\n"
        world.scow("rm", "-f", "running")
    machine.alive()
    world.scow("run", "--rm", "busybox", "true")
