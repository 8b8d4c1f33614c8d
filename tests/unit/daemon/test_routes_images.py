"""The Image and Distribution routes over HTTP: statuses, JSON lines, events; with a registry of our own beside."""

import asyncio
import base64
import gzip
import io
import json
import socket
import tarfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scow.content.store import ContentStore
from scow.daemon.routes import auth, distribution, images
from scow.daemon.status import answer_to
from scow.events import Bus
from scow.images.store import Images
from scow.oci.digest import digest_of
from scow.oci.platform import host_platform
from scow.registry.client.registry import Registry
from scow.registry.server import main
from scow.registry.server.app import App
from scow.registry.server.htpasswd import Accounts
from scow.snapshots.plain import PlainSnapshotter
from scow.web.client import HttpClient
from scow.web.router import Routes
from scow.web.server import Server

#: The password "secret".
ACCOUNTS = {"me": "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="}


def archive(**files: bytes) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


class World:
    def __init__(self, root: Path, url: str, engine: Any, registry: str) -> None:
        self.root, self.url, self.engine, self.registry = root, url, engine, registry
        self.http = HttpClient()

    async def __call__(
        self, method: str, path: str, body: Any = b"", headers: dict[str, str] | None = None
    ) -> "tuple[int, Any]":
        """Status, and the JSON value (lines as a list, other content as bytes)."""
        async with await self.http.request(method, f"{self.url}{path}", body=body, headers=headers) as answer:
            data = await answer.read(64 << 20)
        if b"\r\n" in data and data.startswith(b"{"):
            return answer.status, [json.loads(line) for line in data.split(b"\r\n")[:-1]]
        if answer.headers.get("content-type") != "application/json" or not data:
            return answer.status, data
        return answer.status, json.loads(data)

    async def make(self, name: str = "thing:v1", data: bytes = b"hello") -> str:
        """An image of one file, imported; its id."""
        repository, _, tag = name.rpartition(":")
        status, lines = await self("POST", f"/images/create?fromSrc=-&repo={repository}&tag={tag}", archive(file=data))
        assert status == 200
        return str(lines[-1]["status"])

    def events(self) -> list[tuple[str, str]]:
        return [(event.action, event.attributes.get("name", "")) for event in self.engine.events.past({}, 0)]


Test = Callable[[World], Awaitable[None]]


def run(test: Test, root: Path) -> None:
    async def go() -> None:
        app = App.open(root / "registry", Accounts(ACCOUNTS))
        peer = main.server(app)
        sock = socket.create_server(("127.0.0.1", 0))
        await peer.serve(sock)
        content = ContentStore(root / "content")
        snapshots = PlainSnapshotter(root / "snapshots")
        engine = SimpleNamespace(
            content=content,
            snapshots=snapshots,
            images=Images(content, snapshots),
            registry=Registry(),
            events=Bus(),
            containers=SimpleNamespace(users=dict, running=frozenset),
        )
        routes = Routes()
        for module in (images, distribution, auth):
            routes.merge(module.routes)
        server = Server(engine, routes, status_of=answer_to, prefix_versions=True)
        own = socket.create_server(("127.0.0.1", 0))
        await server.serve(own)
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        world = World(root, f"http://127.0.0.1:{own.getsockname()[1]}", engine, address)
        try:
            async with asyncio.timeout(60):
                await test(world)
        finally:
            await world.http.close()
            await engine.registry.close()
            await server.close(0.5)
            await peer.close(0.5)
            app.close()

    asyncio.run(go())


LOGIN = {"X-Registry-Auth": base64.urlsafe_b64encode(b'{"username":"me","password":"secret"}').decode()}


