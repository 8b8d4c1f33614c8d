"""Archives made to hurt: bombs, devices, links out of the root, paths without end, entries without number."""

import gzip
import hashlib
import io
import json
import os
import tarfile
import zlib
from pathlib import Path

import pytest

from support.footprint import Vitals
from support.tars import tar
from support.world import World

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


def kept(world: World) -> set[str]:
    return {str(path) for folder in ("snapshots", "build/tmp") for path in (world.root / "data" / folder).glob("*")}


def unharmed(world: World, before: set[str], resident: int) -> None:
    """Nothing stays, nothing was said that is no sentence, and memory has not taken the archive in."""
    assert kept(world) == before
    assert "internal error" not in world.errors
    assert "Traceback" not in world.log
    assert world.process is not None
    assert Vitals(world.process.pid).resident < resident + (128 << 10)


def memory(world: World) -> int:
    assert world.process is not None
    return Vitals(world.process.pid).resident


def refused(world: World, words: str, *command: str, data: bytes | None = None) -> None:
    before, resident = kept(world), memory(world)
    images = world.scow("images", "-aq")
    world.scow(*command, status=1, data=data)
    assert words in world.errors.lower(), world.errors
    assert world.scow("images", "-aq") == images
    unharmed(world, before, resident)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "hostile.tar"


DEEP = "/".join(["d"] * 3000)
MEMBERS: dict[str, tuple[list[tuple[object, ...]], str]] = {
    "a deep path": ([(DEEP, b"x")], "deep"),
    "a long name": ([("n" * 5000, b"x")], "long"),
    "a hard link out": ([("link", "=/etc/passwd"), ("link", b"owned")], ""),
    "a hard link up": ([("link", "=../../../../etc/passwd")], ""),
    "a hard link through a link": ([("out", "->/etc"), ("link", "=out/passwd")], ""),
    "a hard link to itself": ([("link", "=link")], ""),
    "a hard link to a folder": ([("dir", "dir"), ("link", "=dir")], ""),
    "a file in a file": ([("file", b"x"), ("file/below", b"x")], ""),
    "a zero in a name": ([("a\0b", b"x")], None),
}


@pytest.mark.parametrize("which", MEMBERS)
def test_an_import(world: World, archive: Path, which: str) -> None:
    members, words = MEMBERS[which]
    archive.write_bytes(tar(*members).getvalue())
    passwd = Path("/etc/passwd").read_bytes()
    before, resident = kept(world), memory(world)
    try:
        refused(world, words or "", "import", str(archive), "hostile")
    except AssertionError:
        if words:
            raise
        # What can be read harmlessly may be taken; it must not have led out.
        if "hostile" in world.scow("images"):
            world.scow("rmi", "hostile")
        unharmed(world, before, resident)
    assert Path("/etc/passwd").read_bytes() == passwd
    assert Path("/etc/passwd").stat().st_nlink == 1


