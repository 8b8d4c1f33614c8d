import pytest

from scow.errors import InvalidArgument
from scow.networks.hosts import hosts_file, parse_extra_host, parse_resolv_conf, resolv_conf, upstream_servers

HOST = """# made by somebody
nameserver 127.0.0.53
nameserver 10.0.0.1   # the real one
nameserver fd00::1
nameserver nonsense
search old.example
search corp.example example.org
options edns0 trust-ad
"""


def test_default_bridge_leaves_out_what_a_container_cannot_reach() -> None:
    assert resolv_conf(HOST) == b"nameserver 10.0.0.1\nsearch corp.example example.org\noptions edns0 trust-ad\n"
    assert b"fd00::1" in resolv_conf(HOST, ipv6=True)
    assert resolv_conf("nameserver 127.0.0.1\n") == b"nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
    assert b"127.0.0.53" in resolv_conf(HOST, shared=True)


def test_settings_of_the_container_win() -> None:
    assert resolv_conf(HOST, dns=["9.9.9.9"], search=["."], options=["ndots:2"]) == (
        b"nameserver 9.9.9.9\noptions ndots:2\n"
    )


def test_user_defined_network_asks_the_embedded_resolver() -> None:
    assert resolv_conf(HOST, embedded=True) == (
        b"nameserver 127.0.0.11\nsearch corp.example example.org\noptions edns0 trust-ad ndots:0\n"
    )
    assert b"ndots:5" in resolv_conf(HOST, embedded=True, options=["ndots:5"])
    assert b"ndots:0" not in resolv_conf(HOST, embedded=True, options=["ndots:5"])
    assert upstream_servers(HOST, ()) == ("127.0.0.53", "10.0.0.1", "fd00::1")


def test_hostile_resolv_conf() -> None:
    assert parse_resolv_conf("nameserver\n\0\nnameserver 1.2.3.4.5\n;nameserver 1.1.1.1\n").servers == ()
    assert len(parse_resolv_conf("nameserver 1.1.1.1\n" * 100_000).servers) < 5000


def test_hosts_file() -> None:
    text = hosts_file(
        "web", "example.org", addresses=["172.17.0.2", "fd00::2"],
        extra_hosts=["db:10.0.0.5", "gate=host-gateway", "six:[fd00::9]"], host_gateway=["172.17.0.1"],
    ).decode()  # fmt: skip
    assert text.startswith("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
    assert text.endswith(
        "10.0.0.5\tdb\n172.17.0.1\tgate\nfd00::9\tsix\n172.17.0.2\tweb.example.org web\nfd00::2\tweb.example.org web\n"
    )
    assert hosts_file("web", ipv6=False) == b"127.0.0.1\tlocalhost\n"


@pytest.mark.parametrize("item", ["", "name", ":1.2.3.4", "a b:1.2.3.4", "a\nb:1.2.3.4"])
def test_malformed_extra_hosts(item: str) -> None:
    with pytest.raises(InvalidArgument, match="bad format for add-host"):
        parse_extra_host(item)


def test_extra_host_addresses() -> None:
    assert parse_extra_host("v6:fd00::1") == ("v6", "fd00::1")
    with pytest.raises(InvalidArgument, match='invalid IP address in add-host: "nowhere"'):
        parse_extra_host("db:nowhere")
    with pytest.raises(InvalidArgument, match="host-gateway"):
        hosts_file("web", extra_hosts=["h:host-gateway"])
