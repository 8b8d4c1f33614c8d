"""The embedded resolver's sockets: it answers inside a sandbox and asks the world from the host.

The two sockets of a sandbox were opened inside its namespace (``apply.open_name_server``); questions that the networks'
names do not answer go to the container's or the host's name servers, one after the other, each by a socket of its own,
so that an answer can only come from the server that was asked.
"""

import asyncio
import contextlib
import logging
import random
import socket
import struct
from collections.abc import Callable, Sequence

from scow.networks import dns

log = logging.getLogger("scow.networks")

#: Seconds a name server gets before the next one is asked (Docker's resolver uses 4, glibc 5).
ANSWER_TIME = 4.0
#: Questions on their way to the world at once, per sandbox; further ones are refused, as Docker's limit does.
MAX_FORWARDED = 1024
TCP_IDLE = 10.0
MAX_TCP_CLIENTS = 100

#: Query → records, [] for "no such record", None for "ask the world".
Lookup = Callable[[dns.Query], list[tuple[int, bytes]] | None]
#: The name servers to ask; empty where the container has no way out.
Upstream = Callable[[], Sequence[str]]


class NameServer:
    """The resolver of one sandbox."""

    def __init__(self, udp: socket.socket, tcp: socket.socket, lookup: Lookup, upstream: Upstream) -> None:
        self._udp_socket = udp
        self._tcp_socket = tcp
        self._lookup = lookup
        self._upstream = upstream
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._forwarded: set[_Forward] = set()
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to answer."""
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), sock=self._udp_socket)
        self._tcp = await asyncio.start_server(self._accepted, sock=self._tcp_socket)

    def close(self) -> None:
        """Stop, and let go of the namespace."""
        for forward in list(self._forwarded):
            forward.close()
        for task in self._clients:
            task.cancel()
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()

    def answer(self, data: bytes, reply: Callable[[bytes], None], *, udp: bool) -> None:
        """Answer one query through `reply`, now or when the world has answered."""
        try:
            query = dns.parse(data)
        except dns.Malformed:
            refused = dns.malformed_answer(data)
            if refused is not None:
                reply(refused)
            return
        limit = query.udp_size if udp else dns.MAX_MESSAGE
        if query.opcode:
            reply(dns.answer(query, code=dns.NOTIMP))
            return
        records = self._lookup(query)
        if records is not None:
            reply(dns.answer(query, records, limit=limit))
            return
        servers = self._upstream()
        if not servers:
            reply(dns.answer(query, code=dns.NXDOMAIN))
        elif len(self._forwarded) >= MAX_FORWARDED:
            reply(dns.answer(query, code=dns.REFUSED))
        else:
            self._forwarded.add(_Forward(data, query, list(servers), reply, self._forwarded.discard, udp=udp))

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._clients) >= MAX_TCP_CLIENTS:
            writer.close()
            return
        self._clients.add(task)
        try:
            while True:
                async with asyncio.timeout(TCP_IDLE):
                    data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
                self.answer(data, lambda out, to=answered: to.done() or to.set_result(out), udp=False)  # type: ignore[misc]
                async with asyncio.timeout(ANSWER_TIME * 4):
                    out = await answered
                writer.write(struct.pack("!H", len(out)) + out)
                await writer.drain()
        except (OSError, EOFError, TimeoutError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._clients.discard(task)


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # asyncio gives datagram protocols this kind

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        def reply(out: bytes) -> None:
            if self._transport is not None and not self._transport.is_closing():
                self._transport.sendto(out, addr)

        self._server.answer(data, reply, udp=True)


class _Forward:
    """One question on its way through the name servers; callbacks only, so nothing has to be awaited or cancelled."""

    def __init__(
        self,
        data: bytes,
        query: dns.Query,
        servers: list[str],
        reply: Callable[[bytes], None],
        ended: "Callable[[_Forward], None]",
        *,
        udp: bool,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._query = query
        self._data = data
        self._servers = servers
        self._reply = reply
        self._ended = ended
        self._udp = udp
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._received = b""
        self._id = b""
        self._loop.call_soon(self._next)

    def close(self) -> None:
        """Give up without an answer."""
        self._drop()
        self._servers.clear()
        self._ended(self)

    def _next(self) -> None:
        self._drop()
        while self._servers:
            server = self._servers.pop(0)
            try:
                self._ask(server)
            except OSError as error:
                log.debug("name server %s: %s", server, error)
                self._drop()
                continue
            self._timer = self._loop.call_later(ANSWER_TIME, self._next)
            return
        self._finish(dns.answer(self._query, code=dns.SERVFAIL))

    def _ask(self, server: str) -> None:
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        kind = socket.SOCK_DGRAM if self._udp else socket.SOCK_STREAM
        self._socket = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        self._received = b""
        self._id = random.randbytes(2)
        with contextlib.suppress(BlockingIOError):
            self._socket.connect((server, 53))
        if self._udp:
            self._socket.send(self._id + self._data[2:])
            self._loop.add_reader(self._socket, self._datagram)
        else:
            self._loop.add_writer(self._socket, self._connected)

    def _datagram(self) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(dns.MAX_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            self._next()
            return
        self._take(data)

    def _connected(self) -> None:
        if self._socket is None:
            return
        self._loop.remove_writer(self._socket)
        try:
            # One small write into an empty buffer: it is taken whole.
            self._socket.send(struct.pack("!H", len(self._data)) + self._id + self._data[2:])
        except OSError:
            self._next()
            return
        self._loop.add_reader(self._socket, self._stream)

    def _stream(self) -> None:
        if self._socket is None:
            return
        try:
            piece = self._socket.recv(dns.MAX_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        self._received += piece
        if not piece:
            self._next()
        elif len(self._received) >= 2 and len(self._received) - 2 >= int.from_bytes(self._received[:2], "big"):
            self._take(self._received[2:])

    def _take(self, data: bytes) -> None:
        if len(data) < 12 or data[:2] != self._id or not data[2] & 0x80:
            return  # not the answer to this question: wait on
        if data[3] & 15 in (dns.SERVFAIL, dns.REFUSED) and self._servers:
            self._next()
            return
        self._finish(self._data[:2] + data[2:])

    def _finish(self, out: bytes) -> None:
        self.close()
        self._reply(out)

    def _drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None