def test_very_many_entries(world: World, archive: Path) -> None:
    """A header a file: 300000 empty files are some megabytes packed. They are taken, and memory does not pay for it."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as made:
        for number in range(300_000 // 10):
            made.addfile(tarfile.TarInfo(f"{number % 100}/{number}"))
    archive.write_bytes(gzip.compress(plain.getvalue(), 1))
    before, resident = kept(world), memory(world)
    world.scow("import", str(archive), "many")
    world.scow("rmi", "many")
    world.scow("image", "prune", "-f")
    unharmed(world, before, resident)


def test_a_docker_archive_with_entries_without_number(world: World, archive: Path) -> None:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as made:
        for number in range(21_000):
            made.addfile(tarfile.TarInfo(f"files/{number}"))
    archive.write_bytes(gzip.compress(plain.getvalue(), 1))
    refused(world, "more than 20000 files", "load", "-i", str(archive))


def test_a_device_in_a_build_context(world: World, tmp_path: Path) -> None:
    """A node for the disk of this machine must not come into an image by way of a context."""
    disk = {"type": tarfile.BLKTYPE, "devmajor": 8, "devminor": 0}
    context = tar(("Dockerfile", b"FROM busybox\nCOPY . /there/\n"), ("disk", "char", disk))
    refused(world, "device", "build", "-t", "hostile", "-", data=context.getvalue())


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../etc/passwd"])
def test_a_link_in_a_build_context(world: World, target: str) -> None:
    context = tar(("Dockerfile", b"FROM busybox\nCOPY link /there\n"), ("link", f"->{target}"))
    refused(world, "link", "build", "-t", "hostile", "-", data=context.getvalue())


def test_a_dockerfile_that_leads_out(world: World) -> None:
    context = tar(("Dockerfile", "->/etc/passwd"))
    refused(world, "dockerfile", "build", "-t", "hostile", "-", data=context.getvalue())


def test_a_device_in_a_copy_into_a_container(world: World) -> None:
    """As with Docker the node is made, and the container may not open it."""
    world.scow("create", "--name", "target", "busybox", "cat", "/tmp/disk")
    try:
        disk = {"type": tarfile.BLKTYPE, "devmajor": 8, "devminor": 0}
        world.scow("cp", "-", "target:/tmp", data=tar(("disk", "char", disk)).getvalue())
        world.scow("start", "-a", "target", status=1)
        assert "not permitted" in world.errors
    finally:
        world.scow("rm", "target")


@pytest.mark.parametrize("packing", ["gzip", "cut gzip", "gzip of noise", "zstd of noise", "xz of noise"])
def test_damaged_packing(world: World, archive: Path, packing: str) -> None:
    good = gzip.compress(tar(("file", os.urandom(100_000))).getvalue())
    archive.write_bytes(
        {
            "gzip": good[:-4] + b"\0\0\0\0",
            "cut gzip": good[: len(good) // 2],
            "gzip of noise": b"\x1f\x8b\x08" + os.urandom(5000),
            "zstd of noise": b"\x28\xb5\x2f\xfd" + os.urandom(5000),
            "xz of noise": b"\xfd7zXZ\0" + os.urandom(5000),
        }[packing]
    )
    refused(world, "", "import", str(archive), "hostile")


def test_a_bomb_of_documents(world: World, archive: Path) -> None:
    """A gigabyte of zeros where a small JSON document belongs."""
    zeros = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = tarfile.TarInfo("manifest.json")
    head.size = 1 << 30
    packed = zeros.compress(head.tobuf()) + b"".join(zeros.compress(bytes(1 << 20)) for _ in range(1 << 10))
    archive.write_bytes(packed + zeros.flush())
    refused(world, "", "load", "-i", str(archive))


def test_a_layer_that_is_not_what_its_config_says(world: World, archive: Path) -> None:
    layer = tar(("file", b"x")).getvalue()
    other = "sha256:" + hashlib.sha256(b"other").hexdigest()
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [other]}}
    ).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": ["hostile:1"], "Layers": ["layer.tar"]}]).encode()
    archive.write_bytes(tar(("manifest.json", manifest), ("config.json", config), ("layer.tar", layer)).getvalue())
    refused(world, "digest", "load", "-i", str(archive))


@pytest.mark.parametrize(
    "manifest",
    [b"{", b"{}", b"[5]", b'[{"Config": 5}]', b'[{"Config": "../../etc/passwd", "Layers": [], "RepoTags": null}]',
     b'[{"Config": "config.json", "Layers": ["../../../etc/passwd"], "RepoTags": ["x"]}]',
     b'[{"Config": "config.json", "Layers": [], "RepoTags": ["UPPER CASE"]}]', b"[" * 100_000],
)  # fmt: skip
def test_a_manifest_of_an_archive(world: World, archive: Path, manifest: bytes) -> None:
    archive.write_bytes(tar(("manifest.json", manifest), ("config.json", b"{}")).getvalue())
    refused(world, "", "load", "-i", str(archive))
