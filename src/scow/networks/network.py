"""A network: its configuration, who is on it, and its record on disk."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scow.api.units import rfc3339
from scow.errors import DataLoss, EngineError
from scow.networks.endpoint import Endpoint
from scow.networks.firewall import BridgeRules
from scow.networks.ipam import Allocator, Subnet, complete

BRIDGE, HOST, NONE = "bridge", "host", "none"
PREDEFINED = (BRIDGE, HOST, NONE)

OPTION_BRIDGE = "com.docker.network.bridge.name"
OPTION_DEFAULT = "com.docker.network.bridge.default_bridge"
OPTION_ICC = "com.docker.network.bridge.enable_icc"
OPTION_MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
OPTION_BINDING = "com.docker.network.bridge.host_binding_ipv4"
OPTION_INHIBIT = "com.docker.network.bridge.inhibit_ipv4"
OPTION_MODE = {4: "com.docker.network.bridge.gateway_mode_ipv4", 6: "com.docker.network.bridge.gateway_mode_ipv6"}
OPTION_PREFIX = "com.docker.network.container_iface_prefix"
OPTION_MTU = "com.docker.network.driver.mtu"
#: Of an endpoint.
OPTION_IFNAME = "com.docker.network.endpoint.ifname"


@dataclass(slots=True, eq=False)
class Network:
    """One network. `subnets` are complete (gateways chosen); `given` is the IPAM configuration as the user wrote it."""

    id: str
    name: str
    driver: str
    created: int
    internal: bool = False
    attachable: bool = False
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    config_only: bool = False
    config_from: str = ""
    subnets: tuple[Subnet, ...] = ()
    given: tuple[dict[str, Any], ...] = ()
    ipam_driver: str = "default"
    ipam_options: dict[str, str] | None = None
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    bridge: str = ""
    found_bridge: bool = False  # it was there before the network, and is to be there after it
    allocators: list[Allocator] = field(default_factory=list)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.allocators = [Allocator(subnet, f": {self.name} ({self.id[:12]})") for subnet in self.subnets]

    @property
    def predefined(self) -> bool:
        """Whether the engine made it and it can neither be made nor removed by a user."""
        return self.name in PREDEFINED

    @property
    def has_names(self) -> bool:
        """Whether containers find each other by name here: on user-defined bridges, not on the default one."""
        return self.driver == "bridge" and not self.predefined

    @property
    def user_subnet(self) -> bool:
        """Whether the user chose the subnet, which static addresses need."""
        return any(item.get("Subnet") for item in self.given)

    def flag(self, option: str, default: bool) -> bool:
        """A boolean option; anything but a false word is true."""
        return self.options.get(option, str(default)).lower() not in ("0", "f", "false")

    def mtu(self, default: int) -> int:
        """The MTU of its links."""
        text = self.options.get(OPTION_MTU, "")
        return int(text) if text.isdigit() and int(text) else default

    def rules(self, version: int) -> BridgeRules:
        """What the firewall is to do about it, for one address family."""
        mode = self.options.get(OPTION_MODE[version], "nat")
        return BridgeRules(
            self.bridge,
            tuple(str(s.subnet) for s in self.subnets if s.subnet.version == version),
            masquerade=self.flag(OPTION_MASQUERADE, True) and mode != "routed",
            icc=self.flag(OPTION_ICC, True),
            internal=self.internal,
            open=mode in ("routed", "nat-unprotected"),
        )

    def summary(self) -> dict[str, Any]:
        """The API's Network object."""
        return {
            "Name": self.name,
            "Id": self.id,
            "Created": rfc3339(self.created),
            "Scope": "local",
            "Driver": self.driver,
            "EnableIPv4": self.enable_ipv4,
            "EnableIPv6": self.enable_ipv6,
            "IPAM": {"Driver": self.ipam_driver, "Options": self.ipam_options, "Config": self._ipam_config()},
            "Internal": self.internal,
            "Attachable": self.attachable,
            "Ingress": False,
            "ConfigFrom": {"Network": self.config_from},
            "ConfigOnly": self.config_only,
            "Options": dict(self.options),
            "Labels": dict(self.labels),
        }

    def inspect(self) -> dict[str, Any]:
        """The API's NetworkInspect object."""
        status = {
            str(a.config.subnet): {
                "IPsInUse": min(a.in_use, (1 << 64) - 1),
                "DynamicIPsAvailable": min(a.free, (1 << 64) - 1),
            }
            for a in self.allocators
        }
        containers = {endpoint.container_id: endpoint.resource() for endpoint in self.endpoints.values()}
        return self.summary() | {"Containers": containers, "Status": {"IPAM": {"Subnets": status}}}

    def _ipam_config(self) -> list[dict[str, Any]]:
        if self.config_only:
            return [dict(item) for item in self.given]
        found = []
        for subnet in self.subnets:
            item: dict[str, Any] = {"Subnet": str(subnet.subnet)}
            if subnet.ip_range is not None:
                item["IPRange"] = str(subnet.ip_range)
            item["Gateway"] = str(subnet.gateway)
            if subnet.auxiliary:
                item["AuxiliaryAddresses"] = {name: str(address) for name, address in subnet.auxiliary.items()}
            found.append(item)
        return found

    def to_json(self) -> dict[str, Any]:
        """The record on disk."""
        record: dict[str, Any] = {slot: getattr(self, slot) for slot in _PLAIN}
        record["given"] = list(self.given)
        record["subnets"] = [
            {
                "subnet": str(s.subnet),
                "gateway": str(s.gateway),
                "ip_range": str(s.ip_range or ""),
                "auxiliary": {name: str(address) for name, address in s.auxiliary.items()},
            }
            for s in self.subnets
        ]
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Network":
        """The network in a record.

        Raises:
            DataLoss: the record is damaged.
        """
        try:
            subnets = tuple(
                complete(s["subnet"], s["gateway"], s["ip_range"], s["auxiliary"]) for s in record["subnets"]
            )
            plain = {slot: record[slot] for slot in _PLAIN if slot in record or slot not in _LATER}
            for slot, value in plain.items():
                if type(value) is not _PLAIN[slot] and not (slot == "ipam_options" and value is None):
                    raise TypeError(f"{slot} is {value!r:.100}")
            return cls(**plain, given=tuple(dict(item) for item in record["given"]), subnets=subnets)
        except (KeyError, TypeError, ValueError, AttributeError, EngineError) as error:
            raise DataLoss(f"a network record is damaged: {error!r}") from None


#: The fields that are stored as they are, and their types.
_PLAIN: dict[str, type] = {
    "id": str, "name": str, "driver": str, "created": int, "internal": bool, "attachable": bool, "enable_ipv4": bool,
    "enable_ipv6": bool, "config_only": bool, "config_from": str, "ipam_driver": str, "ipam_options": dict,
    "options": dict, "labels": dict, "bridge": str, "found_bridge": bool,
}  # fmt: skip
#: Those that records of earlier versions do not have.
_LATER = frozenset({"found_bridge"})
