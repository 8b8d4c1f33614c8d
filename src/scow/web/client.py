"""An HTTP/1.1 client: TCP, TLS and UNIX sockets, streams both ways, everything bounded.

`HttpClient.request` gives an `Answer` whose body is read on demand; use it with ``async with``, which gives the
connection back to the pool when the body was read to its end and closes it otherwise. The other side is hostile:
heads are bounded by h11, bodies by whoever reads them, silence by timeouts, redirects by a count, and credentials
never follow to another host.
"""

import asyncio
import contextlib
import os
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urljoin, urlsplit

import h11

from scow.errors import Cancelled, InvalidArgument, System, Unavailable
from scow.web.stream import Stream
from scow.web.tls import TlsLayer

#: Largest status line plus headers of an answer.
MAX_HEAD = 256 << 10
#: Redirects followed for one request.
MAX_REDIRECTS = 10
#: Idle connections kept for each host, and for how many seconds: servers commonly close after 15 to 75.
POOL_SIZE = 8
POOL_SECONDS = 10.0
#: Largest body `Answer.read` takes by default.
READ_LIMIT = 8 << 20
CHUNK = 256 << 10
#: Headers that are for the first host only.
CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization"})
#: 100 Continue and its kin an answer may be preceded by.
MAX_INTERIM = 16

