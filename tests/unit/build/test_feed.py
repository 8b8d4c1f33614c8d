"""The bridge between an upload and the thread that unpacks it."""

import asyncio
from collections.abc import AsyncIterator
from typing import BinaryIO

import pytest

from scow.build import feed
from scow.build.feed import pump
from scow.errors import Cancelled


async def sent(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def everything(stream: BinaryIO) -> bytes:
    found = b""
    while piece := stream.read(3):
        assert len(piece) <= 3
        found += piece
    return found


def test_all_bytes_arrive_in_order():
    assert asyncio.run(pump(sent(b"abcdef", b"", b"g"), everything)) == b"abcdefg"
    assert asyncio.run(pump(sent(), everything)) == b""


def test_a_slow_reader_holds_the_sender_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feed, "MAX_WAITING", 10)
    ahead = 0
    most = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal ahead, most
        for _ in range(200):
            ahead += 10
            most = max(most, ahead)
            yield b"x" * 10

    def read(stream: BinaryIO) -> int:
        nonlocal ahead
        total = 0
        while piece := stream.read(10):
            total += len(piece)
            ahead -= len(piece)
        return total

    assert asyncio.run(pump(chunks(), read)) == 2000
    assert most <= 60


def test_a_reader_that_stops_early_lets_the_sender_finish():
    def read(stream: BinaryIO) -> bytes:
        return stream.read(1)

    assert asyncio.run(pump(sent(*[b"y" * 100_000] * 100), read)) == b"y"


def test_what_the_reader_raises_comes_out():
    def read(stream: BinaryIO) -> bytes:
        raise ValueError("bad archive")

    with pytest.raises(ValueError, match="bad archive"):
        asyncio.run(pump(sent(b"x" * 100, b"y"), read))


def test_a_sender_that_breaks_off_is_told_to_the_reader():
    seen: list[str] = []

    async def chunks() -> AsyncIterator[bytes]:
        yield b"half"
        raise Cancelled("gone")

    def read(stream: BinaryIO) -> bytes:
        try:
            return everything(stream)
        except Cancelled as error:
            seen.append(str(error))
            raise

    with pytest.raises(Cancelled, match="gone"):
        asyncio.run(pump(chunks(), read))
    assert seen == ["the build context was not sent completely: the client went away"]
