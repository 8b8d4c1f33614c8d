"""Pull and push between an image store and our own registry: bytes, names, progress, resumption, lies."""

import asyncio
import contextlib
import gzip
import hashlib
import io
import json
import socket
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from scow.content.store import ContentStore
from scow.errors import DigestMismatch, EngineError, InvalidArgument, NotFound, Unsupported
from scow.images.pull import pull, pull_all
from scow.images.push import push, references
from scow.images.store import Images
from scow.oci.digest import digest_of
from scow.oci.mediatypes import OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST
from scow.oci.platform import Platform, host_platform
from scow.oci.reference import Reference
from scow.registry.client.registry import Registry
from scow.registry.server import main
from scow.registry.server.app import App
from scow.snapshots.plain import PlainSnapshotter


def layer(name: str, data: bytes) -> tuple[bytes, str]:
    """A gzipped layer with one file, and its diff id."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return gzip.compress(plain.getvalue(), 1, mtime=0), digest_of(plain.getvalue())


class World:
    """A registry that serves, and an image store of the client's side."""

    def __init__(self, app: App, address: str, root: Path) -> None:
        self.app = app
        self.address = address
        self.images = store(root)
        self.registry = Registry()
        self.messages: list[dict[str, Any]] = []

    def publish(
        self, name: str, tag: str, *layers: tuple[bytes, str], platform: Platform | None = None, **lies: Any
    ) -> str:
        """Put an image straight into the registry's store; the manifest's digest."""
        repository = self.app.repositories.get(name)
        machine = platform or host_platform()
        config = {
            "os": machine.os,
            "architecture": machine.architecture,
            "variant": machine.variant,
            "config": {"Cmd": ["/x"], "Labels": {"who": "me"}},
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
        } | lies.get("config", {})
        blobs = [json.dumps(config).encode(), *(data for data, _ in layers)]
        for blob in blobs:
            self.app.content.write(blob)
            repository.link_blob(digest_of(blob))
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.descriptor(blobs[0], lies.get("config_type", OCI_CONFIG)),
            "layers": [self.descriptor(blob, OCI_LAYER_GZIP) for blob in blobs[1:]],
        }
        data = json.dumps(document).encode()
        digest = repository.put_manifest(data, OCI_MANIFEST, None)
        repository.put_tag(tag, digest)
        return digest

    def publish_index(self, name: str, tag: str, *entries: tuple[str, Platform]) -> str:
        repository = self.app.repositories.get(name)
        manifests = []
        for text, platform in entries:
            data = self.app.content.read(digest_of(b"") if not text else digest_parse(text))
            manifests.append({**self.descriptor(data, OCI_MANIFEST), "platform": platform.to_json()})
        document = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).encode()
        digest = repository.put_manifest(document, OCI_INDEX, None)
        repository.put_tag(tag, digest)
        return digest

    @staticmethod
    def descriptor(data: bytes, media_type: str) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": str(digest_of(data)), "size": len(data)}

    def reference(self, text: str) -> Reference:
        return Reference.parse(f"{self.address}/{text}")

    async def pull(self, text: str, platform: Platform | None = None) -> Any:
        self.messages.clear()
        return await pull(self.images, self.registry, self.reference(text), platform, None, self.messages.append)

    def statuses(self, identity: str = "") -> list[str]:
        """Statuses shown, for one layer or those that belong to none, repeated ones once."""
        found: list[str] = []
        for message in self.messages:
            if message.get("id", "") == identity and "status" in message and message["status"] not in found:
                found.append(message["status"])
        return found

    def file(self, image: Any, name: str) -> bytes:
        return (self.images.snapshots.upper(image.top) / name).read_bytes()


def digest_parse(text: str) -> Any:
    from scow.oci.digest import Digest

    return Digest.parse(text)


def store(root: Path) -> Images:
    content = ContentStore(root / "content")
    return Images(content, PlainSnapshotter(root / "snapshots"))


@contextlib.asynccontextmanager
async def serving(root: Path) -> AsyncIterator[World]:
    app = App.open(root / "registry")
    sock = socket.create_server(("127.0.0.1", 0))
    server = main.server(app)
    await server.serve(sock)
    world = World(app, f"127.0.0.1:{sock.getsockname()[1]}", root / "engine")
    try:
        yield world
    finally:
        await world.registry.close()
        await server.close(0.5)
        app.close()


def run(test: Callable[[World], Awaitable[None]], root: Path) -> None:
    async def go() -> None:
        async with serving(root) as world, asyncio.timeout(60):
            await test(world)

    asyncio.run(go())


ONE, TWO, THREE = (layer(name, name.encode() * 100_000) for name in ("one", "two", "three"))


