"""Two containers, a host and the outside world, with real links and rules."""

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from scow.api.filters import Filters
from scow.api.networks import Ipam, IpamConfig, NetworkCreate
from scow.errors import AlreadyExists, Forbidden, InvalidArgument, NoSuchNetwork, System
from scow.linux import links, nftables
from scow.linux.netlink import NetlinkSocket
from scow.networks.endpoint import EndpointRequest
from scow.networks.ports import PortRequest

if TYPE_CHECKING:
    from scow.networks.service import Networks

pytestmark = pytest.mark.root


def wants(name: str, *ports: PortRequest, **more: Any) -> EndpointRequest:
    return EndpointRequest(container_id=name * 8, name=name, ports=ports, **more)


def subnet(text: str, **more: str) -> Ipam:
    return Ipam(config=[IpamConfig(subnet=text, **more)])


def query(name: str, kind: int = 1) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


def resolve(name: str, kind: int = 1) -> tuple[int, list[bytes]]:
    """(code, last four bytes of each answer) from the embedded resolver."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(3)
        client.sendto(query(name, kind), ("127.0.0.11", 53))
        answer = client.recv(4096)
    code, count = answer[3] & 15, int.from_bytes(answer[6:8], "big")
    rest = answer[12 + len(query(name)) - 12 :]
    return code, [rest[12 + 16 * n : 16 + 16 * n] for n in range(count)] if kind == 1 else [rest]


def test_containers_reach_each_other_the_host_and_the_world(host: Any) -> None:
    async def scenario() -> None:
        networks: Networks = host.networks()
        await networks.open(set())
        one, two = await networks.sandbox("one"), await networks.sandbox("two")
        first = await networks.connect(one, "bridge", wants("one"))
        second = await networks.connect(two, "bridge", wants("two"))
        assert (first.ipv4, first.gateway, first.mac) == ("172.17.0.2", "172.17.0.1", "02:42:ac:11:00:02")
        await host.serve(one.fd, 80)
        await host.serve(host.peer_fd, 80)
        assert await host.ping(two.fd, first.ipv4)
        assert await host.ask(two.fd, first.ipv4, 80) == second.ipv4
        assert await host.ask(None, first.ipv4, 80) == "172.17.0.1"
        # The outside sees the host's address, and cannot come in by itself.
        assert await host.ask(two.fd, "192.0.2.2", 80) == "192.0.2.1"
        with NetlinkSocket(host.peer_fd) as peer:
            eth0 = links.find(peer, "eth0")
            assert eth0 is not None
            peer.request(links.route(eth0.index, "172.17.0.0", 16, "192.0.2.1"), "route")
        assert await host.ask(host.peer_fd, first.ipv4, 80) == "timed out"
        one.close()
        two.close()
        await networks.release("one")
        await networks.release("two")
        await networks.close()

    host.run(scenario)


def test_published_port_from_everywhere(host: Any) -> None:
    async def scenario() -> None:
        networks: Networks = host.networks()
        await networks.open(set())
        web, other = await networks.sandbox("web"), await networks.sandbox("other")
        ports = (PortRequest(80, "tcp", "", 8080), PortRequest(80, "udp", "", 8080))
        endpoint = await networks.connect(web, "bridge", wants("web", *ports))
        await networks.connect(other, "bridge", wants("other"))
        await networks.create(NetworkCreate(name="elsewhere"))
        stranger = await networks.sandbox("stranger")
        await networks.connect(stranger, "elsewhere", wants("stranger"))
        await host.serve(web.fd, 80)
        assert [(p.host_ip, p.host_port) for p in endpoint.ports] == [("0.0.0.0", 8080), ("::", 8080)] * 2
        for udp in (False, True):
            assert await host.ask(None, "127.0.0.1", 8080, udp=udp) == "172.17.0.1"
            assert await host.ask(None, "192.0.2.1", 8080, udp=udp) in ("192.0.2.1", "172.17.0.1")
            assert await host.ask(host.peer_fd, "192.0.2.1", 8080, udp=udp) == "192.0.2.2"
            assert await host.ask(other.fd, "172.17.0.1", 8080, udp=udp) == "172.17.0.1"
            assert await host.ask(web.fd, "172.17.0.1", 8080, udp=udp) == "172.17.0.1"
            assert await host.ask(stranger.fd, "172.18.0.1", 8080, udp=udp) != "timed out"
            assert await host.ask(None, "::1", 8080, udp=udp) == "172.17.0.1"  # carried by the proxy
        # Bridges are closed to each other but for what is published.
        assert await host.ask(stranger.fd, endpoint.ipv4, 80) == "timed out"
        await networks.release("web")
        assert await host.ask(None, "127.0.0.1", 8080) == "refused"
        assert await host.ask(host.peer_fd, "192.0.2.1", 8080) == "refused"
        for key in ("other", "stranger"):
            await networks.release(key)
        await networks.close()

    host.run(scenario)


def test_loopback_address_is_not_for_the_outside(host: Any) -> None:
    async def scenario() -> None:
        networks: Networks = host.networks()
        await networks.open(set())
        web = await networks.sandbox("web")
        endpoint = await networks.connect(web, "bridge", wants("web", PortRequest(80, "tcp", "127.0.0.1", 8080)))
        await host.serve(web.fd, 80)
        assert [(p.host_ip, p.host_port) for p in endpoint.ports] == [("127.0.0.1", 8080)]
        assert await host.ask(None, "127.0.0.1", 8080) == "172.17.0.1"
        assert await host.ask(host.peer_fd, "192.0.2.1", 8080) == "refused"
        # A neighbour that sends packets for 127.0.0.1 our way is not let in, although the kernel's own guard is off.
        with NetlinkSocket(host.peer_fd) as peer:
            eth0 = links.find(peer, "eth0")
            assert eth0 is not None
            peer.request((links.RTM_DELADDR, *links.address_delete(1, "127.0.0.1", 8)[1:]), "no loopback")
            peer.request(links.route(eth0.index, "127.0.0.1", 32, "192.0.2.1"), "route")
        assert await host.ask(host.peer_fd, "127.0.0.1", 8080) != "172.17.0.1"
        await networks.release("web")
        await networks.close()

    host.run(scenario)


def test_port_conflicts(host: Any) -> None:
    async def scenario() -> None:
        networks: Networks = host.networks()
        await networks.open(set())
        first, second = await networks.sandbox("first"), await networks.sandbox("second")
        await networks.connect(first, "bridge", wants("first", PortRequest(80, "tcp", "", 8080)))
        for taken in (PortRequest(81, "tcp", "", 8080), PortRequest(81, "tcp", "127.0.0.1", 8080)):
            with pytest.raises(
                System, match=r"Bind for (0\.0\.0\.0|127\.0\.0\.1):8080 failed: port is already allocated"
            ):
                await networks.connect(second, "bridge", wants("second", taken))
        with socket.create_server(("0.0.0.0", 9090)):
            text = r"failed to bind host port 0\.0\.0\.0:9090/tcp: address already in use"
            with pytest.raises(System, match=text):
                await networks.connect(second, "bridge", wants("second", PortRequest(80, "tcp", "", 9090)))
            # A range goes on to the next one.
            endpoint = await networks.connect(second, "bridge", wants("second", PortRequest(80, "tcp", "", 9090, 9095)))
        assert {p.host_port for p in endpoint.ports} == {9091}
        assert endpoint.ipv4 == "172.17.0.3", "the failed attempts gave their address back"
        await networks.release("second")
        third = await networks.sandbox("third")
        chosen = await networks.connect(third, "bridge", wants("third", PortRequest(80), PortRequest(81)))
        assert len({p.host_port for p in chosen.ports}) == 2
        assert all(p.host_port >= 32768 for p in chosen.ports)
        for key in ("first", "third"):
            await networks.release(key)
        await networks.close()

    host.run(scenario)


def test_without_nftables_the_proxy_serves_published_ports(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nftables, "_library", lambda: None)
    monkeypatch.setattr(nftables, "find_program", lambda: "")

    async def scenario() -> None:
        networks: Networks = host.networks()
        await networks.open(set())
        missing = networks.firewall_missing()
        assert missing is not None
        assert "install the package nftables" in missing
        await networks.create(NetworkCreate(name="net"))
        web, other = await networks.sandbox("web"), await networks.sandbox("other")
        await networks.connect(
            web, "net", wants("web", PortRequest(80, "tcp", "", 8080), PortRequest(80, "udp", "", 8080))
        )
        endpoint = await networks.connect(other, "net", wants("other"))
        await host.serve(web.fd, 80)
        for udp in (False, True):
            assert await host.ask(None, "127.0.0.1", 8080, udp=udp) == endpoint.gateway
            assert await host.ask(host.peer_fd, "192.0.2.1", 8080, udp=udp) == endpoint.gateway
        # Names work too, on port 53 itself.
        assert await host.at(other.fd, lambda: resolve("web")) == (0, [bytes([172, 18, 0, 2])])
        for key in ("web", "other"):
            await networks.release(key)
        await networks.close()

    host.run(scenario)


def test_internal_network_has_no_way_out(host: Any) -> None:
    async def scenario() -> None:
        networks: Networks = host.networks()
        await networks.open(set())
        await networks.create(NetworkCreate(name="inner", internal=True))
        one, two = await networks.sandbox("one"), await networks.sandbox("two")
        first = await networks.connect(one, "inner", wants("one", PortRequest(80, "tcp", "", 8080)))
        await networks.connect(two, "inner", wants("two"))
        assert first.ports == ()
        assert first.settings()["Gateway"] == ""
        await host.serve(one.fd, 80)
        await host.serve(host.peer_fd, 80)
        assert await host.ask(two.fd, first.ipv4, 80) != "timed out"
        assert "unreachable" in await host.ask(two.fd, "192.0.2.2", 80)
        # Not even with a route of its own.
        with NetlinkSocket(two.fd) as socket_:
            eth0 = links.find(socket_, "eth0")
            assert eth0 is not None
            socket_.request(links.default_route(eth0.index, "172.18.0.1"), "route")
        assert await host.ask(two.fd, "192.0.2.2", 80) == "timed out"
        assert (await host.at(two.fd, lambda: resolve("example.org")))[0] == 3
        for key in ("one", "two"):
            await networks.release(key)
        await networks.close()

    host.run(scenario)


def test_icc_off_keeps_neighbours_apart_but_not_from_published_ports(host: Any) -> None:
    async def scenario() -> None:
        networks: Networks = host.networks(icc=False)
        await networks.open(set())
        one, two = await networks.sandbox("one"), await networks.sandbox("two")
        first = await networks.connect(one, "bridge", wants("one", PortRequest(80, "tcp", "", 8080)))
        await networks.connect(two, "bridge", wants("two"))
        await host.serve(one.fd, 80)
        assert await host.ask(two.fd, first.ipv4, 80) == "timed out"
        assert await host.ask(two.fd, "172.17.0.1", 8080) == "172.17.0.1"
        for key in ("one", "two"):
            await networks.release(key)
        await networks.close()

    host.run(scenario)


def test_names_aliases_and_addresses_of_a_user_defined_network(host: Any) -> None:
    async def scenario() -> None:
        networks: Networks = host.networks()
        await networks.open(set())
        await networks.create(NetworkCreate(name="shop"))
        web, db = await networks.sandbox("web"), await networks.sandbox("db")
        await networks.connect(web, "shop", wants("web"))
        endpoint = await networks.connect(db, "shop", wants("db", aliases=("Store",), hostname="dbhost"))
        expected = (0, [bytes(map(int, endpoint.ipv4.split(".")))])
        for name in ("db", "DB", "store", "dbhost", ("db" * 8)[:12], "db.shop"):
            assert await host.at(web.fd, lambda name=name: resolve(name)) == expected
        assert (await host.at(web.fd, lambda: resolve("db", 28)))[0] == 0, "known, but no AAAA record"
        reverse = ".".join(reversed(endpoint.ipv4.split("."))) + ".in-addr.arpa"
        assert b"\x02db\x04shop\x00" in (await host.at(web.fd, lambda: resolve(reverse, 12)))[1][0]
        networks.rename("db", "base")
        assert await host.at(web.fd, lambda: resolve("base")) == expected

        def by_tcp() -> bytes:
            with socket.create_connection(("127.0.0.11", 53), timeout=2) as client:
                client.sendall(struct.pack("!H", len(query("base"))) + query("base"))
                return client.recv(4096)

        assert (await host.at(web.fd, by_tcp))[-4:] == expected[1][0]

        def own_server() -> None:
            socket.create_server(("0.0.0.0", 53)).close()

        await host.at(web.fd, own_server)  # port 53 is the container's
        for key in ("web", "db"):
            await networks.release(key)
        await networks.close()

    host.run(scenario)


def test_two_networks_and_the_default_route(host: Any) -> None:
    async def scenario() -> None:
        networks: Networks = host.networks()
        await networks.open(set())
        for name in ("alpha", "beta"):
            await networks.create(NetworkCreate(name=name))
        box = await networks.sandbox("box")

        def way_out() -> str:
            with NetlinkSocket(box.fd) as inner:
                return next((r.gateway for r in links.routes(inner) if not r.destination), "")

        beta = await networks.connect(box, "beta", wants("box"))
        assert await asyncio.to_thread(way_out) == beta.gateway
        alpha = await networks.connect(box, "alpha", wants("box"))
        assert (beta.interface, alpha.interface) == ("eth0", "eth1")
        assert await asyncio.to_thread(way_out) == alpha.gateway, "the first by name"
        with pytest.raises(Forbidden, match="already exists in network alpha"):
            await networks.connect(box, "alpha", wants("box"))
        await networks.disconnect("box", "alpha")
        assert await asyncio.to_thread(way_out) == beta.gateway
        with pytest.raises(Forbidden, match="is not connected to network alpha"):
            await networks.disconnect("box", "alpha")
        important = await networks.connect(box, "alpha", wants("box", gw_priority=5))
        assert await asyncio.to_thread(way_out) == important.gateway
        await networks.release("box")
        await networks.close()

    host.run(scenario)


def test_network_life(host: Any) -> None:
    async def scenario() -> None:
        networks: Networks = host.networks()
        await networks.open(set())
        made = await networks.create(
            NetworkCreate(
                name="web", ipam=subnet("10.55.0.0/24", gateway="10.55.0.254"), labels={"a": "1"}, options={"x": "y"}
            )
        )
        with pytest.raises(AlreadyExists, match="network with name web already exists"):
            await networks.create(NetworkCreate(name="web"))
        with pytest.raises(Forbidden, match="Pool overlaps with other one on this address space"):
            await networks.create(NetworkCreate(name="again", ipam=subnet("10.55.0.128/25")))
        box = await networks.sandbox("box")
        endpoint = await networks.connect(box, made.id[:10], wants("box", ipv4="10.55.0.77", mac="02:aa:BB:00:00:01"))
        assert (endpoint.ipv4, endpoint.prefix, endpoint.gateway, endpoint.mac) == (
            "10.55.0.77", 24, "10.55.0.254", "02:aa:bb:00:00:01"
        )  # fmt: skip
        inspected = networks.inspect(made)
        assert inspected["Containers"]["box" * 8]["IPv4Address"] == "10.55.0.77/24"
        assert inspected["IPAM"]["Config"] == [{"Subnet": "10.55.0.0/24", "Gateway": "10.55.0.254"}]
        with pytest.raises(Forbidden, match="network web has active endpoints"):
            await networks.remove("web")
        await networks.release("box")
        assert [n.name for n in networks.list(Filters({"label": ["a=1"]}))] == ["web"]
        assert [n.name for n in networks.list(Filters({"dangling": ["true"]}))] == ["web"]
        await networks.remove("web")
        with pytest.raises(NoSuchNetwork, match="network web not found"):
            networks.get("web")
        with NetlinkSocket() as socket_:
            assert links.find(socket_, made.bridge) is None
        with pytest.raises(Forbidden, match="bridge is a pre-defined network and cannot be removed"):
            await networks.remove("bridge")
        await networks.create(NetworkCreate(name="idle"))
        assert await networks.prune() == ["idle"]
        assert sorted(n.name for n in networks.list()) == ["bridge", "host", "none"]
        told = [event.action for event in host.bus.past(Filters({"type": ["network"]}), 0)]
        assert told == ["create", "connect", "disconnect", "destroy", "create", "destroy", "prune"]
        await networks.close()

    host.run(scenario)


def test_ipv6(host: Any) -> None:
    async def scenario() -> None:
        networks: Networks = host.networks()
        await networks.open(set())
        await networks.create(NetworkCreate(name="six", enable_ipv6=True, ipam=subnet("fd55::/64")))
        one, two = await networks.sandbox("one"), await networks.sandbox("two")
        first = await networks.connect(one, "six", wants("one", PortRequest(80, "tcp", "", 8080)))
        second = await networks.connect(two, "six", wants("two"))
        assert (first.ipv6, first.gateway6) == ("fd55::2", "fd55::1")
        assert first.ipv4
        await host.serve(one.fd, 80, "::")
        assert await host.ask(two.fd, first.ipv6, 80) == second.ipv6
        assert await host.ask(two.fd, "fd55::1", 8080) == "fd55::1"
        assert await host.ask(None, "::1", 8080) == "fd55::1"
        for key in ("one", "two"):
            await networks.release(key)
        await networks.close()

    host.run(scenario)


def test_none_and_host(host: Any) -> None:
    async def scenario() -> None:
        networks: Networks = host.networks()
        await networks.open(set())
        alone = await networks.sandbox("alone")
        endpoint = await networks.connect(alone, "none", wants("alone"))
        assert (endpoint.ipv4, endpoint.mac, endpoint.interface) == ("", "", "")
        with NetlinkSocket(alone.fd) as inner:
            assert [(link.name, link.up) for link in links.links(inner)] == [("lo", True)]
        with pytest.raises(Forbidden, match=r"private \(none\) mode"):
            await networks.connect(alone, "bridge", wants("alone"))
        shared = await networks.sandbox("shared", host=True)
        assert shared.fd is None
        await networks.connect(shared, "host", wants("shared"))
        assert list(networks.inspect(networks.get("host"))["Containers"]) == ["shared" * 8]
        for key in ("alone", "shared"):
            await networks.release(key)
        await networks.close()

    host.run(scenario)


def test_a_failed_connection_leaves_nothing(host: Any) -> None:
    async def scenario() -> None:
        networks: Networks = host.networks()
        await networks.open(set())
        box = await networks.sandbox("box")
        await networks.connect(box, "bridge", wants("box", driver_opts={"com.docker.network.endpoint.ifname": "web0"}))
        await networks.create(NetworkCreate(name="net"))
        with NetlinkSocket(box.fd) as inner:
            web0 = links.find(inner, "web0")
            assert web0 is not None
            inner.request(links.link_set(web0.index, rename="eth0", up=False), "take the name")
        with pytest.raises(System, match="File exists"):
            await networks.connect(box, "net", wants("box", PortRequest(80, "tcp", "", 8080)))
        assert networks.inspect(networks.get("net"))["Containers"] == {}
        with NetlinkSocket() as socket_:
            assert (
                len([link for link in links.links(socket_) if link.kind == "veth"]) == 2
            )  # the outside's and the first
        socket.create_server(("0.0.0.0", 8080)).close()
        await networks.release("box")
        await networks.close()

    host.run(scenario)


CHILD = """
import asyncio, json, os, signal, socket, sys
from pathlib import Path
sys.path[:0] = json.loads(sys.argv[2])
from scow.api.networks import NetworkCreate
from scow.events import Bus
from scow.linux.namespaces import CLONE_NEWNET, setns
from scow.networks.config import NetworkConfig
from scow.networks.endpoint import EndpointRequest
from scow.networks.ports import PortRequest
from scow.networks.service import Networks

