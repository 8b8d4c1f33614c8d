"""The registry server over HTTP: the distribution specification, clause by clause, and clients that lie."""

import asyncio
import base64
import errno
import hashlib
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from scow.content import ingest as ingests
from scow.oci.mediatypes import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from scow.registry.server import collect, main
from scow.registry.server.app import App
from scow.registry.server.htpasswd import Accounts
from scow.web.client import Answer, HttpClient


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Peer:
    """A raw client of one registry."""

    def __init__(self, app: App, url: str) -> None:
        self.app = app
        self.url = url
        self.http = HttpClient()

    async def __call__(self, method: str, path: str, body: Any = b"", **headers: str) -> "Seen":
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        url = path if path.startswith("http") else self.url + path
        async with await self.http.request(method, url, headers=sent, body=body) as answer:
            return Seen(answer, await answer.read())

    async def push_blob(self, name: str, data: bytes) -> str:
        seen = await self("POST", f"/v2/{name}/blobs/uploads/?digest={digest_of(data)}", data)
        assert seen.status == 201, seen.body
        return digest_of(data)

    async def push_image(self, name: str, tag: str, layer: bytes = b"layer", **more: Any) -> tuple[str, bytes]:
        config = json.dumps({"os": "linux", "architecture": "amd64"}).encode()
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [descriptor(layer, "application/vnd.oci.image.layer.v1.tar+gzip")],
        } | more
        for blob in (config, layer):
            await self.push_blob(name, blob)
        data = json.dumps(document).encode()
        seen = await self("PUT", f"/v2/{name}/manifests/{tag}", data, content_type=OCI_MANIFEST)
        assert seen.status == 201, seen.body
        return digest_of(data), data


class Seen:
    def __init__(self, answer: Answer, body: bytes) -> None:
        self.status, self.headers, self.body = answer.status, answer.headers, body

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["errors"][0]["code"])


def descriptor(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def run(
    test: Callable[[Peer], Awaitable[None]], root: Path, accounts: dict[str, str] | None = None, **options: Any
) -> None:
    async def go() -> None:
        app = App.open(root, Accounts(accounts) if accounts else None, **options)
        server = main.server(app)
        sock = socket.create_server(("127.0.0.1", 0))
        await server.serve(sock)
        peer = Peer(app, f"http://127.0.0.1:{sock.getsockname()[1]}")
        try:
            async with asyncio.timeout(60):
                await test(peer)
        finally:
            await peer.http.close()
            await server.close(0.5)
            app.close()

    asyncio.run(go())


def test_version_check_and_header(tmp_path: Path) -> None:
    async def test(peer: Peer) -> None:
        seen = await peer("GET", "/v2/")
        assert (seen.status, seen.headers["docker-distribution-api-version"]) == (200, "registry/2.0")

    run(test, tmp_path)


def test_blob_in_one_request(tmp_path: Path) -> None:
    async def test(peer: Peer) -> None:
        digest = await peer.push_blob("a/b", b"hello")
        seen = await peer("GET", f"/v2/a/b/blobs/{digest}")
        assert (seen.status, seen.body, seen.headers["docker-content-digest"]) == (200, b"hello", digest)
        seen = await peer("HEAD", f"/v2/a/b/blobs/{digest}")
        assert (seen.status, seen.headers["content-length"]) == (200, "5")
        assert (await peer("HEAD", f"/v2/other/blobs/{digest}")).status == 404

    run(test, tmp_path)


def test_blob_in_chunks_with_status_and_order(tmp_path: Path) -> None:
    async def test(peer: Peer) -> None:
        start = await peer("POST", "/v2/a/blobs/uploads/")
        assert start.status == 202
        place = start.headers["location"]
        first = await peer("PATCH", place, b"hello ", content_range="0-5")
        assert (first.status, first.headers["range"]) == (202, "0-5")
        assert (await peer("PATCH", place, b"x", content_range="3-3")).status == 416
        assert (await peer("PATCH", place, b"xyz", content_range="6-6")).code == "SIZE_INVALID"
        status = await peer("GET", place)
        assert (status.status, status.headers["range"]) == (204, "0-5")
        assert (await peer("PATCH", place, b"wor", content_range="6-8")).headers["range"] == "0-8"
        done = await peer("PUT", f"{place}?digest={digest_of(b'hello world')}", b"ld", content_range="9-10")
        assert (done.status, done.headers["docker-content-digest"]) == (201, digest_of(b"hello world"))
        assert (await peer("GET", done.headers["location"])).body == b"hello world"
        assert (await peer("GET", place)).code == "BLOB_UPLOAD_UNKNOWN"

    run(test, tmp_path)


def test_upload_survives_a_restart(tmp_path: Path) -> None:
    place = ""

    async def begin(peer: Peer) -> None:
        nonlocal place
        place = (await peer("POST", "/v2/a/blobs/uploads/")).headers["location"]
        await peer("PATCH", place, b"first half, ")

    async def end(peer: Peer) -> None:
        assert (await peer("GET", place)).headers["range"] == "0-11"
        whole = b"first half, second half"
        assert (await peer("PUT", f"{place}?digest={digest_of(whole)}", b"second half")).status == 201

    run(begin, tmp_path)
    run(end, tmp_path)


def test_upload_keeps_what_came_before_the_client_vanished(tmp_path: Path) -> None:
    async def test(peer: Peer) -> None:
        place = (await peer("POST", "/v2/a/blobs/uploads/")).headers["location"]
        host, port = peer.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"PATCH {place} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n".encode() + b"y" * 400)
        await writer.drain()
        writer.close()
        while (await peer("GET", place)).headers["range"] != "0-399":
            await asyncio.sleep(0.01)
        seen = await peer("PUT", f"{place}?digest={digest_of(b'y' * 1000)}", b"y" * 600)
        assert seen.status == 201

    run(test, tmp_path)


