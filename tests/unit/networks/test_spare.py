import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest

from scow.errors import System
from scow.networks import spare as room
from scow.networks.spare import Spare


class Socket:
    closed = False

    def close(self) -> None:
        self.closed = True


class Kernel:
    """Makes "namespaces" of pipes; refuses while `broken`."""

    def __init__(self) -> None:
        self.made: list[tuple[int, Socket]] = []
        self.broken = False

    async def run(self, call: Callable[[], Any]) -> Any:
        await asyncio.sleep(0)
        if self.broken:
            raise System("refused")
        self.made.append((os.open("/dev/null", os.O_RDONLY), Socket()))
        return self.made[-1]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "REFILL", 0)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_the_second_taker_waits_for_nobody() -> None:
    async def scenario() -> None:
        kernel = Kernel()
        spare = Spare(kernel)
        await settle()
        assert kernel.made == []  # a daemon that starts nothing has none
        first = await spare.take()
        await settle()
        assert len(kernel.made) == 2
        second = await spare.take()
        assert second == kernel.made[1] != first
        await spare.close()
        await settle()
        assert len(kernel.made) == 2

    asyncio.run(scenario())


def test_one_that_nobody_took_goes_at_close() -> None:
    async def scenario() -> None:
        kernel = Kernel()
        spare = Spare(kernel)
        await spare.take()
        await settle()
        await spare.close()
        fd, socket = kernel.made[1]
        assert socket.closed
        with pytest.raises(OSError):
            os.fstat(fd)
        os.fstat(kernel.made[0][0])  # the one that was taken is its taker's

    asyncio.run(scenario())


def test_a_refusal_is_told_to_the_start_that_needs_one() -> None:
    async def scenario() -> None:
        kernel = Kernel()
        spare = Spare(kernel)
        await spare.take()
        kernel.broken = True
        await settle()
        with pytest.raises(System, match="refused"):
            await spare.take()
        kernel.broken = False
        await spare.take()
        await spare.close()

    asyncio.run(scenario())
