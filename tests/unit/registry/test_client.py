"""The registry client against our own server, and against servers that lie, break off, hang and loop."""

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from scow.content.store import ContentStore
from scow.errors import (
    DataLoss,
    DigestMismatch,
    EngineError,
    Forbidden,
    InvalidArgument,
    NotFound,
    System,
    Unauthorized,
    Unavailable,
)
from scow.oci.descriptor import Descriptor
from scow.oci.digest import digest_of
from scow.oci.mediatypes import OCI_MANIFEST
from scow.oci.reference import Reference
from scow.registry.auth import NOBODY, AuthConfig
from scow.registry.client import fetch, session
from scow.registry.client.auth import challenges
from scow.registry.client.endpoints import RegistryConfig, domain_of, endpoints, is_insecure
from scow.registry.client.registry import Registry
from scow.registry.server import main
from scow.registry.server.app import App
from scow.registry.server.htpasswd import Accounts
from scow.web.client import Timeouts
from scow.web.request import Request
from scow.web.response import Refusal, Response, json_response
from scow.web.router import Routes
from scow.web.server import Server

BLOB = bytes(range(256)) * 16384  # 4 MiB


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries are not what is tested."""
    monkeypatch.setattr(session, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(session, "LONGEST_PAUSE", 0.02)


@contextlib.asynccontextmanager
async def serving(server: Server) -> AsyncIterator[str]:
    """`server` on a free port of loopback; gives HOST:PORT."""
    sock = socket.create_server(("127.0.0.1", 0))
    await server.serve(sock)
    try:
        yield f"127.0.0.1:{sock.getsockname()[1]}"
    finally:
        await server.close(0.2)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(limited())


def plain_error(error: BaseException) -> tuple[int, bytes]:
    return getattr(error, "status", 500), json.dumps({"message": str(error)}).encode()


class World:
    """A registry made of handlers, and the client side's store."""

    def __init__(self, root: Path) -> None:
        self.content = ContentStore(root / "content")
        self.routes = Routes()
        self.requests: list[Request] = []
        self.routes.add("GET", "/v2/", self.ping)

    async def ping(self, world: object, request: Request) -> Response:
        return json_response({})

    def serve(self, method: str, path: str) -> Callable[[Any], Any]:
        def register(handler: Any) -> Any:
            async def noted(world: object, request: Request) -> Response:
                self.requests.append(request)
                response: Response = await handler(request)
                return response

            self.routes.add(method, path, noted)
            return handler

        return register

    def server(self) -> Server:
        return Server(self, self.routes, status_of=plain_error)


def descriptor(data: bytes = BLOB) -> Descriptor:
    return Descriptor("application/octet-stream", digest_of(data), len(data))


async def fetched(world: World, address: str, wanted: Descriptor, registry: Registry | None = None) -> bytes:
    """Fetch `wanted` from ``address/a``; what the content store has afterwards."""
    registry = registry or Registry()
    try:
        reference = Reference.parse(f"{address}/a:latest")
        await registry.fetch_blob(reference, wanted, lambda: world.content.open_ingest(wanted.digest))
        return world.content.read(wanted.digest)
    finally:
        await registry.close()


def manifest(config: bytes, *layers: bytes) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {**descriptor(config).to_json(), "mediaType": "application/vnd.oci.image.config.v1+json"},
        "layers": [{**descriptor(x).to_json(), "mediaType": "application/vnd.oci.image.layer.v1.tar"} for x in layers],
    }
    return json.dumps(document).encode()


# -- against our own server ----------------------------------------------------------------------------------------


