"""The docker CLI on this engine: build, tag, history, save, load, remove, prune, and a registry behind a password."""

import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.registries import start_scow_registry
from support.world import BIN, DOCKER_CLI, World

pytestmark = [
    pytest.mark.root,
    pytest.mark.peer,
    pytest.mark.skipif(DOCKER_CLI is None, reason="the docker CLI is not installed here"),
]

Docker = Callable[..., str]

DOCKERFILE = """\
ARG BASE=busybox
FROM ${BASE} AS first
ARG WORD=unset
ENV KEPT=${WORD}
RUN echo "the word is $WORD" > /word
COPY given /given
FROM first AS second
RUN echo on second >> /word
ENTRYPOINT ["cat"]
CMD ["/word"]
"""


@pytest.fixture(scope="module")
def docker(world: World) -> Docker:
    run: Docker = world.docker_cli
    return run


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "given").write_text("given\n")
    (folder / "ignored").write_text("ignored\n")
    (folder / ".dockerignore").write_text("ignored\n")
    return folder


@pytest.fixture(scope="module")
def image(docker: Docker) -> Iterator[str]:
    """A small image with a history."""
    text = b"FROM busybox\nLABEL made=here\nRUN echo hello > /greeting\nCMD cat /greeting\n"
    docker("build", "-q", "-t", "small:1", "-", data=text)
    yield "small:1"
    docker("rmi", "-f", "small:1")


# -- build -----------------------------------------------------------------------------------------------------------


def test_build_with_arguments_stages_and_cache(docker: Docker, context: Path) -> None:
    words = ("build", "-t", "built:1", "-t", "built:2", "--build-arg", "WORD=seven", "--label", "l=m", str(context))
    shown = docker(*words)
    assert "Step 1/11 : ARG BASE=busybox" in shown
    assert "Successfully tagged built:2" in shown
    try:
        assert docker("run", "--rm", "built:1") == "the word is seven\non second\n"
        found = json.loads(docker("image", "inspect", "built:1"))[0]
        assert found["RepoTags"] == ["built:1", "built:2"]
        assert "KEPT=seven" in found["Config"]["Env"]
        assert found["Config"]["Labels"]["l"] == "m"
        assert docker(*words).count("Using cache") == 8
        fresh = docker(*words[:-1], "--no-cache", str(context))
        assert "Using cache" not in fresh
        first = docker("build", "-q", "--target", "first", str(context)).strip()
        assert docker("run", "--rm", first, "cat", "/word", "/given") == "the word is unset\ngiven\n"
        docker("rmi", first)
    finally:
        docker("rmi", "built:1", "built:2")


def test_build_from_standard_input(docker: Docker, context: Path) -> None:
    text = b"FROM busybox\nCOPY given /there\n"
    one = docker("build", "-q", "-f", "-", str(context), data=text).strip()
    assert docker("run", "--rm", one, "cat", "/there") == "given\n"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in (("other/Dockerfile", text), ("given", b"packed\n")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    two = docker("build", "-q", "-f", "other/Dockerfile", "-", data=packed.getvalue()).strip()
    assert docker("run", "--rm", two, "cat", "/there") == "packed\n"
    docker("rmi", one, two)


def test_build_tells_its_id_and_ignores_what_it_should(docker: Docker, context: Path, tmp_path: Path) -> None:
    text = b"FROM busybox\nCOPY . /all\n"
    docker("build", "--iidfile", str(tmp_path / "id"), "-f", "-", str(context), data=text)
    identity = (tmp_path / "id").read_text()
    assert docker("run", "--rm", identity, "ls", "-A", "/all").split() == [".dockerignore", "Dockerfile", "given"]
    docker("rmi", identity)


@pytest.mark.parametrize(
    ("text", "status", "sentence"),
    [
        (b"FROM busybox\nRUN exit 3\n", 3, "The command '/bin/sh -c exit 3' returned a non-zero code: 3"),
        (b"FROM busybox\nCOPY absent /x\n", 1, "COPY failed"),
        (b"FROM busybox\nCOPY ../../etc/passwd /x\n", 1, "COPY failed"),
        (b"FROM busybox\nDANCE\n", 1, "unknown instruction: DANCE"),
        (b"", 1, "cannot be empty"),
        (b"RUN true\n", 1, "no build stage in current context"),
        (b"FROM nowhere.invalid/x\n", 1, "nowhere.invalid"),
    ],
)
def test_failing_builds(docker: Docker, world: World, context: Path, text: bytes, status: int, sentence: str) -> None:
    before = docker("images", "-aq")
    shown = docker("build", "--no-cache", "-f", "-", str(context), data=text, status=status)
    assert sentence in shown + world.errors
    assert docker("images", "-aq") == before


# -- names -----------------------------------------------------------------------------------------------------------


def test_images_history_and_inspect(docker: Docker, image: str) -> None:
    (entry,) = [json.loads(line) for line in docker("images", "--format", "{{json .}}", "small").splitlines()]
    assert (entry["Repository"], entry["Tag"]) == ("small", "1")
    identity = docker("images", "-q", "--no-trunc", image).strip()
    assert docker("images", "-q", "--no-trunc", "--filter", "label=made=here") == f"{identity}\n"
    assert identity in docker("images", "-aq", "--no-trunc", "--filter", "since=busybox")
    assert docker("images", "-q", "--filter", "reference=sm*:1") == f"{identity[7:19]}\n"
    assert docker("images", "-q", "--filter", "reference=other") == ""
    found = json.loads(docker("image", "inspect", image))[0]
    assert found["Id"] == identity
    assert len(found["RootFS"]["Layers"]) == 2
    assert found["Config"]["Cmd"] == ["/bin/sh", "-c", "cat /greeting"]
    lines = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image).splitlines()
    assert "cat /greeting" in lines[0]
    assert "echo hello > /greeting" in lines[1]
    assert docker("history", "-q", image).split()[0] == identity[7:19]


