"""From a create request to a complete network: every check, every default. Pure."""

import re
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from scow.api.networks import Ipam, IpamConfig, NetworkCreate
from scow.errors import AlreadyExists, Forbidden, InvalidArgument, NotFound, Unsupported
from scow.networks import ipam
from scow.networks import network as words
from scow.networks.config import MAX_LINK_NAME, NetworkConfig
from scow.networks.network import PREDEFINED, Network

_LINK_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
_MODES = ("nat", "nat-unprotected", "routed")
_LATER = ("macvlan", "ipvlan")


def network_from(
    body: NetworkCreate, existing: Mapping[str, Network], config: NetworkConfig, routes: Sequence[ipam.IPNetwork]
) -> Network:
    """The network a request asks for, with an id, a bridge name, subnets and gateways.

    Args:
        existing: every network, by id.
        routes: what the host routes already; new subnets are chosen beside them.

    Raises:
        InvalidArgument, Forbidden, AlreadyExists, NotFound, Unsupported: in Docker's words.
    """
    if body.config_from is not None and body.config_from.network:
        body = _configured(body, existing)
        config_from = body.config_from.network if body.config_from else ""
    else:
        config_from = ""
    check_name(body.name, existing.values())
    driver = body.driver or "bridge"
    _check_driver(driver, body)
    network = Network(
        id=secrets.token_hex(32),
        name=body.name,
        driver="null" if body.config_only else driver,
        created=time.time_ns(),
        internal=body.internal,
        attachable=body.attachable,
        enable_ipv4=body.enable_ipv4,
        enable_ipv6=body.enable_ipv6,
        config_only=body.config_only,
        config_from=config_from,
        given=tuple(_given(item) for item in (body.ipam.config if body.ipam else None) or ()),
        ipam_driver=(body.ipam.driver if body.ipam else "") or "default",
        ipam_options=(body.ipam.options if body.ipam else None),
        options=dict(body.options),
        labels=dict(body.labels),
    )
    if network.config_only:
        return network
    return with_subnets(network, existing.values(), config, routes)


def with_subnets(
    network: Network, others: Collection[Network], config: NetworkConfig, routes: Sequence[ipam.IPNetwork]
) -> Network:
    """`network` with its bridge named and its subnets chosen and checked."""
    if not (network.enable_ipv4 or network.enable_ipv6):
        raise InvalidArgument("IPv4 or IPv6 must be enabled")
    if network.ipam_driver != "default":
        raise NotFound(f'ipam driver "{network.ipam_driver}" not found: only default is supported')
    check_options(network.options)
    bridge = network.options.get(words.OPTION_BRIDGE) or f"br-{network.id[:12]}"
    for other in others:
        if other.bridge == bridge:
            what = f"cannot create network {network.id} ({bridge}): conflicts with network {other.id} ({bridge})"
            raise Forbidden(f"{what}: networks have same bridge name")
    subnets = _subnets(network, [s.subnet for other in others for s in other.subnets], config, routes)
    return replace(network, bridge=bridge, subnets=tuple(subnets))


def _subnets(
    network: Network, taken: list[ipam.IPNetwork], config: NetworkConfig, routes: Sequence[ipam.IPNetwork]
) -> list[ipam.Subnet]:
    found: list[ipam.Subnet] = []
    for item in network.given:
        if not item.get("Subnet"):
            if item.get("IPRange") or item.get("Gateway") or item.get("AuxiliaryAddresses"):
                raise InvalidArgument(
                    "invalid IPAM configuration: gateway, range and auxiliary addresses need a subnet"
                )
            continue
        wanted = ipam.parse_subnet(item["Subnet"])
        if (wanted.version == 4 and not network.enable_ipv4) or (wanted.version == 6 and not network.enable_ipv6):
            continue
        if ipam.overlaps(wanted, [*taken, *(s.subnet for s in found)]):
            raise Forbidden("invalid pool request: Pool overlaps with other one on this address space")
        found.append(
            ipam.complete(
                item["Subnet"], item.get("Gateway", ""), item.get("IPRange", ""), item.get("AuxiliaryAddresses") or {}
            )
        )
    have = {subnet.subnet.version for subnet in found}
    if network.enable_ipv4 and 4 not in have:
        chosen = ipam.choose_subnet(config.effective_pools, [*taken, *routes, *(s.subnet for s in found)])
        found.insert(0, ipam.complete(str(chosen), "", "", {}))
    if network.enable_ipv6 and 6 not in have:
        pools = [pool for pool in config.effective_pools if pool.base.version == 6]
        chosen6 = (
            ipam.choose_subnet(pools, [*taken, *routes], 6) if pools else ipam.unique_local(bytes.fromhex(network.id))
        )
        found.append(ipam.complete(str(chosen6), "", "", {}))
    return found


