"""The embedded resolver's messages and decisions: pure, no sockets (those are in ``nameserver.py``).

A query is answered from the names of the networks the asking container is on; what is not known there is forwarded.
Only what is needed is decoded: header, one question, and of a query's EDNS record its buffer size. A message is
hostile: every offset is checked, compressed names may only point backwards, and no answer is larger than the asker can
take.

Source: RFC 1035, RFC 6891 (EDNS).
"""

import ipaddress
import random
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

A, NS, PTR, AAAA, OPT, ANY = 1, 2, 12, 28, 41, 255
INTERNET = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
#: Seconds an answer may be kept, as Docker's resolver says.
TTL = 600
PLAIN_UDP = 512
MAX_MESSAGE = 65535

_HEADER = struct.Struct("!HHHHHH")
_QUESTION_END = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_QR, _TC, _RD, _RA, _AA = 0x8000, 0x0200, 0x0100, 0x0080, 0x0400


class Malformed(Exception):
    """Not a query that can be answered, or even parsed."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question; `name` is lower case without the final dot, `asked` its bytes as sent."""

    id: int
    flags: int
    name: str
    kind: int
    asked: bytes
    udp_size: int

    @property
    def opcode(self) -> int:
        """0 for a standard query."""
        return self.flags >> 11 & 15


def parse(data: bytes) -> Query:
    """Read a query.

    Raises:
        Malformed: too short, an answer instead of a query, not exactly one question, or a broken name.
    """
    if len(data) < _HEADER.size:
        raise Malformed
    identity, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & _QR or questions != 1:
        raise Malformed
    name, end = _name(data, _HEADER.size)
    if end + 4 > len(data):
        raise Malformed
    kind, family = _QUESTION_END.unpack_from(data, end)
    if family not in (INTERNET, ANY):
        raise Malformed
    end += 4
    size = PLAIN_UDP
    if not answers and not authorities and additional == 1:
        size = _edns_size(data, end)
    return Query(identity, flags, name.lower(), kind, data[_HEADER.size : end], size)


def _edns_size(data: bytes, at: int) -> int:
    """The asker's UDP buffer from the one additional record, if it is an OPT of the root name."""
    if len(data) < at + 11 or data[at] != 0:
        return PLAIN_UDP
    kind, size = _QUESTION_END.unpack_from(data, at + 1)
    return max(PLAIN_UDP, min(size, 4096)) if kind == OPT else PLAIN_UDP


def _name(data: bytes, at: int) -> tuple[str, int]:
    """(name, offset behind it)."""
    labels: list[str] = []
    end = -1
    limit = at
    total = 0
    while True:
        if at >= len(data):
            raise Malformed
        length = data[at]
        if length & 0xC0 == 0xC0:
            if at + 2 > len(data):
                raise Malformed
            target = (length & 0x3F) << 8 | data[at + 1]
            end = at + 2 if end < 0 else end
            if target >= limit:  # only backwards, so it ends
                raise Malformed
            at = limit = target
            continue
        if length & 0xC0:
            raise Malformed
        at += 1
        if not length:
            return ".".join(labels), end if end >= 0 else at
        total += length + 1
        if at + length > len(data) or total > 255:
            raise Malformed
        labels.append(data[at : at + length].decode("ascii", "replace"))
        at += length


def answer(
    query: Query,
    records: Iterable[tuple[int, bytes]] = (),
    *,
    code: int = NOERROR,
    limit: int = MAX_MESSAGE,
) -> bytes:
    """The reply to a query: (type, data) records under the name asked for, cut at `limit` bytes with TC set."""
    body = bytearray(query.asked)
    count = 0
    flags = _QR | (query.flags & (_RD | 0x7800)) | _RA | code
    for kind, data in records:
        record = b"\xc0\x0c" + _RECORD.pack(kind, INTERNET, TTL, len(data)) + data
        if _HEADER.size + len(body) + len(record) > limit:
            flags |= _TC
            break
        body += record
        count += 1
    return _HEADER.pack(query.id, flags, 1, count, 0, 0) + body