def test_round_trip(tmp_path: Path) -> None:
    async def test() -> None:
        app = App.open(tmp_path / "registry")
        world = World(tmp_path)
        registry = Registry()
        async with serving(main.server(app)) as address:
            reference = Reference.parse(f"{address}/some/where:v1")
            config = b"{}"
            for data in (BLOB, config):
                assert not await registry.has_blob(reference, descriptor(data))
                assert await registry.push_blob(reference, descriptor(data), lambda data=data: io.BytesIO(data)) is None
                assert await registry.has_blob(reference, descriptor(data))
            data = manifest(config, BLOB)
            pushed = await registry.push_manifest(reference, data, OCI_MANIFEST)
            assert await registry.resolve(reference) == pushed
            assert await registry.fetch_manifest(reference, pushed) == (data, OCI_MANIFEST)
            assert (await registry.resolve(reference.with_digest(pushed.digest))).digest == pushed.digest
            assert await registry.tags(reference) == ["v1"]
            seen: list[int] = []
            ingest = world.content.open_ingest
            await registry.fetch_blob(reference, descriptor(), lambda: ingest("x"), arrived=seen.append)
            assert world.content.read(descriptor().digest) == BLOB
            assert seen == sorted(seen)
            assert seen[-1] == len(BLOB)
            other = Reference.parse(f"{address}/else:v1")
            source = await registry.push_blob(other, descriptor(), lambda: io.BytesIO(BLOB), mount_from=["some/where"])
            assert source == "some/where"
            assert await registry.search(f"{address}/wher") == [
                {
                    "name": f"{address}/some/where",
                    "description": "",
                    "star_count": 0,
                    "is_official": False,
                    "is_automated": False,
                }
            ]
        await registry.close()
        app.close()

    run(test)


def test_unknown_tag_and_repository_in_dockers_words(tmp_path: Path) -> None:
    async def test() -> None:
        registry = Registry()
        async with serving(main.server(App.open(tmp_path))) as address:
            with pytest.raises(NotFound, match=r"manifest for .*/x:nope not found: manifest unknown"):
                await registry.resolve(Reference.parse(f"{address}/x:nope"))
            with pytest.raises(NotFound, match="repository name not known"):
                await registry.tags(Reference.parse(f"{address}/x"))
        await registry.close()

    run(test)


def test_basic_credentials(tmp_path: Path) -> None:
    hashed = "{SHA}" + base64.b64encode(hashlib.sha1(b"pa:ss").digest()).decode()

    async def test() -> None:
        registry = Registry()
        async with serving(main.server(App.open(tmp_path, Accounts({"me": hashed})))) as address:
            reference = Reference.parse(f"{address}/x:v1")
            good = AuthConfig("me", "pa:ss", server=address)
            with pytest.raises(Unauthorized, match="unauthorized: authentication required"):
                await registry.resolve(reference)
            with pytest.raises(Unauthorized):
                await registry.resolve(reference, AuthConfig("me", "wrong"))
            with pytest.raises(NotFound):
                await registry.resolve(reference, good)
            assert await registry.check_login(good) == ""
            with pytest.raises(Unauthorized):
                await registry.check_login(AuthConfig("me", "wrong", server=address))
            await registry.push_blob(reference, descriptor(), lambda: io.BytesIO(BLOB), good)
            assert await registry.has_blob(reference, descriptor(), good)
        await registry.close()

    run(test)


def test_push_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    async def test() -> None:
        app = App.open(tmp_path)
        ranges: list[str] = []
        routes = Routes()
        for method, path, handler in main.all_routes().table():
            if method == "PATCH":

                async def flaky(app: App, request: Request, handler: Any = handler) -> Response:
                    ranges.append(request.headers.get("content-range", ""))
                    if len(ranges) > 1:
                        return await handler(app, request)  # type: ignore[no-any-return]
                    identity, taken = request.path["upload"], 0

                    async def part() -> AsyncIterator[bytes]:
                        nonlocal taken
                        async for piece in request.stream():
                            yield piece
                            taken += len(piece)
                            if taken > 1 << 20:
                                return

                    await app.uploads.append(identity, part())
                    raise Refusal(503, "crashed")

                routes.add(method, path, flaky)
            else:
                routes.add(method, path, handler)
        registry = Registry()
        async with serving(Server(app, routes, status_of=plain_error)) as address:
            reference = Reference.parse(f"{address}/x:v1")
            await registry.push_blob(reference, descriptor(), lambda: io.BytesIO(BLOB))
        assert app.content.read(descriptor().digest) == BLOB
        first, last = (int(part) for part in ranges[1].split("-"))
        assert first > 1 << 20
        assert last == len(BLOB) - 1
        await registry.close()
        app.close()

    run(test)


# -- blobs from servers that misbehave -----------------------------------------------------------------------------


