"""Ports a container exposes and publishes: parsing and the shapes of the API. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scow.api.containers import PortBinding
from scow.errors import InvalidArgument

PROTOCOLS = ("tcp", "udp", "sctp")


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """A port inside the container."""

    number: int
    protocol: str

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}"


def parse(text: str) -> Port:
    """ "80" → 80/tcp, "53/udp".

    Raises:
        InvalidArgument: not a port from 1 to 65535 of a known protocol.
    """
    number, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in PROTOCOLS:
        raise InvalidArgument(f"invalid port {text!r}: invalid proto: {protocol}")
    return Port(_number(number, text, 1), protocol)


def parse_range(text: str) -> tuple[int, int, str]:
    """ "8000-8010/udp" → (8000, 8010, "udp"), for the filters expose and publish."""
    numbers, _, protocol = text.partition("/")
    first, dash, last = numbers.partition("-")
    low = _number(first, text, 1)
    high = _number(last, text, 1) if dash else low
    if high < low:
        raise InvalidArgument(f"invalid port range: {text}")
    return low, high, protocol.lower() or "tcp"


def host_range(text: str) -> tuple[int, int]:
    """A binding's HostPort: "" and "0" → (0, 0) for any, "8080", "8000-8010".

    Raises:
        InvalidArgument: not a port or a range of ports.
    """
    if not text:
        return 0, 0
    first, dash, last = text.partition("-")
    low = _number(first, text, 0)
    high = _number(last, text, 1) if dash else low
    if high < low:
        raise InvalidArgument(f"invalid port specification: {text!r}")
    return low, high


def _number(text: str, whole: str, lowest: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and lowest <= int(text) <= 65535):
        raise InvalidArgument(f"invalid port specification: {whole[:40]!r}")
    return int(text)


def exposed(config: Mapping[str, object] | None) -> list[Port]:
    """The ports of an ``ExposedPorts`` object, in order."""
    return sorted({parse(text) for text in config or {}})


def bindings(wanted: Mapping[str, list[PortBinding]]) -> dict[Port, list[PortBinding]]:
    """A ``PortBindings`` object with parsed keys.

    Raises:
        InvalidArgument: a port or host port of the wrong form.
    """
    found: dict[Port, list[PortBinding]] = {}
    for text, items in wanted.items():
        for item in items:
            host_range(item.host_port)
        found.setdefault(parse(text), []).extend(items)
    return found


def to_publish(
    exposed_ports: Iterable[Port], wanted: Mapping[Port, list[PortBinding]], *, publish_all: bool
) -> list[tuple[Port, PortBinding]]:
    """Every (container port, binding) to publish; on `publish_all` every exposed port gets a free host port."""
    plan = [(port, item) for port in sorted(wanted) for item in wanted[port]]
    if publish_all:
        plan += [(port, PortBinding()) for port in exposed_ports if not wanted.get(port)]
    return plan