def malformed_answer(data: bytes) -> bytes | None:
    """FORMERR for what could not be parsed; None when it is no query at all and silence is right."""
    if len(data) < _HEADER.size:
        return None
    identity, flags = struct.unpack_from("!HH", data)
    if flags & _QR:
        return None
    return _HEADER.pack(identity, _QR | (flags & (_RD | 0x7800)) | FORMERR, 0, 0, 0, 0)


def encode_name(name: str) -> bytes:
    """A name as labels; over-long labels are cut (they are names of our own containers)."""
    out = bytearray()
    for label in name.split("."):
        part = label.encode("ascii", "replace")[:63]
        if part:
            out += bytes((len(part),)) + part
    return bytes(out) + b"\0"


def reverse_address(name: str) -> str | None:
    """ "2.0.17.172.in-addr.arpa" → "172.17.0.2"; None when it is no such name."""
    try:
        if name.endswith(".in-addr.arpa"):
            parts = name.removesuffix(".in-addr.arpa").split(".")
            return str(ipaddress.IPv4Address(".".join(reversed(parts))))
        if name.endswith(".ip6.arpa"):
            nibbles = name.removesuffix(".ip6.arpa").split(".")
            if len(nibbles) == 32 and all(len(nibble) == 1 for nibble in nibbles):
                return str(ipaddress.IPv6Address(int("".join(reversed(nibbles)), 16)))
    except ValueError:
        return None
    return None


@dataclass(slots=True)
class Zone:
    """The names of one network: name → endpoint id → (IPv4, IPv6), and address → main name."""

    network: str
    names: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)

    def add(self, endpoint_id: str, names: Iterable[str], ipv4: str, ipv6: str) -> None:
        """Make an endpoint known by its names; the first is what its addresses are called."""
        for position, name in enumerate(names):
            self.names.setdefault(name.lower(), {})[endpoint_id] = (ipv4, ipv6)
            if not position:
                self.addresses.update({address: name for address in (ipv4, ipv6) if address})

    def remove(self, endpoint_id: str) -> None:
        """Forget an endpoint."""
        for name, holders in list(self.names.items()):
            for address in holders.pop(endpoint_id, ()):
                self.addresses.pop(address, None)
            if not holders:
                del self.names[name]

    def find(self, name: str) -> list[tuple[str, str]] | None:
        """The addresses of a name, bare or with the network's name behind it; None when it is not known."""
        suffix = f".{self.network.lower()}"
        holders = self.names.get(name) or (self.names.get(name.removesuffix(suffix)) if name.endswith(suffix) else None)
        return list(holders.values()) if holders else None


def decide(query: Query, zones: Iterable[Zone], extra: Mapping[str, tuple[str, str]]) -> list[tuple[int, bytes]] | None:
    """The records that answer a query, [] for a known name without such a record, None when it is to be forwarded.

    Args:
        zones: of the networks the asker is on.
        extra: names only this asker uses (links) → (IPv4, IPv6).
    """
    if query.kind == PTR:
        address = reverse_address(query.name)
        if address is None:
            return None
        for zone in zones:
            if address in zone.addresses:
                return [(PTR, encode_name(f"{zone.addresses[address]}.{zone.network}"))]
        return None
    found: list[tuple[str, str]] = [extra[query.name]] if query.name in extra else []
    if not found:
        for zone in zones:
            known = zone.find(query.name)
            if known is not None:
                found = known
                break
    if not found:
        return None
    random.shuffle(found)  # several containers may share an alias: spread the load
    records = []
    for ipv4, ipv6 in found:
        if ipv4 and query.kind in (A, ANY):
            records.append((A, ipaddress.IPv4Address(ipv4).packed))
        if ipv6 and query.kind in (AAAA, ANY):
            records.append((AAAA, ipaddress.IPv6Address(ipv6).packed))
    return records
