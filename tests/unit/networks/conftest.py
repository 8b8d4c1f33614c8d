"""A host of one's own: every root test here runs in a thread that has left for a new network namespace.

Threads started from there (the engine's kernel thread too) inherit it, the rest of the test run does not notice.
"""

import asyncio
import os
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scow.events import Bus
from scow.linux import links
from scow.linux.namespaces import CLONE_NEWNET, new_network_namespace, unshare
from scow.linux.netlink import NetlinkSocket, inside
from scow.networks.config import NetworkConfig
from scow.networks.service import Networks

HOST_OUTSIDE = "192.0.2.1"
PEER = "192.0.2.2"


def run_in_thread(call: Callable[[], Any]) -> Any:
    found: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:  # handed to the test's own thread
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


class Host:
    """The network namespace that plays the host, and one behind it that plays the outside world."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.peer_fd = -1
        self._servers: list[socket.socket] = []

    def networks(self, **config: Any) -> Networks:
        self.bus = Bus()
        return Networks(self.root / "data", self.root / "run", NetworkConfig(**config), self.bus)

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        run_in_thread(lambda: self._run(scenario))

    def _run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        unshare(CLONE_NEWNET)
        self.peer_fd = new_network_namespace()
        with NetlinkSocket() as host, NetlinkSocket(self.peer_fd) as peer:
            host.request(links.link_up(1), "lo")
            host.request(links.veth("out0", "eth0", self.peer_fd, mtu=1500, mac="02:00:00:00:00:09"), "outside")
            out0, eth0 = links.find(host, "out0"), links.find(peer, "eth0")
            assert out0 is not None
            assert eth0 is not None
            host.request(links.address(out0.index, HOST_OUTSIDE, 24), "address")
            peer.batch(
                [links.link_up(1), links.link_up(eth0.index), links.address(eth0.index, PEER, 24)], "peer's address"
            )
        try:
            asyncio.run(scenario())
        finally:
            for server in self._servers:
                server.close()
            os.close(self.peer_fd)

    async def at(self, netns_fd: int | None, call: Callable[[], Any]) -> Any:
        """Run a blocking call inside a namespace (None: the host's)."""

        def run() -> Any:
            if netns_fd is None:
                return call()
            with inside(netns_fd):
                return call()

        return await asyncio.to_thread(run)

    async def serve(self, netns_fd: int | None, port: int, address: str = "0.0.0.0") -> None:
        """A TCP server that tells its clients where it sees them, and a UDP one that does the same."""
        tcp = await self.at(netns_fd, lambda: socket.create_server((address, port), family=family(address)))
        udp = await self.at(netns_fd, lambda: socket.socket(family(address), socket.SOCK_DGRAM))
        udp.bind((address, port))
        self._servers += [tcp, udp]

        def accept() -> None:
            while True:
                try:
                    connection, peer = tcp.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(peer[0].encode())

        def answer() -> None:
            while True:
                try:
                    _, peer = udp.recvfrom(100)
                    udp.sendto(peer[0].encode(), peer)
                except OSError:
                    return

        for loop in (accept, answer):
            threading.Thread(target=loop, daemon=True).start()

    async def ask(self, netns_fd: int | None, address: str, port: int, *, udp: bool = False) -> str:
        """What the server at the other end says our address is; "timed out" or "refused" when it cannot be reached."""

        def connect() -> str:
            try:
                if not udp:
                    with socket.create_connection((address, port), timeout=1) as client:
                        return client.recv(100).decode() or "closed"
                with socket.socket(family(address), socket.SOCK_DGRAM) as client:
                    client.settimeout(1)
                    client.connect((address, port))
                    client.send(b"?")
                    return client.recv(100).decode()
            except TimeoutError:
                return "timed out"
            except ConnectionError:
                return "refused"
            except OSError as error:
                return os.strerror(error.errno or 0)

        return str(await self.at(netns_fd, connect))

    async def ping(self, netns_fd: int | None, address: str) -> bool:
        """Whether an unprivileged ICMP echo is answered."""

        def echo() -> bool:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as client:
                client.settimeout(1)
                client.sendto(struct.pack("!BBHHH", 8, 0, 0, 0, 1) + b"hello", (address, 0))
                try:
                    return client.recv(100)[0] == 0
                except TimeoutError:
                    return False

        return bool(await self.at(netns_fd, echo))


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    if os.geteuid():
        pytest.skip("needs root")
    return Host(tmp_path)
