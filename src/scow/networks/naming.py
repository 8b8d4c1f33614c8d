"""Which name servers run in which sandbox, and what they know."""

import contextlib
import logging
from pathlib import Path

from scow.errors import System
from scow.networks import dns, hosts
from scow.networks.apply import Kernel, open_name_server
from scow.networks.config import NetworkConfig
from scow.networks.dns import Zone
from scow.networks.endpoint import Endpoint
from scow.networks.nameserver import NameServer
from scow.networks.network import Network
from scow.networks.sandbox import Member, Sandbox

log = logging.getLogger("scow.networks")

RESOLV_CONF = Path("/etc/resolv.conf")


class Naming:
    """The names of user-defined networks, and the resolvers that tell them to containers."""

    def __init__(self, kernel: Kernel, config: NetworkConfig) -> None:
        self._kernel = kernel
        self._config = config
        self._zones: dict[str, Zone] = {}
        self._upstream: tuple[tuple[int, int], tuple[str, ...]] | None = None

    def add(self, network: Network, endpoint: Endpoint) -> None:
        """Make an endpoint known to its network."""
        if network.has_names:
            zone = self._zones.setdefault(network.id, Zone(network.name))
            zone.add(endpoint.id, endpoint.dns_names, endpoint.ipv4, endpoint.ipv6)

    def remove(self, endpoint: Endpoint) -> None:
        """Forget an endpoint."""
        zone = self._zones.get(endpoint.network_id)
        if zone is not None:
            zone.remove(endpoint.id)

    def drop(self, network: Network) -> None:
        """Forget a network."""
        self._zones.pop(network.id, None)

    async def serve(self, member: Member, sandbox: Sandbox, *, redirect: bool, fresh: bool) -> None:
        """Run a resolver in the sandbox, unless one does; a failure is reported, the container starts without names."""
        netns_fd = sandbox.fd
        if member.names is not None or netns_fd is None:
            return
        try:
            udp, tcp = await self._kernel.run(lambda: open_name_server(netns_fd, redirect, fresh))
        except System as error:
            log.warning("the resolver of %s could not be started: %s", member.key[:12], error)
            return
        server = NameServer(udp, tcp, lambda query: self._lookup(member, query), lambda: self._servers(member))
        await server.start()
        member.names = server

    def _lookup(self, member: Member, query: dns.Query) -> list[tuple[int, bytes]] | None:
        zones = [self._zones[network] for network in member.endpoints if network in self._zones]
        return dns.decide(query, zones, self._links(member))

    def _links(self, member: Member) -> dict[str, tuple[str, str]]:
        """Names that only this container uses: ``--link container:alias``."""
        found: dict[str, tuple[str, str]] = {}
        for endpoint in member.endpoints.values():
            zone = self._zones.get(endpoint.network_id)
            for item in endpoint.request.links if zone is not None else ():
                target, _, alias = item.partition(":")
                known = zone.find(target.lstrip("/").lower()) if zone is not None else None
                if known:
                    found[(alias or target).lower()] = known[0]
        return found

    def _servers(self, member: Member) -> tuple[str, ...]:
        """Whom to ask about the world: nobody, for a container that is on internal networks only."""
        if member.way_out() is None:
            return ()
        return member.dns or self._host_servers()

    def _host_servers(self) -> tuple[str, ...]:
        if self._config.dns:
            return self._config.dns
        stamp = (0, 0)
        text = ""
        with contextlib.suppress(OSError):
            status = RESOLV_CONF.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
        if self._upstream is None or self._upstream[0] != stamp:
            with contextlib.suppress(OSError):
                text = RESOLV_CONF.read_text(encoding="utf-8", errors="replace")
            self._upstream = (stamp, hosts.upstream_servers(text, ()))
        return self._upstream[1]
