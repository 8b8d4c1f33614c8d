"""Links, addresses and routes as rtnetlink requests, and the dumps of them.

Functions named after a thing build a `Request` and do no I/O; those that take a `NetlinkSocket` ask the kernel. A veth
pair is made by one message: both ends named, the peer already inside its namespace with MAC and MTU, the host end up
and already a port of its bridge (0.5 ms; the same in five steps takes thirty times as long).

A link is deleted by dropping its namespace wherever possible: RTM_DELLINK waits for an RCU grace period (20 ms).
"""

import _socket
import errno
import struct

from scow.linux import netlink
from scow.linux.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NetlinkError, NetlinkSocket, Request

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26

IFF_UP = 0x1

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_VETH_INFO_PEER = 1
_BRPORT_MODE, _BRPORT_ISOLATED = 4, 33
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_IFA_F_NODAD = 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_TABLE = 1, 4, 5, 15
_TABLE_MAIN, _PROTOCOL_BOOT, _SCOPE_LINK, _UNICAST = 254, 3, 253, 1

_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_U32 = struct.Struct("=I")


class Link:
    """A link as the kernel shows it; `kind` is "" for hardware, `master` 0 for one that is no port."""

    __slots__ = ("index", "kind", "mac", "master", "mtu", "name", "up")

    def __init__(self, index: int, name: str, kind: str, up: bool, mtu: int, mac: str, master: int) -> None:
        self.index = index
        self.name = name
        self.kind = kind
        self.up = up
        self.mtu = mtu
        self.mac = mac
        self.master = master


class Address:
    """An address of a link: text form and prefix length."""

    __slots__ = ("address", "index", "prefix")

    def __init__(self, index: int, address: str, prefix: int) -> None:
        self.index = index
        self.address = address
        self.prefix = prefix


class Route:
    """A route of the main table; `destination` is "" for the default route, `gateway` "" where there is none."""

    __slots__ = ("destination", "gateway", "index", "prefix")

    def __init__(self, destination: str, prefix: int, gateway: str, index: int) -> None:
        self.destination = destination
        self.prefix = prefix
        self.gateway = gateway
        self.index = index


def packed(address: str) -> tuple[int, bytes]:
    """(address family, network bytes) of an address in text form; OSError when it is none."""
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    return family, _socket.inet_pton(family, address)


def mac_bytes(mac: str) -> bytes:
    """ "02:42:ac:11:00:02" → its six bytes."""
    return bytes.fromhex(mac.replace(":", ""))


def veth(name: str, peer: str, peer_netns_fd: int, *, mtu: int, mac: str, master: int = 0) -> Request:
    """Create a veth pair: `name` here, up and a port of `master` (0: of no bridge), `peer` inside the namespace.

    The peer cannot be up at once: the kernel ties the two together only after it has configured the peer (ENOTCONN).

    Args:
        mac: of the peer; the host end gets a random one from the kernel.
    """
    inner = _LINK.pack(0, 0, 0, 0, 0) + b"".join(
        (
            netlink.name(_IFLA_IFNAME, peer),
            netlink.number(_IFLA_MTU, mtu),
            netlink.attribute(_IFLA_ADDRESS, mac_bytes(mac)),
            netlink.number(_IFLA_NET_NS_FD, peer_netns_fd),
        )
    )
    outer = [netlink.name(_IFLA_IFNAME, name), netlink.number(_IFLA_MTU, mtu)]
    if master:
        outer.append(netlink.number(_IFLA_MASTER, master))
    outer.append(
        netlink.nested(
            _IFLA_LINKINFO,
            netlink.name(_INFO_KIND, "veth"),
            netlink.nested(_INFO_DATA, netlink.attribute(_VETH_INFO_PEER | netlink.NLA_F_NESTED, inner)),
        )
    )
    return RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, _LINK.pack(0, 0, 0, IFF_UP, IFF_UP) + b"".join(outer)


def bridge(name: str, *, mac: str, mtu: int) -> Request:
    """Create a bridge that is up; with a MAC of its own, so that it does not change as ports come and go."""
    parts = (
        netlink.name(_IFLA_IFNAME, name),
        netlink.number(_IFLA_MTU, mtu),
        netlink.attribute(_IFLA_ADDRESS, mac_bytes(mac)),
        netlink.nested(_IFLA_LINKINFO, netlink.name(_INFO_KIND, "bridge")),
    )
    return RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, _LINK.pack(0, 0, 0, IFF_UP, IFF_UP) + b"".join(parts)


def bridge_port(name: str, *, hairpin: bool, isolated: bool) -> Request:
    """Set the flags of a port: may frames go out where they came in; may it talk to other isolated ports."""
    data = [netlink.attribute(_BRPORT_MODE, bytes((hairpin,)))]
    if isolated:
        data.append(netlink.attribute(_BRPORT_ISOLATED, b"\1"))
    info = netlink.nested(
        _IFLA_LINKINFO, netlink.name(_INFO_SLAVE_KIND, "bridge"), netlink.nested(_INFO_SLAVE_DATA, *data)
    )
    return RTM_NEWLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + netlink.name(_IFLA_IFNAME, name) + info


def link_up(index: int) -> Request:
    """Bring a link up; index 1 is the loopback of every namespace."""
    return RTM_NEWLINK, 0, _LINK.pack(0, 0, index, IFF_UP, IFF_UP)


def link_set(index: int, *, mtu: int = 0, master: int = 0, up: bool | None = None, rename: str = "") -> Request:
    """Change a link; what is not given stays."""
    parts = []
    if mtu:
        parts.append(netlink.number(_IFLA_MTU, mtu))
    if master:
        parts.append(netlink.number(_IFLA_MASTER, master))
    if rename:
        parts.append(netlink.name(_IFLA_IFNAME, rename))
    change = 0 if up is None else IFF_UP
    return RTM_NEWLINK, 0, _LINK.pack(0, 0, index, IFF_UP if up else 0, change) + b"".join(parts)


