"""Publishing: give away host ports, hold them, and say which of them the firewall translates."""

import asyncio
import logging
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scow.errors import EngineError, System
from scow.networks import proxy
from scow.networks.apply import read_sysctl
from scow.networks.endpoint import Endpoint
from scow.networks.firewall import PortRule
from scow.networks.ports import ANY4, ANY6, Claims, PortMapping, PortRequest, candidates, host_addresses
from scow.networks.proxy import Proxy, Target

log = logging.getLogger("scow.networks")

#: The kernel's own default, where /proc does not say.
EPHEMERAL = (32768, 60999)


@dataclass(slots=True, eq=False)
class Reservation:
    """Host ports that are bound but not served yet; ends in `Publisher.serve` or `Publisher.cancel`."""

    owner: str
    held: list[tuple[PortMapping, socket.socket]]

    @property
    def mappings(self) -> tuple[PortMapping, ...]:
        """The ports that were given, in order."""
        return tuple(mapping for mapping, _ in self.held)


class Publisher:
    """Every host port of the engine. The loop owns it."""

    def __init__(self, default_ip: str) -> None:
        self._default = default_ip
        self._claims = Claims()
        self._cursor = 0

    def reserve(self, owner: str, requests: Sequence[PortRequest], default_ip: str = "") -> Reservation:
        """Bind every host port asked for, all or none.

        Raises:
            System: a port is taken by another container or another program; Docker's sentences.
            InvalidArgument: the host does not have the address.
        """
        reservation = Reservation(owner, [])
        try:
            for request in requests:
                self._reserve_one(reservation, request, default_ip or self._default)
        except EngineError:
            self.cancel(reservation)
            raise
        return reservation

    def restore(self, owner: str, mappings: Iterable[PortMapping]) -> Reservation:
        """Bind again what a container had before the engine went away; what cannot be had any more is reported."""
        reservation = Reservation(owner, [])
        for mapping in mappings:
            try:
                self._bind(reservation, mapping)
            except EngineError as error:
                log.warning("port %d/%s of a running container: %s", mapping.container_port, mapping.proto, error)
        return reservation

    def cancel(self, reservation: Reservation) -> None:
        """Give back ports that were not served."""
        for mapping, held in reservation.held:
            held.close()
            self._claims.release(mapping.proto, mapping.host_ip, mapping.host_port)
        reservation.held.clear()

    async def serve(self, reservation: Reservation, endpoint: Endpoint) -> list[Proxy]:
        """Carry the traffic that reaches the held sockets to the endpoint."""
        proxies = []
        for mapping, held in reservation.held:
            target = Target(target_ip(endpoint, mapping.host_ip), mapping.container_port)
            proxies.append(Proxy(held, target))
        await asyncio.gather(*(item.start() for item in proxies))
        return proxies

    def release(self, mappings: Iterable[PortMapping]) -> None:
        """Take ports back whose proxies were closed."""
        for mapping in mappings:
            self._claims.release(mapping.proto, mapping.host_ip, mapping.host_port)

    def _reserve_one(self, reservation: Reservation, request: PortRequest, default_ip: str) -> None:
        addresses = host_addresses(request, default_ip)
        if len(addresses) > 1 and not proxy.has_ipv6():
            addresses = tuple(address for address in addresses if ":" not in address)
        low, high = ephemeral_range()
        cursor = self._cursor if low <= self._cursor <= high else low
        refused: EngineError | None = None
        for port in candidates(request, (low, high), cursor):
            taken: list[tuple[PortMapping, socket.socket]] = []
            try:
                for address in addresses:
                    mapping = PortMapping(request.container_port, request.proto, address, port)
                    taken.append(self._bind(reservation, mapping))
            except System as error:
                refused = refused or error
                for item in taken:
                    reservation.held.remove(item)
                    item[1].close()
                    self._claims.release(item[0].proto, item[0].host_ip, item[0].host_port)
                continue
            if not request.host_port:
                self._cursor = port + 1
            return
        if request.host_port and not request.host_port_end and refused is not None:
            raise refused
        raise System(f"all ports are allocated: none is left for {request.container_port}/{request.proto}")

    def _bind(self, reservation: Reservation, mapping: PortMapping) -> tuple[PortMapping, socket.socket]:
        self._claims.claim(mapping.proto, mapping.host_ip, mapping.host_port, reservation.owner)
        try:
            item = (mapping, proxy.bind(mapping.proto, mapping.host_ip, mapping.host_port))
        except EngineError:
            self._claims.release(mapping.proto, mapping.host_ip, mapping.host_port)
            raise
        reservation.held.append(item)
        return item


def target_ip(endpoint: Endpoint, host_ip: str) -> str:
    """Which of the endpoint's addresses a host address leads to: its own family's if it has one."""
    if ":" in host_ip:
        return endpoint.ipv6 or endpoint.ipv4
    return endpoint.ipv4 or endpoint.ipv6


def translated(endpoint: Endpoint) -> list[PortRule]:
    """The endpoint's ports that the firewall translates: those whose host and container address are of one family."""
    rules = []
    for mapping in endpoint.ports:
        ip = target_ip(endpoint, mapping.host_ip)
        if ip and (":" in ip) == (":" in mapping.host_ip):
            host_ip = "" if mapping.host_ip in (ANY4, ANY6) else mapping.host_ip
            rules.append(PortRule(mapping.proto, host_ip, mapping.host_port, ip, mapping.container_port))
    return rules


def ephemeral_range() -> tuple[int, int]:
    """The host's range of ephemeral ports."""
    parts = read_sysctl("net/ipv4/ip_local_port_range").split()
    if len(parts) == 2 and all(part.isdigit() for part in parts) and int(parts[0]) < int(parts[1]):
        return int(parts[0]), int(parts[1])
    return EPHEMERAL
