import pytest

from scow.linux.namespaces import CLONE_NEWNET, unshare
from scow.linux.nftables import Nft, find_program, run_program
from scow.networks.firewall import (
    IPV4,
    IPV6,
    BridgeRules,
    PortRule,
    publish,
    removal,
    ruleset,
    sandbox_dns,
    withdraw,
)

BRIDGES = [
    BridgeRules("scow0", ("172.17.0.0/16",)),
    BridgeRules("br-0123456789ab", ("10.0.0.0/24",), internal=True, icc=False),
    BridgeRules("open0", ("10.1.0.0/24",), masquerade=False, open=True),
]
PORTS = [PortRule("tcp", "", 8080, "172.17.0.2", 80), PortRule("udp", "127.0.0.1", 53, "172.17.0.3", 53)]


def chain(text: str, name: str) -> list[str]:
    inside = text.split(f"  chain {name} {{\n", 1)[1].split("\n  }", 1)[0]
    return [line.strip() for line in inside.splitlines()]


def test_rules_of_a_bridge() -> None:
    text = ruleset("scow", IPV4, BRIDGES, PORTS, loopback=True)
    assert chain(text, "to_scow0") == [
        'iifname "scow0" accept',
        "ct state established,related accept",
        "ct status dnat accept",
        "drop",
    ]
    assert chain(text, "to_br-0123456789ab") == ["ct state established,related accept", "drop"]
    assert chain(text, "to_open0")[-1] == "accept"
    assert 'iifname "br-0123456789ab" oifname != "br-0123456789ab" drop' in chain(text, "forward")
    outgoing = chain(text, "outgoing")
    assert 'oifname != "scow0" ip saddr 172.17.0.0/16 masquerade' in outgoing
    assert not any("10.0.0.0/24 masquerade" in line or "10.1.0.0/24 masquerade" in line for line in outgoing)
    assert chain(text, "guard")[-1] == 'ip daddr 127.0.0.0/8 iifname != "lo" drop'
    assert text.startswith("table ip scow\ndelete table ip scow\n"), "replaced in one transaction"


def test_ports_are_elements() -> None:
    text = ruleset("scow", IPV4, [], PORTS, loopback=False)
    assert "elements = { tcp . 8080 : 172.17.0.2 . 80 }" in text
    assert "elements = { 127.0.0.1 . udp . 53 : 172.17.0.3 . 53 }" in text
    assert "ip daddr 127.0.0.0/8 return" in chain(text, "local")
    assert publish("scow", PORTS[:1]) == "add element ip scow published { tcp . 8080 : 172.17.0.2 . 80 }\n"
    assert withdraw("scow", PORTS[1:]) == "delete element ip scow published_at { 127.0.0.1 . udp . 53 }\n"
    assert publish("scow", [PortRule("tcp", "", 1, "fd00::2", 2)]).startswith("add element ip6 scow published ")


@pytest.mark.root
@pytest.mark.parametrize("family", [IPV4, IPV6])
def test_the_kernel_takes_every_rule(family: object) -> None:
    """Through the library and through the program: the same text, twice, so that replacing works too."""
    from threading import Thread

    failed: list[BaseException] = []

    def run() -> None:
        try:
            unshare(CLONE_NEWNET)
            if family is IPV4:
                text = ruleset("scow", IPV4, BRIDGES, PORTS, loopback=True)
            else:
                text = ruleset("scow", IPV6, [BridgeRules("scow0", ("fd00::/64",))], [], loopback=False)
            port = PortRule("tcp", "", 81, "172.17.0.2" if family is IPV4 else "fd00::2", 81)
            with Nft() as nft:
                for _ in range(2):
                    nft.run(text)
                nft.run(publish("scow", [port]))
                assert "tcp . 81 : " in nft.run("list ruleset")
                nft.run(withdraw("scow", [port]))
                assert "tcp . 81 : " not in nft.run("list ruleset")
                nft.run(sandbox_dns(1000, 1001, fresh=True))
                nft.run(sandbox_dns(1000, 1002, fresh=False))
                assert nft.run("list table ip scow_dns").count("dnat to") == 2
                status, output, error = run_program(find_program(), text.encode())
                assert (status, output, error) == (0, b"", b"")
                nft.run(removal("scow", family))  # type: ignore[arg-type]
                nft.run(removal("scow", family))  # type: ignore[arg-type]
                assert "scow {" not in nft.run("list ruleset")
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
