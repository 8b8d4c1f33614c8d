"""The three networks that always exist, as the daemon's configuration wants them: pure."""

import ipaddress
import secrets
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from scow.networks import ipam
from scow.networks import network as words
from scow.networks.config import NetworkConfig
from scow.networks.create import with_subnets
from scow.networks.network import BRIDGE, HOST, NONE, Network


def predefined_networks(
    config: NetworkConfig, stored: Collection[Network], routes: Sequence[ipam.IPNetwork]
) -> list[Network]:
    """bridge, host and none: those stored keep their id, the default bridge also its subnet unless ``bip`` says other.

    Args:
        stored: every network there is, user-defined ones included.
        routes: what the host routes already, our own bridges left out.
    """
    known = {network.name: network for network in stored if network.predefined}
    found = [
        known.get(name)
        or Network(id=secrets.token_hex(32), name=name, driver=driver, created=time.time_ns(), enable_ipv4=False)
        for name, driver in ((HOST, "host"), (NONE, "null"))
    ]
    if config.bridge_name != NONE:
        others = [network for network in stored if network.name != BRIDGE]
        found.insert(0, _default_bridge(config, known.get(BRIDGE), others, routes))
    return found


def _default_bridge(
    config: NetworkConfig, known: Network | None, others: Collection[Network], routes: Sequence[ipam.IPNetwork]
) -> Network:
    given: tuple[dict[str, Any], ...] = ()
    if config.bip:
        interface = ipaddress.ip_interface(config.bip)
        given = ({"Subnet": str(interface.network), "Gateway": str(interface.ip)},)
    options = {
        words.OPTION_DEFAULT: "true",
        words.OPTION_ICC: str(config.icc).lower(),
        words.OPTION_MASQUERADE: str(config.ip_masquerade).lower(),
        words.OPTION_BINDING: config.host_binding,
        words.OPTION_BRIDGE: config.bridge_name,
    }
    if config.mtu:
        options[words.OPTION_MTU] = str(config.mtu)
    if known is not None and known.given == given and known.bridge == config.bridge_name:
        return replace(known, options=options)
    fresh = Network(
        id=known.id if known is not None else secrets.token_hex(32),
        name=BRIDGE,
        driver="bridge",
        created=time.time_ns(),
        options=options,
        given=given,
    )
    return with_subnets(fresh, others, config, routes)