def test_wrong_digest_leaves_nothing(tmp_path: Path) -> None:
    async def test(peer: Peer) -> None:
        seen = await peer("POST", f"/v2/a/blobs/uploads/?digest={digest_of(b'other')}", b"data")
        assert (seen.status, seen.code) == (400, "DIGEST_INVALID")
        assert list(peer.app.content.walk()) == []
        assert (await peer("HEAD", f"/v2/a/blobs/{digest_of(b'data')}")).status == 404

    run(test, tmp_path)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v2/UPPER/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/a%2F..%2Fb/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/../../etc/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/_uploads/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/" + "a" * 256 + "/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/a/tags/list", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/a/blobs/sha256:zz", 400, "DIGEST_INVALID"),
        ("GET", "/v2/a/blobs/" + digest_of(b""), 404, "BLOB_UNKNOWN"),
        ("GET", "/v2/a/manifests/latest", 404, "MANIFEST_UNKNOWN"),
        ("GET", "/v2/a/manifests/" + digest_of(b""), 404, "MANIFEST_UNKNOWN"),
        ("GET", "/v2/a/manifests/..%2F..%2Fx", 400, "DIGEST_INVALID"),
        ("PUT", "/v2/a/manifests/-x", 400, "DIGEST_INVALID"),
        ("PUT", "/v2/a/manifests/x", 400, "MANIFEST_INVALID"),
        ("GET", "/v2/a/blobs/uploads/..%2F..%2Flock", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("PATCH", "/v2/a/blobs/uploads/" + "0" * 36, 404, "BLOB_UPLOAD_UNKNOWN"),
        ("GET", "/v2/_catalog?n=x", 400, "PAGINATION_NUMBER_INVALID"),
        ("GET", "/v1/search", 404, "NAME_UNKNOWN"),
        ("POST", "/v2/", 405, "UNSUPPORTED"),
    ],
)
def test_errors_have_the_codes_of_the_specification(
    tmp_path: Path, method: str, path: str, status: int, code: str
) -> None:
    async def test(peer: Peer) -> None:
        seen = await peer(method, path)
        assert (seen.status, seen.code) == (status, code)

    run(test, tmp_path)


