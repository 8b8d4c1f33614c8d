import asyncio

import pytest

from scow.errors import Cancelled, InvalidArgument
from scow.web.flow import PIECE, inlet, produced


def test_pieces_arrive_whole_and_bounded():
    async def main():
        def work(out):
            for number in range(300):
                out(bytes([number % 256]) * 10_000)

        pieces = [piece async for piece in produced(work)]
        assert b"".join(pieces) == b"".join(bytes([n % 256]) * 10_000 for n in range(300))
        assert all(len(piece) <= PIECE + 10_000 for piece in pieces)

    asyncio.run(main())


def test_the_threads_error_comes_after_its_bytes():
    async def main():
        def work(out):
            out(b"s" * PIECE)
            raise InvalidArgument("broken")

        stream = produced(work)
        assert await anext(stream) == b"s" * PIECE
        with pytest.raises(InvalidArgument, match="broken"):
            await anext(stream)

    asyncio.run(main())


def test_a_reader_that_leaves_ends_the_thread():
    ended = []

    async def main():
        def work(out):
            try:
                while True:
                    out(b"x" * PIECE)
            except Cancelled:
                ended.append(True)
                raise

        stream = produced(work)
        await anext(stream)
        await stream.aclose()

    asyncio.run(asyncio.wait_for(main(), 5))
    assert ended == [True]


def test_an_async_body_is_a_file():
    async def body():
        for piece in (b"abc", b"", b"def" * 100_000):
            await asyncio.sleep(0)
            yield piece

    async def main():
        stream = inlet(body())
        first = await asyncio.to_thread(stream.read, 5)
        rest = await asyncio.to_thread(stream.read)
        return first + rest

    assert asyncio.run(main()) == b"abc" + b"def" * 100_000