def check_name(name: str, existing: Collection[Network]) -> None:
    """Whether a user may give this name to a network.

    Raises:
        InvalidArgument, Forbidden, AlreadyExists.
    """
    if not name.strip():
        raise InvalidArgument("invalid network name: name is empty")
    if len(name) > 255 or name != name.strip() or "/" in name or not name.isprintable():
        raise InvalidArgument(f"invalid network name {name[:64]!r}: use letters, digits, and any of . _ -")
    if name in PREDEFINED or name in ("default", "container"):
        raise Forbidden(f"operation is not permitted on predefined {name} network ")
    if any(network.name == name for network in existing):
        raise AlreadyExists(f"network with name {name} already exists")


def check_options(options: Mapping[str, str]) -> None:
    """Raise `InvalidArgument` for an option whose value cannot be used."""
    bridge = options.get(words.OPTION_BRIDGE, "")
    if bridge and (not _LINK_NAME.fullmatch(bridge) or bridge in (".", "..")):
        raise InvalidArgument(f"invalid bridge name {bridge!r}: use at most {MAX_LINK_NAME} letters, digits and . _ -")
    mtu = options.get(words.OPTION_MTU, "")
    if mtu and not (mtu.isascii() and mtu.isdigit() and 68 <= int(mtu[:9]) <= 65535):
        raise InvalidArgument(f"invalid MTU {mtu!r}: expected a number from 68 to 65535")
    for option in words.OPTION_MODE.values():
        mode = options.get(option, "nat")
        if mode not in _MODES:
            raise InvalidArgument(f"unknown gateway mode {mode}: use one of {', '.join(_MODES)}")
    prefix = options.get(words.OPTION_PREFIX, "")
    if prefix and not _LINK_NAME.fullmatch(prefix + "00"):
        raise InvalidArgument(f"invalid interface prefix {prefix!r}: it is part of a link's name")
    binding = options.get(words.OPTION_BINDING, "")
    if binding:
        ipam.parse_address(binding, words.OPTION_BINDING)


def _configured(body: NetworkCreate, existing: Mapping[str, Network]) -> NetworkCreate:
    """The request with the configuration of the config-only network it names."""
    name = body.config_from.network if body.config_from else ""
    source = next((network for network in existing.values() if network.name == name), None)
    if source is None:
        raise NotFound(f"configuration network {name} not found")
    if not source.config_only:
        raise Forbidden(f"network {name} is not a configuration-only network")
    if body.options or body.internal or (body.ipam is not None and body.ipam.config):
        raise Forbidden(
            "user specified configurations are not supported if the network depends on a configuration network"
        )
    merged = replace_body(body, options=dict(source.options), internal=source.internal, enable_ipv6=source.enable_ipv6)
    if source.given:
        merged = replace_body(merged, ipam=body_ipam(source))
    return merged


def replace_body(body: NetworkCreate, **changes: Any) -> NetworkCreate:
    """A copy of a request with some fields changed."""
    return NetworkCreate(**{slot: getattr(body, slot) for slot in body.__struct_fields__} | changes)


def body_ipam(source: Network) -> Ipam:
    """The IPAM part of a request that asks for what `source` was given."""
    items = [
        IpamConfig(
            subnet=item.get("Subnet", ""),
            ip_range=item.get("IPRange", ""),
            gateway=item.get("Gateway", ""),
            auxiliary_addresses=item.get("AuxiliaryAddresses") or {},
        )
        for item in source.given
    ]
    return Ipam(driver=source.ipam_driver, options=source.ipam_options, config=items)


def _check_driver(driver: str, body: NetworkCreate) -> None:
    if body.config_only:
        return
    if driver in ("host", "null", "none"):
        raise Forbidden(f'only one instance of "{driver}" network is allowed')
    if driver == "overlay" or body.ingress or body.scope == "swarm":
        raise Forbidden("This node is not a swarm manager: overlay and swarm networks are not supported, use bridge")
    if driver in _LATER:
        raise Unsupported(f"network driver {driver} is not supported: use bridge, or the host network")
    if driver != "bridge":
        raise NotFound(f"could not find plugin {driver} in v1 plugin registry: plugin not found")


def _given(item: Any) -> dict[str, Any]:
    texts = {"Subnet": item.subnet, "IPRange": item.ip_range, "Gateway": item.gateway}
    found: dict[str, Any] = {key: value for key, value in texts.items() if value}
    if item.auxiliary_addresses:
        found["AuxiliaryAddresses"] = dict(item.auxiliary_addresses)
    return found
