"""A network namespace made ahead, so that a start finds one: making it takes longer than all else that it needs here.

Invariants: one at most, none before the first start, none after `close`; it has no name and goes with the daemon.
"""

import asyncio
import logging
import os

from scow.errors import System
from scow.linux.netlink import NetlinkSocket
from scow.networks.apply import Kernel, open_sandbox

log = logging.getLogger("scow.networks")

#: Seconds after a start until the next namespace is made: what the start has queued for the kernel thread goes first.
REFILL = 0.03


class Spare:
    """Hands out namespaces as `open_sandbox` makes them, and makes the next one when nothing else goes on."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._ready: tuple[int, NetlinkSocket] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._making: asyncio.Task[None] | None = None

    async def take(self) -> tuple[int, NetlinkSocket]:
        """A namespace with loopback up and a socket in it; both are the caller's to close.

        Raises:
            System: the kernel refused.
        """
        self._later()
        if self._ready is None:
            return await self._kernel.run(open_sandbox)
        taken, self._ready = self._ready, None
        return taken

    def _later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._making is None:
            self._timer = asyncio.get_running_loop().call_later(REFILL, self._begin)

    def _begin(self) -> None:
        self._timer = None
        if self._ready is None:
            self._making = asyncio.get_running_loop().create_task(self._make(), name="spare network namespace")

    async def _make(self) -> None:
        try:
            self._ready = await self._kernel.run(open_sandbox)
        except System as error:
            log.debug("no namespace ahead: %s", error)  # the start that needs one makes its own, and says why it cannot
        finally:
            self._making = None

    async def close(self) -> None:
        """Let go of what is there; nothing is made afterwards."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._making is not None:
            await self._making
        if self._ready is not None:
            netns_fd, inner = self._ready
            self._ready = None
            inner.close()
            os.close(netns_fd)
