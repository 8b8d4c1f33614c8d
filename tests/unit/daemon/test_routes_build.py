"""Building over HTTP: the parameters, and what docker-py and the docker CLI make of the answers."""

import asyncio
import base64
import io
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker
import pytest

from scow.build.prune import Pruned
from scow.daemon.routes import build as route
from scow.daemon.routes.build import build_options, prune_options, registry_auths
from scow.daemon.status import answer_to
from scow.errors import InvalidArgument
from scow.web.request import Query, Request
from scow.web.response import Response
from scow.web.router import Routes
from scow.web.server import Server
from support.building import Yard, in_yard, tar_of

DOCKER = shutil.which("docker")


# ---- parameters ---------------------------------------------------------------------------------------------


def test_every_parameter_arrives():
    options = build_options(
        Query.parse(
            "dockerfile=d/F&t=a:1&t=b&q=1&nocache=true&cachefrom=%5B%22c%22%5D&pull=1&memory=9&memswap=-1&cpushares=2"
            "&cpusetcpus=0-1&cpuperiod=3&cpuquota=4&buildargs=%7B%22A%22:%22b%22,%22N%22:null%7D&shmsize=5&squash=1"
            "&labels=%7B%22l%22:%22m%22%7D&networkmode=host&extrahosts=h:1.2.3.4&extrahosts=i:5.6.7.8"
            "&platform=linux/arm64&target=final&version=1&rm=1&forcerm=1"
            "&ulimits=%5B%7B%22Name%22:%22nofile%22,%22Soft%22:1,%22Hard%22:2%7D%5D"
        )
    )
    assert (options.dockerfile, options.tags, options.quiet, options.no_cache) == ("d/F", ("a:1", "b"), True, True)
    assert (options.cache_from, options.pull, options.squash, options.target) == (("c",), True, True, "final")
    assert (options.build_args, options.labels) == ({"A": "b", "N": None}, {"l": "m"})
    assert (options.network, options.extra_hosts) == ("host", ("h:1.2.3.4", "i:5.6.7.8"))
    assert options.platform == "linux/arm64"
    limits = options.limits
    assert (limits.memory, limits.memory_swap, limits.cpu_shares, limits.cpuset_cpus) == (9, -1, 2, "0-1")
    assert (limits.cpu_period, limits.cpu_quota, limits.shm_size, limits.ulimits) == (3, 4, 5, (("nofile", 1, 2),))


def test_what_the_docker_cli_sends_when_nothing_was_asked_for():
    options = build_options(
        Query.parse("buildargs=%7B%7D&cachefrom=%5B%5D&cgroupparent=&cpuperiod=0&memory=0&shmsize=0&ulimits=null&rm=1")
    )
    assert options.limits.shm_size == 64 << 20
    assert options.build_args == {}
    assert options.tags == ()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("platform=foobar", "invalid platform|unknown operating system"),
        ("buildargs=%5B%5D", "invalid buildargs: expected a JSON object"),
        ("buildargs={", "invalid JSON in buildargs"),
        ("buildargs=%7B%22A%22:1%7D", "values must be strings"),
        ("cachefrom=%7B%7D", "invalid cachefrom"),
        ("memory=lots", "invalid value 'lots' for memory"),
        ("ulimits=%5B1%5D", "invalid ulimit"),
        ("remote=client-session", "BuildKit session"),
        ("isolation=hyperv", "unsupported isolation"),
    ],
)
def test_parameters_that_are_refused(query: str, words: str):
    with pytest.raises(InvalidArgument, match=words):
        build_options(Query.parse(query))


def test_registry_credentials():
    value = {"reg.example:5000": {"username": "u", "password": "p"}, "https://index.docker.io/v1/": {"auth": ""}}
    found = registry_auths(base64.urlsafe_b64encode(json.dumps(value).encode()).decode())
    assert (found["reg.example:5000"].username, found["reg.example:5000"].password) == ("u", "p")
    for text in ("%%%", base64.b64encode(b"[]").decode(), base64.b64encode(b'{"a":1}').decode()):
        with pytest.raises(InvalidArgument):
            registry_auths(text)


def test_prune_parameters():
    now = 10_000.0
    assert prune_options(Query.parse(""), now) == Pruned()
    found = prune_options(Query.parse('all=1&reserved-space=5&filters={"until":["1h"],"type":["regular"]}'), now)
    assert found == Pruned(True, 6_400.0, 5, frozenset(), frozenset({"regular"}))
    assert prune_options(Query.parse('filters={"until":["1970-01-01T00:01:00Z"]}'), now).before == 60.0
    assert prune_options(Query.parse('filters={"until":["77"]}'), now).before == 77.0
    assert prune_options(Query.parse('filters={"label":["a=b"]}'), now).types == {""}, "no cache has that label"
    assert prune_options(Query.parse('filters={"label!":["a=b"]}'), now).types == frozenset()
    for text in ('filters={"nope":["x"]}', 'filters={"until":["soon"]}'):
        with pytest.raises(InvalidArgument):
            prune_options(Query.parse(text), now)


# ---- over a socket ------------------------------------------------------------------------------------------


async def _ping(engine: Any, request: Request) -> Response:
    headers = {"Api-Version": "1.55", "Ostype": "linux", "Builder-Version": "1", "Docker-Experimental": "false"}
    return Response(200, b"OK", headers, "text/plain")