def test_broken_off_download_is_continued(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)

        @world.serve("GET", "/v2/{name:path}/blobs/{digest}")
        async def blob(request: Request) -> Response:
            match = re.fullmatch(r"bytes=(\d+)-\d+", request.headers.get("range", ""))
            start = int(match[1]) if match else 0

            async def body() -> AsyncIterator[bytes]:
                yield BLOB[start : start + 1_000_000]
                if start + 1_000_000 < len(BLOB):
                    raise RuntimeError("broken off")

            headers = {"Content-Length": str(len(BLOB) - start)}
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(BLOB) - 1}/{len(BLOB)}"
            return Response(206 if start else 200, body(), headers)

        async with serving(world.server()) as address:
            assert await fetched(world, address, descriptor()) == BLOB
        assert len(world.requests) >= 5
        starts = [request.headers.get("range", "bytes=0-") for request in world.requests]
        assert len(set(starts)) == len(starts)

    run(test)


@pytest.mark.parametrize("ranges", [True, False])
def test_download_of_an_earlier_process_is_continued(tmp_path: Path, ranges: bool) -> None:
    async def test() -> None:
        world = World(tmp_path)
        with world.content.open_ingest(descriptor().digest) as ingest:
            ingest.write(BLOB[:3_000_000])

        @world.serve("GET", "/v2/{name:path}/blobs/{digest}")
        async def blob(request: Request) -> Response:
            assert request.headers["range"] == f"bytes=3000000-{len(BLOB) - 1}"
            if ranges:
                content_range = f"bytes 3000000-{len(BLOB) - 1}/{len(BLOB)}"
                return Response(206, BLOB[3_000_000:], {"Content-Range": content_range})
            return Response(200, BLOB)

        async with serving(world.server()) as address:
            assert await fetched(world, address, descriptor()) == BLOB
        assert len(world.requests) == 1

    run(test)