def test_pull_brings_names_bytes_and_files(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        digest = world.publish("a/b", "v1", ONE, TWO, THREE)
        image = await world.pull("a/b:v1")
        assert image.names == (f"{world.address}/a/b:v1",)
        assert image.digests == (f"{world.address}/a/b@{digest}",)
        assert image.manifest.digest == digest
        assert world.file(image, "one") == b"one" * 100_000
        assert world.file(image, "three") == b"three" * 100_000
        assert world.images.resolve(f"{world.address}/a/b@{digest}").id == image.id
        assert world.statuses("v1") == ["Pulling from a/b"]
        for data, _ in (ONE, TWO, THREE):
            seen = world.statuses(digest_of(data).short)
            assert seen[0] == "Pulling fs layer"
            assert seen[-3:] == ["Download complete", "Extracting", "Pull complete"]
        assert world.statuses() == [
            f"Digest: {digest}",
            f"Status: Downloaded newer image for {world.address}/a/b:v1",
        ]

    run(test, tmp_path)


def test_second_pull_fetches_nothing(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.publish("a", "v1", ONE, TWO)
        await world.pull("a:v1")
        await world.pull("a:v1")
        assert world.statuses(digest_of(ONE[0]).short) == ["Already exists"]
        assert world.statuses()[-1] == f"Status: Image is up to date for {world.address}/a:v1"

    run(test, tmp_path)


def test_shared_layers_are_fetched_once(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.publish("a", "v1", ONE, TWO)
        world.publish("a", "v2", ONE, THREE)
        await world.pull("a:v1")
        image = await world.pull("a:v2")
        assert world.statuses(digest_of(ONE[0]).short) == ["Already exists"]
        assert world.statuses(digest_of(THREE[0]).short)[-1] == "Pull complete"
        assert world.file(image, "three")

    run(test, tmp_path)


def test_the_same_layer_twice_in_one_image(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.publish("a", "v1", ONE, TWO, ONE)
        image = await world.pull("a:v1")
        assert len(image.layers) == 3
        assert world.file(image, "two")

    run(test, tmp_path)


def test_a_moved_tag_leaves_the_old_image_dangling(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.publish("a", "v1", ONE)
        old = await world.pull("a:v1")
        world.publish("a", "v1", TWO)
        new = await world.pull("a:v1")
        assert new.id != old.id
        assert world.statuses()[-1].startswith("Status: Downloaded newer image")
        assert world.images.resolve(old.id).names == ()

    run(test, tmp_path)


def test_index_gives_the_image_of_this_machine_or_the_one_asked_for(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        other = Platform("linux", "s390x")
        mine = world.publish("a", "m", ONE)
        its = world.publish("a", "o", TWO, platform=other)
        index = world.publish_index("a", "v1", (mine, host_platform()), (its, other))
        image = await world.pull("a:v1")
        assert (image.manifest.digest, image.index.digest) == (mine, index)
        assert image.digests == (f"{world.address}/a@{index}",)
        assert world.statuses()[0] == f"Digest: {index}"
        image = await world.pull("a:v1", other)
        assert image.manifest.digest == its
        with pytest.raises(NotFound, match="no matching manifest for linux/riscv64"):
            await world.pull("a:v1", Platform("linux", "riscv64"))
        with pytest.raises(NotFound, match="does not match the specified platform"):
            await world.pull("a:m", other)

    run(test, tmp_path)


def test_pull_by_digest_makes_no_tag(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        digest = world.publish("a", "v1", ONE)
        image = await world.pull(f"a@{digest}")
        assert image.names == ()
        assert world.images.resolve(f"{world.address}/a@{digest}").id == image.id

    run(test, tmp_path)


def test_pull_of_all_tags(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.publish("a", "v1", ONE)
        world.publish("a", "v2", TWO)
        repository = Reference.parse(f"{world.address}/a", None)
        images = await pull_all(world.images, world.registry, repository, None, None, world.messages.append)
        assert [image.names for image in images] == [(f"{world.address}/a:{tag}",) for tag in ("v1", "v2")]

    run(test, tmp_path)


def test_cancelled_pull_keeps_what_it_has_and_shows_nothing(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        noise = hashlib.shake_256(b"x").digest(6 << 20)
        big = layer("big", noise)
        world.publish("a", "v1", ONE, big)
        arrived = asyncio.Event()

        def progress(message: dict[str, Any]) -> None:
            if message.get("status") == "Downloading" and message["progressDetail"]["current"] > 1 << 20:
                arrived.set()

        reference = world.reference("a:v1")
        task = asyncio.create_task(pull(world.images, world.registry, reference, None, None, progress))
        done = asyncio.create_task(arrived.wait())
        await asyncio.wait({task, done}, return_when=asyncio.FIRST_COMPLETED)
        task.cancel()
        done.cancel()
        await asyncio.gather(task, done, return_exceptions=True)
        if task.cancelled():
            assert world.images.list() == []
        image = await world.pull("a:v1")
        assert world.file(image, "big") == noise

    run(test, tmp_path)


def test_two_pulls_of_one_image_at_once(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.publish("a", "v1", ONE, TWO, THREE)
        found = await asyncio.gather(world.pull("a:v1"), world.pull("a:v1"))
        assert found[0].id == found[1].id
        assert world.file(found[0], "two")

    run(test, tmp_path)


@pytest.mark.parametrize(
    ("lies", "error"),
    [
        ({"config": {"rootfs": {"type": "layers", "diff_ids": []}}}, InvalidArgument),
        ({"config": {"rootfs": {"type": "layers", "diff_ids": [str(digest_of(b"?"))]}}}, DigestMismatch),
        ({"config": {"rootfs": None}}, InvalidArgument),
        ({"config_type": "application/vnd.cncf.helm.config.v1+json"}, Unsupported),
    ],
)
def test_images_that_lie_leave_nothing_visible(tmp_path: Path, lies: dict[str, Any], error: type[EngineError]) -> None:
    async def test(world: World) -> None:
        world.publish("a", "v1", ONE, **lies)
        with pytest.raises(error):
            await world.pull("a:v1")
        assert world.images.list() == []

    run(test, tmp_path)


def test_push_sends_what_is_missing_mounts_the_rest_and_keeps_the_digest(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        digest = world.publish("a", "v1", ONE, TWO)
        image = await world.pull("a:v1")

        async def send(text: str) -> list[dict[str, Any]]:
            world.images.tag(image.id, world.reference(text))
            seen: list[dict[str, Any]] = []
            pushed = await push(world.images, world.registry, world.reference(text), None, seen.append)
            assert pushed.digest == digest
            return seen

        seen = await send("b/c:v2")
        assert seen[0] == {"status": f"The push refers to repository [{world.address}/b/c]"}
        mounted = [message for message in seen if message.get("status") == "Mounted from a"]
        assert {message["id"] for message in mounted} == {digest_of(data).short for data, _ in (ONE, TWO)}
        assert seen[-2] == {"status": f"v2: digest: {digest} size: {image.manifest.size}"}
        assert seen[-1]["aux"] == {"Tag": "v2", "Digest": digest, "Size": image.manifest.size}
        assert world.app.repositories.get("b/c").tag_digest("v2") == digest
        again = await send("b/c:v3")
        assert [m["status"] for m in again if m.get("status", "").startswith("Layer")] == ["Layer already exists"] * 2
        assert f"{world.address}/b/c@{digest}" in world.images.resolve(image.id).digests

    run(test, tmp_path)


def test_push_to_an_empty_registry_uploads(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        digest = world.publish("a", "v1", ONE, TWO)
        image = await world.pull("a:v1")
        async with serving(tmp_path / "second") as second:
            target = second.reference("x:y")
            world.images.tag(image.id, target)
            await push(world.images, world.registry, target, None, world.messages.append)
            assert world.statuses(digest_of(ONE[0]).short)[-2:] == ["Pushing", "Pushed"]
            assert (await second.pull("x:y")).manifest.digest == digest

    run(test, tmp_path)


def test_a_whole_index_is_pushed_whole(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        other = Platform("linux", "s390x")
        mine, its = world.publish("a", "m", ONE), world.publish("a", "o", TWO, platform=other)
        index = world.publish_index("a", "v1", (mine, host_platform()), (its, other))
        await world.pull("a:v1", other)
        await world.pull("a:v1")
        world.images.tag(f"{world.address}/a:v1", world.reference("b:v1"))
        pushed = await push(world.images, world.registry, world.reference("b:v1"), None, world.messages.append)
        assert pushed.digest == index
        assert world.app.repositories.get("b").has_manifest(digest_parse(its))

    run(test, tmp_path)


def test_what_cannot_be_pushed_is_said_first(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        with pytest.raises(NotFound, match="An image does not exist locally with the tag"):
            references(world.images, world.reference("a:v1"))
        with pytest.raises(NotFound, match="An image does not exist locally with the tag"):
            references(world.images, Reference.parse(f"{world.address}/a", None), all_tags=True)
        digest = world.publish("a", "v1", ONE)
        image = await world.pull("a:v1")
        world.images.tag(image.id, world.reference("a:v2"))
        with pytest.raises(NotFound, match=r"tag does not exist: .*/a:v3"):
            references(world.images, world.reference("a:v3"))
        found = references(world.images, Reference.parse(f"{world.address}/a", None), all_tags=True)
        assert [reference.tag for reference in found] == ["v1", "v2"]
        with pytest.raises(InvalidArgument, match="digest"):
            references(world.images, world.reference(f"a@{digest}"))

    run(test, tmp_path)
