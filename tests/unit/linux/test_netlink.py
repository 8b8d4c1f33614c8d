import os
import struct
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scow.linux import links, netlink
from scow.linux.namespaces import CLONE_NEWNET, new_network_namespace, unshare
from scow.linux.netlink import NetlinkError, NetlinkSocket, attribute, attributes, messages, nested, refusal


def test_attributes_round_trip() -> None:
    data = attribute(1, b"abc") + nested(2, attribute(3, b"inner"), netlink.number(4, 7)) + netlink.name(5, "eth0")
    found = attributes(data)
    assert len(data) % 4 == 0
    assert (found[1], found[5]) == (b"abc", b"eth0\0")
    assert attributes(found[2]) == {3: b"inner", 4: struct.pack("=I", 7)}


@given(st.binary(max_size=200))
def test_any_bytes_are_attributes_and_messages(data: bytes) -> None:
    attributes(data)
    assert sum(16 + len(body) for *_, body in messages(data)) <= len(data)
    refusal(0xFFFF, data)


def test_refusal_tells_the_kernels_sentence() -> None:
    echoed = struct.pack("=IHHII", 16, 16, 0, 1, 0)
    body = struct.pack("=i", -22) + echoed + netlink.name(1, "mtu too small")
    assert refusal(netlink.NLM_F_ACK_TLVS | netlink.NLM_F_CAPPED, body) == (22, "mtu too small")
    assert refusal(0, struct.pack("=i", 0) + echoed) == (0, "")
    error = NetlinkError(22, "mtu too small", "set mtu")
    assert (error.errno, error.strerror) == (22, "set mtu: mtu too small (Invalid argument)")


def alone(call: Any) -> None:
    """Run `call` in a thread with a network namespace of its own."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            unshare(CLONE_NEWNET)
            call()
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


@pytest.mark.root
def test_a_pair_a_bridge_addresses_and_routes() -> None:
    def scenario() -> None:
        inner_fd = new_network_namespace()
        with NetlinkSocket() as host, NetlinkSocket(inner_fd) as inner:
            host.request(links.bridge("br0", mac="02:00:00:00:00:01", mtu=1400), "bridge")
            bridge = links.find(host, "br0")
            assert bridge is not None
            assert (bridge.kind, bridge.mac, bridge.mtu, bridge.up) == ("bridge", "02:00:00:00:00:01", 1400, True)
            host.batch(
                [
                    links.veth("v0", "eth0", inner_fd, mtu=1400, mac="02:42:0a:00:00:02", master=bridge.index),
                    links.bridge_port("v0", hairpin=True, isolated=True),
                ],
                "veth",
            )
            v0, eth0 = links.find(host, "v0"), links.find(inner, "eth0")
            assert v0 is not None
            assert eth0 is not None
            assert (v0.master, v0.up, eth0.mac, eth0.mtu) == (bridge.index, True, "02:42:0a:00:00:02", 1400)
            inner.batch(
                [
                    links.link_up(1),
                    links.link_up(eth0.index),
                    links.address(eth0.index, "10.0.0.2", 24),
                    links.address(eth0.index, "fd00::2", 64),
                    links.default_route(eth0.index, "10.0.0.1"),
                    links.default_route(eth0.index, "fd00::1"),
                    links.route(eth0.index, "10.9.0.0", 16, "10.0.0.9"),
                ],
                "addresses",
            )
            mine = {(a.address, a.prefix) for a in links.addresses(inner) if a.index == eth0.index}
            assert {("10.0.0.2", 24), ("fd00::2", 64)} <= mine
            routes = {(r.destination, r.prefix, r.gateway) for r in links.routes(inner)}
            assert {("", 0, "10.0.0.1"), ("", 0, "fd00::1"), ("10.9.0.0", 16, "10.0.0.9")} <= routes
            inner.request(links.address_delete(eth0.index, "10.0.0.2", 24), "address")
            assert "10.0.0.2" not in {a.address for a in links.addresses(inner)}
            inner.request(links.default_route_delete(links.packed("::")[0]), "route")
            assert ("", 0, "fd00::1") not in {(r.destination, r.prefix, r.gateway) for r in links.routes(inner)}
            host.request(links.link_delete("br0"), "delete")
            assert links.find(host, "br0") is None
        os.close(inner_fd)

    alone(scenario)


@pytest.mark.root
def test_errors_name_the_step_and_the_rest_is_still_done() -> None:
    def scenario() -> None:
        with NetlinkSocket() as host:
            host.request(links.bridge("br0", mac="02:00:00:00:00:01", mtu=1500), "bridge")
            again = links.bridge("br0", mac="02:00:00:00:00:01", mtu=1500)
            with pytest.raises(NetlinkError, match="make two: File exists") as caught:
                host.batch([again, links.bridge("br1", mac="02:00:00:00:00:02", mtu=1500)], "make two")
            assert caught.value.errno == 17
            assert links.find(host, "br1") is not None
            index = getattr(links.find(host, "br0"), "index", 0)
            with pytest.raises(NetlinkError, match="mtu less than device minimum"):
                host.request(links.link_set(index, mtu=1), "set mtu")

    alone(scenario)


@pytest.mark.root
def test_large_batches_and_dumps() -> None:
    def scenario() -> None:
        with NetlinkSocket() as host:
            host.batch(
                [links.bridge(f"b{n}", mac=f"02:00:00:00:01:{n:02x}", mtu=1500) for n in range(150)], "many bridges"
            )
            assert sum(link.kind == "bridge" for link in links.links(host)) == 150

    alone(scenario)
