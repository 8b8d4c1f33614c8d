"""From a container's wishes to an endpoint with addresses, MAC and names. Touches only the allocators."""

import re
import secrets
from dataclasses import replace

from scow.errors import EngineError, InvalidArgument
from scow.networks import ipam
from scow.networks import network as words
from scow.networks.endpoint import Endpoint, EndpointRequest, dns_names
from scow.networks.network import Network
from scow.networks.sandbox import Member

_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}")
_LINK_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")


def complete_endpoint(network: Network, member: Member, request: EndpointRequest, now: float, mtu: int) -> Endpoint:
    """An endpoint with everything chosen; its addresses are taken, and given back with `give_back`.

    Raises:
        InvalidArgument, Forbidden, System: a wish cannot be met; nothing is taken then.
    """
    _check_wishes(network, request)
    endpoint_id = secrets.token_hex(32)
    taken: dict[int, tuple[str, int, str]] = {}
    if network.driver == "bridge":
        try:
            for allocator in network.allocators:
                version = allocator.config.subnet.version
                wanted = _wanted(request, version, allocator)
                if version in taken or (wanted is None and _elsewhere(request, version, network)):
                    continue
                address = allocator.allocate(member.key, now, wanted)
                taken[version] = (str(address), allocator.config.subnet.prefixlen, str(allocator.config.gateway))
        except EngineError:
            for given, _, _ in taken.values():
                give_back(network, given, now)
            raise
    ipv4, prefix, gateway = taken.get(4, ("", 0, ""))
    ipv6, prefix6, gateway6 = taken.get(6, ("", 0, ""))
    linked = network.driver == "bridge"
    return Endpoint(
        id=endpoint_id,
        network_id=network.id,
        network_name=network.name,
        key=member.key,
        container_id=request.container_id,
        name=request.name,
        interface=_interface(network, member, request) if linked else "",
        host_interface=f"veth{endpoint_id[:7]}" if linked else "",
        bridge=network.bridge,
        mtu=mtu if linked else 0,
        mac=_mac(request, ipv4, ipv6) if linked else "",
        ipv4=ipv4,
        prefix=prefix,
        gateway=gateway,
        ipv6=ipv6,
        prefix6=prefix6,
        gateway6=gateway6,
        dns_names=dns_names(request) if network.has_names else (),
        request=request,
        internal=network.internal,
    )


def nobody_s(network: Network, now: float, mtu: int) -> Endpoint:
    """An endpoint for whoever comes first: `claim` makes it somebody's, `give_back` returns its addresses.

    Raises:
        System: no address is left.
    """
    return complete_endpoint(network, Member(ipam.SPARE), EndpointRequest(""), now, mtu)


def plain(request: EndpointRequest) -> bool:
    """Whether a container asks for nothing that an endpoint made for nobody would not have."""
    return not (
        request.ipv4 or request.ipv6 or request.mac or request.aliases or request.driver_opts or request.link_local
    )


def claim(network: Network, member: Member, ahead: Endpoint, request: EndpointRequest) -> Endpoint:
    """The endpoint `ahead`, now this container's."""
    for text in (ahead.ipv4, ahead.ipv6):
        for allocator in network.allocators if text else ():
            allocator.hand_over(ipam.parse_address(text), member.key)
    return replace(ahead, key=member.key, container_id=request.container_id, name=request.name, request=request)


def give_back(network: Network, address: str, now: float) -> None:
    """Return one address to its allocator."""
    if not address:
        return
    parsed = ipam.parse_address(address)
    for allocator in network.allocators:
        if parsed in allocator.config.subnet:
            allocator.release(parsed, now)


def take_again(network: Network, endpoint: Endpoint) -> None:
    """Mark a restored endpoint's addresses as used.

    Raises:
        EngineError: somebody else has one, or the network changed its subnet.
    """
    for text in (endpoint.ipv4, endpoint.ipv6):
        if text:
            address = ipam.parse_address(text)
            allocator = next((a for a in network.allocators if address in a.config.subnet), None)
            if allocator is None:
                raise InvalidArgument(f"network {network.name} no longer has the subnet of {text}")
            allocator.reserve(endpoint.key, address)


def _check_wishes(network: Network, request: EndpointRequest) -> None:
    if request.ipv4 or request.ipv6:
        if network.predefined:
            raise InvalidArgument("user specified IP address is supported on user defined networks only")
        if not network.user_subnet:
            raise InvalidArgument(
                "user specified IP address is supported only when connecting to networks with user configured subnets"
            )
        for text in (request.ipv4, request.ipv6):
            if text and not any(ipam.parse_address(text) in a.config.subnet for a in network.allocators):
                raise InvalidArgument(f"no configured subnet or ip-range contain the IP address {text}")
    if request.aliases and not network.has_names:
        # Every container is told its short id as an alias; only names somebody chose are refused.
        chosen = [alias for alias in request.aliases if alias != request.container_id[:12]]
        if chosen and network.driver == "bridge":
            raise InvalidArgument("network-scoped aliases are only supported for user-defined networks")
    if request.mac and not _MAC.fullmatch(request.mac):
        raise InvalidArgument(f"invalid MAC address: {request.mac}")
    name = request.driver_opts.get(words.OPTION_IFNAME, "")
    if name and (not _LINK_NAME.fullmatch(name) or name in ("lo", ".", "..")):
        raise InvalidArgument(f"invalid interface name {name!r}: use at most 15 letters, digits and . _ -")


def _wanted(request: EndpointRequest, version: int, allocator: ipam.Allocator) -> ipam.IPAddress | None:
    text = request.ipv4 if version == 4 else request.ipv6
    if not text:
        return None
    address = ipam.parse_address(text)
    return address if address in allocator.config.subnet else None


def _elsewhere(request: EndpointRequest, version: int, network: Network) -> bool:
    """Whether the wished address of this family belongs to another subnet of the network."""
    return any(_wanted(request, version, allocator) is not None for allocator in network.allocators)


def _interface(network: Network, member: Member, request: EndpointRequest) -> str:
    wanted = request.driver_opts.get(words.OPTION_IFNAME, "")
    if not wanted:
        return member.next_link(network.options.get(words.OPTION_PREFIX) or "eth")
    if any(endpoint.interface == wanted for endpoint in member.endpoints.values()):
        raise InvalidArgument(f"interface name {wanted} is already in use in this container: choose another")
    return wanted


def _mac(request: EndpointRequest, ipv4: str, ipv6: str) -> str:
    if request.mac:
        return request.mac.replace("-", ":").lower()
    return ipam.mac_from(ipam.parse_address(ipv4 or ipv6))
