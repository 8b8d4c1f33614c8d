"""Networks: the networks of one engine and the containers on them.

Owns its folder under the data root and ``<exec-root>/networks``, the address allocators, the host ports, the bridges
and the rules in force; nothing else writes links or rules. All decisions are made on the loop; a change of memory and
the kernel job that goes with it are queued without an await between them, so the kernel sees changes in the order they
were decided.

A container's life here: `sandbox` (a namespace) → `connect` once per network → its first process is started in the
namespace → `Sandbox.close` → … → `release`. After a restart of the daemon `open` restores what lives and sweeps the
rest; `adopt` opens the namespace of a running container again.
"""

import errno
import ipaddress
import logging
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scow.api.filters import Filters
from scow.api.networks import NetworkCreate
from scow.api.units import parse_time
from scow.errors import EngineError, Forbidden, InvalidArgument, NotFound, System
from scow.events import Bus
from scow.linux import links
from scow.networks import apply, plan, publish
from scow.networks.config import NetworkConfig
from scow.networks.connect import claim, complete_endpoint, give_back, nobody_s, plain, take_again
from scow.networks.create import network_from
from scow.networks.defaults import predefined_networks
from scow.networks.drivers.bridge import BridgeDriver
from scow.networks.drivers.host import HostDriver
from scow.networks.drivers.none import NoneDriver
from scow.networks.endpoint import Endpoint, EndpointRequest
from scow.networks.ipam import IPNetwork
from scow.networks.naming import Naming
from scow.networks.network import BRIDGE, HOST, NONE, OPTION_BINDING, Network
from scow.networks.publish import Publisher
from scow.networks.rules import Rules
from scow.networks.sandbox import Member, Sandbox
from scow.networks.selection import dangling, find, matches
from scow.networks.spare import Ready, Spares, bare
from scow.networks.store import NetworkStore

if TYPE_CHECKING:
    from scow.networks.drivers.driver import Driver
    from scow.networks.firewall import PortRule

log = logging.getLogger("scow.networks")

DEFAULT_MTU = 1500


