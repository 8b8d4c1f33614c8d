import asyncio
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scow.api.streams import STDOUT, encode
from scow.daemon.routes.websocket import BINARY, CLOSE, PING, TEXT, WebSocket, accept_key, unmask
from scow.errors import InvalidArgument
from scow.web.request import Request


class Wire:
    """A stream with `data` to read, a few bytes at a time."""

    def __init__(self, data, step=3):
        self.data, self.step, self.sent = data, step, b""

    async def read(self, limit=65536):
        piece, self.data = self.data[: self.step], self.data[self.step :]
        return piece

    async def write(self, data):
        self.sent += data


def frame(kind, payload, masked=True, final=0x80):
    mask = os.urandom(4)
    size = len(payload)
    if size < 126:
        length = bytes([size])
    else:
        length = b"\x7e" + size.to_bytes(2, "big") if size < 65536 else b"\x7f" + size.to_bytes(8, "big")
    if not masked:
        return bytes([final | kind]) + length + payload
    return bytes([final | kind, length[0] | 0x80]) + length[1:] + mask + unmask(mask, payload)


def read_all(data, **more):
    async def main():
        wire = Wire(data)
        peer = WebSocket(wire, framed=False)
        pieces = []
        while piece := await peer.read():
            pieces.append(piece)
        return pieces, wire.sent

    return asyncio.run(main())


def test_handshake_of_the_rfc():
    headers = {"upgrade": "websocket", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}
    assert accept_key(Request("GET", "/", headers=headers)) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    for bad in ({}, {"upgrade": "tcp", "sec-websocket-key": "x" * 24}, {"upgrade": "websocket"}):
        with pytest.raises(InvalidArgument):
            accept_key(Request("GET", "/", headers=bad))


def test_frames_fragments_and_ping():
    data = frame(TEXT, b"ls", final=0) + frame(0, b"\n") + frame(PING, b"?") + frame(BINARY, b"x" * 70_000)
    pieces, sent = read_all(data + frame(CLOSE, b"\x03\xe8"))
    assert pieces == [b"ls", b"\n", b"x" * 70_000]
    assert sent == b"\x8a\x01?" + b"\x88\x02\x03\xe8"


def test_what_breaks_the_protocol_ends_it():
    assert read_all(frame(TEXT, b"a", masked=False)) == ([], b"\x88\x02" + (1002).to_bytes(2, "big"))
    huge = bytes([0x82, 0xFF]) + (1 << 40).to_bytes(8, "big")
    assert read_all(huge) == ([], b"\x88\x02" + (1009).to_bytes(2, "big"))
    assert read_all(frame(TEXT, b"cut off")[:5]) == ([], b"")


def test_output_loses_dockers_headers():
    async def main():
        wire = Wire(b"")
        peer = WebSocket(wire, framed=True)
        data = encode(STDOUT, b"a" * 200)
        await peer.write(data[:5])
        await peer.write(data[5:])
        return wire.sent

    assert asyncio.run(main()) == b"\x82\x7e\x00\xc8" + b"a" * 200


@given(st.binary(min_size=4, max_size=4), st.binary(max_size=50))
def test_unmasking_twice_gives_the_same(mask, payload):
    assert unmask(mask, unmask(mask, payload)) == payload
