"""Bad input gets one clear sentence, the right status or exit code, and changes nothing."""

import contextlib
import io
import json
import socket
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.raw import RawClient
from support.world import World

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def api(world: World) -> Iterator[RawClient]:
    client = RawClient(str(world.socket))
    yield client
    client.close()


def ask(api: RawClient, method: str, target: str, body: Any = None) -> tuple[int, str]:
    """Status and message of an answer that should be an error."""
    status, data = api.request(method, target, body)
    return status, json.loads(data)["message"] if data.startswith(b"{") else data.decode()


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "sentence"),
    [
        ("GET", "/containers/nobody/json", None, 404, "No such container: nobody"),
        ("POST", "/containers/nobody/start", None, 404, "No such container: nobody"),
        ("DELETE", "/containers/nobody", None, 404, "No such container: nobody"),
        ("GET", "/images/nothing/json", None, 404, "No such image: nothing"),
        ("POST", "/containers/create", {"Image": "nothing"}, 404, "No such image: nothing:latest"),
        ("POST", "/containers/create", {"Image": "UPPER CASE"}, 400, "invalid reference format"),
        ("POST", "/containers/create", {"Image": 5}, 400, "$.Image"),
        (
            "POST",
            "/containers/create",
            {"Image": "busybox", "HostConfig": {"Memory": "much"}},
            400,
            "$.HostConfig.Memory",
        ),
        ("POST", "/containers/create", b"{", 400, "invalid JSON"),
        ("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"Memory": 1000}}, 400, "6MB"),
        ("POST", "/containers/create?name=-bad-", {"Image": "busybox"}, 400, "Invalid container name (-bad-)"),
        ("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"CapAdd": ["FLY"]}}, 400, "FLY"),
        ("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"Binds": ["a:b:c:d"]}}, 400, None),
        ("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"NetworkMode": "nowhere"}}, None, "nowhere"),
        ("GET", "/networks/nowhere", None, 404, "network nowhere not found"),
        ("GET", "/volumes/nothing", None, 404, "no such volume"),
        ("POST", "/exec/nothing/start", {}, 404, "No such exec instance: nothing"),
        ("GET", "/containers/json?filters=notjson", None, 400, "filter"),
        ("GET", '/containers/json?filters={"colour":["red"]}', None, 400, "invalid filter"),
        ("POST", "/images/create?fromImage=UPPER", None, 400, "invalid reference format"),
        ("POST", "/images/busybox/tag?repo=UPPER", None, 400, "invalid reference format"),
        ("GET", "/nowhere", None, 404, "page not found"),
        ("GET", "/v1.10/info", None, 400, "too old"),
        ("GET", "/v1.99/info", None, 400, "too new"),
        ("GET", "/v1.x/info", None, 400, "version"),
        ("GET", "/swarm", None, 503, "not a swarm manager"),
        ("POST", "/session", None, 501, "DOCKER_BUILDKIT=0"),
    ],
)
def test_the_api_refuses(
    api: RawClient, method: str, target: str, body: Any, status: int | None, sentence: str | None
) -> None:
    before = api.get("/containers/json?all=1"), api.get("/images/json?all=1")
    got, message = ask(api, method, target, body)
    assert got == status or (status is None and 400 <= got < 500), message
    assert sentence is None or sentence in message
    assert (api.get("/containers/json?all=1"), api.get("/images/json?all=1")) == before


@contextlib.contextmanager
def created(api: RawClient, name: str, **config: Any) -> Iterator[str]:
    made = api.post(f"/containers/create?name={name}", {"Image": "busybox", "Cmd": ["sleep", "100"], **config})["Id"]
    try:
        yield made
    finally:
        api.delete(f"/containers/{made}?force=1")


def test_a_name_in_use_names_its_holder(api: RawClient) -> None:
    with created(api, "taken") as made:
        status, message = ask(api, "POST", "/containers/create?name=taken", {"Image": "busybox"})
        assert status == 409
        assert f'Conflict. The container name "/taken" is already in use by container "{made}"' in message


def test_an_ambiguous_prefix_is_not_guessed(api: RawClient) -> None:
    with contextlib.ExitStack() as held:
        ids = [held.enter_context(created(api, f"many-{number}")) for number in range(17)]
        prefix = next(a[0] for a in ids if sum(b[0] == a[0] for b in ids) > 1)
        status, message = ask(api, "GET", f"/containers/{prefix}/json")
        assert status == 400
        assert "Multiple IDs found" in message


def test_a_port_in_use_fails_the_start_and_nothing_runs(world: World, api: RawClient) -> None:
    ports = {"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8077"}]}}}
    with created(api, "first", **ports) as first, created(api, "second", **ports) as second:
        assert api.request("POST", f"/containers/{first}/start")[0] == 204
        status, message = ask(api, "POST", f"/containers/{second}/start")
        assert status == 500
        assert "port is already allocated" in message
        assert api.get(f"/containers/{second}/json")["State"]["Running"] is False


