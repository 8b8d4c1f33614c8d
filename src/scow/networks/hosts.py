"""/etc/hosts, /etc/resolv.conf and /etc/hostname of a container, as text: pure.

resolv.conf follows Docker: on the default bridge the host's name servers without those that only answer on the host's
own loopback; on user-defined networks the embedded resolver, which knows the other containers.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scow.errors import InvalidArgument

#: Where the embedded resolver answers inside a sandbox.
EMBEDDED = "127.0.0.11"
#: Used when the host names no server a container could reach.
PUBLIC_SERVERS = ("8.8.8.8", "8.8.4.4")
PUBLIC_SERVERS_6 = ("2001:4860:4860::8888", "2001:4860:4860::8844")
#: A host's resolv.conf is small; glibc reads three servers and 256 characters of search domains.
MAX_RESOLV_CONF = 64 << 10
HOST_GATEWAY = "host-gateway"


@dataclass(frozen=True, slots=True)
class Resolver:
    """What a resolv.conf says, in its order."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse_resolv_conf(text: str) -> Resolver:
    """Read a resolv.conf(5); lines that make no sense are skipped, the last search or domain line counts."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text[:MAX_RESOLV_CONF].splitlines():
        words = line.partition("#")[0].partition(";")[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver" and _is_address(words[1]):
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = tuple(words[1:])
        elif words[0] == "options":
            options += words[1:]
    return Resolver(tuple(servers), search, tuple(options))


def resolver(
    host_text: str,
    *,
    dns: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
    ipv6: bool = False,
    shared: bool = False,
) -> Resolver:
    """What a container should ask: its own settings over the host's.

    Args:
        dns, search, options: of the container or the daemon; each replaces the host's when given. A search of "." means
            none.
        ipv6: the container has an IPv6 address, so that IPv6 servers are of use.
        shared: the container is in the host's network namespace: loopback servers answer it too.
    """
    host = parse_resolv_conf(host_text)
    servers = tuple(dns) or tuple(
        server for server in host.servers if shared or (not _is_local(server) and (ipv6 or ":" not in server))
    )
    if not servers:
        servers = PUBLIC_SERVERS + (PUBLIC_SERVERS_6 if ipv6 else ())
    domains = tuple(search) or host.search
    return Resolver(servers, () if domains == (".",) else domains, tuple(options) or host.options)


def upstream_servers(host_text: str, dns: Sequence[str]) -> tuple[str, ...]:
    """Whom the embedded resolver asks about the world: it asks from the host, so the host's loopback servers count."""
    return tuple(dns) or parse_resolv_conf(host_text).servers or PUBLIC_SERVERS


def render(value: Resolver, *, embedded: bool = False) -> bytes:
    """The file; with `embedded`, the only server named is the engine's own."""
    servers = (EMBEDDED,) if embedded else value.servers
    lines = [f"nameserver {server}" for server in servers]
    if value.search:
        lines.append(f"search {' '.join(value.search)}")
    options = list(value.options)
    if embedded and not any(option.startswith("ndots:") for option in options):
        options.append("ndots:0")
    if options:
        lines.append(f"options {' '.join(options)}")
    return ("\n".join(lines) + "\n").encode()


def resolv_conf(
    host_text: str,
    *,
    dns: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
    embedded: bool = False,
    ipv6: bool = False,
    shared: bool = False,
) -> bytes:
    """The /etc/resolv.conf of a container: see `resolver` and `render`."""
    found = resolver(host_text, dns=dns, search=search, options=options, ipv6=ipv6, shared=shared)
    return render(found, embedded=embedded)


def hosts_file(
    hostname: str,
    domainname: str = "",
    *,
    addresses: Sequence[str] = (),
    extra_hosts: Iterable[str] = (),
    host_gateway: Sequence[str] = (),
    ipv6: bool = True,
) -> bytes:
    """The /etc/hosts of a container.

    Args:
        addresses: the container's own, in order of its networks.
        extra_hosts: ``name:address`` or ``name=address``; the address ``host-gateway`` stands for `host_gateway`.

    Raises:
        InvalidArgument: an extra host is malformed, or ``host-gateway`` is not known.
    """
    lines = ["127.0.0.1\tlocalhost"]
    if ipv6:
        lines += [
            "::1\tlocalhost ip6-localhost ip6-loopback",
            "fe00::\tip6-localnet",
            "ff00::\tip6-mcastprefix",
            "ff02::1\tip6-allnodes",
            "ff02::2\tip6-allrouters",
        ]
    for item in extra_hosts:
        name, address = parse_extra_host(item)
        if address != HOST_GATEWAY:
            lines.append(f"{address}\t{name}")
            continue
        if not host_gateway:
            raise InvalidArgument(f'unable to derive the IP value for host-gateway in "{item}": set --host-gateway-ip')
        lines += [f"{gateway}\t{name}" for gateway in host_gateway]
    names = f"{hostname}.{domainname} {hostname}" if domainname else hostname
    lines += [f"{address}\t{names}" for address in addresses if hostname]
    return ("\n".join(lines) + "\n").encode()


def parse_extra_host(item: str) -> tuple[str, str]:
    """``db:10.0.0.1``, ``db=10.0.0.1``, ``v6=[::1]`` → (name, address or "host-gateway").

    Raises:
        InvalidArgument: Docker's sentence for a bad add-host.
    """
    at = min((found for found in (item.find("="), item.find(":")) if found > 0), default=-1)
    name, address = (item[:at], item[at + 1 :]) if at > 0 else ("", "")
    if not name or len(name) > 255 or any(char.isspace() or not char.isprintable() for char in name):
        raise InvalidArgument(f'bad format for add-host: "{item}"')
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if address != HOST_GATEWAY and not _is_address(address):
        raise InvalidArgument(f'invalid IP address in add-host: "{address}"')
    return name, address


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_local(text: str) -> bool:
    return ipaddress.ip_address(text).is_loopback
