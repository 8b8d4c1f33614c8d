"""What a start needs of the network, made ahead: namespaces, and whole endpoints of the default bridge.

A container that asks the default bridge for nothing special finds a namespace with its link plugged in, its address
leased and its route set: making one takes the kernel several milliseconds. How many are kept follows the demand: one
that was missed doubles them, up to the configured number; quiet lets them fall to one, and then nothing happens at all.

Invariants: none before the first container, none after `close`. What is kept has no name and no record and goes with
the daemon, however that ends: the namespace is a descriptor, its link lies in it, and its address is only in memory.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from scow.errors import EngineError
from scow.linux.netlink import NetlinkSocket
from scow.networks.apply import Kernel, open_sandbox
from scow.networks.endpoint import Endpoint

log = logging.getLogger("scow.networks")

#: Seconds after a start until the next one is made: what the start itself needs of the kernel and the processor goes
#: first.
REFILL = 0.03
#: Seconds without a start after which fewer are kept.
QUIET = 10.0


@dataclass(slots=True, eq=False)
class Ready:
    """A namespace with its loopback up, and a socket in it or an endpoint that needs none; its holder closes it."""

    fd: int
    inner: NetlinkSocket | None = None
    endpoint: Endpoint | None = None

    def close(self) -> None:
        """Let go of the namespace, and with it of its links."""
        if self.inner is not None:
            self.inner.close()
        os.close(self.fd)


class Spares:
    """Hands out what `make` makes, and makes the next ones when nothing else goes on.

    Args:
        most: kept at most; 0 makes nothing ahead.
        drop: lets go of one nobody wants any more.
    """

    def __init__(self, make: Callable[[], Awaitable[Ready]], drop: Callable[[Ready], None], most: int) -> None:
        self._make = make
        self._drop = drop
        self._most = most
        self._wanted = 0
        self._ready: deque[Ready] = deque()
        self._making: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._quiet: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._ready)

    def expect(self) -> None:
        """Somebody will take one soon."""
        if self._wanted == 0 and self._most:
            self._wanted = 1
            self._fill()

    def take(self) -> Ready | None:
        """The oldest one, the caller's from now on; None if there is none."""
        if not self._most or self._closed:
            return None
        found = self._ready.popleft() if self._ready else None
        if found is None:
            self._wanted = min(self._most, max(1, 2 * self._wanted))
        if self._timer is None and self._making is None:
            # In a burst at once: the next taker would find none.
            hurry = self._wanted > 1 and not self._ready
            self._timer = asyncio.get_running_loop().call_later(0 if hurry else REFILL, self._fill)
        self._hush()
        return found

    def _fill(self) -> None:
        self._timer = None
        if self._making is None and not self._closed and len(self._ready) < self._wanted:
            self._making = asyncio.get_running_loop().create_task(self._work(), name="spare networks")

    async def _work(self) -> None:
        try:
            while len(self._ready) < self._wanted and not self._closed:
                self._ready.append(await self._make())
        except EngineError as error:
            log.debug("no network ahead: %s", error)  # the start that needs one makes its own, and says why it cannot
        finally:
            self._making = None

    def _hush(self) -> None:
        if self._quiet is not None:
            self._quiet.cancel()
        self._quiet = asyncio.get_running_loop().call_later(QUIET, self._fewer)

    def _fewer(self) -> None:
        self._quiet = None
        self._wanted = min(self._wanted, max(1, self._wanted // 2))
        while len(self._ready) > self._wanted:
            self._drop(self._ready.pop())
        if self._wanted > 1:
            self._hush()

    def clear(self) -> None:
        """Drop all, and make none until somebody asks for one again."""
        self._wanted = 0
        while self._ready:
            self._drop(self._ready.pop())

    async def close(self) -> None:
        """Let go of what is there; nothing is made afterwards."""
        self._closed = True
        for timer in (self._timer, self._quiet):
            if timer is not None:
                timer.cancel()
        if self._making is not None:
            await asyncio.wait({self._making})
        self.clear()


async def bare(kernel: Kernel) -> Ready:
    """A namespace without links.

    Raises:
        System: the kernel refused.
    """
    fd, inner = await kernel.run(open_sandbox)
    return Ready(fd, inner)
