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


class Conversation(Body):
    """HTTP on one stream. `next_head`, then read the body, then one of `answer` or `switch`; then `finish`."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
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
        if self._http.their_state is not h11.SEND_BODY:
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
            await self.stream.write(b"".join([*self._head(response.status, headers), *self._data(body)]))
            return
        async with _closing(body):
            await self.stream.write(b"".join(self._head(response.status, headers)))
            if self._bodiless(response.status):
                await self._write(self._http.send_with_data_passthrough(h11.EndOfMessage()))
            else:
                await self._stream_body(body)

    def _bodiless(self, status: int) -> bool:
        return status in _NO_BODY or (self._request is not None and self._request.method == b"HEAD")

    def _head(self, status: int, headers: list[tuple[str, str]]) -> list[bytes]:
        self.answered = True
        reason = _REASONS.get(status, b"")
        return _parts(
            self._http.send_with_data_passthrough(h11.Response(status_code=status, headers=headers, reason=reason))
        )

    def _data(self, body: bytes) -> list[bytes]:
        parts: list[bytes] = []
        if (body and self._request is not None and self._request.method != b"HEAD") or (body and self._request is None):
            parts += _parts(self._http.send_with_data_passthrough(h11.Data(data=body)))
        return parts + _parts(self._http.send_with_data_passthrough(h11.EndOfMessage()))

    async def _write(self, parts: list[bytes] | None) -> None:
        for part in _parts(parts):
            await self.stream.write(part)

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

    async def _send_pieces(self, body: AsyncIterator[bytes]) -> None:
        async for piece in body:
            if not piece:
                continue
            parts = _parts(self._http.send_with_data_passthrough(h11.Data(data=piece)))
            if len(piece) < 16384:
                await self.stream.write(b"".join(parts))
            else:
                await self._write(parts)
        await self._write(self._http.send_with_data_passthrough(h11.EndOfMessage()))

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
        fields = {bytes(key): bytes(value).decode("latin-1") for key, value in self._request.headers}
        wanted = fields.get(b"upgrade", "")
        tokens = [token.strip().lower() for token in fields.get(b"connection", "").split(",")]
        return wanted if "upgrade" in tokens and _TOKEN.fullmatch(wanted) else None

    # -- between requests ------------------------------------------------------------------------------------------

    async def finish(self) -> bool:
        """Bring the connection to where the next request may follow; False when it has to be closed instead."""
        if self._http.their_state is h11.SEND_BODY and not self._http.they_are_waiting_for_100_continue:
            await self._discard()
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            return True
        return False

    async def _discard(self) -> None:
        """Read what is left of an unwanted body, within bounds, lest a reset hides our answer from the client."""
        left = DISCARD_LIMIT
        try:
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


def _parts(parts: list[bytes] | None) -> list[bytes]:
    return parts or []


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
    200: b"OK", 201: b"Created", 202: b"Accepted", 204: b"No Content", 206: b"Partial Content", 304: b"Not Modified",
    307: b"Temporary Redirect", 400: b"Bad Request", 401: b"Unauthorized", 403: b"Forbidden", 404: b"Not Found",
    405: b"Method Not Allowed", 408: b"Request Timeout", 409: b"Conflict", 413: b"Content Too Large",
    416: b"Range Not Satisfiable", 429: b"Too Many Requests", 431: b"Request Header Fields Too Large",
    500: b"Internal Server Error", 501: b"Not Implemented", 503: b"Service Unavailable", 507: b"Insufficient Storage",
}  # fmt: skip
