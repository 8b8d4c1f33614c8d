"""What to do to links, addresses and routes, as a list of small described steps: pure.

A step says where it acts (the host's namespace or the sandbox's) and which netlink request does it once the indexes of
the links it names are known. ``apply.py`` executes a list, sending neighbours that act in the same place as one
message.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from socket import AF_INET, AF_INET6
from typing import Protocol

from scow.linux import links
from scow.linux.netlink import Request

HOST = "host"
SANDBOX = "sandbox"

#: Link name → index, in the place the step acts.
Indexes = Callable[[str], int]


class Step(Protocol):
    """One change of the kernel's tables."""

    @property
    def where(self) -> str:
        """HOST or SANDBOX."""

    def describe(self) -> str:
        """The step as the ip(8) command a person would type."""

    def request(self, index: Indexes, netns_fd: int) -> Request:
        """The netlink request; `netns_fd` is the sandbox's."""


@dataclass(frozen=True, slots=True)
class CreateBridge:
    name: str
    mac: str
    mtu: int
    where: str = HOST

    def describe(self) -> str:
        return f"ip link add {self.name} address {self.mac} mtu {self.mtu} up type bridge"

    def request(self, index: Indexes, netns_fd: int) -> Request:
        return links.bridge(self.name, mac=self.mac, mtu=self.mtu)


@dataclass(frozen=True, slots=True)
class CreateVeth:
    """A pair: `name` is a port of `bridge`, `peer` lies in the sandbox."""

    name: str
    peer: str
    bridge: str
    mac: str
    mtu: int
    where: str = HOST

    def describe(self) -> str:
        return (
            f"ip link add {self.name} mtu {self.mtu} master {self.bridge} up type veth "
            f"peer {self.peer} address {self.mac} netns SANDBOX"
        )

    def request(self, index: Indexes, netns_fd: int) -> Request:
        return links.veth(self.name, self.peer, netns_fd, mtu=self.mtu, mac=self.mac, master=index(self.bridge))


@dataclass(frozen=True, slots=True)
class SetPort:
    """Hairpin lets a container reach itself by a published port; isolated ports cannot reach each other."""

    name: str
    hairpin: bool
    isolated: bool
    where: str = HOST

    def describe(self) -> str:
        return f"bridge link set dev {self.name} hairpin {_on(self.hairpin)} isolated {_on(self.isolated)}"

    def request(self, index: Indexes, netns_fd: int) -> Request:
        return links.bridge_port(self.name, hairpin=self.hairpin, isolated=self.isolated)


@dataclass(frozen=True, slots=True)
class Up:
    link: str
    where: str

    def describe(self) -> str:
        return f"ip link set {self.link} up"

    def request(self, index: Indexes, netns_fd: int) -> Request:
        return links.link_up(index(self.link))


@dataclass(frozen=True, slots=True)
class AddAddress:
    link: str
    address: str
    prefix: int
    where: str

    def describe(self) -> str:
        return f"ip address replace {self.address}/{self.prefix} dev {self.link}"

    def request(self, index: Indexes, netns_fd: int) -> Request:
        return links.address(index(self.link), self.address, self.prefix)


@dataclass(frozen=True, slots=True)
class RemoveAddress:
    link: str
    address: str
    prefix: int
    where: str

    def describe(self) -> str:
        return f"ip address delete {self.address}/{self.prefix} dev {self.link}"

    def request(self, index: Indexes, netns_fd: int) -> Request:
        return links.address_delete(index(self.link), self.address, self.prefix)


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    link: str
    gateway: str
    where: str = SANDBOX

    def describe(self) -> str:
        return f"ip route replace default via {self.gateway} dev {self.link}"

    def request(self, index: Indexes, netns_fd: int) -> Request:
        return links.default_route(index(self.link), self.gateway)


@dataclass(frozen=True, slots=True)
class NoDefaultRoute:
    version: int
    where: str = SANDBOX

    def describe(self) -> str:
        return f"ip -{self.version} route delete default"

    def request(self, index: Indexes, netns_fd: int) -> Request:
        return links.default_route_delete(AF_INET6 if self.version == 6 else AF_INET)


@dataclass(frozen=True, slots=True)
class DeleteLink:
    link: str
    where: str

    def describe(self) -> str:
        return f"ip link delete {self.link}"

    def request(self, index: Indexes, netns_fd: int) -> Request:
        return links.link_delete(self.link)


@dataclass(frozen=True, slots=True)
class Leg:
    """One end of a container in a network, as the plan needs it; addresses are "" where the family is off.

    `ipv4` and `ipv6` are (address, prefix length); gateways are "" when the network is internal.
    """

    host_link: str
    link: str
    bridge: str
    mac: str
    mtu: int
    ipv4: tuple[str, int]
    ipv6: tuple[str, int]
    gateway4: str
    gateway6: str


def build_bridge(
    name: str, mac: str, mtu: int, gateways: Sequence[tuple[str, int]], present: Sequence[tuple[str, int]] | None
) -> list[Step]:
    """Have a bridge with exactly these gateway addresses (address, prefix length).

    Args:
        present: addresses it has already (link-local ones left out); None when there is no such bridge.
    """
    steps: list[Step] = [CreateBridge(name, mac, mtu) if present is None else Up(name, HOST)]
    steps += [RemoveAddress(name, *address, HOST) for address in present or () if address not in gateways]
    steps += [AddAddress(name, *address, HOST) for address in gateways if address not in (present or ())]
    return steps


def attach(leg: Leg, *, hairpin: bool, isolated: bool, way_out: bool) -> list[Step]:
    """Connect a sandbox to a bridge.

    Args:
        way_out: this network provides the default route (a present one is replaced).
    """
    steps: list[Step] = [CreateVeth(leg.host_link, leg.link, leg.bridge, leg.mac, leg.mtu)]
    if hairpin or isolated:
        steps.append(SetPort(leg.host_link, hairpin, isolated))
    steps.append(Up(leg.link, SANDBOX))
    steps += [AddAddress(leg.link, *address, SANDBOX) for address in (leg.ipv4, leg.ipv6) if address[0]]
    if way_out:
        steps += lead_out(leg)
    return steps


def lead_out(leg: Leg) -> list[Step]:
    """Make this leg the default route of its sandbox."""
    return [DefaultRoute(leg.link, gateway) for gateway in (leg.gateway4, leg.gateway6) if gateway]


def _on(flag: bool) -> str:
    return "on" if flag else "off"
