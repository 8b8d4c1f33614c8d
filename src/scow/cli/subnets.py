"""``network create``'s address flags → IPAM pools: ranges, gateways and reserved addresses join the subnet they lie in.

Pure.
"""

from __future__ import annotations

from scow.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def number(address: str) -> tuple[int, int]:
    """An address as (family's bits, number).

    Raises:
        InvalidArgument: neither IPv4 nor IPv6.
    """
    from _socket import AF_INET, AF_INET6, inet_pton

    for family, bits in ((AF_INET, 32), (AF_INET6, 128)):
        try:
            return bits, int.from_bytes(inet_pton(family, address), "big")
        except (OSError, ValueError):
            continue
    raise InvalidArgument(f"invalid IP address: {address}")


def block(text: str) -> tuple[int, int, int]:
    """ "10.1.0.0/16" → (32, network number, prefix).

    Raises:
        InvalidArgument: not CIDR.
    """
    address, slash, prefix = text.partition("/")
    if not slash or not prefix.isdigit():
        raise InvalidArgument(f"invalid CIDR address: {text}")
    bits, value = number(address)
    if int(prefix) > bits:
        raise InvalidArgument(f"invalid CIDR address: {text}")
    shift = bits - int(prefix)
    return bits, value >> shift << shift, int(prefix)


def holds(subnet: str, address: str) -> bool:
    """Whether `address` lies in `subnet`."""
    bits, base, prefix = block(subnet)
    other, value = number(address)
    return bits == other and value >> (bits - prefix) == base >> (bits - prefix)


def pools(subnets: list[str], ranges: list[str], gateways: list[str], reserved: dict[str, str]) -> list[dict[str, Any]]:
    """The pools of the API.

    Raises:
        InvalidArgument: subnets overlap; something lies in none of them; two ranges or gateways lie in one.
    """
    if not subnets and (ranges or gateways or reserved):
        raise InvalidArgument("every ip-range or gateway must have a corresponding subnet")
    found: dict[str, dict[str, Any]] = {}
    for subnet in subnets:
        for other in found:
            if _overlap(subnet, other):
                raise InvalidArgument("multiple overlapping subnet configuration is not supported")
        found[subnet] = {"Subnet": subnet}
    for text in ranges:
        block(text)
        _place(found, text.partition("/")[0], "IPRange", text, f"no matching subnet for range {text}")
    for text in gateways:
        _place(found, text, "Gateway", text, f"no matching subnet for gateway {text}")
    for name, address in reserved.items():
        pool = next((pool for subnet, pool in found.items() if holds(subnet, address)), None)
        if pool is None:
            raise InvalidArgument(f"no matching subnet for aux-address {address}")
        pool.setdefault("AuxiliaryAddresses", {})[name] = address
    return list(found.values())


def _place(found: dict[str, dict[str, Any]], address: str, key: str, value: str, missing: str) -> None:
    pool = next((pool for subnet, pool in found.items() if holds(subnet, address)), None)
    if pool is None:
        raise InvalidArgument(missing)
    if key in pool:
        what = "ranges" if key == "IPRange" else "gateways"
        raise InvalidArgument(
            f"cannot configure multiple {what} ({value}, {pool[key]}) on the same subnet ({pool['Subnet']})"
        )
    pool[key] = value


def _overlap(first: str, second: str) -> bool:
    return holds(first, second.partition("/")[0]) or holds(second, first.partition("/")[0])