def test_import_with_changes_then_inspect_history_and_list(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        query = "fromSrc=-&repo=thing&tag=v1&message=made&changes=CMD%20%5B%22x%22%5D&changes=ENV%20A%3Db"
        status, lines = await world("POST", f"/v1.44/images/create?{query}", gzip.compress(archive(file=b"x")))
        assert status == 200
        identity = lines[-1]["status"]
        status, found = await world("GET", "/images/thing:v1/json")
        assert (status, found["Id"], found["RepoTags"]) == (200, identity, ["thing:v1"])
        assert (found["Config"]["Cmd"], found["Config"]["Env"]) == (["x"], ["A=b"])
        status, steps = await world("GET", f"/images/{identity}/history")
        assert (status, steps[0]["Id"], steps[0]["Comment"]) == (200, identity, "made")
        status, entries = await world("GET", "/images/json")
        assert [entry["Id"] for entry in entries] == [identity]
        assert "VirtualSize" not in entries[0]
        status, entries = await world("GET", "/v1.43/images/json")
        assert entries[0]["VirtualSize"] == entries[0]["Size"]
        assert world.events() == [("import", "thing:v1")]

    run(test, tmp_path)


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/images/nothing/json", 404, "No such image: nothing"),
        ("GET", "/images/nothing/history", 404, "No such image"),
        ("GET", "/images/nothing/get", 404, "No such image"),
        ("GET", "/images/get?names=nothing", 404, "No such image"),
        ("GET", "/images/get", 400, "no image names"),
        ("GET", "/images/nothing/attestations", 404, "No such image"),
        ("DELETE", "/images/nothing", 404, "No such image"),
        ("POST", "/images/nothing/tag?repo=x", 404, "No such image"),
        ("POST", "/images/nothing/push?tag=v1", 404, "An image does not exist locally with the tag: nothing"),
        ("POST", "/images/create", 400, "fromImage"),
        ("POST", "/images/create?fromImage=UPPER", 400, "must be lowercase"),
        ("POST", "/images/create?fromImage=a%20b", 400, "invalid reference format"),
        ("POST", "/images/create?fromImage=x&tag=!", 400, "invalid reference format"),
        ("POST", "/images/create?fromImage=x&platform=a/b/c/d", 400, "invalid platform"),
        ("POST", "/images/create?fromSrc=-&changes=RUN%20x", 400, "RUN is not a valid change command"),
        ("POST", "/images/load", 400, ""),
        ("GET", "/images/json?filters=%7B%22nonsense%22%3A%5B%221%22%5D%7D", 400, "invalid filter"),
        ("GET", "/images/search?term=x&limit=1000", 400, "outside the range of [1, 100]"),
        ("POST", "/images/prune?filters=x", 400, "invalid filter"),
        ("POST", "/scow/images/bootstrap", 400, "kind"),
        ("GET", "/distribution/UPPER/json", 400, "invalid reference format"),
    ],
)
def test_bad_input(tmp_path: Path, method: str, path: str, status: int, words: str) -> None:
    async def test(world: World) -> None:
        seen, body = await world(
            method, path, b"{}" if "bootstrap" in path else b"", {"Content-Type": "application/json"}
        )
        assert (seen, words in body["message"]) == (status, True), body

    run(test, tmp_path)


