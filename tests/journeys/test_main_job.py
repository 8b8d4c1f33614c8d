"""The main job by each of three clients: our CLI, the docker CLI and docker-py.

Build a two-stage image, run two containers from it, see what they share and what not, reach a published port, push,
pull by digest on a second engine that is reached by mutual TLS only, run there, build again from cache, delete, find
the image unaltered.
"""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import docker
import pytest

from support.certificates import Certificates
from support.world import BIN, DOCKER_CLI, World, cable

pytestmark = [pytest.mark.root, pytest.mark.slow]

DOCKERFILE = """\
FROM busybox AS build
WORKDIR /src
COPY page.txt .
RUN mkdir /www && tr a-z A-Z < page.txt > /www/index.html
FROM busybox
COPY --from=build /www /www
EXPOSE 80
CMD ["httpd", "-f", "-p", "80", "-h", "/www"]
"""


class Hosts(NamedTuple):
    one: World
    two: World
    registry: str
    far: str
    certificates: Certificates


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Two engines on two machines joined by a cable: the first with a registry, the second behind mutual TLS on TCP."""
    with World(tmp_path_factory.mktemp("one")) as one, World(tmp_path_factory.mktemp("two")) as two:
        here, there = cable(one, two)
        certificates = Certificates(two.root / "tls", there)
        registry = f"{here}:5000"
        one.start("--insecure-registry", registry, "--bip", "10.201.0.1/16")
        two.start(
            "--insecure-registry",
            registry,
            "--bip",
            "10.202.0.1/16",
            "-H",
            f"tcp://{there}:2376",
            *certificates.daemon(),
        )
        one.others.append(
            one.spawn(
                str(BIN / "scow-registry"), "--root", str(one.root / "registry"), "--addr", registry, log="registry.log"
            )
        )
        one.scow("image", "bootstrap", "busybox")
        yield Hosts(one, two, registry, there, certificates)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "page.txt").write_text("a page\n")
    return folder


def page(world: World, address: str, port: int) -> bytes:
    return world.talk(address, port, b"GET / HTTP/1.0\r\n\r\n").rpartition(b"\r\n\r\n")[2]


def by_command_line(hosts: Hosts, context: Path, client: str) -> None:
    """The journey with `client` "scow" or "docker": the same words for both."""
    one = hosts.one
    run = one.scow if client == "scow" else one.docker_cli
    name = f"{hosts.registry}/journey/{client}:1.0"

    def far(*words: str) -> str:
        """The same client, run on the first machine, on the second machine's engine."""
        return run("-H", f"tcp://{hosts.far}:2376", *hosts.certificates.client(), *words)

    run("build", "-t", name, str(context))
    built = json.loads(run("image", "inspect", name))[0]
    try:
        one_id = run("run", "-d", "--name", "first", "-p", "8081:80", name).strip()
        other_id = run("run", "-d", "--name", "second", "-p", "8082:80", name).strip()
        assert len(one_id) == len(other_id) == 64
        assert page(one, "127.0.0.1", 8081) == page(one, "127.0.0.1", 8082) == b"A PAGE\n"
        run("exec", "first", "sh", "-c", "echo changed > /www/index.html")
        assert page(one, "127.0.0.1", 8081) == b"changed\n"
        assert page(one, "127.0.0.1", 8082) == b"A PAGE\n"
        assert "C /www/index.html" in run("diff", "first").splitlines()
        assert run("diff", "second") == ""
        run("push", name)
        digest = run("image", "inspect", "-f", "{{index .RepoDigests 0}}", name).strip()
        far("pull", digest)
        far("run", "-d", "--name", "third", "-p", "8083:80", digest)
        assert page(one, hosts.far, 8083) == b"A PAGE\n"
        assert far("image", "inspect", "-f", "{{.Id}}", digest).strip() == built["Id"]
        far("rm", "-f", "third")
        far("rmi", digest)
        run("build", "-t", name, str(context))
    finally:
        run("rm", "-f", "first", "second")
    after = json.loads(run("image", "inspect", name))[0]
    assert {key: after[key] for key in ("Id", "Created", "RootFS", "Config", "Size")} == {
        key: built[key] for key in ("Id", "Created", "RootFS", "Config", "Size")
    }
    assert run("run", "--rm", name, "cat", "/www/index.html") == "A PAGE\n"
    run("rmi", name)


def test_our_command_line(hosts: Hosts, context: Path) -> None:
    by_command_line(hosts, context, "scow")


@pytest.mark.peer
@pytest.mark.skipif(DOCKER_CLI is None, reason="the docker CLI is not installed here")
def test_the_docker_command_line(hosts: Hosts, context: Path) -> None:
    by_command_line(hosts, context, "docker")


def test_docker_py(hosts: Hosts, context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where these are set, requests prefers them to the authority a client was told to trust.
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    one = hosts.one
    name = f"{hosts.registry}/journey/py"
    client = one.docker()
    image, lines = client.images.build(path=str(context), tag=f"{name}:1.0", rm=True)
    assert any("Successfully built" in line.get("stream", "") for line in lines)
    containers = [
        client.containers.run(name + ":1.0", detach=True, name=f"py-{number}", ports={"80/tcp": 8090 + number})
        for number in (1, 2)
    ]
    try:
        assert {container.image.id for container in containers} == {image.id}
        assert containers[0].exec_run(["sh", "-c", "echo changed > /www/index.html"]).exit_code == 0
        assert page(one, "127.0.0.1", 8091) == b"changed\n"
        assert page(one, "127.0.0.1", 8092) == b"A PAGE\n"
        assert {"Path": "/www/index.html", "Kind": 0} in containers[0].diff()
        data, _ = containers[0].get_archive("/www/index.html")
        with tarfile.open(fileobj=io.BytesIO(b"".join(data))) as archive:
            member = archive.extractfile("index.html")
            assert member is not None
            assert member.read() == b"changed\n"
        pushed = list(client.images.push(name, tag="1.0", stream=True, decode=True))
        digest = next(line["aux"]["Digest"] for line in pushed if "aux" in line)
        assert not any("error" in line for line in pushed)
        # docker-py takes the second machine by TCP from the first machine's side of the cable.
        pulled = one.here(lambda: pull_and_run(hosts, f"{name}@{digest}"))
        assert pulled == (image.id, b"A PAGE\n")
        again, _ = client.images.build(path=str(context), tag=f"{name}:1.0", rm=True)
        assert again.id == image.id
    finally:
        for container in containers:
            container.remove(force=True)
    assert client.containers.run(f"{name}:1.0", ["cat", "/www/index.html"], remove=True) == b"A PAGE\n"
    client.images.remove(f"{name}:1.0")


def pull_and_run(hosts: Hosts, reference: str) -> tuple[str, bytes]:
    """Pull and run on the second engine over mutual TLS; the image's id and the page it serves. Call on machine one."""
    folder = hosts.certificates.folder
    tls = docker.tls.TLSConfig(
        client_cert=(str(folder / "cert.pem"), str(folder / "key.pem")), ca_cert=str(folder / "ca.pem"), verify=True
    )
    client = docker.DockerClient(base_url=f"tcp://{hosts.far}:2376", tls=tls, timeout=60)
    try:
        image = client.images.pull(reference)
        container = client.containers.run(reference, detach=True, ports={"80/tcp": 8094})
        served = hosts.one.talk(hosts.far, 8094, b"GET / HTTP/1.0\r\n\r\n").rpartition(b"\r\n\r\n")[2]
        container.remove(force=True)
        return str(image.id), served
    finally:
        client.close()
