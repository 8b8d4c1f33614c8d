"""Every operation of the Engine API is served or refused with a reason, and answers have the shapes it describes."""

import re
from typing import Any

import pytest

from scow.daemon.routes import all_routes
from support.openapi import Description, description
from support.raw import RawClient
from support.world import World


def same_place(path: str) -> str:
    """Route templates with their parameters' names and kinds left out."""
    return re.sub(r"\{[^}]+\}", "{}", path)


def test_every_operation_has_a_route() -> None:
    served = {(method, same_place(path)) for method, path, _ in all_routes().table()}
    wanted = {(method, same_place(path)) for method, path in description().operations}
    assert sorted(wanted - served) == []


@pytest.fixture(scope="module")
def judge() -> Description:
    return description()


@pytest.fixture(scope="module")
def api(world: World, judge: Description) -> RawClient:
    world.scow(
        "run",
        "-d",
        "--name",
        "described",
        "-p",
        "8080:80",
        "-v",
        "described:/data",
        "-e",
        "A=b",
        "busybox",
        "sleep",
        "1000",
    )
    client = RawClient(str(world.socket))
    yield client
    client.close()
    world.scow("rm", "-f", "-v", "described")


@pytest.mark.root
@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/info", "/info"),
        ("/version", "/version"),
        ("/system/df", "/system/df?verbose=1"),
        ("/containers/json", "/containers/json?all=1&size=1"),
        ("/containers/{id}/json", "/containers/described/json?size=1"),
        ("/containers/{id}/top", "/containers/described/top"),
        ("/containers/{id}/changes", "/containers/described/changes"),
        ("/containers/{id}/stats", "/containers/described/stats?stream=0&one-shot=1"),
        ("/images/json", "/images/json?all=1"),
        ("/images/{name}/json", "/images/busybox/json"),
        ("/images/{name}/history", "/images/busybox/history"),
        ("/networks", "/networks"),
        ("/networks/{id}", "/networks/bridge"),
        ("/volumes", "/volumes"),
        ("/volumes/{name}", "/volumes/described"),
        ("/plugins", "/plugins"),
    ],
)
def test_answers_have_the_described_shape(judge: Description, api: RawClient, path: str, target: str) -> None:
    answer: Any = api.get(target)
    assert list(judge.faults(answer, judge.response("GET", path))) == []