class Networks:
    """Every network of one engine; see the module."""

    def __init__(self, root: Path, exec_root: Path, config: NetworkConfig, events: Bus) -> None:
        self._config = config
        self._events = events
        self._store = NetworkStore(root, exec_root)
        self._kernel = apply.Kernel()
        self._rules = Rules(self._kernel, config)
        self._naming = Naming(self._kernel, config)
        self._publisher = Publisher(config.host_binding)
        self._networks: dict[str, Network] = {}
        self._members: dict[str, Member] = {}
        self._restored: set[str] = set()
        self._mtu = config.mtu or DEFAULT_MTU
        self._bridges = BridgeDriver(self._kernel, lambda network: network.mtu(self._mtu))
        self._drivers: dict[str, Driver] = {"bridge": self._bridges, "host": HostDriver(), "null": NoneDriver()}
        self._bare = Spares(lambda: bare(self._kernel), Ready.close, min(1, config.spares))
        self._spares = Spares(self._ahead, self._drop, config.spares)

    # Life of the room.

    async def open(self, alive: Collection[str]) -> None:
        """Have the predefined networks, bridges and rules; restore the connections of live containers.

        Args:
            alive: keys of the sandboxes whose containers run; what others left behind is swept.

        A bridge that cannot be built is reported and tried again when somebody connects to it.
        """
        stored = {network.id: network for network in self._store.networks()}
        await self._rules.open()
        ours = {network.bridge for network in stored.values()} | {self._config.bridge_name}
        routes = await self._routes(ours)
        for network in predefined_networks(self._config, list(stored.values()), routes):
            before = stored.get(network.id)
            stored[network.id] = network
            if before is None or before.to_json() != network.to_json():
                self._store.save_network(network)
        self._networks = stored
        self._restored = set(alive)
        swept = self._restore_records(self._restored)
        for network in self._networks.values():
            if network.config_only:
                continue
            try:
                await self._drivers[network.driver].build(network)
            except System as error:
                log.error("network %s: %s", network.name, error)
        await self._sweep(swept)
        await self._replace_rules()
        for member in self._members.values():
            for endpoint in member.endpoints.values():
                reservation = self._publisher.restore(member.key, endpoint.ports)
                member.proxies += await self._publisher.serve(reservation, endpoint)

    async def close(self) -> None:
        """Let go of sockets and threads; links, rules and records stay for the containers that run on."""
        for member in self._members.values():
            self._silence(member)
            if member.sandbox is not None:
                member.sandbox.close()
        await self._bare.close()
        await self._spares.close()
        await self._kernel.close()

    def _restore_records(self, alive: set[str]) -> list[str]:
        """Take live containers' endpoints into memory; the host links that belong to nobody any more."""
        swept: list[str] = []
        for key, endpoints, servers in self._store.sandboxes():
            member = Member(key, servers)
            for endpoint in endpoints:
                network = self._networks.get(endpoint.network_id)
                if key not in alive or network is None:
                    swept.append(endpoint.host_interface)
                    continue
                try:
                    take_again(network, endpoint)
                except EngineError as error:
                    log.error("container %s on network %s: %s", key[:12], network.name, error)
                network.endpoints[key] = endpoint
                member.endpoints[network.id] = endpoint
                self._naming.add(network, endpoint)
            if key in alive:
                self._members[key] = member
            else:
                self._store.delete_sandbox(key)
        return [name for name in swept if name]

    async def _sweep(self, names: list[str]) -> None:
        def delete() -> None:
            if not names:
                return
            there = {link.name for link in links.links(self._kernel.host) if link.kind == "veth"}
            for name in names:
                if name in there:
                    with apply.tolerated(errno.ENODEV):
                        self._kernel.apply([plan.DeleteLink(name, plan.HOST)])

        try:
            await self._kernel.run(delete)
        except System as error:
            log.warning("stale links could not be removed: %s", error)

    async def _routes(self, ours: set[str]) -> list[IPNetwork]:
        """What the host routes without us; on the way the MTU of its default route is learned."""

        def look() -> tuple[list[IPNetwork], int]:
            by_index = {link.index: link for link in links.links(self._kernel.host)}
            found: list[IPNetwork] = []
            mtu = 0
            for route in links.routes(self._kernel.host):
                link = by_index.get(route.index)
                if not route.destination and link is not None:
                    mtu = mtu or link.mtu
                elif route.destination and (link is None or link.name not in ours):
                    found.append(ipaddress.ip_network(f"{route.destination}/{route.prefix}", strict=False))
            return found, mtu

        try:
            found, mtu = await self._kernel.run(look)
        except System as error:
            log.warning("%s", error)
            return []
        self._mtu = self._config.mtu or min(mtu or DEFAULT_MTU, DEFAULT_MTU)
        return found

    # Networks.

    async def create(self, body: NetworkCreate) -> Network:
        """Make a user-defined network.

        Raises:
            AlreadyExists: the name is taken.
            InvalidArgument, Forbidden, NotFound, Unsupported: the configuration cannot be had; Docker's words.
            System: the kernel refused; nothing is left behind.
        """
        ours = {network.bridge for network in self._networks.values()}
        routes = await self._routes(ours)
        network = network_from(body, self._networks, self._config, routes)
        network.found_bridge = not network.config_only and await self._drivers[network.driver].has(network)
        self._store.save_network(network)  # before the kernel has it: a bridge without a record is found by nobody
        self._networks[network.id] = network
        try:
            if not network.config_only:
                await self._drivers[network.driver].build(network)
                await self._replace_rules()
        except (EngineError, OSError):
            del self._networks[network.id]
            if not network.config_only:
                await self._drivers[network.driver].destroy(network)
                await self._replace_rules()
            self._store.delete_network(network)
            raise
        self._tell("create", network)
        return network

    def get(self, ref: str) -> Network:
        """The network by id, name, or unambiguous beginning of an id.

        Raises:
            NoSuchNetwork, InvalidArgument.
        """
        return find(self._networks.values(), "bridge" if ref == "default" else ref)

    def list(self, filters: Filters | None = None) -> Sequence[Network]:
        """Every network that passes the filters, the youngest first."""
        chosen = Filters() if filters is None else filters
        found = [network for network in self._networks.values() if matches(network, chosen)]
        return sorted(found, key=lambda network: network.created, reverse=True)

    def inspect(self, network: Network) -> dict[str, Any]:
        """The API's NetworkInspect object."""
        return network.inspect()

    async def remove(self, ref: str) -> Network:
        """Remove a user-defined network nobody is on.

        Raises:
            NoSuchNetwork: there is none.
            Forbidden: it is predefined, in use, or the configuration of another.
        """
        network = self.get(ref)
        if network.predefined:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        if network.endpoints:
            users = " ".join(f'name:"{e.name}" id:"{e.id[:12]}"' for e in network.endpoints.values())
            raise Forbidden(
                f"error while removing network: network {network.name} has active endpoints ({users}): "
                "disconnect or stop these containers"
            )
        if network.config_only and any(n.config_from == network.name for n in self._networks.values()):
            raise Forbidden(f"configuration network {network.name} is in use")
        await self._remove(network)
        return network

    async def _remove(self, network: Network) -> None:
        del self._networks[network.id]
        try:
            if not network.config_only:
                await self._replace_rules()
                await self._drivers[network.driver].destroy(network)
        except EngineError:
            self._networks[network.id] = network
            raise
        self._naming.drop(network)
        self._store.delete_network(network)  # last: what a killed daemon leaves of it is built again
        self._tell("destroy", network)

    async def prune(self, filters: Filters | None = None) -> Sequence[str]:
        """Remove every user-defined network nobody is on; the names of those removed."""
        chosen = Filters() if filters is None else filters
        untils = chosen.get("until", ())
        if len(untils) > 1:
            raise InvalidArgument("more than one until filter specified")
        until = parse_time(untils[0]) if untils else None
        removed = []
        for network in list(self._networks.values()):
            if not dangling(network) or not chosen.labels(network.labels):
                continue
            if until is not None and network.created >= until:
                continue
            if network.config_only and any(n.config_from == network.name for n in self._networks.values()):
                continue
            await self._remove(network)
            removed.append(network.name)
        self._events.publish("network", "prune", "", {"reclaimed": "0"})
        return removed

    def pools(self) -> Sequence[tuple[str, int]]:
        """The default address pools in force: (base network, prefix length of each subnet)."""
        return [(str(pool.base), pool.size) for pool in self._config.effective_pools]

    def firewall_missing(self) -> str | None:
        """None when rules are in force; otherwise what is missing and what to do about it."""
        return self._rules.missing

    def host_gateway(self) -> tuple[str, ...]:
        """What ``host-gateway`` stands for in an extra host: configured, or the default bridge's own addresses."""
        if self._config.host_gateway:
            return (self._config.host_gateway,)
        default = next((n for n in self._networks.values() if n.name == BRIDGE), None)
        return tuple(str(s.gateway) for s in default.subnets) if default is not None else ()

    # Containers.

    def expect(self, wishes: Mapping[str, EndpointRequest]) -> None:
        """A container with these wishes, by the network's name, will be started soon."""
        if self._usual("", wishes):
            self._spares.expect()

    async def sandbox(
        self,
        key: str,
        *,
        dns: Collection[str] = (),
        host: bool = False,
        wishes: Mapping[str, EndpointRequest] | None = None,
    ) -> Sandbox:
        """A new namespace with loopback up, for the container `key`; close it once a process is inside.

        Args:
            dns: name servers of the container's own, for the embedded resolver.
            host: share the host's namespace instead; `Sandbox.fd` is None.
            wishes: what `connect` will ask for, by the network's name: there may be a namespace that has it already.

        Raises:
            System: the kernel refused.
        """
        if host:
            sandbox = Sandbox(key, None)
        else:
            ready = self._take() if self._usual(key, wishes or {}) else self._bare.take()
            if ready is None:
                ready = await bare(self._kernel)
            sandbox = Sandbox(key, ready.fd, ready.inner, ready.endpoint)
        member = self._members.setdefault(key, Member(key))
        member.dns = tuple(dns)
        self._hold(member, sandbox)
        return sandbox

    def _usual(self, key: str, wishes: Mapping[str, EndpointRequest]) -> bool:
        """Whether an endpoint made for nobody is what the container asks of its first network."""
        name = next(iter(wishes), "")
        if name != BRIDGE or not plain(wishes[name]):
            return False
        # Who was here before gets the address it had.
        return not any(allocator.remembers(key) for allocator in self.get(BRIDGE).allocators)

    def _take(self) -> Ready | None:
        ready = self._spares.take()
        if ready is not None and ready.endpoint is not None and not self._bridges.stands(ready.endpoint):
            self._drop(ready)
            self._spares.clear()  # somebody deleted the bridge
            return None
        return ready

    async def _ahead(self) -> Ready:
        """Make an endpoint of the default bridge for nobody.

        Raises:
            System: the kernel refused, or addresses are short.
        """
        network = self.get(BRIDGE)
        if any(allocator.free <= 2 * self._config.spares for allocator in network.allocators):
            raise System("addresses are short: none is taken ahead")
        endpoint = nobody_s(network, time.monotonic(), network.mtu(self._mtu))
        try:
            return await self._bridges.ahead(network, endpoint)
        except BaseException:
            self._return(network, endpoint)
            raise

    def _drop(self, ready: Ready) -> None:
        """Let go of what was made for nobody."""
        if ready.endpoint is not None:
            self._return(self.get(BRIDGE), ready.endpoint)
        ready.close()

    def _return(self, network: Network, endpoint: Endpoint) -> None:
        for address in (endpoint.ipv4, endpoint.ipv6):
            give_back(network, address, time.monotonic())

    async def adopt(self, key: str, pid: int) -> Sandbox:
        """Open the namespace of a running container again; its resolver is started if it should have one.

        Raises:
            NotFound: the process is gone.
        """
        try:
            netns_fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NotFound(f"container {key[:12]} is not running: process {pid}: {error.strerror}") from None
        sandbox = Sandbox(key, netns_fd)
        member = self._members.setdefault(key, Member(key))
        self._hold(member, sandbox)
        if any(self._networks[network].has_names for network in member.endpoints if network in self._networks):
            await self._naming.serve(member, sandbox, redirect=self._rules.in_force, fresh=False)
        return sandbox

    def _hold(self, member: Member, sandbox: Sandbox) -> None:
        if member.sandbox is not None:
            member.sandbox.close()
        member.sandbox = sandbox

    async def connect(self, sandbox: Sandbox, network: str, request: EndpointRequest) -> Endpoint:
        """Connect a container to a network: link, address, route, names, published ports.

        The default route goes to the network with the highest priority; ports are published once per container, at the
        first network that has a way out.

        Raises:
            NoSuchNetwork: there is none.
            Forbidden, InvalidArgument: a wish cannot be met.
            System: a host port is taken, or the kernel refused; nothing is left behind.
        """
        found = self.get(network)
        member = self._members.setdefault(sandbox.key, Member(sandbox.key))
        self._check_connect(found, member)
        driver = self._drivers[found.driver]
        ahead = self._claimed(sandbox, found, member, request)
        endpoint = ahead or self._complete(found, member, request)
        reservation = publish.Reservation(sandbox.key, [])
        try:
            if driver.links and not found.internal and not any(e.ports for e in member.endpoints.values()):
                where = f"{request.name or sandbox.key[:12]} ({endpoint.id})"
                reservation = self._reserve(found, sandbox.key, request, where)
            endpoint = replace(endpoint, ports=reservation.mappings)
            found.endpoints[sandbox.key] = endpoint
            member.endpoints[found.id] = endpoint
            self._store.save_sandbox(sandbox.key, member.endpoints.values(), member.dns)
            if ahead is None:
                await driver.connect(sandbox, found, endpoint, way_out=member.way_out() is endpoint)
            await self._rules.publish(publish.translated(endpoint))
            member.proxies += await self._publisher.serve(reservation, endpoint)
        except BaseException:  # also a cancelled caller: the host ports must not stay bound
            self._publisher.cancel(reservation)
            self._forget(found, member, endpoint)
            self._store.save_sandbox(sandbox.key, member.endpoints.values(), member.dns)
            raise
        self._naming.add(found, endpoint)
        if found.has_names:
            fresh = sandbox.key not in self._restored
            await self._naming.serve(member, sandbox, redirect=self._rules.in_force, fresh=fresh)
        self._tell("connect", found, container=request.container_id)
        return endpoint

    def _claimed(self, sandbox: Sandbox, network: Network, member: Member, request: EndpointRequest) -> Endpoint | None:
        """The endpoint that is in the sandbox already, if it is of this network; from now on the member's."""
        if sandbox.ahead is None or sandbox.ahead.network_id != network.id:
            return None
        ahead, sandbox.ahead = sandbox.ahead, None
        return claim(network, member, ahead, request)

    def _complete(self, network: Network, member: Member, request: EndpointRequest) -> Endpoint:
        """An endpoint with everything chosen; if addresses run out, those made for nobody are given up first."""
        mtu = network.mtu(self._mtu)
        try:
            return complete_endpoint(network, member, request, time.monotonic(), mtu)
        except System:
            if network.name != BRIDGE or not len(self._spares):
                raise
            self._spares.clear()
            return complete_endpoint(network, member, request, time.monotonic(), mtu)

    def _check_connect(self, network: Network, member: Member) -> None:
        if network.config_only:
            raise Forbidden(f"cannot connect to network {network.name}: it is a configuration-only network")
        if network.id in member.endpoints:
            raise Forbidden(
                f"endpoint with name {member.endpoints[network.id].name} already exists in network {network.name}"
            )
        present = {endpoint.network_name for endpoint in member.endpoints.values()}
        if network.name == HOST and present:
            raise Forbidden("container cannot be connected to host network along with other networks")
        if HOST in present:
            raise Forbidden("container sharing network namespace with host cannot be connected to any other network")
        if NONE in present or (network.name == NONE and present):
            raise Forbidden(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode"
            )

    def _reserve(self, network: Network, key: str, request: EndpointRequest, where: str) -> publish.Reservation:
        try:
            return self._publisher.reserve(key, request.ports, network.options.get(OPTION_BINDING, ""))
        except System as error:
            raise System(f"driver failed programming external connectivity on endpoint {where}: {error}") from None

    async def disconnect(self, key: str, network: str) -> None:
        """Take a running container off a network; `adopt` it first, so that its default route can move.

        Raises:
            NoSuchNetwork: there is no such network.
            Forbidden: the container is not on it.
        """
        found = self.get(network)
        member = self._members.get(key)
        if member is None or found.id not in member.endpoints:
            raise Forbidden(f"container {key} is not connected to network {found.name}")
        endpoint = member.endpoints[found.id]
        was_way_out = member.way_out() is endpoint
        if endpoint.ports:
            await self._unpublish(member, endpoint)
        self._forget(found, member, endpoint)
        self._store.save_sandbox(key, member.endpoints.values(), member.dns)
        sandbox = member.sandbox if member.sandbox is not None and not member.sandbox.closed else None
        await self._drivers[found.driver].disconnect(sandbox, endpoint, member.way_out(), was_way_out=was_way_out)
        self._tell("disconnect", found, container=endpoint.container_id)

    async def release(self, key: str) -> None:
        """Forget a container that ended: ports, addresses, names, record. Its links vanish with its namespace.

        Releasing what is not known is no error.
        """
        member = self._members.pop(key, None)
        if member is None:
            return
        published: list[PortRule] = []
        for endpoint in list(member.endpoints.values()):
            network = self._networks.get(endpoint.network_id)
            published += publish.translated(endpoint)
            self._publisher.release(endpoint.ports)
            if network is not None:
                self._forget(network, member, endpoint)
                self._tell("disconnect", network, container=endpoint.container_id)
        self._silence(member)
        if member.sandbox is not None:
            if member.sandbox.ahead is not None:  # nobody connected it
                self._return(self.get(BRIDGE), member.sandbox.ahead)
                member.sandbox.ahead = None
            member.sandbox.close()
        self._store.delete_sandbox(key)
        self._restored.discard(key)
        await self._rules.withdraw(published)

    def endpoints(self, key: str) -> dict[str, Endpoint]:
        """A container's connections by network name."""
        member = self._members.get(key)
        return {endpoint.network_name: endpoint for endpoint in member.endpoints.values()} if member else {}

    def rename(self, key: str, name: str) -> None:
        """The container has a new name: its networks learn it."""
        member = self._members.get(key)
        if member is None:
            return
        for network_id, endpoint in list(member.endpoints.items()):
            network = self._networks[network_id]
            self._naming.remove(endpoint)
            member.endpoints[network_id] = network.endpoints[key] = endpoint.renamed(name)
            self._naming.add(network, member.endpoints[network_id])
        self._store.save_sandbox(key, member.endpoints.values(), member.dns)

    async def _unpublish(self, member: Member, endpoint: Endpoint) -> None:
        for item in member.proxies:
            item.close()
        member.proxies.clear()
        self._publisher.release(endpoint.ports)
        await self._rules.withdraw(publish.translated(endpoint))

    def _forget(self, network: Network, member: Member, endpoint: Endpoint) -> None:
        network.endpoints.pop(member.key, None)
        member.endpoints.pop(network.id, None)
        self._naming.remove(endpoint)
        self._return(network, endpoint)

    def _silence(self, member: Member) -> None:
        for item in member.proxies:
            item.close()
        member.proxies.clear()
        if member.names is not None:
            member.names.close()
            member.names = None

    async def _replace_rules(self) -> None:
        ports = [
            rule
            for member in self._members.values()
            for endpoint in member.endpoints.values()
            for rule in publish.translated(endpoint)
        ]
        await self._rules.replace(self._networks.values(), ports, self._bridges.loopback)

    def _tell(self, action: str, network: Network, **attributes: str) -> None:
        about = {"name": network.name, "type": network.driver, **attributes}
        self._events.publish("network", action, network.id, about)