def link_delete(name: str) -> Request:
    """Delete a link; 20 ms, see the module's docstring."""
    return RTM_DELLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + netlink.name(_IFLA_IFNAME, name)


def address(index: int, ip: str, prefix: int) -> Request:
    """Give a link an address; an IPv6 one is usable at once (no duplicate detection: the allocator knows)."""
    family, data = packed(ip)
    parts = netlink.attribute(_IFA_LOCAL, data) + netlink.attribute(_IFA_ADDRESS, data)
    if family == _socket.AF_INET:
        if prefix < 31:
            host_bits = (1 << (32 - prefix)) - 1
            broadcast = (int.from_bytes(data, "big") | host_bits).to_bytes(4, "big")
            parts += netlink.attribute(_IFA_BROADCAST, broadcast)
    else:
        parts += netlink.number(_IFA_FLAGS, _IFA_F_NODAD)
    return RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, _ADDRESS.pack(family, prefix, 0, 0, index) + parts


def address_delete(index: int, ip: str, prefix: int) -> Request:
    """Take an address away."""
    family, data = packed(ip)
    return RTM_DELADDR, 0, _ADDRESS.pack(family, prefix, 0, 0, index) + netlink.attribute(_IFA_LOCAL, data)


def default_route(index: int, gateway: str) -> Request:
    """Make `gateway` the way out; replaces the one there is."""
    family, data = packed(gateway)
    head = _ROUTE.pack(family, 0, 0, 0, _TABLE_MAIN, _PROTOCOL_BOOT, 0, _UNICAST, 0)
    body = netlink.attribute(_RTA_GATEWAY, data) + netlink.number(_RTA_OIF, index)
    return RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, head + body


def default_route_delete(family: int) -> Request:
    """Take the default route of a family (AF_INET, AF_INET6) away."""
    return RTM_DELROUTE, 0, _ROUTE.pack(family, 0, 0, 0, _TABLE_MAIN, 0, 0, 0, 0)


def route(index: int, network: str, prefix: int, gateway: str = "") -> Request:
    """Route a subnet over a link, through `gateway` or directly."""
    family, data = packed(network)
    scope = 0 if gateway else _SCOPE_LINK
    head = _ROUTE.pack(family, prefix, 0, 0, _TABLE_MAIN, _PROTOCOL_BOOT, scope, _UNICAST, 0)
    body = netlink.attribute(_RTA_DST, data) + netlink.number(_RTA_OIF, index)
    if gateway:
        body += netlink.attribute(_RTA_GATEWAY, packed(gateway)[1])
    return RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, head + body


def find(socket: NetlinkSocket, name: str) -> Link | None:
    """The link of that name, or None."""
    query = (RTM_GETLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + netlink.name(_IFLA_IFNAME, name))
    try:
        return _link(socket.get(query, f"look up link {name}"))
    except NetlinkError as error:
        if error.errno == errno.ENODEV:
            return None
        raise


def links(socket: NetlinkSocket) -> list[Link]:
    """Every link of the namespace."""
    return [_link(body) for body in socket.dump((RTM_GETLINK, 0, _LINK.pack(0, 0, 0, 0, 0)), "list links")]


def addresses(socket: NetlinkSocket, family: int = 0) -> list[Address]:
    """Every address of the namespace, of one family or of both."""
    found = []
    for body in socket.dump((RTM_GETADDR, 0, _ADDRESS.pack(family, 0, 0, 0, 0)), "list addresses"):
        kind, prefix, _, _, index = _ADDRESS.unpack_from(body)
        given = netlink.attributes(body[_ADDRESS.size :])
        text = _text(kind, given.get(_IFA_LOCAL) or given.get(_IFA_ADDRESS, b""))
        if text:
            found.append(Address(index, text, prefix))
    return found


def routes(socket: NetlinkSocket, family: int = 0) -> list[Route]:
    """Every unicast route of the main table, of one family or of both."""
    found = []
    for body in socket.dump((RTM_GETROUTE, 0, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)), "list routes"):
        kind, prefix, _, _, table, _, _, route_type, _ = _ROUTE.unpack_from(body)
        given = netlink.attributes(body[_ROUTE.size :])
        if _RTA_TABLE in given:
            table = _U32.unpack(given[_RTA_TABLE])[0]
        if table != _TABLE_MAIN or route_type != _UNICAST:
            continue
        index = _U32.unpack(given[_RTA_OIF])[0] if _RTA_OIF in given else 0
        destination = _text(kind, given.get(_RTA_DST, b""))
        found.append(Route(destination, prefix, _text(kind, given.get(_RTA_GATEWAY, b"")), index))
    return found


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    given = netlink.attributes(body[_LINK.size :])
    info = netlink.attributes(given.get(_IFLA_LINKINFO, b""))
    return Link(
        index,
        given.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode("utf-8", "replace"),
        info.get(_INFO_KIND, b"").rstrip(b"\0").decode("utf-8", "replace"),
        bool(flags & IFF_UP),
        _U32.unpack(given[_IFLA_MTU])[0] if _IFLA_MTU in given else 0,
        given.get(_IFLA_ADDRESS, b"").hex(":"),
        _U32.unpack(given[_IFLA_MASTER])[0] if _IFLA_MASTER in given else 0,
    )


def _text(family: int, data: bytes) -> str:
    if len(data) != (16 if family == _socket.AF_INET6 else 4):
        return ""
    return _socket.inet_ntop(family, data)