def container(fd, port):
    pid = os.fork()
    if pid:
        return pid
    setns(fd, CLONE_NEWNET)
    os.closerange(3, 1000)
    server = socket.create_server(("0.0.0.0", port))
    os.close(1)
    while True:
        connection, peer = server.accept()
        connection.sendall(peer[0].encode())
        connection.close()

async def main():
    root = Path(sys.argv[1])
    networks = Networks(root / "data", root / "run", NetworkConfig(), Bus())
    await networks.open(set())
    await networks.create(NetworkCreate(name="net"))
    found = {}
    for key in ("lives", "dies"):
        box = await networks.sandbox(key)
        ports = (PortRequest(80, "tcp", "", 8080 + len(found)),)
        endpoint = await networks.connect(box, "net", EndpointRequest(key * 4, key, ports=ports))
        found[key] = {"pid": container(box.fd, 80), "ip": endpoint.ipv4, "link": endpoint.host_interface}
        box.close()
    print(json.dumps(found), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_kill_and_reopen(host: Any) -> None:
    async def scenario() -> None:
        command = [sys.executable, "-c", CHILD, str(host.root), json.dumps(sys.path)]
        child = await asyncio.to_thread(subprocess.Popen, command, stdout=subprocess.PIPE)
        assert child.stdout is not None
        line = await asyncio.to_thread(child.stdout.readline)
        found = json.loads(line)
        child.kill()
        child.wait()
        child.stdout.close()
        os.kill(found["dies"]["pid"], signal.SIGKILL)
        try:
            networks: Networks = host.networks()
            await networks.open({"lives"})
            endpoint = networks.endpoints("lives")["net"]
            assert endpoint.ipv4 == found["lives"]["ip"]
            assert await host.ask(None, "127.0.0.1", 8080) == endpoint.gateway
            assert await host.ask(host.peer_fd, "192.0.2.1", 8080) == "192.0.2.2"
            assert await host.ask(None, "::1", 8080) == endpoint.gateway, "the proxy serves again"
            assert await host.ask(None, "127.0.0.1", 8081) == "refused"
            with NetlinkSocket() as socket_:
                names = {link.name for link in links.links(socket_)}
            assert found["lives"]["link"] in names
            assert found["dies"]["link"] not in names
            # Its address is taken, the dead one's is free, and names are answered again once it is adopted.
            box = await networks.sandbox("new")
            fresh = await networks.connect(box, "net", wants("new"))
            assert fresh.ipv4 == found["dies"]["ip"]
            adopted = await networks.adopt("lives", found["lives"]["pid"])
            answer = await host.at(adopted.fd, lambda: resolve("new"))
            assert answer == (0, [bytes(map(int, fresh.ipv4.split(".")))])
            with pytest.raises(System, match="port is already allocated"):
                await networks.connect(box, "bridge", wants("new", PortRequest(80, "tcp", "", 8080)))
            for key in ("new", "lives"):
                await networks.release(key)
            assert os.listdir(host.root / "run" / "networks") == []
            await networks.close()
        finally:
            os.kill(found["lives"]["pid"], signal.SIGKILL)

    host.run(scenario)


def test_bridge_settings_change_with_the_configuration(host: Any) -> None:
    async def scenario() -> None:
        first: Networks = host.networks()
        await first.open(set())
        before = first.get("bridge")
        await first.close()
        second: Networks = host.networks(bip="10.99.0.1/24")
        await second.open(set())
        after = second.get("bridge")
        assert (before.id, str(after.subnets[0].subnet)) == (after.id, "10.99.0.0/24")
        with NetlinkSocket() as socket_:
            scow0 = links.find(socket_, "scow0")
            assert scow0 is not None
            mine = [a.address for a in links.addresses(socket_, socket.AF_INET) if a.index == scow0.index]
        assert mine == ["10.99.0.1"]
        await second.close()

    host.run(scenario)


def test_wishes_that_cannot_be_met(host: Any) -> None:
    async def scenario() -> None:
        networks: Networks = host.networks()
        await networks.open(set())
        await networks.create(NetworkCreate(name="free"))
        await networks.create(NetworkCreate(name="fixed", ipam=subnet("10.66.0.0/29")))
        box = await networks.sandbox("box")
        for network, request, text in (
            ("bridge", wants("box", ipv4="172.17.0.9"), "supported on user defined networks only"),
            ("free", wants("box", ipv4="172.18.0.9"), "networks with user configured subnets"),
            ("fixed", wants("box", ipv4="10.67.0.9"), "no configured subnet"),
            ("fixed", wants("box", mac="zz"), "invalid MAC address"),
            ("bridge", wants("box", aliases=("x",)), "only supported for user-defined networks"),
        ):
            with pytest.raises(InvalidArgument, match=text):
                await networks.connect(box, network, request)
        for number in range(5):
            other = await networks.sandbox(f"c{number}")
            await networks.connect(other, "fixed", wants(f"c{number}"))
        with pytest.raises(System, match="no available IPv4 addresses on this network's address pools: fixed"):
            await networks.connect(box, "fixed", wants("box"))
        for number in range(5):
            await networks.release(f"c{number}")
        await networks.release("box")
        await networks.close()

    host.run(scenario)


def test_a_connection_without_ports_is_two_messages_and_no_rules(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a start pays for: the pair with its bridge in one message, address and route in another."""
    sent: list[int] = []
    rules: list[str] = []

    async def scenario() -> None:
        networks: Networks = host.networks(spares=0)
        await networks.open(set())
        try:
            box = await networks.sandbox("c")
            batch, run = NetlinkSocket.batch, nftables.Nft.run

            def counted(self: NetlinkSocket, requests: Any, what: str) -> None:
                sent.append(len(requests))
                batch(self, requests, what)

            def noted(self: nftables.Nft, text: str) -> None:
                rules.append(text)
                run(self, text)

            monkeypatch.setattr(NetlinkSocket, "batch", counted)
            monkeypatch.setattr(nftables.Nft, "run", noted)
            await networks.connect(box, "bridge", wants("c"))
            assert (len(sent), rules) == (2, [])
            await networks.release("c")
            assert (len(sent), rules) == (2, []), "the link goes with its namespace: deleting it takes 20 ms"
        finally:
            await networks.close()

    host.run(scenario)
