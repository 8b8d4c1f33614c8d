"""What comes over the network: downloads, URL contexts, git."""

import asyncio
import hashlib
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from scow.build.steps.source import clone, is_git, is_url, parse_git
from scow.errors import DigestMismatch, EngineError, InvalidArgument, Unsupported
from support.building import Yard, in_yard, tar_of


@pytest.mark.parametrize(
    ("text", "git"),
    [
        ("https://example.org/a/b.git", True), ("https://example.org/b.git#main:sub", True), ("git@host:a/b", True),
        ("git://host/a", True), ("ssh://git@host/a", True), ("github.com/a/b", True), ("https://example.org/a", False),
        ("https://example.org/a.git/x", False), ("file.git", False),
    ],
)  # fmt: skip
def test_what_is_a_repository(text: str, git: bool):
    assert is_git(text) is git


def test_git_sources_in_parts():
    found = parse_git("github.com/a/b.git#v1.2:deep/../folder")
    assert (found.repository, found.ref, found.folder) == ("https://github.com/a/b.git", "v1.2", "folder")
    assert parse_git("https://x/y.git#:../..").folder == ""
    for text in ("--upload-pack=evil", "https://x/y.git#--evil"):
        with pytest.raises(InvalidArgument, match="begin with a dash"):
            parse_git(text)


def test_without_git_the_refusal_is_clear(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Unsupported, match="git is not installed"):
        asyncio.run(clone("https://example.org/a.git", tmp_path, False))


def test_urls():
    assert is_url("HTTP://x/y")
    assert not is_url("ftp://x/y")


class _Handler(http.server.BaseHTTPRequestHandler):
    files: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        data = self.files.get(self.path)
        self.send_response(200 if data is not None else 404)
        self.send_header("Content-Length", str(len(data or b"")))
        self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
        self.end_headers()
        self.wfile.write(data or b"")

    def log_message(self, *arguments: Any) -> None:
        pass


class Served:
    """An HTTP server on this machine's loopback, started in the thread that asks."""

    def __init__(self, files: dict[str, bytes]) -> None:
        handler = type("Handler", (_Handler,), {"files": files})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "Served":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Any]:
    yield lambda scenario: in_yard(tmp_path, scenario)
    assert not list((tmp_path / "build" / "tmp").iterdir())


@pytest.mark.root
def test_add_from_the_network(run: Any):
    async def scenario(yard: Yard) -> None:
        archive = tar_of({"inside": "x"})
        digest = hashlib.sha256(b"payload").hexdigest()
        with Served({"/dir/file.bin": b"payload", "/a.tar": archive}) as web:
            dockerfile = (
                f"FROM busybox\nADD --checksum=sha256:{digest} {web.url}/dir/file.bin /d/\n"
                f"ADD {web.url}/a.tar /kept/\nADD --unpack=true {web.url}/a.tar /open/\n"
            )
            image = await yard.build({"Dockerfile": dockerfile})
            assert yard.cat(image, "/d/file.bin") == "payload"
            found = yard.stat(image, "/d/file.bin")
            assert (found.st_mode & 0o777, int(found.st_mtime)) == (0o600, 1445412480)
            assert yard.names(image, "/kept") == ["a.tar"]
            assert yard.names(image, "/open") == ["inside"]
            again = await yard.build({"Dockerfile": dockerfile})
            assert again.id == image.id
            with pytest.raises(DigestMismatch):
                await yard.build({"Dockerfile": f"FROM busybox\nADD --checksum=sha256:{'0' * 64} {web.url}/a.tar /"})
            for path, words in (("/missing", "status 404"), ("/dir/", "cannot determine filename|status 404")):
                with pytest.raises(InvalidArgument, match=words):
                    await yard.build({"Dockerfile": f"FROM busybox\nADD {web.url}{path} /x/"})

    run(scenario)


@pytest.mark.root
def test_contexts_by_url(run: Any):
    async def scenario(yard: Yard) -> None:
        files = {
            "/c.tar": tar_of({"Dockerfile": "FROM busybox\nCOPY f /\n", "f": "from the tar"}),
            "/Dockerfile": b"FROM busybox\nENV by=url\n",
        }
        with Served(files) as web:
            image = await yard.build({}, remote=f"{web.url}/c.tar")
            assert yard.cat(image, "/f") == "from the tar"
            image = await yard.build({}, remote=f"{web.url}/Dockerfile")
            assert "by=url" in image.config.config["Env"]
            with pytest.raises(EngineError, match="status 404"):
                await yard.build({}, remote=f"{web.url}/nothing")

    run(scenario)


@pytest.mark.root
@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_contexts_from_a_repository(run: Any, tmp_path: Path):
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "sub").mkdir()
    (repository / "sub" / "Dockerfile").write_text("FROM busybox\nCOPY . /c/\n")
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    for command in (
        ("init", "-q", "-b", "main"), ("add", "."), (*identity, "commit", "-q", "-m", "x"),
    ):  # fmt: skip
        subprocess.run(["git", *command], cwd=repository, check=True, capture_output=True)

    async def scenario(yard: Yard) -> None:
        server = subprocess.Popen(
            ["git", "daemon", "--export-all", f"--base-path={tmp_path}", "--listen=127.0.0.1", "--verbose"],
            stderr=subprocess.PIPE,
        )
        try:
            assert server.stderr is not None
            server.stderr.readline()  # "Ready to rumble"
            url = "git://127.0.0.1/repository"
            image = await yard.build({}, remote=f"{url}#main:sub")
            assert yard.names(image, "/c") == ["Dockerfile"]
            added = await yard.build({"Dockerfile": f"FROM busybox\nADD {url} /r\nADD --keep-git-dir {url} /k\n"})
            assert yard.names(added, "/r") == ["sub"]
            assert yard.names(added, "/k") == [".git", "sub"]
            with pytest.raises(EngineError, match="git fetch failed: "):
                await yard.build({}, remote="git://127.0.0.1/none")
            with pytest.raises(InvalidArgument, match="there is no folder"):
                await yard.build({}, remote=f"{url}#main:nothing")
        finally:
            server.terminate()
            server.communicate()

    run(scenario)
