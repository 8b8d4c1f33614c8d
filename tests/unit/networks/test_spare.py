"""What is made ahead of starts: how many, when, and that nothing of it is left."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from scow.errors import System
from scow.linux import links
from scow.linux.netlink import NetlinkSocket
from scow.networks import spare as room
from scow.networks.endpoint import EndpointRequest
from scow.networks.spare import Ready, Spares


class Socket:
    def close(self) -> None:
        pass


class Maker:
    """Makes "namespaces" of /dev/null; refuses while `broken`."""

    def __init__(self) -> None:
        self.made: list[Ready] = []
        self.dropped: list[Ready] = []
        self.broken = False

    async def make(self) -> Ready:
        await asyncio.sleep(0)
        if self.broken:
            raise System("refused")
        self.made.append(Ready(os.open("/dev/null", os.O_RDONLY), Socket()))  # type: ignore[arg-type]
        return self.made[-1]

    def drop(self, ready: Ready) -> None:
        self.dropped.append(ready)
        ready.close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(room, "REFILL", 0)


async def settle() -> None:
    for _ in range(40):
        await asyncio.sleep(0)


def run(story: Callable[[Maker, Spares], Coroutine[Any, Any, None]], most: int = 4) -> Maker:
    maker = Maker()

    async def main() -> None:
        spares = Spares(maker.make, maker.drop, most)
        await story(maker, spares)
        await spares.close()
        await settle()

    asyncio.run(main())
    for ready in maker.made:
        if ready in maker.dropped:
            with pytest.raises(OSError):
                os.fstat(ready.fd)
        else:  # its taker's
            ready.close()
    return maker


def test_a_daemon_that_starts_nothing_makes_none() -> None:
    async def story(maker: Maker, spares: Spares) -> None:
        await settle()

    assert run(story).made == []


def test_one_is_there_for_who_was_announced() -> None:
    async def story(maker: Maker, spares: Spares) -> None:
        spares.expect()
        spares.expect()
        await settle()
        assert spares.take() is maker.made[0]
        await settle()
        assert len(spares) == 1

    maker = run(story)
    assert maker.dropped == [maker.made[1]]


def test_a_burst_raises_their_number_and_quiet_lets_it_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(maker: Maker, spares: Spares) -> None:
        lengths = []
        for _ in range(4):  # each takes one more than there are
            while spares.take() is not None:
                pass
            await settle()
            lengths.append(len(spares))
        assert lengths == [1, 2, 4, 4]
        for _ in range(3):
            spares._fewer()
        assert (len(spares), spares._quiet) == (1, None)  # and from now on no timer runs

    run(story)


def test_none_are_made_where_that_is_switched_off() -> None:
    async def story(maker: Maker, spares: Spares) -> None:
        spares.expect()
        assert spares.take() is None
        await settle()

    assert run(story, most=0).made == []


def test_a_refusal_is_for_the_start_that_needs_one() -> None:
    async def story(maker: Maker, spares: Spares) -> None:
        maker.broken = True
        assert spares.take() is None
        await settle()
        assert spares.take() is None
        maker.broken = False
        assert spares.take() is None
        await settle()
        assert spares.take() is not None

    run(story)


def test_one_in_the_making_goes_at_close() -> None:
    async def story(maker: Maker, spares: Spares) -> None:
        spares.expect()
        await asyncio.sleep(0)

    maker = run(story)
    assert maker.dropped == maker.made


# -- with real links --


def wants(name: str, **more: Any) -> EndpointRequest:
    return EndpointRequest(container_id=name * 8, name=name, **more)


async def started(networks: Any, name: str, **more: Any) -> tuple[Any, Any]:
    wishes = {"bridge": wants(name, **more)}
    sandbox = await networks.sandbox(name, wishes=wishes)
    return sandbox, await networks.connect(sandbox, "bridge", wishes["bridge"])


async def made(networks: Any, count: int = 1) -> None:
    while len(networks._spares) < count:
        await asyncio.sleep(0.002)


async def no_links(but: int) -> None:
    """Return once the host has no more than `but` links of containers."""
    with NetlinkSocket() as host:
        while sum(link.kind == "veth" and link.name.startswith("veth") for link in links.links(host)) > but:
            await asyncio.sleep(0.01)


@pytest.mark.root
def test_a_container_finds_its_endpoint(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        networks = host.networks()
        await networks.open(set())
        networks.expect({"bridge": wants("a")})
        await made(networks)
        status = networks.get("bridge").inspect()["Status"]["IPAM"]["Subnets"]["172.17.0.0/16"]
        assert status == {"IPsInUse": 3, "DynamicIPsAvailable": 65533}
        sent = []
        batch = NetlinkSocket.batch
        monkeypatch.setattr(NetlinkSocket, "batch", lambda *args: (sent.append(args), batch(*args))[1])
        monkeypatch.setattr(room, "REFILL", 60)
        sandbox, endpoint = await started(networks, "a")
        assert sent == []
        assert (endpoint.ipv4, endpoint.mac, endpoint.interface) == ("172.17.0.2", "02:42:ac:11:00:02", "eth0")
        assert (endpoint.name, endpoint.key, endpoint.container_id) == ("a", "a", "a" * 8)
        await host.serve(host.peer_fd, 80)
        assert await host.ask(sandbox.fd, "192.0.2.2", 80) == "192.0.2.1"
        sandbox.close()
        await networks.release("a")
        await networks.close()
        await no_links(0)

    host.run(scenario)


@pytest.mark.root
def test_wishes_are_not_met_by_what_was_made_for_nobody(host: Any) -> None:
    async def scenario() -> None:
        networks = host.networks()
        await networks.open(set())
        networks.expect({"bridge": wants("a")})
        await made(networks)
        sandbox, endpoint = await started(networks, "a", mac="02:00:00:00:00:77")
        assert (endpoint.mac, endpoint.ipv4) == ("02:00:00:00:00:77", "172.17.0.3")
        assert len(networks._spares) == 1
        sandbox.close()
        await networks.release("a")
        # Who was here before has its address again.
        sandbox, again = await started(networks, "a")
        assert again.ipv4 == endpoint.ipv4
        sandbox.close()
        await networks.close()

    host.run(scenario)


@pytest.mark.root
def test_addresses_that_run_short_are_given_up(host: Any) -> None:
    async def scenario() -> None:
        networks = host.networks(bip="10.9.0.1/28", spares=2)
        await networks.open(set())
        networks.expect({"bridge": wants("a")})
        await made(networks)
        boxes = []
        for number in range(13):
            sandbox, endpoint = await started(networks, f"c{number}")
            boxes.append((sandbox, endpoint.ipv4))
        assert len({address for _, address in boxes}) == 13
        with pytest.raises(System, match=r"no available IPv4 addresses on this network's address pools: bridge \("):
            await started(networks, "late")
        await networks.release("late")
        for sandbox, _ in boxes:
            sandbox.close()
        await networks.close()

    host.run(scenario)


@pytest.mark.root
def test_a_bridge_somebody_deleted_is_built_again(host: Any) -> None:
    async def scenario() -> None:
        networks = host.networks()
        await networks.open(set())
        networks.expect({"bridge": wants("a")})
        await made(networks)
        with NetlinkSocket() as kernel:
            kernel.request(links.link_delete("scow0"), "delete scow0")
        with pytest.raises(System):
            await started(networks, "a")
        await networks.release("a")
        sandbox, _ = await started(networks, "a")
        async with asyncio.timeout(20):
            while not await host.ping(sandbox.fd, "172.17.0.1"):
                pass  # a busy machine takes its time to bring a link up
        sandbox.close()
        await networks.close()

    host.run(scenario)


@pytest.mark.root
def test_a_sandbox_nobody_connected_gives_its_address_back(host: Any) -> None:
    async def scenario() -> None:
        networks = host.networks()
        await networks.open(set())
        networks.expect({"bridge": wants("a")})
        await made(networks)
        sandbox = await networks.sandbox("a", wishes={"bridge": wants("a")})
        sandbox.close()
        await networks.release("a")
        await networks.close()
        status = networks.get("bridge").inspect()["Status"]["IPAM"]["Subnets"]["172.17.0.0/16"]
        assert status["IPsInUse"] == 3
        await no_links(0)

    host.run(scenario)


@pytest.mark.root
def test_a_bridge_without_room_says_so(host: Any) -> None:
    async def scenario() -> None:
        networks = host.networks(spares=0)
        await networks.open(set())

        def fill() -> None:
            with NetlinkSocket() as kernel:
                bridge = links.find(kernel, "scow0")
                assert bridge is not None
                pairs = [
                    links.veth(f"x{n}", f"y{n}", host.peer_fd, mtu=1500, mac="02:00:00:00:00:09", master=bridge.index)
                    for n in range(1023)
                ]
                for begin in range(0, len(pairs), 32):
                    kernel.batch(pairs[begin : begin + 32], "links")

        await host.at(None, fill)
        with pytest.raises(System, match="network bridge is full: a Linux bridge has room for 1023 containers"):
            await started(networks, "a")
        await networks.release("a")
        await networks.close()

    host.run(scenario)