def test_damaged_leftover_is_fetched_anew(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        with world.content.open_ingest(descriptor().digest) as ingest:
            ingest.write(b"damaged" * 1000)

        @world.serve("GET", "/v2/{name:path}/blobs/{digest}")
        async def blob(request: Request) -> Response:
            match = re.fullmatch(r"bytes=(\d+)-\d+", request.headers.get("range", ""))
            if match:
                start = int(match[1])
                return Response(206, BLOB[start:], {"Content-Range": f"bytes {start}-{len(BLOB) - 1}/{len(BLOB)}"})
            return Response(200, BLOB)

        async with serving(world.server()) as address:
            assert await fetched(world, address, descriptor()) == BLOB
        assert len(world.requests) == 2

    run(test)


def refuse(
    tmp_path: Path, blob: Callable[[Request], Awaitable[Response]], error: type[EngineError], words: str
) -> None:
    """Fetching from a registry with this handler fails so, and leaves nothing visible."""

    async def test() -> None:
        world = World(tmp_path)
        world.serve("GET", "/v2/{name:path}/blobs/{digest}")(blob)
        async with serving(world.server()) as address:
            with pytest.raises(error, match=words):
                await fetched(world, address, descriptor())
        assert list(world.content.walk()) == []

    run(test)


def test_wrong_bytes_are_refused(tmp_path: Path) -> None:
    async def blob(request: Request) -> Response:
        return Response(200, b"x" * len(BLOB))

    refuse(tmp_path, blob, DigestMismatch, "altered or truncated")


def test_endless_bodies_are_cut(tmp_path: Path) -> None:
    async def blob(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 65536

        return Response(200, body())

    refuse(tmp_path, blob, DataLoss, "more than")


def test_lying_content_length_is_refused_before_a_byte_is_read(tmp_path: Path) -> None:
    async def blob(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"x"
            await asyncio.Event().wait()

        return Response(200, body(), {"Content-Length": str(1 << 50)})

    refuse(tmp_path, blob, DataLoss, "announces")


def test_too_few_bytes_again_and_again(tmp_path: Path) -> None:
    async def blob(request: Request) -> Response:
        return Response(200, BLOB[:1000])

    refuse(tmp_path, blob, Unavailable, "1000 of")


def test_a_part_nobody_asked_for(tmp_path: Path) -> None:
    async def blob(request: Request) -> Response:
        return Response(206, BLOB[500:], {"Content-Range": f"bytes 500-{len(BLOB) - 1}/{len(BLOB)}"})

    refuse(tmp_path, blob, Unavailable, "not asked for")


def test_missing_blob(tmp_path: Path) -> None:
    async def blob(request: Request) -> Response:
        return Response(404, b'{"errors":[{"code":"BLOB_UNKNOWN","message":"gone\\u0007 away"}]}')

    refuse(tmp_path, blob, NotFound, "blob unknown: gone  away")


def test_redirect_loops_end(tmp_path: Path) -> None:
    async def blob(request: Request) -> Response:
        return Response(307, b"", {"Location": request.target})

    refuse(tmp_path, blob, System, "redirected more than")


def test_silence_ends_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "TIMEOUTS", Timeouts(connect=1, read=0.1))
    monkeypatch.setattr(session, "PATIENCE", 0.0)

    async def blob(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield BLOB[:10]
            await asyncio.Event().wait()

        return Response(200, body())

    monkeypatch.setattr(fetch, "PATIENCE", 0.0)
    refuse(tmp_path, blob, Unavailable, r"sent nothing for 0\.1 seconds")


def test_busy_registries_are_asked_again(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)

        @world.serve("GET", "/v2/{name:path}/blobs/{digest}")
        async def blob(request: Request) -> Response:
            if len(world.requests) < 3:
                return Response(429 if len(world.requests) == 1 else 503, b"", {"Retry-After": "0"})
            return Response(200, BLOB)

        async with serving(world.server()) as address:
            assert await fetched(world, address, descriptor()) == BLOB
        assert len(world.requests) == 3

    run(test)


def test_credentials_do_not_follow_a_redirect_elsewhere(tmp_path: Path) -> None:
    async def test() -> None:
        world, storage = World(tmp_path / "a"), World(tmp_path / "b")
        places: list[str] = []

        @world.serve("GET", "/v2/{name:path}/blobs/{digest}")
        async def blob(request: Request) -> Response:
            if "authorization" not in request.headers:
                return Response(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
            return Response(307, b"", {"Location": f"http://{places[0]}/raw"})

        @storage.serve("GET", "/raw")
        async def raw(request: Request) -> Response:
            return Response(200, BLOB)

        async with serving(world.server()) as address, serving(storage.server()) as where:
            places.append(where)
            registry = Registry()
            reference = Reference.parse(f"{address}/a:latest")
            ingest = world.content.open_ingest
            await registry.fetch_blob(reference, descriptor(), lambda: ingest("x"), AuthConfig("me", "secret"))
            await registry.close()
        assert world.requests[-1].headers["authorization"].startswith("Basic ")
        assert "authorization" not in storage.requests[0].headers

    run(test)


# -- manifests -----------------------------------------------------------------------------------------------------


def serve_manifest(world: World, data: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
    async def answer(request: Request) -> Response:
        return Response(status, data, headers or {}, OCI_MANIFEST)

    world.serve("GET", "/v2/{name:path}/manifests/{reference}")(answer)
    world.serve("HEAD", "/v2/{name:path}/manifests/{reference}")(answer)


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"not json", System, "sent no manifest"),
        (b"x" * (5 << 20), System, "larger than"),
        (b'{"schemaVersion":1}', EngineError, "schema 1"),
    ],
)
def test_hostile_manifests(tmp_path: Path, data: bytes, error: type[EngineError], words: str) -> None:
    async def test() -> None:
        world = World(tmp_path)
        serve_manifest(world, data)
        async with serving(world.server()) as address:
            registry = Registry()
            with pytest.raises(error, match=words):
                await registry.resolve(Reference.parse(f"{address}/a:latest"))
            await registry.close()

    run(test)


def test_another_manifest_than_asked_for(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        data = manifest(b"{}", b"layer")
        serve_manifest(world, data)
        wanted = digest_of(b"something else")
        async with serving(world.server()) as address:
            registry = Registry()
            reference = Reference.parse(f"{address}/a@{wanted}")
            with pytest.raises(DigestMismatch):
                await registry.resolve(reference)
            with pytest.raises(DigestMismatch):
                await registry.fetch_manifest(reference, Descriptor(OCI_MANIFEST, wanted, 10))
            await registry.close()

    run(test)


def test_digest_is_computed_when_the_registry_names_none(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        data = manifest(b"{}", b"layer")
        serve_manifest(world, data)
        async with serving(world.server()) as address:
            registry = Registry()
            found = await registry.resolve(Reference.parse(f"{address}/a:latest"))
            assert found == Descriptor(OCI_MANIFEST, digest_of(data), len(data))
            await registry.close()

    run(test)


# -- tokens --------------------------------------------------------------------------------------------------------


def token_world(tmp_path: Path, granted: str = "good") -> World:
    """A registry that wants a bearer token of its own service."""
    world = World(tmp_path)
    data = manifest(b"{}", b"layer")

    def challenge(request: Request) -> Response | None:
        if request.headers.get("authorization") == "Bearer good":
            return None
        realm = f"http://{request.headers['host']}/token"
        scope = ',scope="repository:a:pull"' if "/a/" in request.target else ""
        body = b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}'
        return Response(401, body, {"WWW-Authenticate": f'Bearer realm="{realm}",service="here"{scope}'})

    async def ping(request: Request) -> Response:
        return challenge(request) or json_response({})

    world.routes = Routes()
    world.serve("GET", "/v2/")(ping)

    async def answer(request: Request) -> Response:
        return challenge(request) or Response(200, data, {"Docker-Content-Digest": digest_of(data)}, OCI_MANIFEST)

    world.serve("GET", "/v2/{name:path}/manifests/{reference}")(answer)
    world.serve("HEAD", "/v2/{name:path}/manifests/{reference}")(answer)
    world.serve("POST", "/v2/{name:path}/blobs/uploads/")(answer)

    @world.serve("GET", "/token")
    async def token(request: Request) -> Response:
        authorization = request.headers.get("authorization")
        if authorization and authorization != AuthConfig("me", "secret").basic():
            return Response(401)
        return json_response({"token": granted, "expires_in": 300, "refresh_token": "refresh"})

    @world.serve("POST", "/token")
    async def refresh(request: Request) -> Response:
        form = parse_qs((await request.body()).decode())
        assert form["grant_type"] == ["refresh_token"]
        return json_response({"access_token": granted if form["refresh_token"] == ["refresh"] else "bad"})

    return world


def test_token_dance_asks_once_and_remembers(tmp_path: Path) -> None:
    async def test() -> None:
        world = token_world(tmp_path)
        async with serving(world.server()) as address:
            registry = Registry()
            reference = Reference.parse(f"{address}/a:latest")
            for _ in range(3):
                await registry.resolve(reference)
            tokens = [request for request in world.requests if request.target.startswith("/token")]
            assert len(tokens) == 1
            assert tokens[0].query.text("service") == "here"
            assert tokens[0].query.text("scope") == "repository:a:pull"
            await registry.resolve(reference, AuthConfig("me", "secret"))
            tokens = [request for request in world.requests if request.target.startswith("/token")]
            assert (len(tokens), tokens[1].query.text("account")) == (2, "me")
            await registry.resolve(reference, AuthConfig(identity_token="refresh"))
            with pytest.raises(Unauthorized, match="incorrect username or password"):
                await registry.resolve(reference, AuthConfig("me", "wrong"))
            assert await registry.check_login(AuthConfig("me", "secret", server=address)) == "refresh"
            await registry.close()

    run(test)


def test_a_token_that_opens_nothing_is_access_denied(tmp_path: Path) -> None:
    async def test() -> None:
        world = token_world(tmp_path, granted="useless")
        async with serving(world.server()) as address:
            registry = Registry()
            words = r"pull access denied for .*/a, repository does not exist or may require 'docker login'"
            with pytest.raises(NotFound, match=words):
                await registry.resolve(Reference.parse(f"{address}/a:latest"))
            with pytest.raises(Forbidden, match="denied: requested access to the resource is denied"):
                await registry.push_blob(Reference.parse(f"{address}/a:1"), descriptor(), lambda: io.BytesIO(BLOB))
            await registry.close()

    run(test)


@pytest.mark.parametrize("answer", [b"[]", b'{"token": 5}', b'{"token": "a\\r\\nX: y"}', b"x" * (2 << 20)])
def test_hostile_token_services(tmp_path: Path, answer: bytes) -> None:
    async def test() -> None:
        world = World(tmp_path)
        world.routes = Routes()

        @world.serve("GET", "/v2/")
        async def ping(request: Request) -> Response:
            realm = f"http://{request.headers['host']}/token"
            return Response(401, b"", {"WWW-Authenticate": f'Bearer realm="{realm}"'})

        @world.serve("GET", "/token")
        async def token(request: Request) -> Response:
            return Response(200, answer)

        async with serving(world.server()) as address:
            registry = Registry()
            with pytest.raises((Unavailable, System), match=r"no token|larger than"):
                await registry.resolve(Reference.parse(f"{address}/a:latest"))
            await registry.close()

    run(test)


def test_challenges_are_read() -> None:
    found = challenges('Bearer realm="https://x/t?a=1,2",service="s \\"q\\"" , Basic realm=plain')
    assert [(c.scheme, dict(c.parameters)) for c in found] == [
        ("bearer", {"realm": "https://x/t?a=1,2", "service": 's "q"'}),
        ("basic", {"realm": "plain"}),
    ]
    assert challenges("Negotiate abc") == []
    assert challenges("") == []


def test_auth_header_forms() -> None:
    def header(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()

    auth = AuthConfig.from_header(header({"username": "me", "password": "s", "serveraddress": "x:5000"}))
    assert auth == AuthConfig("me", "s", server="x:5000")
    assert "s'" not in repr(auth)
    assert AuthConfig.from_header(header({"auth": base64.b64encode(b"me:a:b").decode()})).password == "a:b"
    assert AuthConfig.from_header(header({"identitytoken": "t"}).rstrip("=")).identity_token == "t"
    assert AuthConfig.from_header("") is not None
    assert not AuthConfig.from_header("e30=").known
    assert not AuthConfig.from_header(header(None)).known
    for bad in ("!!!", header([1]), header({"username": 5}), base64.b64encode(b"[" * 100_000).decode()[:60_000]):
        with pytest.raises(InvalidArgument):
            AuthConfig.from_header(bad)


# -- endpoints -----------------------------------------------------------------------------------------------------


def test_endpoints() -> None:
    config = RegistryConfig(insecure=["lab.example", "10.0.0.0/8"], mirrors=["http://127.0.0.1:5001/"])

    def urls(domain: str, reading: bool = True) -> list[tuple[str, bool]]:
        return [(endpoint.url, endpoint.verify) for endpoint in endpoints(domain, config, reading=reading)]

    assert urls("example.org") == [("https://example.org", True)]
    assert urls("lab.example:5000") == [("https://lab.example:5000", False), ("http://lab.example:5000", False)]
    assert urls("10.1.2.3") == [("https://10.1.2.3", False), ("http://10.1.2.3", False)]
    assert urls("localhost:5000")[1] == ("http://localhost:5000", False)
    assert urls("[::1]:5000")[1] == ("http://[::1]:5000", False)
    assert urls("docker.io")[0][0] == "http://127.0.0.1:5001"
    assert len(urls("docker.io")) == 2
    assert len(urls("docker.io", reading=False)) == 1
    assert is_insecure("127.9.9.9:1", config)
    assert not is_insecure("11.0.0.1", config)
    assert domain_of("https://x:5000/v1/") == "x:5000"
    assert domain_of("") == domain_of("https://index.docker.io/v1/") == "docker.io"


def test_mirror_serves_the_default_domain_without_credentials(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        data = manifest(b"{}", b"layer")
        serve_manifest(world, data, {"Docker-Content-Digest": digest_of(data)})
        async with serving(world.server()) as address:
            registry = Registry(RegistryConfig(mirrors=[f"http://{address}"]))
            found = await registry.resolve(Reference.parse("busybox"), AuthConfig("me", "secret"))
            assert found.digest == digest_of(data)
            assert world.requests[0].target == "/v2/library/busybox/manifests/latest"
            assert "authorization" not in world.requests[0].headers
            await registry.close()

    run(test)


def test_nobody_listening_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def test() -> None:
        registry = Registry()
        with pytest.raises(Unavailable, match=rf"cannot reach registry 127\.0\.0\.1:{port}: connection refused"):
            await registry.resolve(Reference.parse(f"127.0.0.1:{port}/a"), NOBODY)
        await registry.close()

    run(test)


def test_something_else_than_a_registry(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        world.routes = Routes()
        async with serving(Server(world, world.routes, status_of=lambda e: (404, b""))) as address:
            registry = Registry()
            with pytest.raises(Unavailable, match="it is not a registry"):
                await registry.resolve(Reference.parse(f"{address}/a"))
            await registry.close()

    run(test)
