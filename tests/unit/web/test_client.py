"""The HTTP client: pooling, redirects, early answers, servers that are not what they should be."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from scow.errors import EngineError, InvalidArgument, System
from scow.web.client import MAX_HEAD, HttpClient, PeerFailed, Timeouts
from scow.web.request import Request
from scow.web.response import Response, json_response
from scow.web.router import Routes
from scow.web.server import Server


class World:
    """A server that notes who asked on which connection."""

    def __init__(self) -> None:
        self.peers: list[str] = []
        self.lengths: list[str] = []


routes = Routes()


@routes.get("/peer")
async def peer(world: World, request: Request) -> Response:
    world.peers.append(request.peer.address)
    return json_response("x")


@routes.get("/loop")
async def loop(world: World, request: Request) -> Response:
    return Response(302, b"", {"Location": "/loop"})


@routes.get("/away")
async def away(world: World, request: Request) -> Response:
    return Response(302, b"", {"Location": request.query.text("to")})


@routes.get("/headers")
async def headers(world: World, request: Request) -> Response:
    return json_response(dict(request.headers))


@routes.put("/length")
async def length(world: World, request: Request) -> Response:
    body = await request.body()
    how = request.headers.get("content-length") or request.headers.get("transfer-encoding")
    return json_response([len(body), how])


@routes.put("/refuse")
async def refuse(world: World, request: Request) -> Response:
    return json_response("no", 403)


@routes.get("/big")
async def big(world: World, request: Request) -> Response:
    return Response(200, b"x" * 100_000)


def run(test: Callable[[World, str], Awaitable[None]]) -> None:
    async def go() -> None:
        world = World()
        server = Server(world, routes, status_of=lambda error: (500, str(error).encode()))
        sock = socket.create_server(("127.0.0.1", 0))
        await server.serve(sock)
        try:
            async with asyncio.timeout(30):
                await test(world, f"http://127.0.0.1:{sock.getsockname()[1]}")
        finally:
            await server.close(0.2)

    asyncio.run(go())


@contextlib.asynccontextmanager
async def raw(answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """A server that speaks whatever `answer` writes."""

    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await answer(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


def test_connections_are_used_again() -> None:
    async def test(world: World, url: str) -> None:
        client = HttpClient()
        for _ in range(3):
            async with await client.request("GET", f"{url}/peer") as answer:
                assert await answer.read() == b'"x"\n'
        assert len(set(world.peers)) == 1
        async with await client.request("GET", f"{url}/big"):
            pass  # a body that was not read costs its connection
        async with await client.request("GET", f"{url}/peer") as answer:
            await answer.read()
        assert len(set(world.peers)) == 2
        await client.close()

    run(test)


def test_a_connection_the_server_closed_meanwhile_is_replaced() -> None:
    seen = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")  # the second request gets no answer, only the end

    async def main() -> None:
        client = HttpClient()
        async with raw(answer) as url:
            for _ in range(2):
                async with await client.request("GET", url) as found:
                    assert await found.read() == b"ok"
        assert seen == 2
        await client.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_bodies_with_and_without_length() -> None:
    async def test(world: World, url: str) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(10):
                yield b"x" * 1000

        client = HttpClient()
        for body, given, expected in (
            (b"abc", None, b'[3,"3"]\n'),
            (b"", None, b'[0,"0"]\n'),
            (pieces(), 10_000, b'[10000,"10000"]\n'),
            (pieces(), None, b'[10000,"chunked"]\n'),
        ):
            async with await client.request("PUT", f"{url}/length", body=body, length=given) as answer:
                assert await answer.read() == expected
        await client.close()

    run(test)


def test_an_answer_before_the_body_was_sent_is_read() -> None:
    async def test(world: World, url: str) -> None:
        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 65536
                await asyncio.sleep(0)

        client = HttpClient()
        async with await client.request("PUT", f"{url}/refuse", body=endless()) as answer:
            assert (answer.status, await answer.read()) == (403, b'"no"\n')
        await client.close()

    run(test)


def test_redirects() -> None:
    async def test(world: World, url: str) -> None:
        client = HttpClient()
        with pytest.raises(System, match="redirected more than 10 times"):
            await client.request("GET", f"{url}/loop")
        async with await client.request("GET", f"{url}/away?to=/peer") as answer:
            assert await answer.read() == b'"x"\n'
        async with await client.request("GET", f"{url}/away?to=/peer", redirects=0) as answer:
            assert answer.status == 302
        secret = {"Authorization": "Basic x"}
        async with await client.request("GET", f"{url}/away?to=/headers", headers=secret) as answer:
            assert b"authorization" in await answer.read()
        other = url.replace("127.0.0.1", "localhost")
        async with await client.request("GET", f"{url}/away?to={other}/headers", headers=secret) as answer:
            assert b"authorization" not in await answer.read()
        for bad in ("ftp://x/", "http://[::1/"):
            with pytest.raises(InvalidArgument, match="invalid URL"):
                await client.request("GET", f"{url}/away?to={bad}")
        await client.close()

    run(test)


def test_bodies_are_bounded() -> None:
    async def test(world: World, url: str) -> None:
        client = HttpClient(peer_name="registry")
        async with await client.request("GET", f"{url}/big") as answer:
            with pytest.raises(System, match="larger than the 1000 bytes"):
                await answer.read(1000)
        await client.close()

    run(test)


@pytest.mark.parametrize("url", ["http://x y/", "http://x/a b", "http://x/\n", "unix:/x", "http://x:99999/", ""])
def test_malformed_urls(url: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid URL"):
        asyncio.run(HttpClient().request("GET", url))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "without an answer|in the middle"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "does not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "in the middle of an answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * (MAX_HEAD + 5000), "does not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "does not answer in HTTP"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n",
            "does not answer in HTTP",
        ),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, "without an answer"),
    ],
)
def test_servers_that_are_none(said: bytes, words: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()

    async def ask(url: str) -> bytes:
        async with await HttpClient().request("GET", url) as found:
            return await found.read()

    async def main() -> None:
        async with raw(answer) as url:
            with pytest.raises(PeerFailed, match=words):
                await ask(url)

    asyncio.run(asyncio.wait_for(main(), 20))


def test_silence_and_a_peer_that_takes_nothing() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()
        await writer.wait_closed()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * (1 << 20)

    async def main() -> None:
        client = HttpClient(timeouts=Timeouts(connect=1, read=0.2))
        async with raw(answer) as url:
            with pytest.raises(PeerFailed, match=r"sent nothing for 0\.2 seconds"):
                await client.request("GET", url)
            with pytest.raises(PeerFailed, match=r"took nothing for 0\.2 seconds"):
                await client.request("PUT", url, body=endless())

    asyncio.run(asyncio.wait_for(main(), 20))


def test_unix_sockets_and_a_missing_one(tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "s")
        with pytest.raises(EngineError, match=f"cannot reach server {path}: no such file"):
            await HttpClient(unix=path).request("GET", "http://engine/peer")
        world = World()
        server = Server(world, routes, status_of=lambda error: (500, b""))
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        await server.serve(sock)
        client = HttpClient(unix=path)
        async with await client.request("GET", "http://engine/peer") as answer:
            assert answer.status == 200
        await client.close()
        await server.close(0.2)

    asyncio.run(asyncio.wait_for(main(), 20))
