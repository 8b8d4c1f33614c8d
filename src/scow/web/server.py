"""The HTTP server of the daemon and of the registry: sockets in, handlers called, answers out.

One task per connection, all owned by the `Server`. A handler is never cancelled because its client went away: it runs
until it has returned its Response; only a streaming body is cancelled then (a `stop` must not be half done because
somebody pressed Ctrl-C). Everything is cancelled only by `close`, after its grace. This file holds the one ``except
Exception`` of the edge: what nobody raised on purpose is logged with its traceback and answered with 500.
"""

import asyncio
import logging
import re
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any

import h11

from scow.api import version as api_version
from scow.errors import Cancelled, EngineError
from scow.web.exchange import Conversation
from scow.web.hijack import Hijack
from scow.web.request import Peer, Query, Request
from scow.web.response import Refusal, Response
from scow.web.router import Routes
from scow.web.stream import Stream
from scow.web.tls import TlsConfig, TlsLayer

log = logging.getLogger("scow.web")

#: Connections served at a time by one server; further ones are closed at once.
MAX_CONNECTIONS = 8192
#: Waiting connections the kernel keeps for us.
BACKLOG = 1024
#: Seconds of silence after which the kernel probes a TCP peer, so that a vanished one does not hold a connection for
#: ever.
KEEPALIVE_IDLE = 60

_VERSION = re.compile(r"/v(\d[^/]*)(/.*)")

#: Status and JSON body for any exception.
StatusOf = Callable[[BaseException], tuple[int, bytes]]


class Server:
    """Serves `routes` on any number of sockets.

    Args:
        app: handed to every handler as its first argument.
        status_of: status and body for an exception; asked for the body also where HTTP itself fixes the status (404,
            405 …).
        prefix_versions: take ``/v1.43`` off the path and give it as `Request.version`.
        extra_headers: sent with every answer.
        admit: sees every request before its handler, and raises to refuse it.
    """

    def __init__(
        self,
        app: Any,
        routes: Routes,
        *,
        status_of: StatusOf,
        prefix_versions: bool = False,
        extra_headers: Mapping[str, str] | None = None,
        admit: Callable[[Request], None] | None = None,
    ) -> None:
        self._app = app
        self._routes = routes
        self._status_of = status_of
        self._prefix_versions = prefix_versions
        self._extra = dict(extra_headers or {})
        self._admit = admit
        self._listeners: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: dict[asyncio.Task[None], Stream] = {}
        self._closing = False

    async def serve(self, sock: socket.socket, tls: TlsConfig | None = None) -> None:
        """Start to accept on the bound socket `sock` (UNIX or TCP) and return; `close` ends it.

        Raises:
            OSError: the socket cannot listen.
            System: a TLS file is missing or wrong.
        """
        loop = asyncio.get_running_loop()
        context = tls.context() if tls is not None else None

        def factory() -> asyncio.Protocol:
            stream = Stream(self._connected)
            return TlsLayer(stream, context, server_side=True) if context is not None else stream

        if sock.family == socket.AF_UNIX:
            listener: Any = await loop.create_unix_server(factory, sock=sock, backlog=BACKLOG)
        else:
            listener = await loop.create_server(factory, sock=sock, backlog=BACKLOG)
        self._listeners.append(listener)

    async def close(self, grace: float = 5.0) -> None:
        """Stop accepting, let running requests finish for `grace` seconds, then cancel what is left."""
        self._closing = True
        for listener in self._listeners:
            listener.close()
        for stream in list(self._idle.values()):
            stream.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # -- connections -----------------------------------------------------------------------------------------------

    def _connected(self, stream: Stream) -> None:
        if self._closing or len(self._tasks) >= MAX_CONNECTIONS:
            stream.abort()
            return
        task = asyncio.get_running_loop().create_task(self._converse(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, stream: Stream) -> None:
        """Serve one connection until it ends."""
        try:
            peer = _peer(stream)
            conversation = Conversation(stream)
            while not self._closing and await self._exchange(conversation, peer):
                pass
            stream.close()
        except (Cancelled, ConnectionError):
            stream.abort()
        except asyncio.CancelledError:
            stream.abort()
            raise
        except Exception:
            log.exception("a connection failed")
            stream.abort()

    async def _exchange(self, conversation: Conversation, peer: Peer) -> bool:
        """One request and its answer; False when the connection is done."""
        task = asyncio.current_task()
        assert task is not None
        self._idle[task] = conversation.stream
        try:
            head = await conversation.next_head()
        except Refusal as refusal:
            await conversation.answer(self._failure(refusal), self._extra)
            await conversation.finish()
            return False
        finally:
            del self._idle[task]
        if head is None:
            return False
        try:
            response = await self._respond(head, conversation, peer)
        except Cancelled:
            raise
        except Exception as error:
            response = self._failure(error)
        if isinstance(response, Hijack):
            await self._hijack(response, conversation)
            return False
        try:
            await conversation.answer(response, self._extra)
        except (Cancelled, ConnectionError):
            raise
        except EngineError as error:
            # The status is out already; that the body is cut off is all a client can be told.
            log.warning("the answer to %s %s was cut off: %s", head.method.decode(), head.target[:200], error)
            conversation.stream.abort()
            return False
        except Exception:
            log.exception("the answer to %s %s failed on its way", head.method.decode(), head.target[:200])
            conversation.stream.abort()
            return False
        return await conversation.finish()

    async def _respond(self, head: h11.Request, conversation: Conversation, peer: Peer) -> Response:
        method = head.method.decode("ascii")
        target = head.target.decode("latin-1")
        path, _, query = target.partition("?")
        if path.startswith(("http://", "https://")):
            path = "/" + path.split("/", 3)[3] if path.count("/") >= 3 else "/"
        version = api_version.LATEST
        if self._prefix_versions and (match := _VERSION.fullmatch(path)):
            version, path = api_version.parse(match[1]), match[2]
        handler, parameters = self._routes.match(method, path)
        request = Request(
            method=method, target=target, path=parameters, query=Query.parse(query), headers=_headers(head),
            version=version, peer=peer, source=conversation,
        )  # fmt: skip
        if self._admit is not None:
            self._admit(request)
        return await handler(self._app, request)

    def _failure(self, error: Exception) -> Response:
        status, body = self._status_of(error)
        headers: Mapping[str, str] = {}
        if isinstance(error, Refusal):
            status, headers = error.status, error.headers
        elif not isinstance(error, EngineError):
            log.error("a request failed", exc_info=error)
        return Response(status, b"" if status == 304 else body, headers)

    async def _hijack(self, response: Hijack, conversation: Conversation) -> None:
        stream = await conversation.switch(response, response.protocol, self._extra)
        try:
            await response.handler(stream)
        finally:
            stream.close()


def _headers(head: h11.Request) -> dict[str, str]:
    headers: dict[str, str] = {}
    for key, value in head.headers:
        name, text = key.decode("ascii"), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers


def _peer(stream: Stream) -> Peer:
    """Who connected, as far as the socket and the certificate say."""
    transport = stream.transport
    sock = transport.get_extra_info("socket")
    name = _common_name(transport.get_extra_info("peercert"))
    if sock is not None and sock.family == socket.AF_UNIX:
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid, _gid = struct.unpack("3i", credentials)
        return Peer(pid=pid, uid=uid, common_name=name)
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
    address = transport.get_extra_info("peername")
    text = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else ""
    return Peer(address=text, common_name=name)


def _common_name(certificate: Any) -> str | None:
    for part in (certificate or {}).get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return str(value)
    return None
