"""What the daemon tells the networks room once, at start."""

from dataclasses import dataclass

from scow.networks.ipam import DEFAULT_POOLS, Pool

#: Linux limits link names to 15 bytes.
MAX_LINK_NAME = 15


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Directives of the daemon that concern networks; the defaults are Docker's.

    Attributes:
        bip: address and prefix of the default bridge ("10.9.0.1/16"), "" to choose from the pools.
        pools: where the subnets of new networks are carved from; empty means Docker's list.
        iptables: write firewall rules; False leaves address translation to somebody else.
        ip_forward: switch IPv4 forwarding on where it is off.
        mtu: of the default network; 0 takes the one of the host's default route.
        host_binding: host address of published ports that name none.
        host_gateway: address that ``host-gateway`` stands for, "" for the default bridge's.
        spares: endpoints of the default bridge made ahead at most; 0 makes nothing ahead.
        table: name of the nftables tables; two engines on one host need two.
    """

    bridge_name: str = "scow0"
    bip: str = ""
    pools: tuple[Pool, ...] = ()
    iptables: bool = True
    ip_forward: bool = True
    ip_masquerade: bool = True
    icc: bool = True
    mtu: int = 0
    host_binding: str = "0.0.0.0"
    host_gateway: str = ""
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    spares: int = 8
    table: str = "scow"

    @property
    def effective_pools(self) -> tuple[Pool, ...]:
        """The pools in force."""
        return self.pools or DEFAULT_POOLS
