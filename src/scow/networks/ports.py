"""Which host ports are given to whom: parsing what the user asked, and the table of claims. Pure.

The table knows this engine's own claims; whether another program holds a port is only known by binding it
(``proxy.py``).
"""

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scow.errors import InvalidArgument, System, Unsupported

ANY4 = "0.0.0.0"
ANY6 = "::"


@dataclass(frozen=True, slots=True)
class PortRequest:
    """A wish: `host_ip` "" means the daemon's default, `host_port` 0 an ephemeral one; `host_port_end` 0 no range."""

    container_port: int
    proto: str = "tcp"
    host_ip: str = ""
    host_port: int = 0
    host_port_end: int = 0


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A wish fulfilled: this host address and port lead to that container port."""

    container_port: int
    proto: str
    host_ip: str
    host_port: int

    def to_json(self) -> dict[str, object]:
        """The form kept in endpoint records."""
        return {
            "ContainerPort": self.container_port,
            "Proto": self.proto,
            "HostIp": self.host_ip,
            "HostPort": self.host_port,
        }


def parse_requests(bindings: dict[str, Sequence[tuple[str, str]] | None]) -> tuple[PortRequest, ...]:
    """HostConfig.PortBindings as {"80/tcp": [(host ip, host port text), …]} → wishes.

    A key may be a range ("8000-8002/tcp"); its host range must be as long, or be one port to start from.

    Raises:
        InvalidArgument: a port, protocol, address or range makes no sense.
    """
    found: list[PortRequest] = []
    for key, wanted in bindings.items():
        text, _, proto = key.partition("/")
        proto = check_protocol(proto or "tcp")
        first, last = parse_range(text, "container port")
        for host_ip, host_port in wanted or [("", "")]:
            start, end = parse_range(host_port, "host port") if host_port else (0, 0)
            check_host_ip(host_ip)
            for port in range(first, last + 1):
                if first == last:
                    found.append(PortRequest(port, proto, host_ip, start, end if end != start else 0))
                elif end - start != last - first and start != end:
                    raise InvalidArgument(
                        f"invalid ranges specified for container and host Ports: {text} and {host_port}"
                    )
                else:
                    found.append(PortRequest(port, proto, host_ip, start and start + port - first))
    return tuple(found)


def parse_range(text: str, what: str) -> tuple[int, int]:
    """ "80" → (80, 80); "8000-8010" → both ends.

    Raises:
        InvalidArgument: no number, above 65535, or backwards.
    """
    first, dash, last = text.partition("-")
    numbers = []
    for part in (first, last) if dash else (first, first):
        if not (part.isascii() and part.isdigit() and len(part) <= 5 and int(part) <= 65535):
            raise InvalidArgument(f"invalid {what} {text!r}: expected a number up to 65535 or a range like 8000-8010")
        numbers.append(int(part))
    if numbers[0] > numbers[1]:
        raise InvalidArgument(f"invalid {what} {text!r}: the range is backwards")
    return numbers[0], numbers[1]


def check_protocol(proto: str) -> str:
    """The protocol in lower case.

    Raises:
        Unsupported: sctp: there is no userland proxy for it.
        InvalidArgument: no such protocol.
    """
    proto = proto.lower()
    if proto == "sctp":
        raise Unsupported("publishing sctp ports is not supported: publish tcp or udp, or use the host network")
    if proto not in ("tcp", "udp"):
        raise InvalidArgument(f"invalid proto: {proto}")
    return proto


def check_host_ip(text: str) -> None:
    """Raise `InvalidArgument` unless `text` is empty or an address."""
    if not text:
        return
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        raise InvalidArgument(f"invalid IP address: {text}") from None


def host_addresses(request: PortRequest, default: str) -> tuple[str, ...]:
    """The host addresses a wish means: none given is every address of both families, unless `default` differs."""
    if request.host_ip:
        return (str(ipaddress.ip_address(request.host_ip.strip("[]"))),)
    return (ANY4, ANY6) if default in ("", ANY4) else (default,)


def candidates(request: PortRequest, ephemeral: tuple[int, int], cursor: int) -> Iterator[int]:
    """Host ports to try, in order: the one asked for, those of the range, or the ephemeral ones from `cursor` on."""
    if request.host_port:
        yield from range(request.host_port, max(request.host_port_end, request.host_port) + 1)
        return
    first, last = ephemeral
    size = last - first + 1
    for offset in range(size):
        yield first + (cursor - first + offset) % size


class Claims:
    """The host ports this engine has given away. The loop owns it."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], dict[str, str]] = {}

    def holder(self, proto: str, host_ip: str, port: int) -> str | None:
        """Who holds a port on this address, or on every address of its family; None when it is free."""
        held = self._held.get((proto, port))
        if not held:
            return None
        everywhere = ANY6 if ":" in host_ip else ANY4
        if host_ip == everywhere:
            return next((owner for ip, owner in held.items() if (":" in ip) == (":" in host_ip)), None)
        return held.get(host_ip) or held.get(everywhere)

    def claim(self, proto: str, host_ip: str, port: int, owner: str) -> None:
        """Give a port away.

        Raises:
            System: this engine has already given it away.
        """
        if self.holder(proto, host_ip, port) is not None:
            shown = f"[{host_ip}]" if ":" in host_ip else host_ip
            raise System(f"Bind for {shown}:{port} failed: port is already allocated")
        self._held.setdefault((proto, port), {})[host_ip] = owner

    def release(self, proto: str, host_ip: str, port: int) -> None:
        """Take a port back; one nobody has is ignored."""
        held = self._held.get((proto, port), {})
        held.pop(host_ip, None)
        if not held:
            self._held.pop((proto, port), None)