@pytest.fixture
def served(tmp_path: Path) -> Callable[[Callable[[Yard, str], Awaitable[None]]], None]:
    """Runs a scenario with a yard whose builder is served at a socket."""

    def go(scenario: Callable[[Yard, str], Awaitable[None]]) -> None:
        async def inner(yard: Yard) -> None:
            routes = Routes()
            routes.merge(route.routes)
            routes.add("GET", "/_ping", _ping)
            routes.add("HEAD", "/_ping", _ping)
            engine = SimpleNamespace(builder=yard.builder)
            server = Server(engine, routes, status_of=answer_to, prefix_versions=True)
            path = str(tmp_path / "api.sock")
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            await server.serve(listener)
            try:
                await scenario(yard, path)
            finally:
                await server.close(1.0)

        in_yard(tmp_path / "engine", inner)
        assert os.listdir(tmp_path / "engine" / "build" / "tmp") == []

    (tmp_path / "engine").mkdir()
    return go


def lines_of(client: docker.APIClient, **options: Any) -> list[dict[str, Any]]:
    return list(client.build(decode=True, network_mode="none", **options))


@pytest.mark.root
def test_docker_py_builds(served: Any, tmp_path: Path):
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM busybox\nARG A\nCOPY x /\nRUN cat /x; echo $A >&2\n")
    (folder / "x").write_text("content\n")

    async def scenario(yard: Yard, path: str) -> None:
        def work() -> None:
            client = docker.APIClient(base_url=f"unix://{path}", version="1.45", timeout=30)
            try:
                lines = lines_of(client, path=str(folder), tag="py:1", buildargs={"A": "arg"}, labels={"k": "v"})
                text = "".join(line.get("stream", "") for line in lines)
                assert "content\n" in text
                assert "arg\n" in text
                assert text.endswith("Successfully tagged py:1\n")
                quiet = lines_of(client, path=str(folder), buildargs={"A": "arg"}, quiet=True)
                assert [set(line) for line in quiet] == [{"stream"}]
                failed = lines_of(client, fileobj=_dockerfile("FROM busybox\nRUN exit 7\n"))
                assert failed[-1]["errorDetail"]["code"] == 7
                with pytest.raises(docker.errors.APIError, match="unknown instruction: RUNN") as refused:
                    lines_of(client, fileobj=_dockerfile("FROM busybox\nRUNN x\n"))
                assert refused.value.status_code == 400
                missing = lines_of(client, fileobj=_dockerfile("FROM nothing-there\n"))
                assert missing[-1]["error"] == "No such image: nothing-there"
                assert client.prune_builds()["SpaceReclaimed"] >= 0
            finally:
                client.close()

        await asyncio.to_thread(work)
        assert yard.images.resolve("py:1").config.config["Labels"] == {"k": "v"}

    served(scenario)


def _dockerfile(text: str) -> Any:
    return io.BytesIO(text.encode())


@pytest.mark.root
def test_a_client_that_goes_away_cancels(served: Any):
    async def scenario(yard: Yard, path: str) -> None:
        body = tar_of({"Dockerfile": "FROM busybox\nRUN echo started; sleep 600\n"})
        reader, writer = await asyncio.open_unix_connection(path)
        head = f"POST /v1.45/build?networkmode=none HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await reader.readuntil(b'"started\\n"')
        (task,) = yard.tasks.all()
        writer.close()
        await task.wait()
        await task.removed

    served(scenario)


@pytest.mark.root
def test_cancel_by_build_id(served: Any):
    async def scenario(yard: Yard, path: str) -> None:
        body = tar_of({"Dockerfile": "FROM busybox\nRUN echo started; sleep 600\n"})
        reader, writer = await asyncio.open_unix_connection(path)
        head = f"POST /build?networkmode=none&buildid=me HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await reader.readuntil(b'"started\\n"')
        reader2, writer2 = await asyncio.open_unix_connection(path)
        writer2.write(b"POST /build/cancel?id=me HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert b" 204 " in await reader2.readline()
        assert b"the build was cancelled" in await reader.readuntil(b"0\r\n\r\n")
        writer.close()
        writer2.close()

    served(scenario)


@pytest.mark.root
@pytest.mark.peer
@pytest.mark.skipif(DOCKER is None, reason="needs the docker CLI")
def test_the_docker_cli_builds(served: Any, tmp_path: Path):
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM busybox\nCOPY . /app/\nRUN ls /app\n")
    (folder / ".dockerignore").write_text("*.log\n")
    (folder / "x.log").write_text("no")
    (folder / "y").write_text("yes")

    async def scenario(yard: Yard, path: str) -> None:
        def docker_build(*arguments: str) -> "subprocess.CompletedProcess[str]":
            return subprocess.run(
                [str(DOCKER), "-H", f"unix://{path}", "build", "--network=none", *arguments],
                env={"DOCKER_BUILDKIT": "0", "HOME": str(tmp_path), "PATH": os.environ["PATH"]},
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip

        done = await asyncio.to_thread(docker_build, "-t", "cli", str(folder))
        assert done.returncode == 0, done.stderr
        assert "Successfully tagged cli:latest" in done.stdout
        assert yard.names(yard.images.resolve("cli"), "/app") == [".dockerignore", "Dockerfile", "y"]
        quiet = await asyncio.to_thread(docker_build, "-q", str(folder))
        assert quiet.stdout.strip() == str(yard.images.resolve("cli").id)
        (folder / "Dockerfile").write_text("FROM busybox\nRUN exit 7\n")
        failed = await asyncio.to_thread(docker_build, str(folder))
        assert failed.returncode == 7
        assert "returned a non-zero code: 7" in failed.stderr
        (folder / "Dockerfile").write_text("FROM busybox\n\nRUNN x\n")
        refused = await asyncio.to_thread(docker_build, str(folder))
        assert "dockerfile parse error on line 3: unknown instruction: RUNN (did you mean RUN?)" in refused.stderr

    served(scenario)