def test_starting_twice_and_stopping_twice_is_no_change(api: RawClient) -> None:
    with created(api, "twice", HostConfig={"Init": True}) as made:
        assert api.request("POST", f"/containers/{made}/start")[0] == 204
        assert api.request("POST", f"/containers/{made}/start")[0] == 304
        assert api.request("POST", f"/containers/{made}/stop?t=0")[0] == 204
        assert api.request("POST", f"/containers/{made}/stop")[0] == 304
        assert ask(api, "POST", f"/containers/{made}/kill")[0] == 409


def test_removing_what_runs_needs_force(api: RawClient) -> None:
    with created(api, "running") as made:
        api.post(f"/containers/{made}/start")
        status, message = ask(api, "DELETE", f"/containers/{made}")
        assert status == 409
        assert "stop the container before removing or force remove" in message


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (("run", "busybox", "no-such-program"), 127, "executable file not found"),
        (("run", "busybox", "/etc"), 126, "permission denied"),
        (("run", "--no-such-flag", "busybox"), 125, "unknown flag: --no-such-flag"),
        (("run", "--memory", "lots", "busybox"), 125, "lots"),
        (("run", "--pull", "never", "nothing-here"), 125, "No such image"),
        (("run", "--name", "not/a/name", "busybox"), 125, "Invalid container name"),
        (("run", "busybox", "sh", "-c", "exit 42"), 42, ""),
        (("run", "--init", "busybox", "sh", "-c", "kill -9 $$"), 137, ""),
        (("no-such-command",), 1, "no-such-command"),
        (("inspect", "nobody-here"), 1, "nobody-here"),
        (("rm", "nobody-here"), 1, "No such container: nobody-here"),
        (("exec", "nobody-here", "true"), 1, "No such container: nobody-here"),
    ],
)
def test_the_command_line_refuses(world: World, words: tuple[str, ...], status: int, sentence: str) -> None:
    extra = ("--rm",) if words[0] == "run" else ()
    world.scow(words[0], *extra, *words[1:], status=status)
    assert sentence in world.errors


def test_no_daemon_is_said_with_the_address(world: World, tmp_path: Path) -> None:
    world.scow("-H", f"unix://{tmp_path}/none.sock", "ps", status=1)
    assert "Cannot connect" in world.errors
    assert f"unix://{tmp_path}/none.sock" in world.errors


# -- builds --


@pytest.mark.parametrize(
    ("dockerfile", "sentence"),
    [
        ("FROM busybox\nRUNN true\n", "line 2"),
        ("FROM busybox\nRUNN true\n", "RUNN"),
        ("RUN true\n", "no build stage"),
        ("FROM busybox\nCOPY missing /there\n", "missing"),
        ("FROM busybox\nCOPY ../etc/passwd /there\n", "etc/passwd"),
        ("FROM busybox\nCOPY --from=nothing a b\n", "nothing"),
        ("FROM no-such-image-anywhere:1\n", "no-such-image-anywhere"),
        ("", "empty"),
    ],
)
def test_a_build_that_cannot_be(world: World, tmp_path: Path, dockerfile: str, sentence: str) -> None:
    (tmp_path / "Dockerfile").write_text(dockerfile)
    before = world.scow("images", "-a", "-q")
    world.scow("build", "-t", "never", str(tmp_path), status=1)
    assert sentence in world.errors
    assert world.scow("images", "-a", "-q") == before


