"""Every operation of the Engine API is served or refused with a reason, and answers have the shapes it describes."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

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
def api(world: World, judge: Description) -> Iterator[RawClient]:
    world.scow("run", "-d", "--name", "described", "-p", "8080:80", "-v", "described:/data", "-v", "/tmp:/bound:ro",
               "--mount", "type=tmpfs,dst=/scratch", "-e", "A=b", "--health-cmd", "true", "--health-interval", "50ms",
               "-m", "64m", "--cpus", "0.5", "--device", "/dev/zero:/dev/nought", "--ulimit", "nofile=100",
               "--log-opt", "max-size=1m", "busybox", "sleep", "1000")  # fmt: skip
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
        ("/images/{name}/attestations", "/images/busybox/attestations"),
        ("/system/df", "/system/df"),
        ("/images/json", "/images/json?shared-size=1&digests=1&manifests=1"),
        ("/containers/{id}/stats", "/containers/described/stats?stream=0"),
    ],
)
def test_answers_have_the_described_shape(judge: Description, api: RawClient, path: str, target: str) -> None:
    answer: Any = api.get(target)
    assert list(judge.faults(answer, judge.response("GET", path))) == []


@pytest.mark.root
def test_events_have_the_described_shape(judge: Description, api: RawClient) -> None:
    status, body = api.request("GET", f"/events?since=1&until={int(time.time()) + 1}")
    lines = [json.loads(line) for line in body.splitlines()]
    assert status == 200
    assert {line["Type"] for line in lines} >= {"container", "network", "volume", "image"}
    schema = judge.response("GET", "/events")
    assert [fault for line in lines for fault in judge.faults(line, schema)] == []


CREATE = {"Image": "busybox", "Cmd": ["sleep", "1000"], "Tty": True, "HostConfig": {"NetworkMode": "bridge"}}


@pytest.mark.root
def test_what_changes_something_answers_as_described(judge: Description, api: RawClient) -> None:
    """A container, its exec, an image, a network and a volume: made, changed, removed."""

    def ask(operation: str, target: str, body: Any = None, status: int | None = None) -> Any:
        method, path = operation.split()
        described = {int(code) for code in judge.operations[method, path]["responses"]}
        code, data = api.request(method, target, body)
        assert code in described, f"{operation} answered {code}: {data[:300]!r}"
        assert code == (status or min(described)), data[:300]
        if code == 204 or not data:
            return None
        answer = json.loads(data)
        assert list(judge.faults(answer, judge.response(method, path, code))) == [], operation
        return answer

    made = ask("POST /containers/create", "/containers/create?name=written", CREATE)["Id"]
    one = f"/containers/{made}"
    ask("POST /containers/create", "/containers/create?name=written", CREATE, 409)
    ask("POST /containers/{id}/start", f"{one}/start")
    ask("POST /containers/{id}/start", f"{one}/start", status=304)
    ask("POST /containers/{id}/resize", f"{one}/resize?h=40&w=100")
    ask("POST /containers/{id}/update", f"{one}/update", {"Memory": 64 << 20, "MemorySwap": -1})
    ask("POST /containers/{id}/rename", f"{one}/rename?name=rewritten")
    ask("POST /containers/{id}/pause", f"{one}/pause")
    ask("POST /containers/{id}/unpause", f"{one}/unpause")
    run = ask("POST /containers/{id}/exec", f"{one}/exec", {"Cmd": ["true"]})["Id"]
    ask("GET /exec/{id}/json", f"/exec/{run}/json")
    ask("POST /exec/{id}/start", f"/exec/{run}/start", {"Detach": True})
    network = ask("POST /networks/create", "/networks/create", {"Name": "written"})["Id"]
    ask("POST /networks/{id}/connect", f"/networks/{network}/connect", {"Container": made})
    ask("GET /networks/{id}", f"/networks/{network}")
    ask("DELETE /networks/{id}", f"/networks/{network}", status=403)
    ask("POST /networks/{id}/disconnect", f"/networks/{network}/disconnect", {"Container": made, "Force": True})
    ask("DELETE /networks/{id}", f"/networks/{network}")
    ask("POST /volumes/create", "/volumes/create", {"Name": "written", "Labels": {"a": "b"}})
    ask("DELETE /volumes/{name}", "/volumes/described", status=409)
    ask("DELETE /volumes/{name}", "/volumes/written")
    ask("POST /commit", f"/commit?container={made}&repo=written&tag=1", {})
    ask("POST /images/{name}/tag", "/images/written:1/tag?repo=written&tag=2")
    ask("DELETE /images/{name}", "/images/written:2")
    ask("DELETE /images/{name}", "/images/busybox", status=409)
    ask("DELETE /images/{name}", "/images/written:1")
    ask("POST /containers/{id}/restart", f"{one}/restart?t=0")
    ask("POST /containers/{id}/kill", f"{one}/kill?signal=KILL")
    ask("POST /containers/{id}/wait", f"{one}/wait")
    ask("POST /containers/{id}/kill", f"{one}/kill", status=409)
    ask("POST /containers/{id}/stop", f"{one}/stop", status=304)
    ask("DELETE /containers/{id}", one)
    ask("DELETE /containers/{id}", one, status=404)
    nothing = "filters=" + quote(json.dumps({"label": ["nobody-has-this"]}))
    for kind in ("containers", "images", "volumes", "networks"):
        ask(f"POST /{kind}/prune", f"/{kind}/prune?{nothing}")
    ask("POST /build/prune", f"/build/prune?{nothing}")