@pytest.mark.parametrize(
    ("wanted", "status", "body", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, None, None),
        ("bytes=5-2", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
def test_ranges(tmp_path: Path, wanted: str, status: int, body: bytes | None, content_range: str | None) -> None:
    async def test(peer: Peer) -> None:
        digest = await peer.push_blob("a", b"0123456789")
        seen = await peer("GET", f"/v2/a/blobs/{digest}", range=wanted)
        assert seen.status == status
        assert seen.headers.get("content-range") == content_range
        if body is not None:
            assert seen.body == body

    run(test, tmp_path)


def test_mount_between_repositories(tmp_path: Path) -> None:
    async def test(peer: Peer) -> None:
        digest = await peer.push_blob("a", b"shared")
        seen = await peer("POST", f"/v2/b/blobs/uploads/?mount={digest}&from=a")
        assert seen.status == 201
        assert (await peer("GET", seen.headers["location"])).body == b"shared"
        assert (await peer("POST", f"/v2/c/blobs/uploads/?mount={digest}&from=nowhere")).status == 202
        assert (await peer("POST", f"/v2/c/blobs/uploads/?mount={digest}")).status == 202
        assert (await peer("HEAD", f"/v2/c/blobs/{digest}")).status == 404

    run(test, tmp_path)


def test_cancelled_upload_is_gone(tmp_path: Path) -> None:
    async def test(peer: Peer) -> None:
        place = (await peer("POST", "/v2/a/blobs/uploads/")).headers["location"]
        await peer("PATCH", place, b"data")
        assert (await peer("DELETE", place)).status == 204
        assert (await peer("GET", place)).status == 404
        assert not any((tmp_path / "content" / "ingest").iterdir())

    run(test, tmp_path)


def test_an_upload_belongs_to_its_repository(tmp_path: Path) -> None:
    async def test(peer: Peer) -> None:
        place = (await peer("POST", "/v2/a/blobs/uploads/")).headers["location"]
        assert (await peer("PATCH", place.replace("/v2/a/", "/v2/b/"), b"data")).status == 404

    run(test, tmp_path)


def test_manifest_by_tag_and_digest_keeps_bytes_and_type(tmp_path: Path) -> None:
    async def test(peer: Peer) -> None:
        digest, data = await peer.push_image("a/b", "v1")
        for reference in ("v1", digest):
            seen = await peer("GET", f"/v2/a/b/manifests/{reference}")
            assert (seen.body, seen.headers["content-type"]) == (data, OCI_MANIFEST)
            assert seen.headers["docker-content-digest"] == digest
            seen = await peer("HEAD", f"/v2/a/b/manifests/{reference}")
            assert (seen.status, seen.headers["content-length"], seen.body) == (200, str(len(data)), b"")
        other, _ = await peer.push_image("a/b", "v1", b"another layer")
        assert (await peer("HEAD", "/v2/a/b/manifests/v1")).headers["docker-content-digest"] == other
        assert (await peer("HEAD", f"/v2/a/b/manifests/{digest}")).status == 200

    run(test, tmp_path)


def test_manifest_without_its_blobs_is_refused(tmp_path: Path) -> None:
    async def test(peer: Peer) -> None:
        _, data = await peer.push_image("a", "v1")
        seen = await peer("PUT", "/v2/b/manifests/v1", data, content_type=OCI_MANIFEST)
        assert (seen.status, seen.code) == (400, "MANIFEST_BLOB_UNKNOWN")
        assert (await peer("GET", "/v2/b/manifests/v1")).status == 404
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(data, OCI_MANIFEST)]}
        body = json.dumps(index).encode()
        assert (await peer("PUT", "/v2/b/manifests/i", body, content_type=OCI_INDEX)).code == "MANIFEST_BLOB_UNKNOWN"
        assert (await peer("PUT", "/v2/a/manifests/i", body, content_type=OCI_INDEX)).status == 201

    run(test, tmp_path)


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (b"", OCI_MANIFEST),
        (b"[]", OCI_MANIFEST),
        (b"{" * 5000, OCI_MANIFEST),
        (b'{"schemaVersion":1,"fsLayers":[]}', "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        (b'{"schemaVersion":2,"mediaType":"' + DOCKER_MANIFEST.encode() + b'","config":{},"layers":[]}', OCI_MANIFEST),
        (
            b'{"schemaVersion":2,"config":{"digest":"sha256:../../x","size":1,"mediaType":"x"},"layers":[]}',
            OCI_MANIFEST,
        ),
    ],
)
def test_hostile_manifests_are_refused(tmp_path: Path, data: bytes, content_type: str) -> None:
    async def test(peer: Peer) -> None:
        seen = await peer("PUT", "/v2/a/manifests/x", data, content_type=content_type)
        assert (seen.status, seen.code) == (400, "MANIFEST_INVALID")

    run(test, tmp_path)


def test_manifest_over_the_limit(tmp_path: Path) -> None:
    async def test(peer: Peer) -> None:
        seen = await peer("PUT", "/v2/a/manifests/x", b" " * (4 << 20) + b"{}", content_type=OCI_MANIFEST)
        assert (seen.status, seen.code) == (400, "SIZE_INVALID")

    run(test, tmp_path)


def test_put_by_digest_must_match(tmp_path: Path) -> None:
    async def test(peer: Peer) -> None:
        digest, data = await peer.push_image("a", "v1")
        wrong = await peer("PUT", f"/v2/a/manifests/{digest_of(b'x')}", data, content_type=OCI_MANIFEST)
        assert wrong.code == "DIGEST_INVALID"
        assert (await peer("PUT", f"/v2/a/manifests/{digest}", data, content_type=OCI_MANIFEST)).status == 201

    run(test, tmp_path)


