"""Published ports in user space: hold the host port, and carry its traffic where the firewall does not.

Every published port has a socket of ours bound on the host. It is the reservation: a conflict with another program
shows when the container starts, and nobody can take the port while it runs. With translation rules in force, IPv4
traffic never reaches the socket; without nftables, and for IPv6 clients of an IPv4 container, connections are carried
here.
"""

import asyncio
import contextlib
import errno
import logging
import socket
import struct
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from scow.errors import InvalidArgument, System

log = logging.getLogger("scow.networks")

#: Docker's proxy forgets a UDP client after 90 s of silence.
UDP_IDLE = 90.0
#: UDP clients remembered per port; the one silent for longest goes first.
UDP_CLIENTS = 1024
CONNECT_TIMEOUT = 10.0
BACKLOG = 128
_PIECE = 128 << 10


@dataclass(frozen=True, slots=True)
class Target:
    """Where a published port leads."""

    ip: str
    port: int


def bind(proto: str, host_ip: str, port: int) -> socket.socket:
    """Take a host port.

    A TCP socket also listens: two sockets with SO_REUSEADDR may be bound to one port, but only one may listen.
    SO_REUSEADDR is set for TCP, so that connections in TIME_WAIT do not block a restart, and not for UDP, where it
    would let two programs share the port.

    Raises:
        System: another program holds it, or it is not allowed.
        InvalidArgument: the host has no such address.
    """
    family = socket.AF_INET6 if ":" in host_ip else socket.AF_INET
    held = socket.socket(family, socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if proto == "tcp":
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((host_ip, port))
        if proto == "tcp":
            held.listen(BACKLOG)
        held.setblocking(False)
    except OSError as error:
        held.close()
        shown = f"[{host_ip}]" if family == socket.AF_INET6 else host_ip
        text = f"failed to bind host port {shown}:{port}/{proto}"
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(f"{text}: address already in use") from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise InvalidArgument(f"{text}: cannot assign requested address, the host does not have it") from None
        raise System(f"{text}: {(error.strerror or str(error)).lower()}") from None
    return held


class PortInUse(System):
    """Another program holds the port."""


def has_ipv6() -> bool:
    """Whether any interface of this host has IPv6: otherwise "::" cannot be bound."""
    with contextlib.suppress(OSError), open("/proc/thread-self/net/if_inet6", "rb") as file:
        return bool(file.read(1))
    return False


class Proxy:
    """One held port and the connections carried over it."""

    def __init__(self, held: socket.socket, target: Target) -> None:
        self._held = held
        self._target = target
        self._server: asyncio.Server | None = None
        self._relay: _UdpRelay | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to serve; until then clients wait in the backlog."""
        loop = asyncio.get_running_loop()
        if self._held.type == socket.SOCK_STREAM:
            self._server = await asyncio.start_server(self._accepted, sock=self._held, limit=_PIECE)
        else:
            relay = _UdpRelay(self._target)
            await loop.create_datagram_endpoint(lambda: relay, sock=self._held)
            self._relay = relay

    def close(self) -> None:
        """Give the port back and end what is carried."""
        if self._server is not None:
            self._server.close()
        elif self._relay is not None:
            self._relay.close()
        else:
            self._held.close()
        for task in self._tasks:
            task.cancel()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await carry(reader, writer, lambda: _connect(self._target))


async def _connect(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(target.ip, target.port, limit=_PIECE)


async def carry(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    connect: Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]],
) -> None:
    """Join a client with what `connect` gives, both ways, each end of stream passed on by itself."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            inner_reader, inner_writer = await connect()
    except (OSError, TimeoutError) as error:
        log.debug("a published port leads nowhere: %s", error)
        _reset(writer)
        return
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(reader, inner_writer))
            group.create_task(_pump(inner_reader, writer))
    except* (OSError, asyncio.CancelledError):
        # Whoever reset the connection knows; the other side is told by the aborts below.
        _reset(writer)
        _reset(inner_writer)
    finally:
        writer.close()
        inner_writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection so that the other side notices (RST): a plain close would look like a complete answer."""
    held = writer.get_extra_info("socket")
    if held is not None:
        with contextlib.suppress(OSError):
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_PIECE):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


class _UdpRelay(asyncio.DatagramProtocol):
    """The host side of a UDP port: one connected socket to the container per client."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._transport: asyncio.DatagramTransport | None = None
        self._clients: OrderedDict[object, _UdpClient] = OrderedDict()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # asyncio gives datagram protocols this kind

    def datagram_received(self, data: bytes, addr: tuple[object, ...]) -> None:
        client = self._clients.get(addr)
        if client is None:
            if len(self._clients) >= UDP_CLIENTS:
                self._clients.popitem(last=False)[1].close()
            try:
                client = _UdpClient(self._target, lambda answer: self._answer(answer, addr), lambda: self._forget(addr))
            except OSError as error:
                log.debug("a published udp port leads nowhere: %s", error)
                return
            self._clients[addr] = client
        self._clients.move_to_end(addr)
        client.send(data)

    def close(self) -> None:
        for client in list(self._clients.values()):
            client.close()
        self._clients.clear()
        if self._transport is not None:
            self._transport.close()

    def _answer(self, data: bytes, addr: tuple[object, ...]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, addr)

    def _forget(self, addr: tuple[object, ...]) -> None:
        client = self._clients.pop(addr, None)
        if client is not None:
            client.close()


class _UdpClient:
    """What one UDP client says to the container; forgotten after `UDP_IDLE` seconds of silence."""

    def __init__(self, target: Target, answer: Callable[[bytes], None], idle: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._answer = answer
        self._idle = idle
        self._heard = self._loop.time()
        family = socket.AF_INET6 if ":" in target.ip else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.connect((target.ip, target.port))
        except OSError:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self._readable)
        self._timer = self._loop.call_later(UDP_IDLE, self._check)

    def send(self, data: bytes) -> None:
        self._heard = self._loop.time()
        # A full buffer or a refused port loses the datagram, as a wire would.
        with contextlib.suppress(OSError):
            self._socket.send(data)

    def close(self) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _readable(self) -> None:
        try:
            data = self._socket.recv(65536)
        except OSError:
            return
        self._heard = self._loop.time()
        self._answer(data)

    def _check(self) -> None:
        silent = self._loop.time() - self._heard
        if silent >= UDP_IDLE:
            self._idle()
        else:
            self._timer = self._loop.call_later(UDP_IDLE - silent, self._check)
