import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scow.errors import Forbidden, InvalidArgument, System
from scow.networks import ipam
from scow.networks.ipam import DEFAULT_POOLS, REST, Allocator, Pool, choose_subnet, complete, mac_from, parse_subnet


def net(text: str) -> Any:
    return ipaddress.ip_network(text)


def test_default_pools_are_carved_in_dockers_order() -> None:
    taken: list[Any] = []
    for _ in range(16):
        taken.append(choose_subnet(DEFAULT_POOLS, taken))
    assert [str(subnet) for subnet in taken[:5]] == [f"172.{n}.0.0/16" for n in range(17, 22)]
    assert str(taken[14]) == "172.31.0.0/16"
    assert str(taken[15]) == "192.168.0.0/20"


def test_subnets_avoid_the_routes_of_the_host() -> None:
    assert str(choose_subnet(DEFAULT_POOLS, [net("172.16.0.0/12")])) == "192.168.0.0/20"
    assert str(choose_subnet(DEFAULT_POOLS, [net("172.17.4.0/24"), net("0.0.0.0/0")])) == "172.18.0.0/16"


def test_exhausted_pools() -> None:
    with pytest.raises(InvalidArgument, match="all predefined address pools have been fully subnetted"):
        choose_subnet([Pool.parse("10.0.0.0/24", 25)], [net("10.0.0.0/25"), net("10.0.0.128/25")])


@pytest.mark.parametrize("size", [7, 31, 33])
def test_pool_that_cannot_be(size: int) -> None:
    with pytest.raises(InvalidArgument, match="invalid default address pool"):
        Pool.parse("10.0.0.0/8", size)


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(8, 30)), max_size=8))
def test_a_chosen_subnet_overlaps_nothing(blocks: list[tuple[int, int]]) -> None:
    taken = [ipaddress.ip_network((0x0A000000 | block << 16, prefix), strict=False) for block, prefix in blocks]
    try:
        chosen = choose_subnet([Pool.parse("10.0.0.0/8", 16)], taken)
    except InvalidArgument:
        assert all(
            any(ipaddress.ip_network((0x0A000000 | n << 16, 16)).overlaps(block) for block in taken) for n in range(256)
        )
    else:
        assert not any(chosen.overlaps(block) for block in taken)


def test_complete_chooses_the_first_address_as_gateway() -> None:
    assert str(complete("10.0.0.0/24", "", "", {}).gateway) == "10.0.0.1"
    assert str(complete("10.0.0.0/24", "", "10.0.0.64/26", {}).gateway) == "10.0.0.64"
    assert str(complete("10.0.0.0/24", "", "", {"a": "10.0.0.1"}).gateway) == "10.0.0.2"
    assert str(complete("10.0.0.9/24", "10.0.0.7", "", {}).subnet) == "10.0.0.0/24"


@pytest.mark.parametrize(
    ("subnet", "gateway", "ip_range", "aux", "text"),
    [
        ("10.0.0.0", "", "", {}, "invalid subnet"),
        ("10.0.0.0/33", "", "", {}, "invalid subnet"),
        ("10.0.0.0/31", "", "", {}, "use a /30 or larger"),
        ("10.0.0.0/24", "10.1.0.1", "", {}, "no matching subnet for gateway"),
        ("10.0.0.0/24", "x", "", {}, "invalid gateway"),
        ("10.0.0.0/24", "", "10.0.0.0/23", {}, "invalid ip-range"),
        ("10.0.0.0/24", "", "fd00::/64", {}, "invalid ip-range"),
        ("10.0.0.0/24", "", "", {"a": "10.9.0.1"}, "no matching subnet for aux-address"),
    ],
)
def test_configurations_that_cannot_be(
    subnet: str, gateway: str, ip_range: str, aux: dict[str, str], text: str
) -> None:
    with pytest.raises(InvalidArgument, match=text):
        complete(subnet, gateway, ip_range, aux)


def allocator(subnet: str = "10.0.0.0/29", **more: Any) -> Allocator:
    return Allocator(complete(subnet, more.get("gateway", ""), more.get("ip_range", ""), more.get("aux", {})), ": web")


def test_lowest_first_then_exhausted() -> None:
    addresses = allocator(aux={"printer": "10.0.0.3"})
    assert [str(addresses.allocate(owner, 0)) for owner in "abcd"] == ["10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
    assert addresses.free == 0
    with pytest.raises(System, match="no available IPv4 addresses on this network's address pools: web"):
        addresses.allocate("e", 0)


def test_a_released_address_rests_but_not_for_its_owner_or_in_need() -> None:
    addresses = allocator()
    first = addresses.allocate("a", 0)
    addresses.release(first, 10)
    assert str(addresses.allocate("b", 10.5)) == "10.0.0.3"
    assert addresses.allocate("a", 10.5) == first
    addresses.release(first, 20)
    assert addresses.allocate("c", 20 + REST + 0.1) == first
    for owner in "def":
        addresses.allocate(owner, 30)
    addresses.release(first, 40)
    assert addresses.allocate("g", 40) == first, "nothing else is left"


def test_wanted_addresses() -> None:
    addresses = allocator(ip_range="10.0.0.0/30")
    assert str(addresses.allocate("a", 0, ipaddress.ip_address("10.0.0.6"))) == "10.0.0.6", "outside the range is fine"
    for taken in ("10.0.0.6", "10.0.0.1", "10.0.0.0", "10.0.0.7"):
        with pytest.raises(Forbidden, match="Address already in use"):
            addresses.allocate("b", 0, ipaddress.ip_address(taken))
    with pytest.raises(InvalidArgument, match="no configured subnet contains IP address"):
        addresses.allocate("b", 0, ipaddress.ip_address("10.1.0.1"))


def test_gateway_cannot_be_given_back() -> None:
    addresses = allocator()
    addresses.release(addresses.config.gateway, 0)
    assert str(addresses.allocate("a", 100)) == "10.0.0.2"


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), max_size=60))
def test_no_address_is_given_twice(steps: list[tuple[str, bool]]) -> None:
    addresses = allocator("10.0.0.0/28")
    held: dict[str, Any] = {}
    for now, (owner, take) in enumerate(steps):
        if take and owner not in held:
            held[owner] = addresses.allocate(owner, now)
            assert held[owner] not in (addresses.config.gateway, addresses.config.subnet.network_address)
        elif not take and owner in held:
            addresses.release(held.pop(owner), now)
        assert len(set(held.values())) == len(held)
    assert addresses.free == 13 - len(held)


def test_ipv6() -> None:
    addresses = Allocator(complete(str(ipam.unique_local(bytes(range(1, 33)))), "", "", {}))
    assert str(addresses.config.subnet) == "fd01:203:405:607::/64"
    assert str(addresses.allocate("a", 0)) == "fd01:203:405:607::2"


def test_mac_follows_the_address() -> None:
    assert mac_from(ipaddress.ip_address("172.17.0.2")) == "02:42:ac:11:00:02"


def test_zone_ids_are_no_addresses() -> None:
    with pytest.raises(InvalidArgument):
        ipam.parse_address("fe80::1%eth0")
    assert parse_subnet("fd00::5/64").prefixlen == 64