def test_tag_push_pull_and_distribution(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        identity = await world.make()
        name = f"{world.registry}/some/thing"
        assert await world("POST", f"/images/thing:v1/tag?repo={name}&tag=v2") == (201, b"")
        status, lines = await world("POST", f"/images/{name}/push?tag=v2", headers=LOGIN)
        assert status == 200
        digest = lines[-1]["aux"]["Digest"]
        status, lines = await world("POST", f"/images/{name}/push?tag=v2")
        assert (status, lines[-1]["error"]) == (200, "unauthorized: authentication required")
        status, found = await world("GET", f"/distribution/{name}:v2/json", headers=LOGIN)
        assert (status, found["Descriptor"]["digest"]) == (200, digest)
        assert found["Platforms"] == [host_platform().to_json()]
        assert (await world("GET", f"/distribution/{name}:v2/json"))[0] == 401
        status, lines = await world("DELETE", "/images/thing:v1")
        assert lines == [{"Untagged": "thing:v1"}]
        await world("DELETE", f"/images/{identity}?force=1")
        assert (await world("GET", "/images/json"))[1] == []
        status, lines = await world("POST", f"/images/create?fromImage={name}&tag=v2", headers=LOGIN)
        assert (status, lines[0], lines[-1]["status"]) == (
            200,
            {"status": "Pulling from some/thing", "id": "v2"},
            f"Status: Downloaded newer image for {name}:v2",
        )
        assert (await world("GET", f"/images/{name}:v2/json"))[1]["Id"] == identity
        status, body = await world("POST", f"/images/create?fromImage={name}&tag=none", headers=LOGIN)
        assert (status, "manifest unknown" in body["message"]) == (404, True)
        assert (await world("POST", f"/images/create?fromImage={name}&tag=v2"))[0] == 404, (
            "the docker CLI asks for a password when it sees 401"
        )
        actions = [action for action, _ in world.events()]
        assert actions == ["import", "tag", "push", "untag", "untag", "untag", "delete", "pull"]

    run(test, tmp_path)


def test_save_and_load(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        identity = await world.make()
        status, tar = await world("GET", "/images/thing:v1/get")
        assert status == 200
        assert "manifest.json" in tarfile.open(fileobj=io.BytesIO(tar)).getnames()  # noqa: SIM115
        await world("DELETE", "/images/thing:v1")
        status, lines = await world("POST", "/images/load?quiet=1", tar, {"Content-Type": "application/x-tar"})
        assert (status, lines) == (200, [{"stream": "Loaded image: thing:v1\n"}])
        assert (await world("GET", "/images/thing:v1/json"))[1]["Id"] == identity
        status, _ = await world("GET", "/images/get?names=thing:v1,thing:v1")
        assert status == 200

    run(test, tmp_path)


def test_prune_and_conflicts(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        old = await world.make("thing:v1", b"old")
        await world.make("thing:v1", b"new")
        status, found = await world("POST", "/images/prune")
        assert {"Deleted": old} in found["ImagesDeleted"]
        assert found["SpaceReclaimed"] > 0
        new = (await world("GET", "/images/thing:v1/json"))[1]["Id"]
        world.engine.containers.users = lambda: {digest: ["c" * 64] for digest in [world.engine.images.resolve(new).id]}
        status, body = await world("DELETE", "/images/thing:v1")
        assert (status, body["message"].startswith("conflict: unable to remove")) == (409, True)
        filters = '{"dangling":["false"]}'.replace('"', "%22")
        status, found = await world("POST", f"/images/prune?filters={filters}")
        assert (found["ImagesDeleted"], status) == (None, 200)

    run(test, tmp_path)


def test_login(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        async def login(password: str) -> tuple[int, Any]:
            body = {"username": "me", "password": password, "serveraddress": world.registry}
            return await world("POST", "/auth", json.dumps(body).encode(), {"Content-Type": "application/json"})

        assert await login("secret") == (200, {"Status": "Login Succeeded", "IdentityToken": ""})
        status, body = await login("wrong")
        assert (status, "unauthorized" in body["message"]) == (401, True)

    run(test, tmp_path)


def test_search_of_a_registry(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.make()
        await world("POST", f"/images/thing:v1/tag?repo={world.registry}/some/thing&tag=v1")
        await world("POST", f"/images/{world.registry}/some/thing/push?tag=v1", headers=LOGIN)
        status, found = await world("GET", f"/images/search?term={world.registry}/thin", headers=LOGIN)
        assert (status, [entry["name"] for entry in found]) == (200, [f"{world.registry}/some/thing"])
        assert (await world("GET", f"/images/search?term={world.registry}/other", headers=LOGIN))[1] == []

    run(test, tmp_path)


def test_a_broken_upload_is_a_failed_load(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.make()
        _, tar = await world("GET", "/images/thing:v1/get")
        status, body = await world("POST", "/images/load", tar[: len(tar) // 2])
        assert status == 200 or "message" in body
        last = body[-1]["error"] if isinstance(body, list) else body["message"]
        assert last
        assert digest_of(b"") not in [digest for digest, _ in world.engine.content.walk()]

    run(test, tmp_path)
