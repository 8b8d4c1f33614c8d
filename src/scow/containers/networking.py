"""A container's side of networking: its sandbox at a start, its connections, and the files in /etc that follow.

The networks room does the work; here is decided what to ask it for.
"""

import asyncio
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scow.api.containers import EndpointConfig
from scow.containers import ports
from scow.containers.container import Container, Record
from scow.containers.context import Context
from scow.containers.state import State
from scow.errors import Conflict, EngineError, Forbidden, NoSuchNetwork, NotFound
from scow.fileio import write_all
from scow.networks import hosts
from scow.networks.endpoint import EndpointRequest
from scow.networks.ports import PortRequest, parse_requests

if TYPE_CHECKING:
    from scow.networks.endpoint import Endpoint
    from scow.networks.sandbox import Sandbox

#: Where the host's name servers are written; behind systemd-resolved the first names only its own stub.
RESOLV_CONF = ("/run/systemd/resolve/resolv.conf", "/etc/resolv.conf")


def shares_with(record: Record) -> str:
    """The id of the container whose network this one uses, "" if it has its own."""
    kind, _, other = record.host.network_mode.partition(":")
    return other if kind == "container" else ""


async def connect(context: Context, container: Container) -> "Sandbox | None":
    """The namespace for a start, connected to every network asked for; None where another's is shared.

    Raises:
        NoSuchNetwork: Docker's sentence; nothing is left connected.
        Conflict, Forbidden, System: a wish cannot be met, a port is taken.
    """
    record = container.record
    if shares_with(record):
        return None
    host = record.host.network_mode == "host"
    wishes = requests(container)
    sandbox = await context.networks.sandbox(container.id, dns=record.host.dns, host=host, wishes=wishes)
    try:
        for name, wish in wishes.items():
            await context.networks.connect(sandbox, name, wish)
    except BaseException:
        sandbox.close()
        await context.networks.release(container.id)
        raise
    return sandbox


def requests(container: Container) -> dict[str, EndpointRequest]:
    """What to ask of every network it is to be on, by its name; the main one first."""
    return {name: endpoint_request(container, wish) for name, wish in container.record.endpoints.items()}


def endpoint_request(container: Container, wish: EndpointConfig) -> EndpointRequest:
    """What to ask the networks room for."""
    record = container.record
    ipam = wish.ipam_config
    return EndpointRequest(
        container_id=container.id,
        name=container.name,
        hostname=record.config.hostname,
        ipv4=ipam.ipv4_address if ipam else "",
        ipv6=ipam.ipv6_address if ipam else "",
        mac=wish.mac_address,
        aliases=tuple(wish.aliases or ()),
        ports=port_requests(record),
        driver_opts=dict(wish.driver_opts or {}),
        gw_priority=wish.gw_priority,
        links=tuple(wish.links or ()),
        link_local=tuple(ipam.link_local_ips) if ipam else (),
    )


def port_requests(record: Record) -> tuple[PortRequest, ...]:
    """Every port to publish."""
    wanted: dict[str, Sequence[tuple[str, str]] | None] = {}
    for key, items in record.host.port_bindings.items():
        wanted[key] = [(item.host_ip, item.host_port if item.host_port != "0" else "") for item in items] or None
    if record.host.publish_all_ports:
        for port in ports.exposed(record.config.exposed_ports):
            wanted.setdefault(str(port), None)
    return parse_requests(wanted)


# -- files --


def write_files(context: Context, container: Container, endpoints: Mapping[str, "Endpoint"]) -> None:
    """Write hostname, hosts and resolv.conf into the container's folder. Blocking."""
    record = container.record
    if shares_with(record):
        return
    folder = os.fspath(context.store.folder(container.id))
    there, container.files = container.files, {}
    embedded = any(context.networks.get(endpoint.network_id).has_names for endpoint in endpoints.values())
    six = any(endpoint.ipv6 for endpoint in endpoints.values())
    for name, content in (
        ("hostname", _hostname(record)),
        ("hosts", _hosts(context, container, endpoints)),
        ("resolv.conf", _resolv_conf(context, record, embedded, six)),
    ):
        if there.get(name) != content:
            _rewrite(f"{folder}/{name}", content)


def files_ahead(context: Context, record: Record) -> dict[str, bytes]:
    """What `write_files` will most probably write, as far as it is known before the start."""
    if shares_with(record):
        return {}
    networks = [context.networks.get(name) for name in record.endpoints]
    embedded, six = any(network.has_names for network in networks), any(network.enable_ipv6 for network in networks)
    return {"hostname": _hostname(record), "resolv.conf": _resolv_conf(context, record, embedded, six)}


def _hostname(record: Record) -> bytes:
    return f"{record.config.hostname}\n".encode()


