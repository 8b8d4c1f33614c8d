"""The server's side of a websocket: how browsers and docker-py's ``attach_socket(ws=True)`` reach a container.

Only what RFC 6455 asks of a server: handshake, masked frames from the client, fragments, ping and close. Output goes
out as binary frames without Docker's 8-byte headers, as Docker's own does.
"""

import base64
import hashlib

from scow.api.streams import Decoder
from scow.errors import InvalidArgument
from scow.web.request import Request
from scow.web.stream import Stream

#: RFC 6455 1.3.
MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
#: Largest frame taken from a client: what a person types or pastes.
MAX_FRAME = 1 << 20
PROTOCOL_ERROR, TOO_BIG = 1002, 1009


def accept_key(request: Request) -> str:
    """The value of ``Sec-WebSocket-Accept``.

    Raises:
        InvalidArgument: this is no websocket handshake.
    """
    key = request.headers.get("sec-websocket-key", "")
    if request.headers.get("upgrade", "").lower() != "websocket" or len(key) != 24:
        raise InvalidArgument("expected a websocket handshake: send Upgrade: websocket and Sec-WebSocket-Key")
    return base64.b64encode(hashlib.sha1(f"{key}{MAGIC}".encode(), usedforsecurity=False).digest()).decode()


class WebSocket:
    """A client's stream behind websocket frames; has the three methods an attached session needs.

    Args:
        framed: what is written has Docker's headers, which are taken off.
    """

    def __init__(self, stream: Stream, *, framed: bool) -> None:
        self._stream = stream
        self._decoder = Decoder() if framed else None
        self._buffer = b""
        self._ended = False

    async def read(self, limit: int = 65536) -> bytes:
        """The payload of the next data frame, whole whatever `limit` says; ``b""`` at the end."""
        while not self._ended:
            frame = await self._frame()
            if frame is None:
                break
            kind, payload = frame
            if kind == PING:
                await self._send(PONG, payload)
            elif kind == CLOSE:
                await self.close(payload[:2])
            elif kind in (CONTINUATION, TEXT, BINARY) and payload:
                return payload
        self._ended = True
        return b""

    async def write(self, data: bytes) -> None:
        """Send output as a binary frame."""
        if self._decoder is not None:
            data = b"".join(piece for _, piece in self._decoder.feed(data))
        if data and not self._ended:
            await self._send(BINARY, data)

    async def wait_closed(self) -> None:
        """Return when the connection is gone."""
        await self._stream.wait_closed()

    async def close(self, code: bytes = (1000).to_bytes(2, "big")) -> None:
        """Say goodbye, once."""
        if not self._ended:
            self._ended = True
            await self._send(CLOSE, code)

    async def _send(self, kind: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = bytes([0x80 | kind, size])
        elif size < 1 << 16:
            head = bytes([0x80 | kind, 126]) + size.to_bytes(2, "big")
        else:
            head = bytes([0x80 | kind, 127]) + size.to_bytes(8, "big")
        await self._stream.write(head + payload)

    async def _frame(self) -> tuple[int, bytes] | None:
        """(kind, unmasked payload) of the next frame; None when the client is gone or breaks the protocol."""
        head = await self._take(2)
        if head is None:
            return None
        size = head[1] & 0x7F
        if size > 125:
            longer = await self._take(2 if size == 126 else 8)
            if longer is None:
                return None
            size = int.from_bytes(longer, "big")
        if not head[1] & 0x80 or size > MAX_FRAME:  # RFC 6455 5.1: a client masks every frame
            await self.close((TOO_BIG if size > MAX_FRAME else PROTOCOL_ERROR).to_bytes(2, "big"))
            return None
        body = await self._take(size + 4)
        if body is None:
            return None
        return head[0] & 0x0F, unmask(body[:4], body[4:])

    async def _take(self, count: int) -> bytes | None:
        while len(self._buffer) < count:
            data = await self._stream.read()
            if not data:
                return None
            self._buffer += data
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken


def unmask(mask: bytes, payload: bytes) -> bytes:
    """The payload of a client's frame (RFC 6455 5.3)."""
    size = len(payload)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")