def test_tags_and_catalog_come_in_pages(tmp_path: Path) -> None:
    async def test(peer: Peer) -> None:
        for tag in ("c", "a", "b"):
            await peer.push_image("z/one", tag)
        await peer.push_image("y", "a")
        seen = await peer("GET", "/v2/z/one/tags/list")
        assert json.loads(seen.body) == {"name": "z/one", "tags": ["a", "b", "c"]}
        assert "link" not in seen.headers
        seen = await peer("GET", "/v2/z/one/tags/list?n=2")
        assert json.loads(seen.body)["tags"] == ["a", "b"]
        link = seen.headers["link"].partition(">")[0].removeprefix("<")
        assert json.loads((await peer("GET", link)).body)["tags"] == ["c"]
        assert json.loads((await peer("GET", "/v2/z/one/tags/list?n=0")).body)["tags"] == []
        assert json.loads((await peer("GET", "/v2/_catalog")).body) == {"repositories": ["y", "z/one"]}
        assert json.loads((await peer("GET", "/v2/_catalog?last=y")).body) == {"repositories": ["z/one"]}

    run(test, tmp_path)


def test_referrers_with_filter(tmp_path: Path) -> None:
    async def test(peer: Peer) -> None:
        digest, data = await peer.push_image("a", "v1")
        subject = descriptor(data, OCI_MANIFEST)
        first, _ = await peer.push_image("a", "s1", subject=subject, artifactType="x/sbom", annotations={"k": "v"})
        second, _ = await peer.push_image("a", "s2", subject=subject)
        seen = await peer("GET", f"/v2/a/referrers/{digest}")
        found = {entry["digest"]: entry for entry in json.loads(seen.body)["manifests"]}
        assert seen.headers["content-type"] == OCI_INDEX
        assert set(found) == {first, second}
        assert found[first]["artifactType"] == "x/sbom"
        assert found[first]["annotations"] == {"k": "v"}
        assert found[second]["artifactType"] == "application/vnd.oci.image.config.v1+json"
        seen = await peer("GET", f"/v2/a/referrers/{digest}?artifactType=x/sbom")
        assert [entry["digest"] for entry in json.loads(seen.body)["manifests"]] == [first]
        assert seen.headers["oci-filters-applied"] == "artifactType"
        await peer("DELETE", f"/v2/a/manifests/{first}")
        seen = await peer("GET", f"/v2/a/referrers/{digest}")
        assert [entry["digest"] for entry in json.loads(seen.body)["manifests"]] == [second]
        assert json.loads((await peer("GET", f"/v2/a/referrers/{digest_of(b'')}")).body)["manifests"] == []

    run(test, tmp_path)


def test_subject_is_acknowledged(tmp_path: Path) -> None:
    async def test(peer: Peer) -> None:
        _, data = await peer.push_image("a", "v1")
        document = json.loads(data) | {"subject": descriptor(b"not here yet", OCI_MANIFEST)}
        seen = await peer("PUT", "/v2/a/manifests/s", json.dumps(document).encode(), content_type=OCI_MANIFEST)
        assert (seen.status, seen.headers["oci-subject"]) == (201, digest_of(b"not here yet"))

    run(test, tmp_path)


def test_deleting(tmp_path: Path) -> None:
    async def test(peer: Peer) -> None:
        digest, _ = await peer.push_image("a", "v1")
        await peer.push_image("a", "v2")
        assert (await peer("DELETE", "/v2/a/manifests/v1")).status == 202
        assert (await peer("GET", "/v2/a/manifests/v1")).status == 404
        assert (await peer("GET", "/v2/a/manifests/v2")).status == 200
        assert (await peer("DELETE", f"/v2/a/manifests/{digest}")).status == 202
        assert (await peer("GET", "/v2/a/manifests/v2")).status == 404
        assert (await peer("DELETE", f"/v2/a/manifests/{digest}")).status == 404
        blob = await peer.push_blob("a", b"blob")
        assert (await peer("DELETE", f"/v2/a/blobs/{blob}")).status == 202
        assert (await peer("GET", f"/v2/a/blobs/{blob}")).status == 404

    run(test, tmp_path)


