"""The rules in force: when they are replaced, and what happens where there is no nftables."""

import logging
from collections.abc import Iterable

from scow.errors import System
from scow.linux import nftables
from scow.networks import firewall
from scow.networks.apply import Kernel, read_sysctl, write_sysctl
from scow.networks.config import NetworkConfig
from scow.networks.firewall import IPV4, IPV6, Family, PortRule
from scow.networks.network import Network

log = logging.getLogger("scow.networks")


class Rules:
    """The firewall of one engine. Without nftables every call does nothing, and `missing` says what to install."""

    def __init__(self, kernel: Kernel, config: NetworkConfig) -> None:
        self._kernel = kernel
        self._table = config.table
        self._forward = config.ip_forward
        self._loopback = True
        self._families: tuple[Family, ...] = ()
        self._wanted = config.iptables
        self.missing: str | None = None if config.iptables else "firewall rules are switched off (--iptables=false)"

    @property
    def in_force(self) -> bool:
        """Whether rules are written at all."""
        return self.missing is None

    async def open(self) -> None:
        """Find out whether rules can be written; switch forwarding on where it is off."""
        if self._wanted:
            self.missing = await self._kernel.run(nftables.available)
        if self.missing:
            log.warning("%s", self.missing)
        if self._forward and read_sysctl("net/ipv4/ip_forward") == "0" and not write_sysctl("net/ipv4/ip_forward", "1"):
            log.warning("IPv4 forwarding is off and cannot be switched on: set net.ipv4.ip_forward=1 for containers")

    async def replace(self, networks: Iterable[Network], ports: Iterable[PortRule], loopback: set[str]) -> None:
        """Put the rules for exactly these networks and ports in force.

        Args:
            loopback: bridges that 127.0.0.1 may be translated to.

        Raises:
            System: the kernel refused; the old rules stay.
        """
        if not self.in_force:
            return
        bridges = [network for network in networks if network.bridge]
        published = list(ports)
        self._loopback = all(network.bridge in loopback for network in bridges)
        text = firewall.ruleset(
            self._table,
            IPV4,
            [network.rules(4) for network in bridges],
            [port for port in published if ":" not in port.ip],
            loopback=self._loopback,
        )
        families: tuple[Family, ...] = (IPV4,)
        six = [network for network in bridges if network.enable_ipv6]
        if six:
            families = (IPV4, IPV6)
            text += firewall.ruleset(
                self._table,
                IPV6,
                [network.rules(6) for network in six],
                [port for port in published if ":" in port.ip],
                loopback=False,
            )
            if self._forward and read_sysctl("net/ipv6/conf/all/forwarding") == "0":
                write_sysctl("net/ipv6/conf/all/forwarding", "1")
        elif IPV6 in self._families:
            text += firewall.removal(self._table, IPV6)
        try:
            await self._kernel.run(lambda: self._kernel.nft(text))
        except System as error:
            if self._families:
                raise
            # The very first rules: this kernel lacks a part (NAT, sets). Go on as if there were no nftables.
            self.missing = f"{error}: published ports are served by the userland proxy"
            log.warning("%s", self.missing)
            return
        self._families = families

    async def publish(self, ports: list[PortRule]) -> None:
        """Translate more ports."""
        wanted = self._known(ports)
        if wanted:
            await self._kernel.run(lambda: self._kernel.nft(firewall.publish(self._table, wanted)))

    async def withdraw(self, ports: list[PortRule]) -> None:
        """Translate these ports no more; a failure is reported only, the next replacement mends it."""
        wanted = self._known(ports)
        if not wanted:
            return
        try:
            await self._kernel.run(lambda: self._kernel.nft(firewall.withdraw(self._table, wanted)))
        except System as error:
            log.warning("published ports could not be withdrawn: %s", error)

    def _known(self, ports: list[PortRule]) -> list[PortRule]:
        if not self.in_force:
            return []
        return [port for port in ports if IPV6 in self._families or ":" not in port.ip]
