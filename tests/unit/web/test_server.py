"""The HTTP server over real UNIX sockets: framing, errors, hijacked streams, clients that misbehave."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from scow.errors import Cancelled, Conflict, EngineError, InvalidArgument, NotFound
from scow.web import exchange
from scow.web.hijack import Hijack, Stream
from scow.web.request import Request
from scow.web.response import NO_CONTENT, Response, json_response
from scow.web.router import Routes
from scow.web.server import Server


class World:
    """What the handlers of these tests do and remember."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.finished = asyncio.Event()
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.seen: list[Any] = []


routes = Routes()


@routes.get("/things/{id}/json")
async def thing(world: World, request: Request) -> Response:
    return json_response({"id": request.path["id"], "version": request.version, "q": request.query.all("q")})


@routes.post("/echo")
async def echo(world: World, request: Request) -> Response:
    return Response(200, request.stream(), content_type="application/octet-stream")


@routes.post("/count")
async def count(world: World, request: Request) -> Response:
    total = 0
    async for piece in request.stream():
        total += len(piece)
    return json_response(total)


@routes.post("/ignore")
async def ignore(world: World, request: Request) -> Response:
    return json_response("ignored")


@routes.post("/limited")
async def limited(world: World, request: Request) -> Response:
    return json_response(len(await request.body(1000)))


@routes.delete("/things/{id}")
async def delete(world: World, request: Request) -> Response:
    return NO_CONTENT


@routes.head("/things/{id}")
async def head(world: World, request: Request) -> Response:
    return Response(200, b"12345")


@routes.get("/conflict")
async def conflict(world: World, request: Request) -> Response:
    raise Conflict("name in use")


@routes.get("/bug")
async def bug(world: World, request: Request) -> Response:
    raise KeyError("surprise")


