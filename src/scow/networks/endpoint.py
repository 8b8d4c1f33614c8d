"""A container's connection to a network: what was asked, what it got, and the record of it on disk."""

import ipaddress
from dataclasses import dataclass, field, replace
from typing import Any

from scow.errors import DataLoss
from scow.networks.plan import Leg
from scow.networks.ports import PortMapping, PortRequest


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """What a container wants from a network; empty fields are for the network to choose.

    Attributes:
        ipv4, ipv6: wished addresses; `mac` a wished MAC.
        ports: to be published on the host; given once per sandbox, further networks get none.
        gw_priority: the network with the highest provides the default route.
        links: other containers by the names this one uses for them ("db:database").
    """

    container_id: str
    name: str = ""
    hostname: str = ""
    ipv4: str = ""
    ipv6: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()
    ports: tuple[PortRequest, ...] = ()
    driver_opts: dict[str, str] = field(default_factory=dict)
    gw_priority: int = 0
    links: tuple[str, ...] = ()
    link_local: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A connection that exists (or is being made). Addresses and names are "" where the network gives none."""

    id: str
    network_id: str
    network_name: str
    key: str
    container_id: str
    name: str
    interface: str = ""
    host_interface: str = ""
    bridge: str = ""
    mtu: int = 0
    mac: str = ""
    ipv4: str = ""
    prefix: int = 0
    gateway: str = ""
    ipv6: str = ""
    prefix6: int = 0
    gateway6: str = ""
    dns_names: tuple[str, ...] = ()
    ports: tuple[PortMapping, ...] = ()
    request: EndpointRequest = field(default_factory=lambda: EndpointRequest(""))
    internal: bool = False

    @property
    def gw_priority(self) -> int:
        """How much this network wants to be the default route."""
        return self.request.gw_priority

    @property
    def leads_out(self) -> bool:
        """Whether this network can provide a default route."""
        return bool(self.gateway or self.gateway6) and not self.internal

    def leg(self) -> Leg:
        """What the plan needs of it."""
        return Leg(
            self.host_interface,
            self.interface,
            self.bridge,
            self.mac,
            self.mtu,
            (self.ipv4, self.prefix),
            (self.ipv6, self.prefix6),
            "" if self.internal else self.gateway,
            "" if self.internal else self.gateway6,
        )

    def settings(self) -> dict[str, Any]:
        """The API's EndpointSettings."""
        return {
            **wishes(self.request),
            "MacAddress": self.mac,
            "NetworkID": self.network_id,
            "EndpointID": self.id,
            "Gateway": "" if self.internal else self.gateway,
            "IPAddress": self.ipv4,
            "IPPrefixLen": self.prefix,
            "IPv6Gateway": "" if self.internal else self.gateway6,
            "GlobalIPv6Address": self.ipv6,
            "GlobalIPv6PrefixLen": self.prefix6,
            "DNSNames": list(self.dns_names) or None,
        }

    def resource(self) -> dict[str, Any]:
        """The API's EndpointResource, as network inspect lists it."""
        return {
            "Name": self.name,
            "EndpointID": self.id,
            "MacAddress": self.mac,
            "IPv4Address": f"{self.ipv4}/{self.prefix}" if self.ipv4 else "",
            "IPv6Address": f"{self.ipv6}/{self.prefix6}" if self.ipv6 else "",
        }

    def renamed(self, name: str) -> "Endpoint":
        """The same connection under the container's new name."""
        names = tuple(name if old == self.name else old for old in self.dns_names)
        return replace(self, name=name, dns_names=names, request=replace(self.request, name=name))

    def to_json(self) -> dict[str, Any]:
        """The record on disk."""
        record: dict[str, Any] = {slot: getattr(self, slot) for slot in _PLAIN}
        record["dns_names"] = list(self.dns_names)
        record["ports"] = [mapping.to_json() for mapping in self.ports]
        record["request"] = {slot: getattr(self.request, slot) for slot in _REQUEST}
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Endpoint":
        """The connection in a record.

        Raises:
            DataLoss: the record is damaged.
        """
        try:
            asked = dict(record["request"])
            for slot in ("aliases", "links", "link_local"):
                asked[slot] = tuple(asked[slot])
            ports = tuple(
                PortMapping(int(p["ContainerPort"]), str(p["Proto"]), str(p["HostIp"]), int(p["HostPort"]))
                for p in record["ports"]
            )
            plain = {slot: record[slot] for slot in _PLAIN}
            for address in (plain["ipv4"], plain["ipv6"]):
                if address:
                    ipaddress.ip_address(address)
            return cls(
                **plain, dns_names=tuple(record["dns_names"]), ports=ports, request=EndpointRequest(**asked, ports=())
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataLoss(f"a network endpoint record is damaged: {error!r}") from None


_PLAIN = (
    "id", "network_id", "network_name", "key", "container_id", "name", "interface", "host_interface", "bridge", "mtu",
    "mac", "ipv4", "prefix", "gateway", "ipv6", "prefix6", "gateway6", "internal",
)  # fmt: skip
_REQUEST = (
    "container_id", "name", "hostname", "ipv4", "ipv6", "mac", "aliases", "driver_opts", "gw_priority", "links",
    "link_local",
)  # fmt: skip


def wishes(request: EndpointRequest) -> dict[str, Any]:
    """The part of EndpointSettings that the user decides."""
    ipam: dict[str, Any] = {}
    if request.ipv4:
        ipam["IPv4Address"] = request.ipv4
    if request.ipv6:
        ipam["IPv6Address"] = request.ipv6
    if request.link_local:
        ipam["LinkLocalIPs"] = list(request.link_local)
    return {
        "IPAMConfig": ipam or None,
        "Links": list(request.links) or None,
        "Aliases": list(request.aliases) or None,
        "DriverOpts": dict(request.driver_opts) or None,
        "GwPriority": request.gw_priority,
    }


def dns_names(request: EndpointRequest) -> tuple[str, ...]:
    """Names the embedded resolver knows the container by: its name, aliases, short id and hostname, each once."""
    names = (request.name, *request.aliases, request.container_id[:12], request.hostname)
    return tuple(dict.fromkeys(name for name in names if name))