def test_tag_and_remove(docker: Docker, world: World, image: str) -> None:
    docker("tag", image, "registry.example/deep/name:2")
    assert docker("rmi", "registry.example/deep/name:2") == "Untagged: registry.example/deep/name:2\n"
    docker("tag", image, "UPPER", status=1)
    assert "must be lowercase" in world.errors
    docker("rmi", "no-such-image", status=1)
    assert "No such image: no-such-image:latest" in world.errors
    docker("rmi", "-f", "no-such-image")
    user = docker("create", image).strip()
    docker("rmi", image, status=1)
    assert "conflict: unable to remove repository reference" in world.errors
    identity = docker("images", "-q", image).strip()
    docker("tag", image, "second:1")
    docker("rmi", identity, status=1)
    assert "conflict: unable to delete" in world.errors
    docker("rmi", "second:1")
    docker("rm", user)


def test_image_prune(docker: Docker) -> None:
    identity = docker("build", "-q", "-", data=b"FROM busybox\nRUN echo dangling > /x\n").strip()
    docker("builder", "prune", "-af")
    assert identity in docker("images", "-q", "--no-trunc", "--filter", "dangling=true")
    assert f"deleted: {identity}" in docker("image", "prune", "-f")
    docker("image", "inspect", identity, status=1)


def test_save_and_load(docker: Docker, world: World, image: str, tmp_path: Path) -> None:
    docker("tag", image, "also:1")
    identity = docker("images", "-q", "--no-trunc", image).strip()
    docker("save", "-o", str(tmp_path / "tar"), image, "also:1")
    with tarfile.open(tmp_path / "tar") as archive:
        (entry,) = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        assert sorted(entry["RepoTags"]) == ["also:1", "small:1"]
        assert {entry["Config"], *entry["Layers"]} <= set(archive.getnames())
    docker("rmi", image, "also:1")
    assert sorted(docker("load", "-i", str(tmp_path / "tar")).splitlines()) == [
        "Loaded image: also:1",
        "Loaded image: small:1",
    ]
    assert docker("images", "-q", "--no-trunc", image).strip() == identity
    assert docker("run", "--rm", "also:1") == "hello\n"
    docker("rmi", "also:1")
    docker("load", data=b"nothing like a tar" * 100, status=1)
    docker("save", "no-such-image", status=1)
    assert "No such image" in world.errors or "reference does not exist" in world.errors


# -- registries ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def registry(world: World) -> str:
    """A registry that knows one user, ``user`` with the password ``secret``."""
    hashed = subprocess.run([BIN / "scow-registry", "hash-password"], input=b"secret", capture_output=True, check=True)
    accounts = world.root / "htpasswd"
    accounts.write_bytes(b"user:" + hashed.stdout)
    start_scow_registry(world, "127.0.0.1:5055", "--htpasswd", str(accounts), name="guarded")
    return "127.0.0.1:5055"


def test_login_push_and_pull(docker: Docker, world: World, image: str, registry: str) -> None:
    name = f"{registry}/some/name:1"
    docker("tag", image, name)
    docker("push", name, status=1)
    assert "no basic auth credentials" in world.errors or "unauthorized" in world.errors
    docker("login", "-u", "user", "--password-stdin", registry, data=b"wrong", status=1)
    assert "unauthorized" in world.errors
    assert "Login Succeeded" in docker("login", "-u", "user", "--password-stdin", registry, data=b"secret")
    shown = docker("push", name)
    digest = json.loads(docker("image", "inspect", name))[0]["RepoDigests"][0]
    assert f"1: digest: {digest.partition('@')[2]} size:" in shown
    assert "Layer already exists" in docker("push", name)
    docker("push", "-a", f"{registry}/some/name")
    docker("rmi", name, image)
    assert f"Status: Downloaded newer image for {name}" in docker("pull", name)
    assert "Image is up to date" in docker("pull", name)
    docker("pull", "-q", digest)
    assert docker("run", "--rm", "--pull", "always", name).endswith("hello\n")
    docker("pull", f"{registry}/some/name:absent", status=1)
    assert "not found" in world.errors or "manifest unknown" in world.errors
    docker("pull", "-a", f"{registry}/some/name")
    docker("tag", name, image)
    docker("logout", registry)
    docker("rmi", name)
    docker("pull", name, status=1)
    assert "repository does not exist or may require 'docker login'" in world.errors
    docker("run", "--rm", f"{registry}/other", status=125)
