"""The one thread that changes links, addresses, routes, rules and network sysctls.

All of it goes through one queue: the kernel's rtnl lock would serialise it anyway, and the order of rule changes is the
order in which the loop decided on them. The thread steps into a sandbox's namespace and back where something must be
opened there; the loop's thread never does.
"""

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from scow.errors import System
from scow.linux import links, nftables
from scow.linux.descriptors import MORE_FILES
from scow.linux.namespaces import new_network_namespace
from scow.linux.netlink import NetlinkError, NetlinkSocket, inside
from scow.networks import firewall
from scow.networks.hosts import EMBEDDED
from scow.networks.plan import HOST, CreateBridge, Step

log = logging.getLogger("scow.networks")
T = TypeVar("T")

#: What every new sandbox is told, as Docker does: unprivileged processes may ping and bind low ports; interfaces have
#: IPv6 only where their network has.
SANDBOX_SYSCTLS = (
    ("net/ipv4/ping_group_range", "0 2147483647"),
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
)


class Kernel:
    """The host's network namespace, seen from a thread of its own."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "scow-network")
        self._socket: NetlinkSocket | None = None
        self._nft: nftables.Nft | None = None

    async def run(self, call: Callable[[], T]) -> T:
        """Run `call` on the thread, after everything that was given to it before; OSErrors become `System`."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise System(f"network setup failed: too many open files: {MORE_FILES}") from error
            raise System(f"network setup failed: {error.strerror or error}") from error

    async def close(self) -> None:
        """Finish what is queued and end the thread."""
        await self.run(self._close)
        self._thread.shutdown(wait=False)

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._nft is not None:
            self._nft.close()

    # What follows runs on the thread.

    @property
    def host(self) -> NetlinkSocket:
        """The socket in the host's namespace."""
        if self._socket is None:
            self._socket = NetlinkSocket()
        return self._socket

    def apply(self, steps: Sequence[Step], inner: NetlinkSocket | None = None, netns_fd: int = -1) -> None:
        """Execute a plan, one message per run of steps in the same place.

        Raises:
            OSError: the kernel refused a step; earlier ones stay done.
        """
        known: dict[tuple[str, str], int] = {}
        for part in batches(steps):
            where = part[0].where
            out = self.host if where == HOST else inner
            if out is None:
                raise System("network setup failed: a sandbox step without a sandbox")

            def index(name: str, where: str = where, out: NetlinkSocket = out) -> int:
                if (where, name) not in known:
                    known[where, name] = link_index(out, name)
                return known[where, name]

            what = "; ".join(step.describe() for step in part)
            log.debug("%s: %s", where, what)
            out.batch([step.request(index, netns_fd) for step in part], what)

    def nft(self, text: str) -> None:
        """Run one nft transaction in the host's namespace."""
        if self._nft is None:
            self._nft = nftables.Nft()
        log.debug("nft: %s", text)
        self._nft.run(text)


def link_index(out: NetlinkSocket, name: str) -> int:
    """Index of a link; NetlinkError (ENODEV) when there is none."""
    found = links.find(out, name)
    if found is None:
        raise NetlinkError(errno.ENODEV, "", f"look up link {name}")
    return found.index


def batches(steps: Sequence[Step]) -> list[list[Step]]:
    """Steps that may share a message: in the same place, and none needs the index of a bridge made just before."""
    found: list[list[Step]] = []
    for step in steps:
        last = found[-1][-1] if found else None
        if last is None or last.where != step.where or isinstance(last, CreateBridge):
            found.append([])
        found[-1].append(step)
    return found


def open_sandbox() -> tuple[int, NetlinkSocket]:
    """A new namespace with its loopback up: (its descriptor, a socket in it). Blocking, half a millisecond."""
    netns_fd = new_network_namespace()
    try:
        with inside(netns_fd):
            inner = NetlinkSocket()
            for path, value in SANDBOX_SYSCTLS:
                write_sysctl(path, value)
    except OSError:
        os.close(netns_fd)
        raise
    try:
        inner.request(links.link_up(1), "ip link set lo up")
    except OSError:
        inner.close()
        os.close(netns_fd)
        raise
    return netns_fd, inner


def write_sysctl(path: str, value: str) -> bool:
    """Set a sysctl of the calling thread's network namespace; False where it does not exist or is read-only."""
    try:
        fd = os.open(f"/proc/sys/{path}", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, value.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def read_sysctl(path: str) -> str:
    """A sysctl of the calling thread's network namespace, "" where it does not exist."""
    try:
        fd = os.open(f"/proc/sys/{path}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 4096).decode("ascii", "replace").strip()
    except OSError:
        return ""
    finally:
        os.close(fd)


def enable_ipv6(netns_fd: int, link: str) -> None:
    """Let one interface of a sandbox have IPv6 (new ones are told not to)."""
    with inside(netns_fd):
        write_sysctl(f"net/ipv6/conf/{link}/disable_ipv6", "0")


def open_name_server(netns_fd: int, redirect: bool, fresh: bool) -> tuple[socket.socket, socket.socket]:
    """The embedded resolver's (UDP, TCP) sockets inside a sandbox; port 53 leads to them.

    Args:
        redirect: by a rule, so that the container may have a name server of its own; without nftables they take port 53
            itself.
        fresh: no daemon has done this for the sandbox before.
    """
    with inside(netns_fd), contextlib.ExitStack() as opened:
        udp = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        tcp = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        port = 0 if redirect else 53
        udp.bind((EMBEDDED, port))
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((EMBEDDED, port))
        tcp.listen(64)
        if redirect:
            with nftables.Nft() as nft:
                nft.run(firewall.sandbox_dns(udp.getsockname()[1], tcp.getsockname()[1], fresh=fresh))
        udp.setblocking(False)
        tcp.setblocking(False)
        opened.pop_all()
        return udp, tcp


@contextlib.contextmanager
def tolerated(*numbers: int) -> Iterator[None]:
    """Go on after an OSError of one of these kinds: what should be gone is gone."""
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise
