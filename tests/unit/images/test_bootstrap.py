"""Base images of what this host has: they run, and the same host makes the same image twice."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from scow.errors import InvalidArgument, NotFound
from scow.images.bootstrap import bootstrap_busybox, from_host
from scow.images.image import Image
from scow.oci.reference import Reference
from support.imagestore import ImageWorld

pytestmark = pytest.mark.root


@pytest.fixture
def world(tmp_path: Path) -> ImageWorld:
    return ImageWorld(tmp_path / "one")


def run(world: ImageWorld, image: Image, *command: str) -> str:
    """The output of a command with the image as its root."""
    fd = world.snapshots.mount(str(image.top))
    try:
        done = subprocess.run(
            [shutil.which("chroot") or "chroot", f"/proc/self/fd/{fd}", *command],
            pass_fds=[fd],
            capture_output=True,
            text=True,
            check=True,
            env={"PATH": "/usr/bin:/bin"},
        )
        return done.stdout
    finally:
        os.close(fd)


def test_busybox(world: ImageWorld, tmp_path: Path) -> None:
    if shutil.which("busybox") is None:
        pytest.skip("needs a static busybox")
    told: list[dict[str, object]] = []
    image = bootstrap_busybox(world.images, Reference.parse("busybox"), told.append)
    assert run(world, image, "sh", "-c", "echo $((6*7)); stat -c %a /tmp; id -un; ls /bin/ls").split() == [
        "42",
        "1777",
        "root",
        "/bin/ls",
    ]
    assert image.config.config["Cmd"] == ["sh"]
    assert image.labels["scow.origin"] == "busybox"
    assert len(told) >= 2
    again = bootstrap_busybox(ImageWorld(tmp_path / "two").images, Reference.parse("other"))
    assert (again.id, again.manifest.digest) == (image.id, image.manifest.digest)


def test_programs_of_the_host(world: ImageWorld, tmp_path: Path) -> None:
    script = tmp_path / "hello"
    script.write_text("#!/usr/bin/env bash\necho hello from $0\n")
    script.chmod(0o755)
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    (data / "sub/file").write_text("carried along")
    (data / "link").symlink_to("nowhere")
    image = from_host(world.images, Reference.parse("tools"), [str(script), "ls", "cat"], include=[str(data)])
    assert run(world, image, str(script)) == f"hello from {script}\n"
    assert run(world, image, "cat", str(data / "sub/file")) == "carried along"
    assert "nowhere" in run(world, image, "ls", "-l", str(data))
    assert image.config.config["Cmd"] == [str(script)]


def test_what_is_not_there_is_named(world: ImageWorld, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no program surely-not-here on this host"):
        from_host(world.images, Reference.parse("x"), ["surely-not-here"])
    with pytest.raises(NotFound, match="no file /surely/not"):
        from_host(world.images, Reference.parse("x"), ["ls"], include=["/surely/not"])
    with pytest.raises(InvalidArgument, match="absolute"):
        from_host(world.images, Reference.parse("x"), ["ls"], include=["relative"])
    with pytest.raises(InvalidArgument, match="at least one program"):
        from_host(world.images, Reference.parse("x"), [])
    assert world.names() == []
