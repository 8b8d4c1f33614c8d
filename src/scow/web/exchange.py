"""One connection's HTTP/1.1 on the server's side: requests in, answers out, framed by h11.

`Conversation` reads heads and bodies from a `Stream` through an h11 connection and writes answers to it. It knows
nothing of routes, handlers or errors of the engine. Invariants: a body is read only when somebody asks for it; "100
Continue" is sent only then; bytes that follow a request wait for the next one, or for whoever takes the connection
over.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Mapping
from email.utils import formatdate

import h11

from scow.errors import Cancelled
from scow.web.request import Body
from scow.web.response import Refusal, Response
from scow.web.stream import Stream

#: Largest request line plus headers; X-Registry-Config of a client logged in to many registries is long.
MAX_HEAD = 512 << 10
#: Seconds a client may take to send a whole head once it has begun (against slow-loris connections).
HEAD_TIMEOUT = 30.0
#: Seconds a kept-alive connection may idle.
IDLE_TIMEOUT = 600.0
#: Bytes and seconds spent on reading a body nobody wanted, so that the client gets to read the answer.
DISCARD_LIMIT = 64 << 20
DISCARD_TIMEOUT = 5.0
#: Bytes asked of the stream at a time.
CHUNK = 256 << 10

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_|~/-]{1,64}")
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_NO_BODY = frozenset({204, 304})
#: Pieces below this are sent in one write with their framing.
_SMALL = 16384


class Conversation(Body):
    """HTTP on one stream. `next_head`, then read the body, then one of `answer` or `switch`; then `finish`."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._http = _connection()
        self._last = False
        self._whole = True
        self._request: h11.Request | None = None
        self.answered = False

    async def next_head(self) -> h11.Request | None:
        """The next request's head; None when the connection has ended or idled out.

        Raises:
            Refusal: not HTTP, too large, or too slow in coming.
        """
        self.answered = False
        self._request = None
        event = self._event()
        if event is h11.NEED_DATA and not self._http.trailing_data[0]:
            first = await self._first_bytes()
            if not first:
                return None
            self._feed(first)
            event = self._event()
        if event is h11.NEED_DATA:
            try:
                async with asyncio.timeout(HEAD_TIMEOUT):
                    while event is h11.NEED_DATA:
                        self._feed(await self.stream.read(CHUNK))
                        event = self._event()
            except TimeoutError:
                raise Refusal(408, "the request's headers took too long to arrive") from None
        if isinstance(event, h11.Request):
            self._request = event
            self._whole = False
            names = {bytes(key) for key, _ in event.headers}
            if {b"content-length", b"transfer-encoding"} <= names:
                # RFC 9112 section 6.1: whoever sends both may be smuggling a request past a proxy.
                raise Refusal(400, "malformed request: both Content-Length and Transfer-Encoding")
            return event
        return None

    async def _first_bytes(self) -> bytes:
        """Wait for another request to begin; b"" when none does within `IDLE_TIMEOUT`."""
        if self.stream.pending:
            return await self.stream.read(CHUNK)
        timer = asyncio.get_running_loop().call_later(IDLE_TIMEOUT, self.stream.close)
        try:
            return await self.stream.read(CHUNK)
        finally:
            timer.cancel()

    def _feed(self, data: bytes) -> None:
        try:
            self._http.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise Refusal(error.error_status_hint, f"malformed request: {error}") from None

    def _event(self) -> object:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            if self.stream.ended and not self.stream.pending:
                raise Cancelled("the client closed the connection in the middle of a request") from None
            raise Refusal(error.error_status_hint, f"malformed request: {error}") from None

    async def next(self) -> bytes:
        """The next bytes of the request's body (see `Body.next`)."""
        if self._whole:
            return b""
        if self._http.they_are_waiting_for_100_continue:
            head = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            await self.stream.write(self._http.send(head) or b"")
        while True:
            event = self._event()
            if event is h11.NEED_DATA:
                self._feed(await self.stream.read(CHUNK))
            elif isinstance(event, h11.Data):
                if event.data:
                    return bytes(event.data)
            else:
                self._whole = True
                return b""

    # -- answers ---------------------------------------------------------------------------------------------------

    async def answer(self, response: Response, extra: Mapping[str, str]) -> None:
        """Send `response`; a streaming body is cancelled when the client goes away.

        Raises:
            Cancelled: the client went away.
        """
        headers = _headers(response, extra)
        body = response.body
        if isinstance(body, bytes):
            if response.status not in _NO_BODY:
                headers.append(("Content-Length", str(len(body))))
            await self.stream.write(self._head(response.status, headers) + (b"" if self._bodiless(response) else body))
            return
        async with _closing(body):
            length = next((value for key, value in headers if key.lower() == "content-length"), None)
            chunked = length is None and not self._old
            if chunked:
                headers.append(("Transfer-Encoding", "chunked"))
            elif length is None:
                self._last = True  # HTTP/1.0: the end of the connection is the end of the body
            await self.stream.write(self._head(response.status, headers))
            if not self._bodiless(response):
                await self._stream_body(_chunks(body) if chunked else _exactly(body, length))

    @property
    def _old(self) -> bool:
        return self._request is not None and self._request.http_version < b"1.1"

    def _bodiless(self, response: Response) -> bool:
        return response.status in _NO_BODY or (self._request is not None and self._request.method == b"HEAD")

    def _head(self, status: int, headers: list[tuple[str, str]]) -> bytes:
        self.answered = True
        if self._request is None or self._old or "close" in self._connection:
            self._last = True
        if self._last:
            headers.append(("Connection", "close"))
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, '')}"]
        lines += [f"{key}: {value}" for key, value in headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    @property
    def _connection(self) -> list[str]:
        """The tokens of the request's Connection header."""
        if self._request is None:
            return []
        fields = [bytes(value) for key, value in self._request.headers if key == b"connection"]
        return [token.strip().lower() for field in fields for token in field.decode("latin-1").split(",")]

    async def _stream_body(self, body: AsyncIterator[bytes]) -> None:
        """Send `body` as it comes; the client's going away cancels it at once, also while it waits for something to
        say."""
        sender = asyncio.ensure_future(self._send_pieces(body))
        gone = asyncio.ensure_future(self.stream.wait_ended())
        try:
            await asyncio.wait({sender, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not sender.done():
                sender.cancel()
                await asyncio.wait({sender})
        finally:
            gone.cancel()
            sender.cancel()
            await asyncio.gather(sender, gone, return_exceptions=True)
        if sender.cancelled():
            raise Cancelled("the client went away")
        sender.result()

    async def _send_pieces(self, pieces: AsyncIterator[bytes]) -> None:
        async for piece in pieces:
            await self.stream.write(piece)

    async def switch(self, response: Response, protocol: str | None, extra: Mapping[str, str]) -> Stream:
        """Send the switch to a raw stream and give that stream, early bytes first.

        With an ``Upgrade`` in the request the answer is ``101 UPGRADED``, otherwise ``200 OK`` without framing.
        """
        while await self.next():
            pass
        asked = self.upgrade
        headers = [(key, value) for key, value in _headers(response, extra) if key.lower() != "date"]
        lines = ["HTTP/1.1 101 UPGRADED" if asked else "HTTP/1.1 200 OK"]
        lines += [f"{_canonical(key)}: {value}" for key, value in headers]
        if asked:
            lines += ["Connection: Upgrade", f"Upgrade: {protocol or asked}"]
        self._event()
        early, _closed = self._http.trailing_data
        self.answered = True
        self.stream.unread(early)
        await self.stream.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        return self.stream

    @property
    def upgrade(self) -> str | None:
        """The protocol the client asked to switch to, if it asked correctly."""
        if self._request is None:
            return None
        wanted = next((bytes(value).decode("latin-1") for key, value in self._request.headers if key == b"upgrade"), "")
        return wanted if "upgrade" in self._connection and _TOKEN.fullmatch(wanted) else None

    # -- between requests ------------------------------------------------------------------------------------------

    async def finish(self) -> bool:
        """Bring the connection to where the next request may follow; False when it has to be closed instead."""
        if not self._whole and not self._http.they_are_waiting_for_100_continue:
            await self._discard()
        if self._last or not self._whole:
            return False
        rest, _ended = self._http.trailing_data
        self._http = _connection()
        if rest:
            self._feed(rest)
        return True

    async def _discard(self) -> None:
        """Read what is left of an unwanted body, within bounds, lest a reset hides our answer from the client."""
        left = DISCARD_LIMIT
        try:
            if isinstance(self._event(), h11.EndOfMessage):  # there was no body
                self._whole = True
                return
            async with asyncio.timeout(DISCARD_TIMEOUT):
                while left > 0 and (data := await self.next()):
                    left -= len(data)
        except (TimeoutError, Cancelled, Refusal):
            return


@contextlib.asynccontextmanager
async def _closing(body: AsyncIterator[bytes]) -> AsyncIterator[None]:
    """Close `body` at the end of the block, also one that was never begun, if it can be closed."""
    try:
        yield
    finally:
        close = getattr(body, "aclose", None)
        if close is not None:
            await close()


def _connection() -> h11.Connection:
    """A parser for one request. Answers are written by hand: h11 would take as long for them as for the request."""
    return h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)


async def _chunks(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """`pieces` in chunked framing (RFC 9112 section 7.1)."""
    async for piece in pieces:
        if not piece:
            continue
        head = b"%x\r\n" % len(piece)
        if len(piece) < _SMALL:
            yield b"%b%b\r\n" % (head, piece)
        else:
            yield head
            yield piece
            yield b"\r\n"
    yield b"0\r\n\r\n"


async def _exactly(pieces: AsyncIterator[bytes], length: str | None) -> AsyncIterator[bytes]:
    """`pieces`, which must add up to what the Content-Length said."""
    left = int(length) if length is not None else None
    async for piece in pieces:
        if left is not None:
            left -= len(piece)
            if left < 0:
                raise ValueError(f"a body is {-left} bytes longer than its Content-Length")
        yield piece
    if left:
        raise ValueError(f"a body is {left} bytes shorter than its Content-Length")


def _headers(response: Response, extra: Mapping[str, str]) -> list[tuple[str, str]]:
    headers = [("Date", _date())]
    given = {key.lower() for key in response.headers}
    if "content-type" not in given and (
        not isinstance(response.body, bytes) or response.body or response.status == 200
    ):
        headers.append(("Content-Type", response.content_type))
    headers += [(key, value) for key, value in extra.items() if key.lower() not in given]
    headers += response.headers.items()
    for key, value in headers:
        if not _HEADER_VALUE.fullmatch(value):
            raise Refusal(500, f"the answer's {key} header holds control characters")
    return headers


def _canonical(key: str) -> str:
    return "-".join(part.capitalize() for part in key.split("-"))


_dated = (0, "")


def _date() -> str:
    global _dated
    now = int(time.time())
    if now != _dated[0]:
        _dated = (now, formatdate(now, usegmt=True))
    return _dated[1]


_REASONS = {
    200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 206: "Partial Content", 304: "Not Modified",
    307: "Temporary Redirect", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 408: "Request Timeout", 409: "Conflict", 413: "Content Too Large",
    416: "Range Not Satisfiable", 429: "Too Many Requests", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 501: "Not Implemented", 503: "Service Unavailable", 507: "Insufficient Storage",
}  # fmt: skip