def _rewrite(path: str, content: bytes) -> None:
    """Write in place: a running container has this very file mounted."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.fchmod(fd, 0o644)
        write_all(fd, content)
    finally:
        os.close(fd)


def _hosts(context: Context, container: Container, endpoints: Mapping[str, "Endpoint"]) -> bytes:
    record = container.record
    extra = list(record.host.extra_hosts or ())
    gateway = context.networks.host_gateway()
    if record.host.network_mode == "host":
        own = Path("/etc/hosts")
        text = own.read_bytes() if own.exists() else b"127.0.0.1\tlocalhost\n"
        made = hosts.hosts_file("", extra_hosts=extra, host_gateway=gateway, ipv6=False).splitlines(keepends=True)
        return (text if text.endswith(b"\n") else text + b"\n") + b"".join(made[1:])
    addresses = [found for e in endpoints.values() for found in (e.ipv4, e.ipv6) if found]
    content = hosts.hosts_file(
        record.config.hostname,
        record.config.domainname,
        addresses=addresses,
        extra_hosts=extra,
        host_gateway=gateway,
        ipv6=(record.host.sysctls or {}).get("net.ipv6.conf.all.disable_ipv6") != "1",
    )
    return content + _linked(context, record)


def _linked(context: Context, record: Record) -> bytes:
    """Lines for legacy links on the default bridge: address, alias, name and short id of the other container."""
    lines = []
    for link in record.host.links or () if record.host.network_mode == "bridge" else ():
        name, _, alias = link.partition(":")
        other = context.get(name)
        endpoint = context.endpoints(other).get("bridge")
        if endpoint is not None and endpoint.ipv4:
            lines.append(f"{endpoint.ipv4}\t{alias or other.name} {other.short_id} {other.name}\n")
    return "".join(lines).encode()


def _resolv_conf(context: Context, record: Record, embedded: bool, ipv6: bool) -> bytes:
    config = context.config
    return _made_resolv_conf(
        _host_resolv_conf(),
        tuple(record.host.dns or config.dns),
        tuple(record.host.dns_search or config.dns_search),
        tuple(record.host.dns_options or config.dns_options),
        embedded,
        ipv6,
        record.host.network_mode == "host",
    )


@functools.lru_cache(maxsize=32)
def _made_resolv_conf(
    host_text: str,
    dns: tuple[str, ...],
    search: tuple[str, ...],
    options: tuple[str, ...],
    embedded: bool,
    ipv6: bool,
    shared: bool,
) -> bytes:
    return hosts.resolv_conf(
        host_text, dns=dns, search=search, options=options, embedded=embedded, ipv6=ipv6, shared=shared
    )


def _host_resolv_conf() -> str:
    for path in RESOLV_CONF:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read(hosts.MAX_RESOLV_CONF)
        except OSError:
            continue
    return ""


# -- connecting while it runs --


async def connect_network(context: Context, ref: str, network: str, wish: EndpointConfig | None) -> None:
    """Put a container on one more network; one that does not run is connected at its next start.

    Raises:
        NoSuchContainer, NoSuchNetwork, Forbidden, System.
    """
    container = context.get(ref)
    async with container.lock:
        record = container.record
        name = context.networks.get(network).name
        if shares_with(record):
            raise Forbidden("container sharing network namespace with another container or host cannot be connected")
        if name in record.endpoints:
            raise Forbidden(f"endpoint with name {container.name} already exists in network {name}")
        if container.state in (State.REMOVING, State.DEAD):
            raise Conflict(f"container {container.id} is marked for removal and cannot be connected to a network")
        wish = wish or EndpointConfig()
        if container.running:
            sandbox = await context.networks.adopt(container.id, record.pid)
            try:
                await context.networks.connect(sandbox, name, endpoint_request(container, wish))
            finally:
                sandbox.close()
        record.endpoints[name] = wish
        if container.running:
            await asyncio.to_thread(write_files, context, container, context.endpoints(container))
        await context.save(container)


async def disconnect_network(context: Context, ref: str, network: str, *, force: bool) -> None:
    """Take a container off a network.

    Raises:
        NoSuchContainer, NoSuchNetwork: unless `force` and the network is gone already.
        Forbidden: it is not on it.
    """
    container = context.get(ref)
    async with container.lock:
        record = container.record
        try:
            name = context.networks.get(network).name
        except NotFound:
            if not force:
                raise
            name = network
        if name == "host" and container.running:
            raise Forbidden("container cannot be disconnected from host network")
        if name not in record.endpoints and name not in context.endpoints(container):
            raise Forbidden(f"container {container.id} is not connected to network {name}")
        if container.running and name in context.endpoints(container):
            sandbox = await context.networks.adopt(container.id, record.pid)
            try:
                await context.networks.disconnect(container.id, name)
            finally:
                sandbox.close()
        record.endpoints.pop(name, None)
        await context.save(container)


def require_networks(context: Context, record: Record) -> None:
    """Raise for the first network of the record that is not there.

    Raises:
        NoSuchNetwork: "network x not found".
    """
    for name in record.endpoints:
        try:
            context.networks.get(name)
        except EngineError:
            raise NoSuchNetwork(name) from None