def test_deleting_can_be_switched_off(tmp_path: Path) -> None:
    async def test(peer: Peer) -> None:
        digest, _ = await peer.push_image("a", "v1")
        assert (await peer("DELETE", f"/v2/a/manifests/{digest}")).status == 405
        assert (await peer("GET", "/v2/a/manifests/v1")).status == 200

    run(test, tmp_path, deletable=False)


def test_everything_asks_for_credentials(tmp_path: Path) -> None:
    hashed = "{SHA}" + base64.b64encode(hashlib.sha1(b"secret").digest()).decode()

    async def test(peer: Peer) -> None:
        for path in ("/v2/", "/v2/_catalog", "/v2/a/tags/list", f"/v2/a/blobs/{digest_of(b'')}"):
            seen = await peer("GET", path)
            assert (seen.status, seen.code) == (401, "UNAUTHORIZED")
            assert seen.headers["www-authenticate"].startswith("Basic realm=")
        for pair, status in (("me:secret", 200), ("me:wrong", 401), ("you:secret", 401), ("me", 401)):
            token = base64.b64encode(pair.encode()).decode()
            assert (await peer("GET", "/v2/", authorization=f"Basic {token}")).status == status
        for nonsense in ("Basic !!!", "Basic", "Bearer x", "Basic " + "A" * 9000):
            assert (await peer("GET", "/v2/", authorization=nonsense)).status == 401

    run(test, tmp_path, accounts={"me": hashed})


def test_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def test(peer: Peer) -> None:
        place = (await peer("POST", "/v2/a/blobs/uploads/")).headers["location"]
        monkeypatch.setattr(ingests, "write_all", full)
        seen = await peer("PATCH", place, b"data")
        assert seen.status == 507
        assert "no space left" in json.loads(seen.body)["errors"][0]["message"]
        monkeypatch.undo()
        assert list(peer.app.content.walk()) == []
        assert (await peer("GET", place)).status == 404

    run(test, tmp_path)


def test_garbage_collection_keeps_what_is_needed(tmp_path: Path) -> None:
    async def test(peer: Peer) -> None:
        kept, _ = await peer.push_image("a", "v1", b"kept layer")
        untagged, _ = await peer.push_image("a", "v2", b"untagged layer")
        await peer("DELETE", "/v2/a/manifests/v2")
        gone, _ = await peer.push_image("b/c", "v1", b"lost layer")
        await peer("DELETE", f"/v2/b/c/manifests/{gone}")
        stray = await peer.push_blob("d", b"never used")
        repositories = peer.app.repositories
        plan = collect.plan(repositories)
        assert set(plan.blobs) == {gone, digest_of(b"lost layer"), stray}
        collect.apply(repositories, plan)
        assert (await peer("GET", f"/v2/a/blobs/{digest_of(b'kept layer')}")).body == b"kept layer"
        assert (await peer("GET", f"/v2/a/manifests/{untagged}")).status == 200
        assert (await peer("HEAD", f"/v2/d/blobs/{stray}")).status == 404
        plan = collect.plan(repositories, untagged=True)
        assert set(plan.blobs) == {untagged, digest_of(b"untagged layer")}
        collect.apply(repositories, plan)
        assert (await peer("GET", "/v2/a/manifests/v1")).headers["docker-content-digest"] == kept
        assert (await peer("GET", f"/v2/a/manifests/{untagged}")).status == 404

    run(test, tmp_path)


def test_concurrent_chunks_do_not_mix(tmp_path: Path) -> None:
    async def test(peer: Peer) -> None:
        place = (await peer("POST", "/v2/a/blobs/uploads/")).headers["location"]

        async def slowly() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b"a" * 1000
                await asyncio.sleep(0.005)

        first = asyncio.create_task(peer("PATCH", place, slowly()))
        await asyncio.sleep(0.03)
        second = asyncio.create_task(peer("PATCH", place, b"b" * 1000))
        await asyncio.gather(first, second)
        whole = [b"a" * 20_000 + b"b" * 1000, b"b" * 1000 + b"a" * 20_000]
        seen = [await peer("PUT", f"{place}?digest={digest_of(data)}") for data in whole[:1]]
        assert seen[0].status == 201

    run(test, tmp_path)


def test_what_a_killed_registry_left_half_written_is_swept(tmp_path: Path) -> None:
    folder = tmp_path / "repositories" / "a" / "b" / "_tags"
    folder.mkdir(parents=True)
    (folder / "latest").write_text("sha256:" + "0" * 64)
    half = folder / "latest.4242.tmp"
    half.write_text("sha25")
    App.open(tmp_path).close()
    assert [entry.name for entry in folder.iterdir()] == ["latest"]