RequestBody = bytes | AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: `connect` for TCP and TLS together, `read` for any silence while something is expected, sending
    included."""

    connect: float = 15.0
    read: float = 60.0


class PeerFailed(Unavailable):
    """The connection failed or fell silent; `sent` says whether the request may have been acted upon."""

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class PeerSilent(PeerFailed):
    """The peer is there and does nothing: not the sign of a connection it had closed."""


@dataclass(slots=True, eq=False)
class Answer:
    """A response whose head has arrived. Header names are lower-case; repeated ones are joined by ", "."""

    status: int
    headers: Mapping[str, str]
    url: str
    _line: "_Line"
    _timeouts: Timeouts
    _client: "HttpClient"
    _whole: bool = field(default=False)

    async def stream(self) -> AsyncIterator[bytes]:
        """The body, piece by piece.

        Raises:
            PeerFailed: the server broke off or fell silent.
        """
        while not self._whole:
            data = await self._line.next_data(self._timeouts)
            if data is None:
                self._whole = True
            else:
                yield data

    async def read(self, limit: int = READ_LIMIT) -> bytes:
        """The whole body.

        Raises:
            System: it is larger than `limit` bytes.
            PeerFailed: the server broke off or fell silent.
        """
        data = bytearray()
        async for piece in self.stream():
            data += piece
            if len(data) > limit:
                raise System(f"the answer of {self._line.where} is larger than the {limit} bytes accepted")
        return bytes(data)

    def close(self) -> None:
        """Give the connection back if the body was read, else close it."""
        self._client.take_back(self._line, self._whole)

    async def __aenter__(self) -> "Answer":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None and not self._whole and self.headers.get("content-length", "") == "0":
            await self.read(0)
        self.close()


class HttpClient:
    """Makes requests; keeps a few idle connections a host. Use from one event loop, close with `close`.

    Args:
        tls: context for https; None takes the system's authorities.
        unix: path of a UNIX socket every request goes to (the URL's host is then only a name).
        user_agent: sent with every request.
        peer_name: what error sentences call the other side.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        unix: str | None = None,
        timeouts: Timeouts | None = None,
        user_agent: str = "scow",
        peer_name: str = "server",
    ) -> None:
        self._tls = tls
        self._unix = unix
        self._timeouts = timeouts or Timeouts()
        self._user_agent = user_agent
        self._peer_name = peer_name
        self._pool: dict[tuple[str, str, int], deque[_Line]] = {}

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: RequestBody = b"",
        length: int | None = None,
        redirects: int = MAX_REDIRECTS,
        timeouts: Timeouts | None = None,
    ) -> Answer:
        """Send one request and wait for the head of its answer.

        Args:
            body: bytes, or an iterator (sent with `length` as its Content-Length, chunked without). An iterator
                cannot be sent twice, so such a request is neither redirected nor retried.
            redirects: how many to follow, for bodiless requests.

        Raises:
            InvalidArgument: a URL that is none.
            PeerFailed: cannot connect, broken off, too slow; the sentence names host and port.
            System: too many redirects, or a redirect that leaves https.
        """
        sent = {key.lower(): value for key, value in (headers or {}).items()}
        timeouts = timeouts or self._timeouts
        for _ in range(redirects + 1):
            answer = await self._once(method, url, sent, body, length, timeouts)
            target = answer.headers.get("location")
            follow = answer.status in (301, 302, 303, 307, 308) and target and method in ("GET", "HEAD")
            if not follow or redirects == 0:
                return answer
            answer.close()
            following = join(url, target or "")
            sent = _headers_for(url, following, sent)
            url = following
        raise System(f"{_where(url)} redirected more than {redirects} times: its configuration loops")

    async def close(self) -> None:
        """Close the idle connections."""
        for lines in self._pool.values():
            for line in lines:
                line.stream.abort()
        self._pool.clear()

    async def _once(
        self, method: str, url: str, headers: dict[str, str], body: RequestBody, length: int | None, timeouts: Timeouts
    ) -> Answer:
        key, target, host = _split(url)
        line = self._idle(key)
        reused = line is not None
        while True:
            if line is None:
                line = await self._connect(key, timeouts)
            try:
                status, fields = await self._converse(line, method, target, host, headers, body, length, timeouts)
                return Answer(status, fields, url, line, timeouts, self)
            except PeerFailed as error:
                line.stream.abort()
                if not reused or not isinstance(body, bytes) or isinstance(error, PeerSilent):
                    raise
                # The server closed an idle connection just as we used it; that says nothing about the request.
                line, reused = None, False
            except BaseException:
                line.stream.abort()
                raise

    async def _converse(
        self,
        line: "_Line",
        method: str,
        target: str,
        host: str,
        headers: dict[str, str],
        body: RequestBody,
        length: int | None,
        timeouts: Timeouts,
    ) -> tuple[int, dict[str, str]]:
        fields = {"host": host, "user-agent": self._user_agent, "accept": "*/*"} | headers
        if isinstance(body, bytes):
            if body or method in ("POST", "PUT", "PATCH"):
                fields["content-length"] = str(len(body))
        elif length is not None:
            fields["content-length"] = str(length)
        else:
            fields["transfer-encoding"] = "chunked"
        return await line.send(method, target, fields, body, timeouts)

    def _idle(self, key: tuple[str, str, int]) -> "_Line | None":
        lines = self._pool.get(key)
        now = asyncio.get_running_loop().time()
        while lines:
            line = lines.pop()
            if not line.stream.ended and not line.stream.pending and now - line.since < POOL_SECONDS:
                return line
            line.stream.abort()
        return None

    def take_back(self, line: "_Line", whole: bool) -> None:
        """Keep `line` for the next request if its answer was read to the end and the server keeps it open."""
        if line.taken_back:
            return
        line.taken_back = True
        lines = self._pool.setdefault(line.key, deque())
        if whole and line.renew() and len(lines) < POOL_SIZE:
            line.since = asyncio.get_running_loop().time()
            lines.append(line)
        else:
            line.stream.abort()

    async def _connect(self, key: tuple[str, str, int], timeouts: Timeouts) -> "_Line":
        scheme, host, port = key
        where = f"{self._peer_name} {self._unix or _address(host, port)}"
        stream = Stream()
        try:
            async with asyncio.timeout(timeouts.connect):
                await self._open(stream, scheme, host, port)
        except TimeoutError:
            raise PeerFailed(f"cannot reach {where}: no connection within {timeouts.connect:g} seconds") from None
        except ssl.SSLCertVerificationError as error:
            reason = error.verify_message or str(error)
            raise PeerFailed(f"cannot reach {where}: tls: failed to verify certificate: {reason}") from None
        except ssl.SSLError as error:
            raise PeerFailed(f"cannot reach {where}: {_tls_reason(error)}") from None
        except socket.gaierror as error:
            raise PeerFailed(f"cannot reach {where}: lookup {host}: {error.strerror}") from None
        except UnicodeError:  # the host is no name IDNA can write
            raise PeerFailed(f"cannot reach {where}: invalid host name {host[:100]!r}") from None
        except OSError as error:
            reason = (os.strerror(error.errno) if error.errno else str(error)).lower()
            raise PeerFailed(
                f"cannot reach {where}: {reason}: check that it is running and the address is right"
            ) from None
        return _Line(stream, key, where)

    async def _open(self, stream: Stream, scheme: str, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        shaken: asyncio.Future[None] | None = None
        protocol: asyncio.Protocol = stream
        if scheme == "https":
            shaken = loop.create_future()
            context = self._tls or ssl.create_default_context()
            protocol = TlsLayer(stream, context, server_side=False, server_hostname=host, failed=shaken)
        transport: asyncio.Transport
        if self._unix is not None:
            transport, _ = await loop.create_unix_connection(lambda: protocol, self._unix)
        else:
            transport, _ = await loop.create_connection(lambda: protocol, host, port)
        if shaken is not None:
            try:
                await shaken
            except BaseException:
                transport.abort()
                raise


class _Line:
    """One connection and the state of HTTP on it."""

    def __init__(self, stream: Stream, key: tuple[str, str, int], where: str) -> None:
        self.stream = stream
        self.key = key
        self.where = where
        self.since = 0.0
        self.taken_back = False
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)

    async def send(
        self, method: str, target: str, headers: dict[str, str], body: RequestBody, timeouts: Timeouts
    ) -> tuple[int, dict[str, str]]:
        """Send a request, give status and headers of the answer; a server that answers early ends the sending."""
        try:
            head = self._http.send(h11.Request(method=method, target=target, headers=list(headers.items()))) or b""
        except h11.LocalProtocolError as error:
            raise InvalidArgument(f"cannot send this request: {error}") from None
        if isinstance(body, bytes):
            data = self._http.send(h11.Data(data=body)) if body else b""
            end = self._http.send(h11.EndOfMessage())
            await self._write(head + (data or b"") + (end or b""), timeouts)
            return await self._head(timeouts)
        await self._write(head, timeouts)
        sender = asyncio.ensure_future(self._send_body(body, timeouts))
        answered = asyncio.ensure_future(self.stream.wait_readable())
        try:
            await asyncio.wait({sender, answered}, return_when=asyncio.FIRST_COMPLETED)
            if sender.done():
                with contextlib.suppress(PeerFailed) if self.stream.pending else contextlib.nullcontext():
                    sender.result()
            return await self._head(timeouts)
        finally:
            for task in (sender, answered):
                task.cancel()
            await asyncio.gather(sender, answered, return_exceptions=True)

    async def _send_body(self, body: AsyncIterator[bytes], timeouts: Timeouts) -> None:
        async for piece in body:
            for part in self._http.send_with_data_passthrough(h11.Data(data=piece)) or ():
                await self._write(part, timeouts)
        await self._write(b"".join(self._http.send_with_data_passthrough(h11.EndOfMessage()) or ()), timeouts)

    async def _write(self, data: bytes, timeouts: Timeouts) -> None:
        try:
            async with asyncio.timeout(timeouts.read):
                await self.stream.write(data)
        except TimeoutError:
            raise PeerSilent(
                f"{self.where} took nothing for {timeouts.read:g} seconds: retry later", sent=True
            ) from None
        except Cancelled:
            if not self.stream.pending:  # an answer may still be waiting to be read
                raise PeerFailed(f"{self.where} closed the connection while the request was sent", sent=True) from None

    async def _head(self, timeouts: Timeouts) -> tuple[int, dict[str, str]]:
        for _ in range(MAX_INTERIM):
            event = await self._event(timeouts)
            if isinstance(event, h11.Response):
                return event.status_code, _fields(event)
            if not isinstance(event, h11.InformationalResponse):
                break
        raise PeerFailed(f"{self.where} closed the connection without an answer", sent=True)

    async def next_data(self, timeouts: Timeouts) -> bytes | None:
        """The next piece of the answer's body; None at its end."""
        while True:
            event = await self._event(timeouts)
            if isinstance(event, h11.Data):
                if event.data:
                    return bytes(event.data)
            else:
                return None

    async def _event(self, timeouts: Timeouts) -> object:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._read(timeouts))
        except h11.RemoteProtocolError as error:
            if self.stream.ended:
                raise PeerFailed(f"{self.where} closed the connection in the middle of an answer", sent=True) from None
            raise PeerFailed(f"{self.where} does not answer in HTTP: {error}", sent=True) from None
        return event

    async def _read(self, timeouts: Timeouts) -> bytes:
        if self.stream.pending:
            return await self.stream.read(CHUNK)
        try:
            async with asyncio.timeout(timeouts.read):
                return await self.stream.read(CHUNK)
        except TimeoutError:
            raise PeerSilent(
                f"{self.where} sent nothing for {timeouts.read:g} seconds: retry later", sent=True
            ) from None

    def renew(self) -> bool:
        """Make ready for another request; False when the connection cannot carry one."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE and not self.stream.ended:
            self._http.start_next_cycle()
            self.taken_back = False
            return True
        return False


def _split(url: str) -> tuple[tuple[str, str, int], str, str]:
    """URL → (scheme, host, port), request target, Host header."""
    if not url.isascii() or any(character <= " " for character in url):
        raise InvalidArgument(f"invalid URL {url[:200]!r}: it holds characters that must be quoted")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidArgument(f"invalid URL {url[:200]!r}: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidArgument(f"invalid URL {url[:200]!r}: expected http://HOST or https://HOST")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    default = 443 if parts.scheme == "https" else 80
    shown = f"[{host}]" if ":" in host else host
    return (parts.scheme, host, port or default), target, shown if port in (None, default) else f"{shown}:{port}"


def join(url: str, target: str) -> str:
    """Where `target`, a Location or Link that came with `url`, leads.

    Raises:
        InvalidArgument: nowhere.
    """
    try:
        return urljoin(url, target)
    except ValueError as error:
        raise InvalidArgument(f"invalid URL {target[:200]!r}: {error}") from None


def _where(url: str) -> str:
    (_, host, port), _, _ = _split(url)
    return _address(host, port)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _headers_for(url: str, following: str, headers: dict[str, str]) -> dict[str, str]:
    """What may be sent on to `following`: everything on the same origin, no credentials elsewhere."""
    old, new = _split(url)[0], _split(following)[0]
    if old[0] == "https" and new[0] == "http":
        raise System(f"{_where(url)} redirected from https to http ({_where(following)}): refused")
    if old == new:
        return headers
    return {key: value for key, value in headers.items() if key not in CREDENTIALS}


def _fields(head: h11.Response) -> dict[str, str]:
    fields: dict[str, str] = {}
    for key, value in head.headers:
        name, text = key.decode("ascii"), value.decode("latin-1")
        fields[name] = f"{fields[name]}, {text}" if name in fields else text
    return fields


def _tls_reason(error: ssl.SSLError) -> str:
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"):
        return "http: server gave HTTP response to HTTPS client"
    return f"tls: {error.reason or error}"
