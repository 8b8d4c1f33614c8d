import asyncio
import socket

import pytest

from scow.errors import InvalidArgument
from scow.networks import nameserver, proxy
from scow.networks.nameserver import NameServer
from scow.networks.proxy import PortInUse, Proxy, Target, bind


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_a_held_port_is_refused(proto: str) -> None:
    port = free_port()
    held = bind(proto, "127.0.0.1", port)
    with pytest.raises(PortInUse, match=f"failed to bind host port 127.0.0.1:{port}/{proto}: address already in use"):
        bind(proto, "127.0.0.1", port)
    held.close()
    bind(proto, "127.0.0.1", port).close()


def test_a_port_in_time_wait_is_not_in_use() -> None:
    port = free_port()
    held = bind("tcp", "127.0.0.1", port)
    with socket.create_connection(("127.0.0.1", port)) as client:
        held.setblocking(True)
        accepted, _ = held.accept()
        accepted.close()  # the server's side closes first and keeps TIME_WAIT
        assert client.recv(1) == b""
    held.close()
    bind("tcp", "127.0.0.1", port).close()


def test_an_address_the_host_does_not_have() -> None:
    with pytest.raises(InvalidArgument, match="cannot assign requested address"):
        bind("tcp", "192.0.2.77", 8080)


def test_tcp_half_close_and_large_answers_pass() -> None:
    async def scenario() -> None:
        async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            data = await reader.read(-1)  # until the client has said everything
            writer.write(data.upper() * 1000)
            await writer.drain()
            writer.close()

        inner = await asyncio.start_server(upper, "127.0.0.1", 0)
        port = free_port()
        carried = Proxy(bind("tcp", "127.0.0.1", port), Target("127.0.0.1", inner.sockets[0].getsockname()[1]))
        await carried.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x" * 5000)
        writer.write_eof()
        assert await reader.read(-1) == b"X" * 5_000_000
        writer.close()
        carried.close()
        inner.close()
        await inner.wait_closed()

    asyncio.run(scenario())


def test_a_container_that_does_not_listen_resets_its_clients() -> None:
    async def scenario() -> None:
        port = free_port()
        carried = Proxy(bind("tcp", "127.0.0.1", port), Target("127.0.0.1", free_port()))
        await carried.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        writer.close()
        carried.close()

    asyncio.run(scenario())


def test_udp_clients_are_kept_apart_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "UDP_CLIENTS", 3)

    async def scenario() -> None:
        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.transport = transport

            def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
                self.transport.sendto(data, addr)  # type: ignore[attr-defined]

        loop = asyncio.get_running_loop()
        inner, _ = await loop.create_datagram_endpoint(Echo, ("127.0.0.1", 0))
        port = free_port(socket.SOCK_DGRAM)
        carried = Proxy(bind("udp", "127.0.0.1", port), Target("127.0.0.1", inner.get_extra_info("sockname")[1]))
        await carried.start()
        clients = []
        for number in range(5):
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            client.setblocking(False)
            client.connect(("127.0.0.1", port))
            client.send(b"%d" % number)
            assert await asyncio.wait_for(loop.sock_recv(client, 10), 5) == b"%d" % number
            clients.append(client)
        relay = carried._relay
        assert relay is not None
        assert len(relay._clients) == 3
        for client in clients:
            client.close()
        carried.close()
        inner.close()

    asyncio.run(scenario())


def test_questions_about_the_world_go_to_the_next_server_when_one_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nameserver, "ANSWER_TIME", 0.1)
    asked: list[bytes] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()

        class Silent(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
                asked.append(data)

        class Answers(asyncio.DatagramProtocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.transport = transport

            def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
                asked.append(data)
                forged = bytes((data[0] ^ 1,)) + data[1:2] + b"\x81\x80" + data[4:]
                for answer in (b"", forged, data[:2] + b"\x81\x80" + data[4:]):
                    self.transport.sendto(answer, addr)  # type: ignore[attr-defined]

        silent, _ = await loop.create_datagram_endpoint(Silent, ("127.0.0.1", 0))
        answers, _ = await loop.create_datagram_endpoint(Answers, ("127.0.0.1", 0))
        ports = {"10.0.0.1": silent, "10.0.0.2": answers}
        connect = socket.socket.connect

        def redirected(self: socket.socket, address: tuple[str, int]) -> None:
            connect(self, ports[address[0]].get_extra_info("sockname"))

        monkeypatch.setattr(socket.socket, "connect", redirected)
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.create_server(("127.0.0.1", 0))
        server = NameServer(udp, tcp, lambda query: None, lambda: list(ports))
        got: asyncio.Future[bytes] = loop.create_future()
        query = b"\x12\x34\1\0\0\1\0\0\0\0\0\0\3web\0\0\1\0\1"
        server.answer(query, got.set_result, udp=True)
        assert await asyncio.wait_for(got, 5) == b"\x12\x34\x81\x80" + query[4:]
        assert len(asked) == 2
        assert asked[0][2:] == query[2:]
        server.close()
        for item in (udp, tcp, silent, answers):
            item.close()

    asyncio.run(scenario())
