"""Two engines exchange an image by our registry, Debian's docker-registry, save and load: one digest everywhere."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from support.certificates import Certificates
from support.registries import docker_registry_program, start_docker_registry, start_scow_registry
from support.world import World, cable

pytestmark = [pytest.mark.root, pytest.mark.slow]


class Pair(NamedTuple):
    one: World
    two: World
    image: str
    address: str
    far: tuple[str, ...]

    def digest(self, *client: str) -> str:
        """The manifest digest of the exchanged image as an engine shows it."""
        text = self.one.scow(*client, "image", "inspect", "-f", "{{.Descriptor.digest}}", self.image)
        return text.strip()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with World(tmp_path_factory.mktemp("one")) as one, World(tmp_path_factory.mktemp("two")) as two:
        here, there = cable(one, two)
        certificates = Certificates(two.root / "tls", there)
        insecure = ("--insecure-registry", f"{here}/32")
        one.start(*insecure, "--bip", "10.201.0.1/16")
        two.start(*insecure, "--bip", "10.202.0.1/16", "-H", f"tcp://{there}:2376", *certificates.daemon())
        one.scow("image", "bootstrap", "busybox")
        context = one.root / "context"
        context.mkdir()
        (context / "Dockerfile").write_text('FROM busybox\nRUN echo hello > /greeting\nCMD ["cat", "/greeting"]\n')
        one.scow("build", "-t", "exchanged", str(context))
        yield Pair(one, two, "exchanged", here, ("-H", f"tcp://{there}:2376", *certificates.client()))


def through(pair: Pair, registry: str) -> None:
    """Push to `registry` from one engine, pull on the other, by tag and by digest."""
    name = f"{registry}/exchange/image:1"
    digest = pair.digest()
    pair.one.scow("tag", pair.image, name)
    assert digest in pair.one.scow("push", name)
    for reference in (name, f"{registry}/exchange/image@{digest}"):
        assert digest in pair.one.scow(*pair.far, "pull", reference)
        assert pair.one.scow(*pair.far, "run", "--rm", reference) == "hello\n"
        shown = json.loads(pair.one.scow(*pair.far, "image", "inspect", reference))[0]
        assert f"{registry}/exchange/image@{digest}" in shown["RepoDigests"]
        assert shown["Id"] == pair.one.scow("image", "inspect", "-f", "{{.Id}}", pair.image).strip()
        pair.one.scow(*pair.far, "rmi", "-f", shown["Id"])
    pair.one.scow("rmi", name)


def test_through_our_registry(pair: Pair) -> None:
    start_scow_registry(pair.one, f"{pair.address}:5000")
    through(pair, f"{pair.address}:5000")


@pytest.mark.peer
@pytest.mark.skipif(docker_registry_program() is None, reason="Debian's docker-registry is not here")
def test_through_dockers_registry(pair: Pair) -> None:
    start_docker_registry(pair.one, f"{pair.address}:5001")
    through(pair, f"{pair.address}:5001")


def test_by_save_and_load(pair: Pair, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    pair.one.scow("save", "-o", str(archive), pair.image)
    assert "Loaded image: exchanged:latest" in pair.one.scow(*pair.far, "load", "-i", str(archive))
    assert pair.digest(*pair.far) == pair.digest()
    assert pair.one.scow(*pair.far, "run", "--rm", pair.image) == "hello\n"
    pair.one.scow(*pair.far, "rmi", pair.image)


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_skopeo_reads_and_writes_our_registry(pair: Pair, tmp_path: Path) -> None:
    registry = f"{pair.address}:5002"
    start_scow_registry(pair.one, registry, name="skopeo-registry")
    pair.one.scow("tag", pair.image, f"{registry}/skopeo/image:1")
    pair.one.scow("push", f"{registry}/skopeo/image:1")

    def skopeo(*words: str) -> str:
        done = subprocess.run(pair.one.inside("skopeo", *words), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    shown = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{registry}/skopeo/image:1"))
    assert shown["Digest"] == pair.digest()
    skopeo("copy", "--src-tls-verify=false", f"docker://{registry}/skopeo/image:1", f"dir:{tmp_path}/copy")
    skopeo("copy", "--dest-tls-verify=false", f"dir:{tmp_path}/copy", f"docker://{registry}/skopeo/other:2")
    pair.one.scow("pull", f"{registry}/skopeo/other:2")
    assert pair.one.scow("run", "--rm", f"{registry}/skopeo/other:2") == "hello\n"
