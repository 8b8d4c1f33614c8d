"""Registries that lie, hang and never stop: a pull ends soon, with a sentence, and leaves nothing that can be seen."""

import contextlib
import gzip
import hashlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from support.footprint import Vitals
from support.tars import tar
from support.world import BIN, World

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
Answer = Callable[["Handler"], None]


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Shop:
    """What a registry has, and how it misbehaves: `odd` maps the end of a path to who answers instead."""

    def __init__(self) -> None:
        self.plain = tar(("file", os.urandom(100))).getvalue()
        self.layer = gzip.compress(self.plain)
        self.config: Any = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["true"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(self.plain)]},
        }
        self.manifest: Any = None
        self.odd: dict[str, Answer] = {}

    def blobs(self) -> dict[str, bytes]:
        config = self.config if isinstance(self.config, bytes) else json.dumps(self.config).encode()
        return {digest(config): config, digest(self.layer): self.layer}

    def manifest_bytes(self) -> bytes:
        if isinstance(self.manifest, bytes):
            return self.manifest
        config, layer = self.blobs().items()
        return json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"mediaType": CONFIG, "digest": config[0], "size": len(config[1])},
                "layers": [{"mediaType": LAYER, "digest": layer[0], "size": len(layer[1])}],
            }
            | (self.manifest or {})
        ).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    shop: Shop

    def do_GET(self) -> None:
        for end, answer in self.shop.odd.items():
            if self.path.endswith(end):
                answer(self)
                return
        if self.path == "/v2/":
            self.reply(b"{}")
        elif "/manifests/" in self.path:
            data = self.shop.manifest_bytes()
            self.reply(data, MANIFEST, {"Docker-Content-Digest": digest(data)})
        else:
            data = self.shop.blobs().get(self.path.rpartition("/")[2])
            self.reply(data or b"{}", status=200 if data is not None else 404)

    do_HEAD = do_GET

    def reply(
        self, data: bytes, kind: str = "application/json", headers: dict[str, str] | None = None, status: int = 200
    ) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def endless(self, chunked: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", MANIFEST)
        self.send_header("Transfer-Encoding", "chunked") if chunked else self.send_header("Connection", "close")
        self.end_headers()
        piece = bytes(1 << 20)
        try:
            for _ in range(20_000):
                self.wfile.write(b"100000\r\n" + piece + b"\r\n" if chunked else piece)
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def shop(world: World) -> Iterator[tuple[Shop, str]]:
    with open_shop(world) as found:
        yield found


@contextlib.contextmanager
def open_shop(world: World) -> Iterator[tuple[Shop, str]]:
    """A registry of the test's own, and the name of the image in it."""
    found = Shop()
    handler = type("Own", (Handler,), {"shop": found})
    server = world.here(lambda: ThreadingHTTPServer(("127.0.0.1", 0), handler))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found, f"127.0.0.1:{server.server_port}/some/image"
    server.shutdown()
    thread.join()
    server.server_close()


def refused(world: World, name: str, words: str | tuple[str, ...], seconds: float = 40) -> None:
    """Pulling `name` fails with a sentence, in time; no image comes of it, and no blob that has another name."""
    before, known = world.scow("images", "-a", "--no-trunc"), blobs(world)
    assert world.process is not None
    resident = Vitals(world.process.pid).resident
    began = time.monotonic()
    world.scow("pull", name, status=1)
    assert time.monotonic() - began < seconds
    said = world.errors
    assert any(word in said.lower() for word in ((words,) if isinstance(words, str) else words)), said
    assert "internal error" not in said
    assert "Traceback" not in world.log
    assert world.scow("images", "-a", "--no-trunc") == before
    for name in blobs(world) - known:  # whole ones are kept for a while: the next attempt needs them
        assert hashlib.sha256((world.root / "data/content/blobs/sha256" / name).read_bytes()).hexdigest() == name
    assert Vitals(world.process.pid).resident < resident + (64 << 10)


def blobs(world: World) -> set[str]:
    return set(os.listdir(world.root / "data/content/blobs/sha256"))


def test_an_honest_one(world: World, shop: tuple[Shop, str]) -> None:
    world.scow("pull", f"{shop[1]}:1")
    world.scow("rmi", f"{shop[1]}:1")


def cut(handler: Handler) -> None:
    handler.reply(handler.shop.layer[:-1], headers={"Content-Length": str(len(handler.shop.layer))})
    handler.close_connection = True


BODIES: dict[str, tuple[Answer, tuple[str, ...]]] = {
    "shorter": (lambda h: h.reply(h.shop.layer[:-1]), ("received", "digest", "cut off", "size", "bytes")),
    "longer": (lambda h: h.reply(h.shop.layer + b"x"), ("more", "size", "bytes", "digest")),
    "cut": (cut, ("cut off", "closed", "ended", "received", "broke", "announces")),
    "other": (lambda h: h.reply(bytes(len(h.shop.layer))), ("digest", "announces")),
    "endless": (lambda h: h.endless(chunked=True), ("more", "size", "bytes")),
    "endless without chunks": (lambda h: h.endless(chunked=False), ("more", "size", "bytes")),
    "nonsense length": (lambda h: h.reply(h.shop.layer, headers={"Content-Length": "many"}), ("http", "registry")),
    "gone": (lambda h: h.reply(b"{}", status=404), ("not found", "unknown", "404")),
}


@pytest.mark.parametrize("how", BODIES)
@pytest.mark.parametrize("what", ["layer", "config"])
def test_a_blob_that_is_not_what_it_should_be(world: World, shop: tuple[Shop, str], what: str, how: str) -> None:
    answer, words = BODIES[how]
    store, name = shop
    config, layer = store.blobs()
    store.odd[layer if what == "layer" else config] = answer
    refused(world, f"{name}:1", words)


@pytest.mark.parametrize("tag", ["1", "sha256:" + "0" * 64])
@pytest.mark.parametrize("how", ["endless", "endless without chunks", "longer", "garbage"])
def test_a_manifest_that_is_not_what_it_should_be(world: World, shop: tuple[Shop, str], how: str, tag: str) -> None:
    store, name = shop
    answers = BODIES | {"garbage": (lambda h: h.reply(b"\xff\x00 not a manifest", MANIFEST), ())}
    store.odd[f"/manifests/{tag}"] = answers[how][0]
    joint = "@" if ":" in tag else ":"
    refused(world, f"{name}{joint}{tag}", ("manifest", "json", "digest", "bytes", "larger", "more"))


ZERO = "sha256:" + "0" * 64
MANIFESTS: dict[str, tuple[Any, str]] = {
    "no json": (b"{", "json"),
    "a list": (b"[]", "object"),
    "deep": (b"[" * 100_000 + b"]" * 100_000, "json"),
    "schema 1": ({"schemaVersion": 1, "mediaType": "application/vnd.docker.distribution.manifest.v1+json"}, "schema"),
    "no config": ({"config": None}, "json object"),
    "config a text": ({"config": "x"}, ""),
    "layers a text": ({"layers": "x"}, "layers"),
    "layers of texts": ({"layers": ["x"]}, ""),
    "a digest that is none": ({"layers": [{"mediaType": LAYER, "digest": "sha256:../../x", "size": 5}]}, "digest"),
    "a negative size": ({"layers": [{"mediaType": LAYER, "digest": ZERO, "size": -5}]}, "size"),
    "a size beyond all": ({"layers": [{"mediaType": LAYER, "digest": ZERO, "size": 1 << 62}]}, ""),
    "a size as text": ({"layers": [{"mediaType": LAYER, "digest": ZERO, "size": "5"}]}, "size"),
    "an unknown algorithm": ({"layers": [{"mediaType": LAYER, "digest": "md5:" + "0" * 32, "size": 5}]}, "digest"),
    "more layers than diff ids": ({"layers": [{"mediaType": LAYER, "digest": ZERO, "size": 5}] * 3}, ""),
    "no layers": ({"layers": []}, "layers"),
    "many layers": ({"layers": [{"mediaType": LAYER, "digest": ZERO, "size": 5}] * 30_000}, ""),
}


@pytest.mark.parametrize("which", MANIFESTS)
def test_a_corrupt_manifest(world: World, shop: tuple[Shop, str], which: str) -> None:
    store, name = shop
    store.manifest, words = MANIFESTS[which]
    refused(world, f"{name}:1", words)


CONFIGS: dict[str, tuple[Any, str]] = {
    "no json": (b"{", "json"),
    "a list": ([], "object"),
    "no rootfs": ({"architecture": "amd64", "os": "linux"}, ""),
    "diff ids of texts": ({"rootfs": {"type": "layers", "diff_ids": ["x"]}}, ""),
    "another diff id": ({"rootfs": {"type": "layers", "diff_ids": [ZERO]}}, "digest"),
    "too many diff ids": ({"rootfs": {"type": "layers", "diff_ids": [ZERO, ZERO]}}, "broken"),
    "a command of numbers": ({"config": {"Cmd": [1, 2]}}, ""),
    "an environment that is none": ({"config": {"Env": {"A": 1}}}, ""),
}


@pytest.mark.parametrize("which", CONFIGS)
def test_a_corrupt_config(world: World, shop: tuple[Shop, str], which: str) -> None:
    store, name = shop
    odd, words = CONFIGS[which]
    if isinstance(odd, dict) and "config" in odd:
        # A config that can be read in parts makes an image that cannot be run: said when it is pulled, or then.
        store.config |= odd
        before = world.scow("images", "-a", "--no-trunc")
        try:
            world.scow("pull", f"{name}:1")
        except AssertionError:
            assert "internal error" not in world.errors
        else:
            world.scow("run", "--rm", f"{name}:1", status=125)
            assert "internal error" not in world.errors, world.errors
            world.scow("rmi", f"{name}:1")
        assert world.scow("images", "-a", "--no-trunc") == before
        return
    store.config = {"architecture": "amd64", "os": "linux", **odd} if isinstance(odd, dict) else odd
    if not isinstance(store.config, bytes):
        store.config = json.dumps(store.config).encode()
    refused(world, f"{name}:1", words)


def test_a_token_that_is_none(world: World, shop: tuple[Shop, str]) -> None:
    store, name = shop
    realm = name.partition("/")[0]
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{realm}/token",service="x"'}
    store.odd = {
        "/v2/": lambda h: h.reply(b"{}", headers=challenge, status=401),
        "/token?service=x&scope=repository%3Asome%2Fimage%3Apull": lambda h: h.reply(b"[1"),
        "/manifests/1": lambda h: h.reply(b"{}", headers=challenge, status=401),
    }
    refused(world, f"{name}:1", ("token", "unauthorized", "log in", "login"))


def test_redirects_without_end(world: World, shop: tuple[Shop, str]) -> None:
    store, name = shop
    layer = list(store.blobs())[1]
    store.odd[layer] = lambda h: h.reply(b"", headers={"Location": h.path}, status=307)
    refused(world, f"{name}:1", "redirect")


@pytest.mark.slow
def test_one_that_hangs(world: World) -> None:
    """It takes the request and never answers, at any of its addresses; a pull does not wait for ever."""
    before = world.scow("images", "-a", "--no-trunc")
    over = threading.Event()
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        stack.callback(over.set)
        pulls = []
        for where in ("/v2/", "/manifests/1", "layer"):
            store, name = stack.enter_context(open_shop(world))
            store.odd[list(store.blobs())[1] if where == "layer" else where] = lambda _: over.wait(200)
            command = world.inside(str(BIN / "scow"), "-H", f"unix://{world.socket}", "pull", f"{name}:1")
            pull = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            pulls.append(stack.enter_context(pull))
        for pull in pulls:
            _, said = pull.communicate(timeout=95)
            assert pull.returncode == 1
            words = ("no answer", "did not answer", "silent", "seconds", "nothing")
            assert any(word in said.lower() for word in words), said
    assert time.monotonic() - began < 95
    assert "Traceback" not in world.log
    assert world.scow("images", "-a", "--no-trunc") == before
