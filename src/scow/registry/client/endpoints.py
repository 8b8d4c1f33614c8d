"""Where a registry is: from a domain and the configuration to the URLs to try, in order.

A domain is https unless it is declared insecure, which loopback always is: then https without verification is tried,
then http. The default domain's mirrors come first for reading. Authorities and client certificates of a host lie in
``<folder>/<host>/{*.crt, *.cert + *.key}``, as Docker's ``certs.d`` has them.
"""

import ipaddress
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scow.errors import InvalidArgument
from scow.oci.reference import DEFAULT_DOMAIN
from scow.web.tls import client_context

#: The default domain is a name for people; its API answers at this host, logins are stored under the other one.
DEFAULT_API_HOST = f"registry-1.{DEFAULT_DOMAIN}"
INDEX_HOST = f"index.{DEFAULT_DOMAIN}"
INDEX_SERVER = f"https://{INDEX_HOST}/v1/"

CERTIFICATE_FOLDERS = (Path("/etc/scow/certs.d"), Path("/etc/docker/certs.d"))


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """How to speak to registries.

    Attributes:
        insecure: ``HOST``, ``HOST:PORT`` or CIDR whose certificates are not verified and where http is accepted.
        mirrors: URLs tried before the default domain's own host when reading.
        downloads, uploads: transfers of one pull or push at a time.
        certificates: folders with one folder a host.
    """

    insecure: Sequence[str] = ()
    mirrors: Sequence[str] = ()
    downloads: int = 3
    uploads: int = 5
    certificates: Sequence[Path] = field(default=CERTIFICATE_FOLDERS)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One way to reach a registry: `url` has no path; `verify` False accepts any certificate."""

    url: str
    host: str
    verify: bool
    mirror: bool = False

    @property
    def plain(self) -> bool:
        """Whether it is http."""
        return self.url.startswith("http://")


def endpoints(domain: str, config: RegistryConfig, *, reading: bool) -> list[Endpoint]:
    """The ways to reach `domain`, best first; mirrors only for `reading`."""
    if domain == DEFAULT_DOMAIN:
        found = [_mirror(url, config) for url in config.mirrors] if reading else []
        return [*found, Endpoint(f"https://{DEFAULT_API_HOST}", DEFAULT_API_HOST, verify=True)]
    if not is_insecure(domain, config):
        return [Endpoint(f"https://{domain}", domain, verify=True)]
    return [Endpoint(f"https://{domain}", domain, verify=False), Endpoint(f"http://{domain}", domain, verify=False)]


def _mirror(url: str, config: RegistryConfig) -> Endpoint:
    url = url.rstrip("/")
    host = url.partition("://")[2]
    return Endpoint(url, host, verify=not is_insecure(host, config), mirror=True)


def is_insecure(domain: str, config: RegistryConfig) -> bool:
    """Whether `domain` (host, maybe with port) is loopback or declared insecure."""
    host = domain.rpartition(":")[0] if ":" in domain and not domain.endswith("]") else domain
    host = host.strip("[]")
    if domain in config.insecure or host in config.insecure or host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return any(_inside(found, config) for found in _lookup(host)) if _networks(config) else False
    return address.is_loopback or _inside(address, config)


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _networks(config: RegistryConfig) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    found = []
    for entry in config.insecure:
        if "/" in entry:
            try:
                found.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                raise InvalidArgument(f"invalid insecure registry {entry!r}: expected HOST[:PORT] or a CIDR") from None
    return found


def _inside(address: _Address, config: RegistryConfig) -> bool:
    return any(address in network for network in _networks(config))


def _lookup(host: str) -> list[_Address]:
    try:
        return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in socket.getaddrinfo(host, None)]
    except (OSError, UnicodeError):
        return []


def tls_for(endpoint: Endpoint, config: RegistryConfig) -> ssl.SSLContext:
    """TLS towards `endpoint`, with the authorities and client certificate kept for its host. Reads files.

    Raises:
        System: a file there is not what its name says.
        InvalidArgument: a certificate without its key.
    """
    context = client_context(verify=endpoint.verify)
    for base in config.certificates:
        folder = base / endpoint.host
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            if path.suffix == ".crt":
                context.load_verify_locations(path)
            elif path.suffix == ".cert":
                key = path.with_suffix(".key")
                if not key.exists():
                    raise InvalidArgument(f"missing key {key.name} for client certificate {path}")
                context.load_cert_chain(path, key)
    return context


def domain_of(server: str) -> str:
    """The domain a login's server address means: ``https://host:5000/v1/`` → ``host:5000``, empty → the default."""
    host = server.partition("://")[2] or server
    host = host.partition("/")[0]
    return DEFAULT_DOMAIN if host in ("", DEFAULT_DOMAIN, INDEX_HOST, DEFAULT_API_HOST) else host
