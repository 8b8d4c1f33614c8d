"""The Network and Volume operations, as requests and answers; the networks are real, their kernel is not."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scow.daemon.routes import networks, volumes
from scow.daemon.status import answer_to
from scow.events import Bus
from scow.networks.apply import Kernel
from scow.networks.config import NetworkConfig
from scow.networks.service import Networks
from scow.volumes.service import Volumes
from scow.web.request import Query, Request, replayed
from scow.web.router import Routes


class Calls:
    """What the containers room was asked."""

    def __init__(self) -> None:
        self.made: list[tuple[Any, ...]] = []

    async def connect_network(self, *call: Any) -> None:
        self.made.append(("connect", *call))

    async def disconnect_network(self, *call: Any, force: bool) -> None:
        self.made.append(("disconnect", *call, force))


class World:
    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def nothing(self: Kernel, call: Any) -> Any:
            name = getattr(call, "__qualname__", "")
            return ([], 0) if "look" in name else None

        monkeypatch.setattr(Kernel, "run", nothing)
        self.calls = Calls()
        self.engine = SimpleNamespace(
            networks=Networks(root / "networks", root / "run", NetworkConfig(ip_forward=False), Bus()),
            volumes=Volumes(root / "volumes"),
            containers=self.calls,
        )
        self.routes = Routes()
        self.routes.merge(networks.routes)
        self.routes.merge(volumes.routes)

    async def ask(
        self, method: str, path: str, body: Any = None, version: tuple[int, int] = (1, 55), **query: str
    ) -> tuple[int, Any]:
        try:
            handler, parameters = self.routes.match(method, path)
            request = Request(
                method,
                path,
                parameters,
                Query({key: [value] for key, value in query.items()}),
                {"content-type": "application/json"},
                version,
                source=replayed([json.dumps(body).encode()] if body is not None else []),
            )
            response = await handler(self.engine, request)
            assert isinstance(response.body, bytes)
            return response.status, json.loads(response.body) if response.body else None
        except Exception as error:
            status, data = answer_to(error)
            return status, json.loads(data)["message"]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_networks(world: World) -> None:
    async def scenario() -> None:
        await world.engine.networks.open(set())
        assert [n["Name"] for n in (await world.ask("GET", "/networks"))[1]].count("bridge") == 1
        status, made = await world.ask("POST", "/networks/create", {"Name": "web", "Labels": {"a": "1"}})
        assert (status, made["Warning"]) == (201, "")
        status, found = await world.ask("GET", "/networks/web")
        assert (status, found["Id"], found["Driver"], found["Scope"]) == (200, made["Id"], "bridge", "local")
        assert found["IPAM"]["Config"] == [{"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}]
        assert found["Containers"] == {}
        assert found["Status"]["IPAM"]["Subnets"]["172.18.0.0/16"]["IPsInUse"] == 3
        assert "Status" not in (await world.ask("GET", "/networks/web", version=(1, 51)))[1]
        assert "Containers" not in (await world.ask("GET", "/networks"))[1][0]
        assert (await world.ask("DELETE", "/networks/web"))[0] == 204
        assert await world.ask("GET", "/networks/web") == (404, "network web not found")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({}, 400, "name is empty"),
        ({"Name": "a/b"}, 400, "invalid network name"),
        ({"Name": "bridge"}, 403, "operation is not permitted on predefined bridge network"),
        ({"Name": "twice"}, 409, "network with name twice already exists"),
        ({"Name": "n", "Driver": "host"}, 403, 'only one instance of "host" network is allowed'),
        ({"Name": "n", "Driver": "overlay"}, 403, "not a swarm manager"),
        ({"Name": "n", "Driver": "weave"}, 404, "plugin not found"),
        ({"Name": "n", "Driver": "macvlan"}, 501, "is not supported"),
        ({"Name": "n", "IPAM": {"Driver": "dhcp"}}, 404, 'ipam driver "dhcp" not found'),
        ({"Name": "n", "IPAM": {"Config": [{"Subnet": "x"}]}}, 400, "invalid subnet"),
        ({"Name": "n", "IPAM": {"Config": [{"Gateway": "10.0.0.1"}]}}, 400, "need a subnet"),
        ({"Name": "n", "IPAM": {"Config": [{"Subnet": "172.18.0.0/24"}]}}, 403, "Pool overlaps with other one"),
        ({"Name": "n", "EnableIPv4": False}, 400, "IPv4 or IPv6 must be enabled"),
        ({"Name": "n", "Options": {"com.docker.network.bridge.name": "../../x"}}, 400, "invalid bridge name"),
        ({"Name": "n", "Options": {"com.docker.network.bridge.name": "scow0"}}, 403, "same bridge name"),
        ({"Name": "n", "Options": {"com.docker.network.driver.mtu": "9" * 30}}, 400, "invalid MTU"),
        ({"Name": "n", "ConfigFrom": {"Network": "missing"}}, 404, "configuration network missing not found"),
        ({"Name": 5}, 400, "Expected `str`"),
    ],
)
def test_what_network_create_refuses(world: World, body: Any, status: int, text: str) -> None:
    async def scenario() -> None:
        await world.engine.networks.open(set())
        await world.ask("POST", "/networks/create", {"Name": "twice"})
        found, said = await world.ask("POST", "/networks/create", body)
        assert (found, text in said) == (status, True), said
        assert len((await world.ask("GET", "/networks"))[1]) == 4

    asyncio.run(scenario())


def test_config_only_networks(world: World) -> None:
    async def scenario() -> None:
        await world.engine.networks.open(set())
        config = {"Name": "config", "ConfigOnly": True, "IPAM": {"Config": [{"Subnet": "10.7.0.0/24"}]}}
        assert (await world.ask("POST", "/networks/create", config))[0] == 201
        assert (await world.ask("POST", "/networks/create", {"Name": "n", "ConfigFrom": {"Network": "config"}}))[
            0
        ] == 201
        found = (await world.ask("GET", "/networks/n"))[1]
        assert (found["IPAM"]["Config"][0]["Subnet"], found["ConfigFrom"]) == ("10.7.0.0/24", {"Network": "config"})
        assert await world.ask("DELETE", "/networks/config") == (403, "configuration network config is in use")

    asyncio.run(scenario())


def test_connect_and_disconnect_are_for_the_containers_room(world: World) -> None:
    async def scenario() -> None:
        await world.engine.networks.open(set())
        await world.ask("POST", "/networks/create", {"Name": "web"})
        body = {"Container": "c1", "EndpointConfig": {"Aliases": ["x"], "IPAMConfig": {"IPv4Address": "10.0.0.5"}}}
        assert (await world.ask("POST", "/networks/web/connect", body))[0] == 200
        assert (await world.ask("POST", "/networks/web/disconnect", {"Container": "c1", "Force": True}))[0] == 200
        connect, disconnect = world.calls.made
        assert connect[:3] == ("connect", "c1", "web")
        assert (connect[3].aliases, connect[3].ipam_config.ipv4_address) == (["x"], "10.0.0.5")
        assert disconnect == ("disconnect", "c1", "web", True)
        assert (await world.ask("POST", "/networks/nope/connect", body))[0] == 404
        assert (await world.ask("POST", "/networks/web/connect", {}))[0] == 400

    asyncio.run(scenario())


def test_network_filters_and_prune(world: World) -> None:
    async def scenario() -> None:
        await world.engine.networks.open(set())
        await world.ask("POST", "/networks/create", {"Name": "keep", "Labels": {"keep": ""}})
        await world.ask("POST", "/networks/create", {"Name": "drop"})

        async def names(**filters: list[str]) -> list[str]:
            return sorted(n["Name"] for n in (await world.ask("GET", "/networks", filters=json.dumps(filters)))[1])

        assert await names(type=["custom"]) == ["drop", "keep"]
        assert await names(driver=["host"]) == ["host"]
        assert await names(name=["^dro"]) == ["drop"]
        assert (await world.ask("GET", "/networks", filters='{"colour":["red"]}'))[0] == 400
        assert (await world.ask("GET", "/networks", filters='{"type":["x"]}'))[0] == 400
        removed = await world.ask("POST", "/networks/prune", filters='{"label!":["keep"]}')
        assert removed == (200, {"NetworksDeleted": ["drop"]})
        assert await world.ask("POST", "/networks/prune", filters='{"until":["1h"]}') == (200, {"NetworksDeleted": []})

    asyncio.run(scenario())


def test_volumes(world: World) -> None:
    async def scenario() -> None:
        status, made = await world.ask("POST", "/volumes/create", {"Name": "data", "Labels": {"a": "1"}})
        assert (status, made["Name"], made["Driver"], made["Scope"]) == (201, "data", "local", "local")
        assert Path(made["Mountpoint"]).is_dir()
        assert len((await world.ask("POST", "/volumes/create", {}))[1]["Name"]) == 64
        assert len((await world.ask("GET", "/volumes"))[1]["Volumes"]) == 2
        assert (await world.ask("GET", "/volumes/data"))[1] == made
        assert await world.ask("GET", "/volumes/nope") == (404, "get nope: no such volume")
        world.engine.volumes.acquire("data", "c1")
        assert await world.ask("DELETE", "/volumes/data") == (409, "remove data: volume is in use - [c1]")
        world.engine.volumes.release("c1")
        status, pruned = await world.ask("POST", "/volumes/prune")
        assert (status, len(pruned["VolumesDeleted"][0])) == (200, 64)
        assert (await world.ask("POST", "/volumes/prune", version=(1, 41)))[1]["VolumesDeleted"] == ["data"]
        assert (await world.ask("DELETE", "/volumes/data"))[0] == 404
        assert (await world.ask("DELETE", "/volumes/data", force="1"))[0] == 204
        assert (await world.ask("POST", "/volumes/create", {"ClusterVolumeSpec": {}}))[0] == 503
        await world.ask("POST", "/volumes/create", {"Name": "data"})
        assert (await world.ask("PUT", "/volumes/data", {}))[0] == 503
        assert (await world.ask("POST", "/volumes/create", {"Name": "a b"}))[0] == 400

    asyncio.run(scenario())
