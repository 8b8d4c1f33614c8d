"""The Engine API's network requests as types. Wire names follow from the Python ones, exceptions are in the table."""

import msgspec

from scow.api.containers import EndpointConfig

_WIRE_NAMES = {
    "config_from": "ConfigFrom",
    "enable_ipv4": "EnableIPv4",
    "enable_ipv6": "EnableIPv6",
    "ip_range": "IPRange",
    "ipam": "IPAM",
}


def _wire_name(name: str) -> str:
    return _WIRE_NAMES.get(name) or "".join(part.capitalize() for part in name.split("_"))


class _Wire(msgspec.Struct, kw_only=True, rename=_wire_name):
    pass


class IpamConfig(_Wire):
    """One subnet of a network; empty texts are for the engine to choose."""

    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    auxiliary_addresses: dict[str, str] = {}


class Ipam(_Wire):
    """How addresses are managed."""

    driver: str = ""
    options: dict[str, str] | None = None
    config: list[IpamConfig] = []


class ConfigReference(_Wire):
    """The config-only network a network takes its configuration from."""

    network: str = ""


class NetworkCreate(_Wire):
    """The body of ``POST /networks/create``."""

    name: str = ""
    driver: str = ""
    scope: str = ""
    check_duplicate: bool = False
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: ConfigReference | None = None
    ipam: Ipam | None = None
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    options: dict[str, str] = {}
    labels: dict[str, str] = {}


class NetworkConnect(_Wire):
    """The body of ``POST /networks/{id}/connect``."""

    container: str = ""
    endpoint_config: EndpointConfig | None = None


class NetworkDisconnect(_Wire):
    """The body of ``POST /networks/{id}/disconnect``."""

    container: str = ""
    force: bool = False
