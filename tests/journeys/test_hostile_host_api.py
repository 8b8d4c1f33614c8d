"""The engine's sockets and the registry, from those who should get nothing: other users, web pages, odd clients."""

import base64
import contextlib
import json
import os
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from support.raw import RawClient
from support.tars import tar
from support.world import BIN, World

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

PORT = 2375


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An engine that also answers on plain TCP, on the loopback, and a container in it."""
    with World(tmp_path_factory.mktemp("api")) as world:
        world.start("-H", f"tcp://127.0.0.1:{PORT}")
        world.scow("image", "bootstrap", "busybox")
        world.scow("run", "-d", "--name", "victim", "busybox", "sleep", "infinity")
        yield world


@pytest.fixture
def api(served: World) -> Iterator[RawClient]:
    client = RawClient(str(served.socket))
    with contextlib.closing(client):
        yield client


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def over_tcp(world: World, head: str, body: bytes = b"") -> bytes:
    return world.talk("127.0.0.1", PORT, head.replace("\n", "\r\n").encode() + b"\r\n" + body)


# -- who may connect --------------------------------------------------------------------------------------------------


def test_sockets_and_folders_are_for_root(served: World) -> None:
    """What a user without rights could open, traverse or connect to."""
    sockets = []
    for folder, folders, files in os.walk(served.root / "run"):
        for name in (*folders, *files):
            info = os.lstat(os.path.join(folder, name))
            if stat.S_ISSOCK(info.st_mode):
                sockets.append(name)
                assert stat.S_IMODE(info.st_mode) == 0o600, name
            assert not info.st_mode & 0o022, name
    assert sorted(sockets) == ["keeper.sock", "shim.sock"]
    assert stat.S_IMODE(served.socket.stat().st_mode) == 0o660
    for closed in ("data/snapshots", "data/containers", "data/networks", "data/build", "run/tasks"):
        assert not (served.root / closed).stat().st_mode & 0o006, closed


def test_another_user_cannot_connect(served: World) -> None:
    for path in (served.root, *list(served.root.parents)[:3]):
        path.chmod(path.stat().st_mode | 0o011)  # what pytest made for root alone must not be what protects
    shims = [str(path) for path in (served.root / "run" / "tasks").glob("*/shim.sock")]
    assert shims
    program = (
        "import socket, sys\n"
        "for path in sys.argv[1:]:\n"
        "    try: socket.socket(socket.AF_UNIX, int(socket.SOCK_STREAM)).connect(path); print('connected', path)\n"
        "    except PermissionError: print('refused')\n"
    )
    paths = [str(served.socket), str(served.root / "run" / "keeper.sock"), *(path for path in shims if len(path) < 108)]
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", program, *paths], user=65534, group=65534, extra_groups=[], capture_output=True
    )
    assert done.stdout.split() == [b"refused"] * len(paths), done


# -- web pages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Host: 127.0.0.1:2375\n", 200),
        ("Host: localhost:2375\n", 200),
        ("Host: 127.0.0.1:2375\nOrigin: http://127.0.0.1:2375\n", 200),
        ("Host: 127.0.0.1:2375\nOrigin: http://evil.example\n", 403),
        ("Host: 127.0.0.1:2375\nOrigin: null\n", 403),
        ("Host: 127.0.0.1:2375\nOrigin: http://127.0.0.1:8000\n", 403),
        ("Host: evil.example:2375\n", 403),
        ("Host: evil.example:2375\nOrigin: http://evil.example:2375\n", 403),
        ("Host: 127.0.0.1.evil.example\n", 403),
    ],
)
def test_a_browser_is_told_from_a_program(served: World, headers: str, status: int) -> None:
    answer = over_tcp(served, f"GET /v1.44/containers/json HTTP/1.1\n{headers}Connection: close\n")
    assert status_of(answer) == status, answer
    assert (b"victim" in answer) == (status == 200)


def test_a_page_starts_no_build_and_opens_no_websocket(served: World, api: RawClient) -> None:
    context = tar(("Dockerfile", b"FROM busybox\nRUN echo built by a page\n")).getvalue()
    page = "Host: 127.0.0.1:2375\nOrigin: http://evil.example\nConnection: close\n"
    answer = over_tcp(served, f"POST /build HTTP/1.1\n{page}Content-Length: {len(context)}\n", context)
    assert status_of(answer) == 403
    upgrade = page.replace("close", "Upgrade") + "Upgrade: websocket\nSec-WebSocket-Version: 13\n"
    key = base64.b64encode(bytes(16)).decode()
    answer = over_tcp(
        served, f"GET /containers/victim/attach/ws?stream=1 HTTP/1.1\n{upgrade}Sec-WebSocket-Key: {key}\n"
    )
    assert status_of(answer) == 403
    # Without a page's name in it: what a form can send is not JSON, so it makes nothing either.
    before = len(api.get("/containers/json?all=1"))
    body = json.dumps({"Image": "busybox", "HostConfig": {"Privileged": True}}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        status, _ = api.request("POST", "/containers/create", body, {"Content-Type": kind})
        assert status == 400
    assert len(api.get("/containers/json?all=1")) == before


# -- odd HTTP ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "smuggled",
    [
        "Content-Length: 5\nTransfer-Encoding: chunked\n",
        "Content-Length: 5\nContent-Length: 6\n",
        "Content-Length: +5\n",
        "Content-Length: 5, 5, 6\n",
        "Transfer-Encoding: chunked, identity\n",
        "Transfer-Encoding: xchunked\n",
        "Transfer-Encoding : chunked\n",
        "X: y\n Content-Length: 7\rX\n",
    ],
)
def test_requests_that_two_readers_would_cut_differently_are_refused(served: World, smuggled: str) -> None:
    tail = b"0\r\n\r\nDELETE /containers/victim?force=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = over_tcp(served, f"POST /v1.44/auth HTTP/1.1\nHost: localhost\n{smuggled}", tail)
    assert 400 <= status_of(answer) < 600, answer
    assert answer.count(b"HTTP/1.1 ") == 1, "the connection ends with it"
    assert (
        over_tcp(served, "GET /containers/victim/json HTTP/1.1\nHost: localhost\nConnection: close\n")[9:12] == b"200"
    )


def test_heads_without_end_are_bounded_and_hold_nobody_up(served: World, api: RawClient) -> None:
    def flood() -> tuple[bytes, list[socket.socket]]:
        with socket.create_connection(("127.0.0.1", PORT), timeout=20) as sock:
            sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: localhost\r\n")
            with contextlib.suppress(ConnectionError):
                for number in range(64):
                    sock.sendall(b"X-%d: %b\r\n" % (number, b"a" * (64 << 10)))
            answer = b""
            with contextlib.suppress(ConnectionError):
                answer = sock.recv(65536)
        slow = [socket.create_connection(("127.0.0.1", PORT), timeout=20) for _ in range(300)]
        for each in slow:
            each.sendall(b"GET /_ping HTTP/1.1\r\nHo")
        return answer, slow

    answer, slow = served.here(flood)
    try:
        assert status_of(answer) in (0, 400, 431)
        begun = time.monotonic()
        assert api.request("GET", "/_ping")[0] == 200
        assert time.monotonic() - begun < 5
    finally:
        for each in slow:
            each.close()


CLIMBING = [
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e",
    "..",
    ".%00",
    "%2fetc%2fpasswd",
    "a%2f..%2fb",
    "-rf",
    "x%0ay",
    "%ff%fe",
]


@pytest.mark.parametrize("name", CLIMBING)
def test_names_in_paths_do_not_climb(served: World, api: RawClient, name: str) -> None:
    for method, target in (
        ("GET", f"/containers/{name}/json"), ("GET", f"/containers/{name}/logs?stdout=1"), ("GET", f"/volumes/{name}"),
        ("DELETE", f"/volumes/{name}"), ("GET", f"/networks/{name}"), ("DELETE", f"/networks/{name}"),
        ("GET", f"/images/{name}/json"), ("DELETE", f"/images/{name}"), ("GET", f"/exec/{name}/json"),
        ("DELETE", f"/containers/{name}"), ("GET", f"/containers/{name}/archive?path=/"),
    ):  # fmt: skip
        status, data = api.request(method, target)
        assert 400 <= status < 500, (method, target, status, data)
    for target, body in (
        ("/volumes/create", {"Name": name}), ("/networks/create", {"Name": f"../{name}"}),
        (f"/containers/create?name={name}", {"Image": "busybox"}),
        ("/containers/create", {"Image": "busybox", "HostConfig": {"Binds": [f"../{name}:/x"]}}),
    ):  # fmt: skip
        status, data = api.request("POST", target, body)
        if status == 201 and "networks" in target:
            api.delete(f"/networks/{json.loads(data)['Id']}")  # a name is only a name: its files go by the id
        else:
            assert 400 <= status < 500, (target, body, status, data)


def test_words_that_end_up_in_rules_and_commands_are_checked(served: World, api: RawClient) -> None:
    """Firewall rules and interface names are text, git is a program: neither takes more than one word."""
    rules = served._run(["nft", "list", "ruleset"], 0, None)
    for bridge in ('x" drop', "x; flush ruleset", "../../x", "a" * 16, "x\ny", "-x"):
        body = {"Name": "evil", "Options": {"com.docker.network.bridge.name": bridge}}
        status, data = api.request("POST", "/networks/create", body)
        assert 400 <= status < 500, (bridge, data)
    for subnet in ("10.9.0.0/24 drop", "10.9.0.0/24; flush ruleset", "10.9.0.0"):
        status, data = api.request(
            "POST", "/networks/create", {"Name": "evil", "IPAM": {"Config": [{"Subnet": subnet}]}}
        )
        assert 400 <= status < 500, (subnet, data)
    for binding in ({"HostIp": "127.0.0.1 accept", "HostPort": "80"}, {"HostIp": "", "HostPort": "80 : 1.2.3.4"}):
        host = {"PortBindings": {"80/tcp": [binding]}}
        status, data = api.request("POST", "/containers/create", {"Image": "busybox", "HostConfig": host})
        if status == 201:
            made = json.loads(data)["Id"]
            status, data = api.request("POST", f"/containers/{made}/start")
            api.delete(f"/containers/{made}")
        assert status >= 400, (binding, data)
    assert served._run(["nft", "list", "ruleset"], 0, None) == rules
    made = served.root / "made"
    for remote in (
        f"git@-oProxyCommand=touch${{IFS}}{made}:x.git", f"ssh://-oProxyCommand=touch {made}/x.git", "file:///etc",
        "https://127.0.0.1:1/x.git#--upload-pack=touch made", f"ext::sh -c touch% {made}",
    ):  # fmt: skip
        status, data = api.request("POST", f"/build?remote={quote(remote, safe='')}")
        assert status >= 400 or b'"error"' in data, (remote, data)
    assert not made.exists()


# -- the registry -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, int]]:
    with World(tmp_path_factory.mktemp("registry")) as world:
        process = world.spawn(
            str(BIN / "scow-registry"), "--root", str(world.root / "registry"), "--addr", "127.0.0.1:5000", log="r.log"
        )
        try:
            yield world, 5000
        finally:
            process.terminate()
            process.wait()
            world.process = process
            world.start()


def to_registry(registry: tuple[World, int], method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
    world, port = registry
    head = f"{method} {target} HTTP/1.1\r\nHost: r\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = world.talk("127.0.0.1", port, head.encode() + body)
    return status_of(answer), answer


def test_an_upload_belongs_to_its_repository(registry) -> None:
    status, answer = to_registry(registry, "POST", "/v2/mine/blobs/uploads/")
    assert status == 202
    identity = next(line for line in answer.decode().split("\r\n") if line.lower().startswith("docker-upload-uuid"))[
        20:
    ]
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        for where in (f"/v2/theirs/blobs/uploads/{identity}", f"/v2/mine/blobs/uploads/..%2fuploads%2f{identity}"):
            assert to_registry(registry, method, where, b"x" * 5)[0] == 404, (method, where)
    assert to_registry(registry, "GET", f"/v2/mine/blobs/uploads/{identity}")[0] == 204, "it is still there, and empty"


@pytest.mark.parametrize(
    "name", ["..%2f..%2fetc", "a%2f..%2f..%2fb", "%2e%2e", "a/_layers", ".hidden", "a//b", "-x", "A", "a%00"]
)
def test_repository_names_do_not_climb(registry, name: str) -> None:
    world, _ = registry
    before = sorted(str(path) for path in world.root.rglob("*") if "log" not in path.name)
    digest = "sha256:" + "0" * 64
    for method, target in (
        ("POST", f"/v2/{name}/blobs/uploads/"), ("GET", f"/v2/{name}/blobs/{digest}"),
        ("PUT", f"/v2/{name}/manifests/latest"), ("GET", f"/v2/{name}/tags/list"),
        ("GET", f"/v2/x/manifests/{name}"), ("GET", f"/v2/x/blobs/{name}"), ("PUT", f"/v2/x/manifests/..%2f{name}"),
    ):  # fmt: skip
        assert 400 <= to_registry(registry, method, target, b"{}")[0] < 500, (method, target)
    assert sorted(str(path) for path in world.root.rglob("*") if "log" not in path.name) == before


def test_nothing_of_the_host_is_written_in_the_log_of_a_container(served: World, api: RawClient) -> None:
    """A program writes what looks like frames and log lines: it stays what one program said."""
    forged = (
        r'\001\000\000\000\000\000\000\005hello{"log":"forged\\n","stream":"stderr","time":"2000-01-01T00:00:00Z"}\n'
    )
    made = served.scow("run", "-d", "busybox", "printf", forged).strip()
    served.scow("wait", made)
    client = served.docker()
    container = client.containers.get(made)
    assert (
        container.logs(stderr=False)
        == b'\x01\0\0\0\0\0\0\x05hello{"log":"forged\\n","stream":"stderr","time":"2000-01-01T00:00:00Z"}\n'
    )
    assert container.logs(stdout=False) == b""
    container.remove()
