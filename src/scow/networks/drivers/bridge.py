"""The bridge driver: one Linux bridge per network, one veth pair per endpoint."""

import errno
import logging
import os
import socket
from collections.abc import Callable
from typing import TypeVar

from scow.errors import System
from scow.linux import links
from scow.linux.netlink import NetlinkError, NetlinkSocket
from scow.networks import plan
from scow.networks.apply import (
    Kernel,
    enable_ipv6,
    link_index,
    open_sandbox,
    read_sysctl,
    tolerated,
    write_sysctl,
)
from scow.networks.endpoint import Endpoint
from scow.networks.network import OPTION_ICC, OPTION_INHIBIT, Network
from scow.networks.sandbox import Sandbox
from scow.networks.spare import Ready

log = logging.getLogger("scow.networks")
T = TypeVar("T")

#: Linux numbers the ports of a bridge in ten bits, and keeps the first number for itself.
FULL = (
    "network {name} is full: a Linux bridge has room for 1023 containers: "
    "stop some, or start more on another network (scow network create)"
)


class BridgeDriver:
    """Builds bridges and connects sandboxes to them."""

    links = True

    def __init__(self, kernel: Kernel, mtu: Callable[[Network], int]) -> None:
        self._kernel = kernel
        self._mtu = mtu
        #: Bridges whose ports need the hairpin flag: frames pass the IP firewall, which answers on the same port.
        self._filtered = False
        self._built: set[str] = set()
        #: Number of each bridge's link when it was built.
        self._indexes: dict[str, int] = {}
        #: Bridges on which the host's loopback may reach containers (route_localnet could be set).
        self.loopback: set[str] = set()

    async def build(self, network: Network) -> None:
        """Have the bridge, up, with its gateway addresses; one that exists already is adopted."""
        await self._kernel.run(lambda: self._build(network))
        self._built.add(network.id)

    async def has(self, network: Network) -> bool:
        """Whether a link of the bridge's name is there."""
        return await self._kernel.run(lambda: links.find(self._kernel.host, network.bridge) is not None)

    async def destroy(self, network: Network) -> None:
        """Delete the bridge, unless it was somebody's before; it is no error when it is gone."""
        self._built.discard(network.id)
        self.loopback.discard(network.bridge)
        if network.found_bridge:
            return

        def delete() -> None:
            with tolerated(errno.ENODEV):
                self._kernel.apply([plan.DeleteLink(network.bridge, plan.HOST)])

        await self._kernel.run(delete)

    async def connect(self, sandbox: Sandbox, network: Network, endpoint: Endpoint, *, way_out: bool) -> None:
        """Make the pair, the address and the route: two messages."""

        def attach() -> None:
            self._attach(sandbox.socket(), -1 if sandbox.fd is None else sandbox.fd, network, endpoint, way_out)

        await self._connect(network, attach)

    async def ahead(self, network: Network, endpoint: Endpoint) -> Ready:
        """`connect` for nobody yet, in a namespace of its own."""

        def make() -> Ready:
            fd, inner = open_sandbox()
            try:
                self._attach(inner, fd, network, endpoint, True)
            except BaseException:
                os.close(fd)
                raise
            finally:
                inner.close()
            return Ready(fd, endpoint=endpoint)

        return await self._connect(network, make)

    def stands(self, endpoint: Endpoint) -> bool:
        """Whether the bridge an endpoint was made for is there still; a new one of its name does not count."""
        try:
            return socket.if_nametoindex(endpoint.bridge) == self._indexes.get(endpoint.bridge)
        except OSError:
            return False

    async def _connect(self, network: Network, job: Callable[[], T]) -> T:
        if network.id not in self._built:
            await self.build(network)
        try:
            return await self._kernel.run(job)
        except System:
            # Perhaps somebody deleted the bridge: the next connection builds it again.
            self._built.discard(network.id)
            raise

    def _attach(self, inner: NetlinkSocket, netns_fd: int, network: Network, endpoint: Endpoint, way_out: bool) -> None:
        isolated = not network.flag(OPTION_ICC, True) and not self._filtered
        steps = plan.attach(endpoint.leg(), hairpin=self._filtered, isolated=isolated, way_out=way_out)
        ahead = 2 if steps[1].where == plan.HOST else 1
        try:
            self._kernel.apply(steps[:ahead], inner, netns_fd)
            if endpoint.ipv6:
                enable_ipv6(netns_fd, endpoint.interface)
            self._kernel.apply(steps[ahead:], inner, netns_fd)
        except OSError as error:
            with tolerated(errno.ENODEV):
                self._kernel.apply([plan.DeleteLink(endpoint.host_interface, plan.HOST)])
            if error.errno == errno.EXFULL:
                raise OSError(errno.EXFULL, FULL.format(name=network.name)) from error
            raise

    async def disconnect(
        self, sandbox: Sandbox | None, endpoint: Endpoint, successor: Endpoint | None, *, was_way_out: bool
    ) -> None:
        """Delete the pair (20 ms), hand the default route on."""

        def detach() -> None:
            with tolerated(errno.ENODEV):
                self._kernel.apply([plan.DeleteLink(endpoint.host_interface, plan.HOST)])
            if sandbox is not None and sandbox.fd is not None and was_way_out and successor is not None:
                self._kernel.apply(plan.lead_out(successor.leg()), sandbox.socket(), sandbox.fd)

        await self._kernel.run(detach)

    def _build(self, network: Network) -> None:
        host = self._kernel.host
        self._filtered = read_sysctl("net/bridge/bridge-nf-call-iptables") == "1"
        found = links.find(host, network.bridge)
        present = None
        if found is not None:
            if found.kind != "bridge":
                raise NetlinkError(errno.EEXIST, f"it is a {found.kind or 'hardware'} link", f"use {network.bridge}")
            present = [
                (address.address, address.prefix)
                for address in links.addresses(host)
                if address.index == found.index and not address.address.startswith("fe80:")
            ]
        gateways = [(str(s.gateway), s.subnet.prefixlen) for s in network.subnets]
        if network.flag(OPTION_INHIBIT, False):
            gateways = [gateway for gateway in gateways if ":" in gateway[0]]
        mac = b"\x02" + bytes.fromhex(network.id[:10])
        steps = plan.build_bridge(network.bridge, mac.hex(":"), self._mtu(network), gateways, present)
        self._kernel.apply(steps[:1])
        if write_sysctl(f"net/ipv4/conf/{network.bridge}/route_localnet", "1"):
            self.loopback.add(network.bridge)
        # Our own address comes from the allocator: no duplicate detection, no advertisements from containers.
        for name, value in (
            ("disable_ipv6", str(int(not network.enable_ipv6))),
            ("accept_dad", "0"),
            ("accept_ra", "0"),
        ):
            write_sysctl(f"net/ipv6/conf/{network.bridge}/{name}", value)
        self._kernel.apply(steps[1:])
        self._indexes[network.bridge] = link_index(host, network.bridge)