def test_a_failing_run_shows_what_it_printed(world: World, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo 'the reason'; exit 9\n")
    shown = world.scow("build", "-t", "never", str(tmp_path), status=9)
    assert "the reason" in shown
    assert "returned a non-zero code: 9" in world.errors


# -- archives --


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize("name", ["../escape", "/../../escape", "a/../../../escape", "/absolute"])
def test_an_imported_tar_stays_in_its_root(world: World, tmp_path: Path, name: str) -> None:
    archive = tmp_path / "hostile.tar"
    archive.write_bytes(tar_of((tarfile.TarInfo(name), b"x")))
    world.scow("import", str(archive), "hostile", status=0 if name == "/absolute" else 1)
    assert not list(world.root.rglob("escape"))
    assert not Path("/absolute").exists()
    if name == "/absolute":
        world.scow("rmi", "hostile")


def test_a_link_out_of_the_root_is_not_followed(world: World, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, str(outside)
    archive = tmp_path / "hostile.tar"
    archive.write_bytes(tar_of((link, b""), (tarfile.TarInfo("link/file"), b"x")))
    world._run(["sh", "-c", f"{world_scow(world)} import {archive} hostile; true"], 0, None)
    assert list(outside.iterdir()) == []
    world._run(["sh", "-c", f"{world_scow(world)} rmi hostile; true"], 0, None)


def world_scow(world: World) -> str:
    from support.world import BIN

    return f"{BIN}/scow -H unix://{world.socket}"


def test_a_truncated_archive_loads_nothing(world: World, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    world.scow("save", "-o", str(archive), "busybox")
    data = archive.read_bytes()
    before = world.scow("images", "-a", "--no-trunc")
    for size in (0, 100, 512, len(data) // 2, len(data) - 20_000):
        archive.write_bytes(data[:size])
        world.scow("load", "-i", str(archive), status=1)
        assert world.errors.strip()
    assert world.scow("images", "-a", "--no-trunc") == before


def test_an_altered_archive_loads_nothing(world: World, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN head -c 300000 /dev/urandom > /noise\n")
    world.scow("build", "-q", "-t", "noisy", str(tmp_path))
    world.scow("save", "-o", str(archive), "noisy")
    world.scow("rmi", "noisy")
    world.scow("builder", "prune", "-f", "-a")
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    world.scow("load", "-i", str(archive), status=1)
    assert world.errors.strip()
    assert "noisy" not in world.scow("images")


# -- registries that misbehave --


class Misbehaving(BaseHTTPRequestHandler):
    """Answers every request with `status`, and says nothing of it."""

    status = 500

    def do_GET(self) -> None:
        if self.path == "/v2/":
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        if self.status == 429:
            self.send_header("Retry-After", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        return


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(401, "unauthorized"), (403, "denied"), (404, "not found"), (429, "toomanyrequests"), (500, "500")],
)
def test_a_registry_that_refuses(world: World, status: int, sentence: str) -> None:
    handler = type("Handler", (Misbehaving,), {"status": status})
    server = world.here(lambda: ThreadingHTTPServer(("127.0.0.1", 0), handler))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        name = f"127.0.0.1:{server.server_port}/some/image:1"
        world.scow("pull", name, status=1)
        assert sentence in world.errors.lower()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_registry_that_is_not_there(world: World) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    world.scow("pull", f"127.0.0.1:{port}/some/image:1", status=1)
    assert "connection refused" in world.errors.lower()
