"""Which addresses a network may use, and who has which: pure, no I/O.

`choose_subnet` carves the next free subnet out of the default pools; `Allocator` hands out the addresses of one subnet.
An address given back rests for a moment before somebody else gets it: the link of the container that had it disappears
some 30 ms after the container does, and until then still answers ARP. Its own former owner gets it back at once.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from scow.errors import Forbidden, InvalidArgument, System

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Seconds an address rests after its release. The kernel drops a dead namespace's links within 0.1 s unless very busy.
REST = 2.0


@dataclass(frozen=True, slots=True)
class Pool:
    """A range and the prefix length of the subnets carved out of it."""

    base: IPNetwork
    size: int

    @classmethod
    def parse(cls, base: str, size: int) -> "Pool":
        """A pool from its configuration: ("172.17.0.0/16", 16).

        Raises:
            InvalidArgument: no network, or a size it cannot hold.
        """
        network = parse_subnet(base)
        if not network.prefixlen <= size <= network.max_prefixlen - 2:
            raise InvalidArgument(f"invalid default address pool {base}: subnets of size /{size} do not fit into it")
        return cls(network, size)


#: Docker's default pools, in order.
DEFAULT_POOLS: tuple[Pool, ...] = (
    *(Pool(ipaddress.IPv4Network(f"172.{second}.0.0/16"), 16) for second in (17, 18, 19)),
    *(Pool(ipaddress.IPv4Network(f"172.{second}.0.0/14"), 16) for second in (20, 24, 28)),
    Pool(ipaddress.IPv4Network("192.168.0.0/16"), 20),
)


@dataclass(frozen=True, slots=True)
class Subnet:
    """One IPAM configuration of a network, complete."""

    subnet: IPNetwork
    gateway: IPAddress
    ip_range: IPNetwork | None = None
    auxiliary: dict[str, IPAddress] = field(default_factory=dict)


def parse_subnet(text: str) -> IPNetwork:
    """A network in CIDR form; host bits are allowed and dropped, as Docker does.

    Raises:
        InvalidArgument: not an address with a prefix length.
    """
    try:
        if "/" not in text:
            raise ValueError(text)
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise InvalidArgument(f"invalid subnet {text!r}: expected one like 172.30.0.0/16") from None


def parse_address(text: str, what: str = "address") -> IPAddress:
    """An address.

    Raises:
        InvalidArgument: not an IPv4 or IPv6 address.
    """
    try:
        if "%" in text:
            raise ValueError(text)
        return ipaddress.ip_address(text)
    except ValueError:
        raise InvalidArgument(f"invalid {what} {text!r}: expected an IP address") from None


def overlaps(network: IPNetwork, taken: Iterable[IPNetwork]) -> bool:
    """Whether `network` shares an address with one of `taken`; the default route shares none."""
    return any(other.prefixlen and other.version == network.version and network.overlaps(other) for other in taken)


def choose_subnet(pools: Sequence[Pool], taken: Sequence[IPNetwork], version: int = 4) -> IPNetwork:
    """The first subnet of the pools that overlaps nothing in `taken` (networks, and routes of the host).

    Raises:
        InvalidArgument: there is none left.
    """
    for pool in pools:
        if pool.base.version != version:
            continue
        step = 1 << (pool.base.max_prefixlen - pool.size)
        at = int(pool.base.network_address)
        end = int(pool.base.broadcast_address)
        while at <= end:
            candidate = type(pool.base)((at, pool.size))
            blocker = next(
                (o for o in taken if o.version == version and o.prefixlen and candidate.overlaps(o)),
                None,
            )
            if blocker is None:
                return candidate
            # Jump past the blocker: a /8 route on the host must not cost a thousand steps per subnet.
            past = int(blocker.broadcast_address) + 1
            at = max(at + step, (past + step - 1) // step * step)
    raise InvalidArgument("all predefined address pools have been fully subnetted")


def unique_local(identity: bytes) -> ipaddress.IPv6Network:
    """The /64 a network uses when IPv6 is enabled without a subnet: fd00::/8 and 56 bits of its id (RFC 4193)."""
    return ipaddress.IPv6Network((b"\xfd" + identity[:7] + bytes(8), 64))


def complete(subnet: str, gateway: str, ip_range: str, auxiliary: dict[str, str]) -> Subnet:
    """Check one IPAM configuration and fill in the gateway (the first address of the range, or of the subnet).

    Raises:
        InvalidArgument: something lies outside the subnet.
    """
    network = parse_subnet(subnet)
    if network.num_addresses < 4:
        raise InvalidArgument(f"invalid subnet {network}: use a /30 or larger")
    within = None
    if ip_range:
        within = parse_subnet(ip_range)
        if within.version != network.version or not (
            within.network_address in network and within.broadcast_address in network
        ):
            raise InvalidArgument(f"invalid ip-range {ip_range}: it is not inside the subnet {network}")
    extra = {}
    for name, text in auxiliary.items():
        extra[name] = parse_address(text, "auxiliary address")
        if extra[name] not in network:
            raise InvalidArgument(f"no matching subnet for aux-address {text}")
    if gateway:
        way = parse_address(gateway.partition("/")[0], "gateway")
        if way not in network:
            raise InvalidArgument(f"no matching subnet for gateway {gateway}")
        return Subnet(network, way, within, extra)
    taken = set(extra.values())
    start = within if within is not None else network
    for offset in range(start.num_addresses):
        way = start.network_address + offset
        if way not in taken and way not in (network.network_address, network.broadcast_address):
            return Subnet(network, way, within, extra)
    raise InvalidArgument(f"invalid IPAM configuration: no address is left in {start} for the gateway")


def mac_from(address: IPAddress) -> str:
    """The MAC that goes with an address: 02:42 and the last four bytes of it, so that ARP caches stay right."""
    return (b"\x02\x42" + address.packed[-4:]).hex(":")


#: Owner of addresses that are taken ahead, for whoever comes first; see `Allocator.hand_over`.
SPARE = "nobody"


class Allocator:
    """The addresses of one subnet: who has which. Not thread-safe; the loop owns it.

    Inside, addresses are their numbers: hundreds are looked at when many have just been given back.
    """

    def __init__(self, config: Subnet, label: str = "") -> None:
        self.config = config
        self._label = label
        self._used: dict[int, str] = {int(config.gateway): "gateway"}
        for name, address in config.auxiliary.items():
            self._used.setdefault(int(address), f"aux {name}")
        self._kept = frozenset(self._used)
        self._resting: dict[int, float] = {}
        self._last: dict[str, int] = {}
        span = config.ip_range if config.ip_range is not None else config.subnet
        self._first = int(span.network_address)
        self._end = int(span.broadcast_address)
        self._version6 = config.subnet.version == 6
        if self._first == int(config.subnet.network_address):
            self._first += 1
        if self._end == int(config.subnet.broadcast_address) and not self._version6:
            self._end -= 1
        self._low = self._first
        self._spare = 0

    @property
    def in_use(self) -> int:
        """Addresses that cannot be handed out: given, gateway, auxiliary, and the subnet's own two."""
        return len(self._used) - self._spare + (1 if self._version6 else 2)

    @property
    def free(self) -> int:
        """Addresses of the range that can still be handed out."""
        taken = sum(1 for address in self._used if self._first <= address <= self._end)
        return max(0, self._end - self._first + 1 - taken + self._spare)

    def allocate(self, owner: str, now: float, wanted: IPAddress | None = None) -> IPAddress:
        """Give `owner` an address: the wanted one, the one it had last, or the lowest free one.

        Args:
            owner: `SPARE` takes one ahead.
            now: monotonic seconds.

        Raises:
            Forbidden: the wanted address is in use or not of this subnet.
            System: none is left.
        """
        if wanted is not None:
            return self.reserve(owner, wanted)
        self._wake(now)
        last = self._last.get(owner)
        if last is not None and last not in self._used:
            return self._give(last, owner)
        found = self._lowest(skip_resting=True)
        if found is None:
            found = self._lowest(skip_resting=False)
        if found is None:
            version = 6 if self._version6 else 4
            raise System(f"no available IPv{version} addresses on this network's address pools{self._label}")
        return self._give(found, owner)

    def reserve(self, owner: str, address: IPAddress) -> IPAddress:
        """Give `owner` exactly this address, whether or not it is in the range."""
        if address not in self.config.subnet:
            raise InvalidArgument(f"no configured subnet contains IP address {address}")
        edges = {self.config.subnet.network_address}
        if not self._version6:
            edges.add(self.config.subnet.broadcast_address)
        if int(address) in self._used or address in edges:
            raise Forbidden(f"Address already in use: {address}, choose another")
        return self._give(int(address), owner)

    def hand_over(self, address: IPAddress, owner: str) -> None:
        """Make an address that was taken ahead `owner`'s; any other is left alone."""
        if self._used.get(int(address)) == SPARE:
            self._used[int(address)] = owner
            self._spare -= 1

    def release(self, address: IPAddress, now: float) -> None:
        """Take an address back; one that was not given is ignored."""
        number = int(address)
        if number in self._kept:
            return
        owner = self._used.pop(number, None)
        if owner is None:
            return
        self._resting[number] = now + REST
        if owner == SPARE:
            self._spare -= 1
        else:
            self._last[owner] = number
        self._low = min(self._low, max(number, self._first))

    def remembers(self, owner: str) -> bool:
        """Whether the address that `owner` had last is there for it."""
        last = self._last.get(owner)
        return last is not None and last not in self._used

    def forget(self, owner: str) -> None:
        """The owner is gone for good: it has no claim to its last address any more."""
        self._last.pop(owner, None)

    def _give(self, number: int, owner: str) -> IPAddress:
        self._used[number] = owner
        self._resting.pop(number, None)
        if owner == SPARE:
            self._spare += 1
        return type(self.config.subnet.network_address)(number)

    def _wake(self, now: float) -> None:
        while self._resting:
            number = next(iter(self._resting))
            if self._resting[number] > now:
                break  # in order of release
            del self._resting[number]
        while len(self._last) > 4096:
            self._last.pop(next(iter(self._last)))

    def _lowest(self, *, skip_resting: bool) -> int | None:
        low_is_full = True
        for number in range(self._low, self._end + 1):
            if number not in self._used:
                if not skip_resting or number not in self._resting:
                    return number
                low_is_full = False
            if low_is_full:
                self._low = number + 1
        return None
