from typing import Any

import pytest

from scow.errors import InvalidArgument, System, Unsupported
from scow.networks.ports import Claims, PortRequest, candidates, host_addresses, parse_requests


def test_requests() -> None:
    assert parse_requests({"80/tcp": [("", "8080")], "53/udp": [("127.0.0.1", "")], "90": None}) == (
        PortRequest(80, "tcp", "", 8080),
        PortRequest(53, "udp", "127.0.0.1", 0),
        PortRequest(90, "tcp"),
    )
    assert parse_requests({"80/TCP": [("", "8000-8005")]}) == (PortRequest(80, "tcp", "", 8000, 8005),)
    assert [(r.container_port, r.host_port) for r in parse_requests({"80-82/tcp": [("", "8080-8082")]})] == [
        (80, 8080), (81, 8081), (82, 8082),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("bindings", "text"),
    [
        ({"99999/tcp": None}, "invalid container port"),
        ({"x/tcp": None}, "invalid container port"),
        ({"82-80/tcp": None}, "the range is backwards"),
        ({"80/tcp": [("", "-1")]}, "invalid host port"),
        ({"80/tcp": [("", "٣")]}, "invalid host port"),
        ({"80/tcp": [("1.2.3", "80")]}, "invalid IP address: 1.2.3"),
        ({"80/icmp": None}, "invalid proto: icmp"),
        ({"80-82/tcp": [("", "1-2")]}, "invalid ranges specified"),
    ],
)
def test_hostile_requests(bindings: Any, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        parse_requests(bindings)


def test_sctp_is_refused_clearly() -> None:
    with pytest.raises(Unsupported, match="sctp"):
        parse_requests({"80/sctp": None})


def test_host_addresses() -> None:
    assert host_addresses(PortRequest(80), "0.0.0.0") == ("0.0.0.0", "::")
    assert host_addresses(PortRequest(80), "10.0.0.1") == ("10.0.0.1",)
    assert host_addresses(PortRequest(80, host_ip="0.0.0.0"), "10.0.0.1") == ("0.0.0.0",)
    assert host_addresses(PortRequest(80, host_ip="[::1]"), "") == ("::1",)


def test_candidates_go_round_once() -> None:
    assert list(candidates(PortRequest(80), (100, 104), 103)) == [103, 104, 100, 101, 102]
    assert list(candidates(PortRequest(80, host_port=5, host_port_end=7), (100, 104), 100)) == [5, 6, 7]


def test_claims() -> None:
    claims = Claims()
    claims.claim("tcp", "0.0.0.0", 80, "a")
    claims.claim("tcp", "::", 80, "a")
    claims.claim("udp", "0.0.0.0", 80, "a")
    claims.claim("tcp", "127.0.0.1", 81, "b")
    for ip, port, shown in (("0.0.0.0", 80, "0.0.0.0:80"), ("10.0.0.1", 80, "10.0.0.1:80"), ("::1", 80, r"\[::1\]:80")):
        with pytest.raises(System, match=f"Bind for {shown} failed: port is already allocated"):
            claims.claim("tcp", ip, port, "c")
    with pytest.raises(System):
        claims.claim("tcp", "0.0.0.0", 81, "c")
    claims.claim("tcp", "127.0.0.2", 81, "c")
    claims.claim("tcp", "::", 81, "c")
    claims.release("tcp", "0.0.0.0", 80)
    claims.release("tcp", "0.0.0.0", 80)
    claims.claim("tcp", "0.0.0.0", 80, "c")