@routes.get("/forever")
async def forever(world: World, request: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            world.cancelled.set()

    return Response(200, body())


@routes.get("/silent")
async def silent(world: World, request: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        await world.gate.wait()
        yield b"done"

    return Response(200, body())


@routes.post("/slow")
async def slow(world: World, request: Request) -> Response:
    world.entered.set()
    await world.gate.wait()
    world.finished.set()
    return NO_CONTENT


@routes.get("/gone-meanwhile")
async def gone_meanwhile(world: World, request: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        raise NotFound("it is gone")

    return Response(200, body())


@routes.get("/broken")
async def broken(world: World, request: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        yield b"half"
        raise RuntimeError("lost the rest")

    return Response(200, body())


@routes.post("/hijack")
async def hijack(world: World, request: Request) -> Response:
    head = await request.body()

    async def talk(stream: Stream) -> None:
        await stream.write(b"[" + head + b"]")
        while data := await stream.read():
            await stream.write(data)
        await stream.write(b"after-eof")

    return Hijack(talk)


def status_of(error: BaseException) -> tuple[int, bytes]:
    kinds: dict[type[EngineError], int] = {NotFound: 404, Conflict: 409, InvalidArgument: 400}
    status = next((kinds[kind] for kind in type(error).__mro__ if kind in kinds), 500)
    return status, json.dumps({"message": str(error)}).encode()


Test = Callable[[World, str], Awaitable[None]]


def run(test: Test, tmp_path: Path) -> None:
    """Run `test` against a fresh server on a UNIX socket."""

    async def main() -> None:
        world = World()
        path = str(tmp_path / "s")
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        server = Server(world, routes, status_of=status_of, prefix_versions=True, extra_headers={"Server": "test"})
        await server.serve(sock)
        try:
            async with asyncio.timeout(30):
                await test(world, path)
        finally:
            await server.close(grace=0.2)

    asyncio.run(main())


async def talk(path: str, data: bytes, *, eof: bool = True) -> bytes:
    """Send `data`, half-close, give everything that comes back."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    if eof:
        writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"{line} HTTP/1.1", "Host: x", *headers, "", ""]).encode() + body


def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    async def test(world: World, path: str) -> None:
        answer = await talk(
            path,
            request("GET /v1.44/things/a%2Fb/json?q=1&q=2")
            + request("POST /count", "Content-Length: 3", body=b"abc")
            + request("DELETE /things/x")
            + request("GET /things/z/json", "Connection: close"),
        )
        parts = answer.split(b"HTTP/1.1 ")[1:]
        assert [part[:3] for part in parts] == [b"200", b"200", b"204", b"200"]
        assert json.loads(parts[0].partition(b"\r\n\r\n")[2]) == {"id": "a/b", "version": [1, 44], "q": ["1", "2"]}
        assert parts[1].endswith(b"\r\n\r\n3\n")
        assert b"content-length" not in parts[2].lower()
        assert b"Server: test" in parts[3]

    run(test, tmp_path)


@pytest.mark.parametrize(
    ("head", "status", "message"),
    [
        ("GET /nowhere", 404, "page not found"),
        ("PUT /things/x/json", 405, "method PUT not allowed here"),
        ("GET /v1.99/things/x/json", 400, "too new"),
        ("GET /v1.2/things/x/json", 400, "too old"),
        ("GET /conflict", 409, "name in use"),
        ("GET /bug", 500, "surprise"),
    ],
)
def test_errors_have_status_and_message(tmp_path: Path, head: str, status: int, message: str) -> None:
    async def test(world: World, path: str) -> None:
        top, _, body = (await talk(path, request(head))).partition(b"\r\n\r\n")
        assert top.startswith(b"HTTP/1.1 %d" % status)
        assert message in json.loads(body)["message"]

    run(test, tmp_path)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"NONSENSE\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),  # no Host
        (request("POST /count", "Content-Length: 3", "Content-Length: 4", body=b"abcd"), b"400"),
        (request("POST /count", "Transfer-Encoding: chunked", body=b"zz\r\nab\r\n0\r\n\r\n"), b"400"),
        (request("POST /count", "Transfer-Encoding: gzip", body=b"x"), b"501"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * (exchange.MAX_HEAD + 1000), b"431"),
    ],
)
def test_malformed_requests_are_refused(tmp_path: Path, data: bytes, status: bytes) -> None:
    async def test(world: World, path: str) -> None:
        assert (await talk(path, data, eof=False))[9:12] == status

    run(test, tmp_path)


def test_smuggled_second_request_is_not_served(tmp_path: Path) -> None:
    async def test(world: World, path: str) -> None:
        data = request("POST /count", "Content-Length: 4", "Transfer-Encoding: chunked", body=b"0\r\n\r\nGET /conflict")
        assert (await talk(path, data + b" HTTP/1.1\r\nHost: x\r\n\r\n")).count(b"409 Conflict") == 0

    run(test, tmp_path)


def test_head_sends_length_without_body(tmp_path: Path) -> None:
    async def test(world: World, path: str) -> None:
        answer = await talk(path, request("HEAD /things/x") + request("GET /things/y/json"))
        assert b"Content-Length: 5\r\n\r\nHTTP/1.1 200" in answer

    run(test, tmp_path)


def test_expect_continue_is_sent_only_when_the_body_is_wanted(tmp_path: Path) -> None:
    async def test(world: World, path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(request("POST /count", "Content-Length: 3", "Expect: 100-continue"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        writer.write(b"abc")
        assert (await reader.readuntil(b"\n3\n")).startswith(b"HTTP/1.1 200")
        writer.close()
        answer = await talk(path, request("POST /ignore", "Content-Length: 3", "Expect: 100-continue"), eof=False)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"100 Continue" not in answer

    run(test, tmp_path)


def test_large_bodies_flow_both_ways(tmp_path: Path) -> None:
    async def test(world: World, path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path, limit=1 << 20)
        size = 20 << 20
        writer.write(request("POST /echo", f"Content-Length: {size}", "Connection: close"))

        async def send() -> None:
            for _ in range(size >> 16):
                writer.write(b"x" * 65536)
                await writer.drain()

        sender = asyncio.create_task(send())
        answer = await reader.read()
        await sender
        assert answer.count(b"x") >= size
        writer.close()

    run(test, tmp_path)


def test_unwanted_body_does_not_hide_the_answer(tmp_path: Path) -> None:
    async def test(world: World, path: str) -> None:
        body = b"y" * (5 << 20)
        answer = await talk(path, request("POST /ignore", f"Content-Length: {len(body)}", body=body) * 2)
        assert answer.count(b'"ignored"') == 2

    run(test, tmp_path)


def test_body_limit(tmp_path: Path) -> None:
    async def test(world: World, path: str) -> None:
        declared = await talk(path, request("POST /limited", "Content-Length: 1001", body=b"z" * 1001))
        assert declared.startswith(b"HTTP/1.1 413")
        chunked = request(
            "POST /limited", "Transfer-Encoding: chunked", body=b"3e9\r\n" + b"z" * 1001 + b"\r\n0\r\n\r\n"
        )
        assert (await talk(path, chunked)).startswith(b"HTTP/1.1 413")

    run(test, tmp_path)


def test_streaming_body_is_cancelled_when_the_client_goes(tmp_path: Path) -> None:
    async def test(world: World, path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(request("GET /forever"))
        await reader.readuntil(b"first")
        writer.close()
        await world.cancelled.wait()

    run(test, tmp_path)


def test_headers_come_before_the_first_piece(tmp_path: Path) -> None:
    async def test(world: World, path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(request("GET /silent"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        world.gate.set()
        assert b"done" in await reader.readuntil(b"0\r\n\r\n")
        writer.close()

    run(test, tmp_path)


def test_handler_is_not_cancelled_when_the_client_goes(tmp_path: Path) -> None:
    async def test(world: World, path: str) -> None:
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(request("POST /slow", "Content-Length: 0"))
        await world.entered.wait()
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(0)
        world.gate.set()
        await world.finished.wait()

    run(test, tmp_path)


def test_a_body_that_fails_shows_as_truncated(tmp_path: Path) -> None:
    async def test(world: World, path: str) -> None:
        with contextlib.suppress(ConnectionResetError):
            assert b"0\r\n\r\n" not in await talk(path, request("GET /broken"), eof=False)

    run(test, tmp_path)


def test_an_expected_failure_on_the_way_is_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(world: World, path: str) -> None:
        with contextlib.suppress(ConnectionResetError):
            assert b"0\r\n\r\n" not in await talk(path, request("GET /gone-meanwhile"), eof=False)

    run(test, tmp_path)
    (record,) = [record for record in caplog.records if "cut off" in record.getMessage()]
    assert record.exc_info is None
    assert "it is gone" in record.getMessage()


def test_silence_in_the_head_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "HEAD_TIMEOUT", 0.05)

    async def test(world: World, path: str) -> None:
        assert (await talk(path, b"GET / HT", eof=False)).startswith(b"HTTP/1.1 408")

    run(test, tmp_path)


def test_idle_connections_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "IDLE_TIMEOUT", 0.05)

    async def test(world: World, path: str) -> None:
        assert (await talk(path, request("DELETE /things/x"), eof=False)).startswith(b"HTTP/1.1 204")

    run(test, tmp_path)


@pytest.mark.parametrize("upgrade", [True, False])
@pytest.mark.parametrize("chunked", [True, False])
def test_hijack_with_body_early_bytes_and_half_close(tmp_path: Path, upgrade: bool, chunked: bool) -> None:
    async def test(world: World, path: str) -> None:
        headers = ["Connection: Upgrade", "Upgrade: tcp"] if upgrade else []
        if chunked:
            data = request("POST /hijack", *headers, "Transfer-Encoding: chunked", body=b"2\r\n{}\r\n0\r\n\r\nearly")
        else:
            data = request("POST /hijack", *headers, "Content-Length: 2", body=b"{}early")
        top, _, raw = (await talk(path, data)).partition(b"\r\n\r\n")
        assert raw == b"[{}]earlyafter-eof"
        lines = top.split(b"\r\n")
        if upgrade:
            assert lines[0] == b"HTTP/1.1 101 UPGRADED"
            assert {b"Connection: Upgrade", b"Upgrade: tcp"} <= set(lines)
        else:
            assert lines[0] == b"HTTP/1.1 200 OK"
        assert b"Content-Type: application/vnd.docker.raw-stream" in lines

    run(test, tmp_path)


def test_hijack_echoes_every_byte_of_many_clients_that_half_close_at_once(tmp_path: Path) -> None:
    async def test(world: World, path: str) -> None:
        data = request("POST /hijack", "Connection: Upgrade", "Upgrade: tcp", "Content-Length: 2", body=b"{}")
        payload = b"p" * 50_000
        answers = await asyncio.gather(*(talk(path, data + payload) for _ in range(50)))
        assert all(answer.endswith(b"[{}]" + payload + b"after-eof") for answer in answers)

    run(test, tmp_path)


def test_upgrade_may_be_declined(tmp_path: Path) -> None:
    async def test(world: World, path: str) -> None:
        data = request("GET /things/x/json", "Connection: Upgrade", "Upgrade: tcp")
        assert (await talk(path, data * 2)).count(b"HTTP/1.1 200 OK") == 2

    run(test, tmp_path)


def test_close_lets_requests_finish_and_ends_streams(tmp_path: Path) -> None:
    async def main() -> None:
        world = World()
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tmp_path / "s"))
        server = Server(world, routes, status_of=status_of)
        await server.serve(sock)
        _, idle = await asyncio.open_unix_connection(str(tmp_path / "s"))
        slow_reader, slow_writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        slow_writer.write(request("POST /slow", "Content-Length: 0"))
        stream_reader, stream_writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        stream_writer.write(request("GET /forever"))
        await stream_reader.readuntil(b"first")
        await world.entered.wait()
        closing = asyncio.create_task(server.close(grace=0.3))
        await asyncio.sleep(0.05)
        world.gate.set()
        assert (await slow_reader.read()).startswith(b"HTTP/1.1 204")
        await closing
        assert world.cancelled.is_set()
        for writer in (idle, slow_writer, stream_writer):
            writer.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_writing_to_a_gone_peer_raises() -> None:
    async def main() -> None:
        left, right = socket.socketpair()
        loop = asyncio.get_running_loop()
        _, stream = await loop.create_connection(Stream, sock=left)
        right.close()
        await stream.wait_ended()

        async def write_on() -> None:
            for _ in range(100):
                await stream.write(b"x" * 100_000)
                await asyncio.sleep(0)

        with pytest.raises(Cancelled):
            await write_on()
        stream.close()

    asyncio.run(main())
