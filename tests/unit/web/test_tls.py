"""TLS that can half-close: every byte of an echo arrives although the client has finished sending."""

import asyncio
import hashlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from scow.errors import System
from scow.web.client import HttpClient, PeerFailed
from scow.web.hijack import Hijack, Stream
from scow.web.request import Request
from scow.web.response import Response, json_response
from scow.web.router import Routes
from scow.web.server import Server
from scow.web.tls import TlsConfig, TlsLayer, client_context

SIZE = 32 << 20
BLOCK = bytes(range(256)) * 256

routes = Routes()


@routes.post("/echo")
async def echo(app: object, request: Request) -> Response:
    async def talk(stream: Stream) -> None:
        while data := await stream.read(1 << 18):
            await stream.write(data)
        await stream.write(b"THE END")

    return Hijack(talk)


@routes.get("/peer")
async def peer(app: object, request: Request) -> Response:
    return json_response(request.peer.common_name)


class Files:
    """An authority, a server's and a client's certificate, as paths."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        server = authority.issue_cert("127.0.0.1", "localhost")
        client = authority.issue_cert("client@example.org", common_name="the-client")
        self.ca, self.cert, self.key, self.pair = (str(folder / name) for name in ("ca", "cert", "key", "client"))
        authority.cert_pem.write_to_path(self.ca)
        server.private_key_pem.write_to_path(self.key)
        for index, blob in enumerate(server.cert_chain_pems):
            blob.write_to_path(self.cert, append=index > 0)
        client.private_key_and_cert_chain_pem.write_to_path(self.pair)

    def client(self, *, certificate: bool = True) -> ssl.SSLContext:
        return client_context(self.ca, self.pair if certificate else None)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def port(files: Files) -> Iterator[int]:
    """A server with mutual TLS on a loop of its own thread, so that blocking clients can be tried too."""
    ready: list[int] = []
    started = threading.Event()
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        server = Server(None, routes, status_of=lambda error: (500, str(error).encode()))
        await server.serve(sock, TlsConfig(files.cert, files.key, files.ca, verify_peer=True))
        done = asyncio.Event()
        stop.append((asyncio.get_running_loop(), done))
        ready.append(sock.getsockname()[1])
        started.set()
        await done.wait()
        await server.close(0.2)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert started.wait(10)
    yield ready[0]
    loop, done = stop[0]
    loop.call_soon_threadsafe(done.set)
    thread.join(10)


HEAD = b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"


def expected_digest() -> str:
    wanted = hashlib.sha256()
    for _ in range(SIZE // len(BLOCK)):
        wanted.update(BLOCK)
    wanted.update(b"THE END")
    return wanted.hexdigest()


def test_half_close_loses_nothing(files: Files, port: int) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        stream = Stream()
        shaken = loop.create_future()
        layer = TlsLayer(stream, files.client(), server_side=False, server_hostname="127.0.0.1", failed=shaken)
        await loop.create_connection(lambda: layer, "127.0.0.1", port)
        await shaken
        await stream.write(HEAD)

        async def send() -> None:
            for _ in range(SIZE // len(BLOCK)):
                await stream.write(BLOCK)
            stream.write_eof()

        sender = asyncio.create_task(send())
        await asyncio.sleep(0.2)  # let both directions fill up before anything is read
        seen, head = hashlib.sha256(), b""
        while b"\r\n\r\n" not in head:
            head += await stream.read()
        seen.update(head.partition(b"\r\n\r\n")[2])
        while data := await stream.read():
            seen.update(data)
        await sender
        assert seen.hexdigest() == expected_digest()
        stream.close()
        await stream.wait_closed()

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_half_close_of_a_blocking_client(files: Files, port: int, version: ssl.TLSVersion) -> None:
    """A client that shuts its socket down for writing, TLS 1.2 and 1.3."""
    context = files.client()
    context.maximum_version = context.minimum_version = version
    with socket.create_connection(("127.0.0.1", port), timeout=30) as raw:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")

        def pump() -> None:
            if outgoing.pending:
                raw.sendall(outgoing.read())

        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                pump()
                incoming.write(raw.recv(65536))
        tls.write(HEAD)

        def send() -> None:
            for _ in range(SIZE // len(BLOCK)):
                tls_write(BLOCK)
            raw.shutdown(socket.SHUT_WR)

        lock = threading.Lock()

        def tls_write(data: bytes) -> None:
            with lock:
                tls.write(data)
                cipher = outgoing.read()
            raw.sendall(cipher)

        pump()
        sender = threading.Thread(target=send)
        sender.start()
        answer = hashlib.sha256()
        head = b""
        while cipher := raw.recv(1 << 18):
            with lock:
                incoming.write(cipher)
                while True:
                    try:
                        data = tls.read(1 << 18)
                    except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                        break
                    if not data:
                        break
                    if b"\r\n\r\n" in head:
                        answer.update(data)
                    else:
                        head += data
                        answer.update(head.partition(b"\r\n\r\n")[2])
        sender.join()
    assert answer.hexdigest() == expected_digest()


def test_python_client_that_reads_after_its_close_notify(files: Files, port: int) -> None:
    """A half-close by close_notify while plenty is still on its way to the client."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stream = Stream()
        shaken = loop.create_future()
        layer = TlsLayer(stream, files.client(), server_side=False, server_hostname="127.0.0.1", failed=shaken)
        await loop.create_connection(lambda: layer, "127.0.0.1", port)
        await shaken
        await stream.write(HEAD + b"tiny")
        stream.write_eof()
        answer = b""
        while data := await stream.read():
            answer += data
        assert answer.endswith(b"tinyTHE END")
        stream.close()
        await stream.wait_closed()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_the_peer_is_named_by_its_certificate(files: Files, port: int) -> None:
    async def main() -> None:
        client = HttpClient(tls=files.client())
        async with await client.request("GET", f"https://127.0.0.1:{port}/peer") as answer:
            assert await answer.read() == b'"the-client"\n'
        await client.close()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_clients_without_certificate_are_turned_away(files: Files, port: int) -> None:
    async def main() -> None:
        client = HttpClient(tls=files.client(certificate=False))
        with pytest.raises(PeerFailed):
            await client.request("GET", f"https://127.0.0.1:{port}/peer")

    asyncio.run(asyncio.wait_for(main(), 30))


def test_unknown_authorities_are_named_in_the_error(files: Files, port: int) -> None:
    async def main() -> None:
        with pytest.raises(PeerFailed, match="failed to verify certificate"):
            await HttpClient().request("GET", f"https://127.0.0.1:{port}/peer")
        with pytest.raises(PeerFailed, match=r"127\.0\.0\.1"):
            await HttpClient(tls=client_context(verify=False)).request("GET", f"https://127.0.0.1:{port}/peer")

    asyncio.run(asyncio.wait_for(main(), 30))


def test_plain_http_to_a_tls_port_ends(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        try:
            while data := raw.recv(4096):
                received += data
        except ConnectionResetError:
            pass
        assert b"HTTP/1.1 200" not in received


def test_missing_files_are_named() -> None:
    with pytest.raises(System, match="/nowhere/cert"):
        TlsConfig("/nowhere/cert", "/nowhere/key").context()
    with pytest.raises(System, match="tlscacert"):
        TlsConfig("/nowhere/cert", "/nowhere/key", verify_peer=True).context()
