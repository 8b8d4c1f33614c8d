"""Two wishes at once for one container: each gets one of Docker's answers, and what is left is one of the two."""

import contextlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.raw import RawClient
from support.world import World

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

ROUNDS = range(6)
SLEEPER = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"Init": True}}


def ask(world: World, method: str, target: str, body: Any = None) -> tuple[int, str]:
    """Status and message, over a connection of its own."""
    client = RawClient(str(world.socket))
    try:
        status, data = client.request(method, target, body)
        found = json.loads(data) if data.startswith(b"{") and status >= 400 else {}
        return status, str(found.get("message", ""))
    finally:
        client.close()


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """The results of `calls`, all let go at the same moment."""
    gate = threading.Barrier(len(calls))
    results: list[Any] = [None] * len(calls)

    def run(number: int) -> None:
        gate.wait()
        results[number] = calls[number]()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "somebody waits for ever"
    return results


@contextlib.contextmanager
def created(world: World, **config: Any) -> Iterator[str]:
    client = RawClient(str(world.socket))
    made = client.post("/containers/create", SLEEPER | config)["Id"]
    try:
        yield made
    finally:
        client.request("DELETE", f"/containers/{made}?force=1&v=1")
        client.close()


def state(world: World, made: str) -> str:
    client = RawClient(str(world.socket))
    try:
        status, data = client.request("GET", f"/containers/{made}/json")
        return str(json.loads(data)["State"]["Status"]) if status == 200 else "gone"
    finally:
        client.close()


@pytest.mark.parametrize("_round", ROUNDS)
def test_eight_starts(world: World, _round: int) -> None:
    with created(world) as made:
        results = at_once(*[lambda: ask(world, "POST", f"/containers/{made}/start")[0]] * 8)
        assert Counter(results) == {204: 1, 304: 7}
        assert state(world, made) == "running"


@pytest.mark.parametrize("_round", ROUNDS)
@pytest.mark.parametrize("force", [0, 1])
def test_a_start_and_a_removal(world: World, force: int, _round: int) -> None:
    with created(world) as made:
        (start, told), (removal, said) = at_once(
            lambda: ask(world, "POST", f"/containers/{made}/start"),
            lambda: ask(world, "DELETE", f"/containers/{made}?force={force}"),
        )
        assert start in (204, 404, 409), told
        assert start == 204 or "No such container" in told or "marked for removal" in told, told
        if force:
            assert removal == 204, said
        else:
            assert removal in (204, 409), said
            assert removal == 204 or "stop the container before removing or force remove" in said, said
            assert (start == 204) is (removal == 409)
        assert state(world, made) == ("gone" if removal == 204 else "running")


@pytest.mark.parametrize("_round", ROUNDS)
def test_a_start_and_a_stop(world: World, _round: int) -> None:
    with created(world) as made:
        (start, told), (stop, said) = at_once(
            lambda: ask(world, "POST", f"/containers/{made}/start"),
            lambda: ask(world, "POST", f"/containers/{made}/stop?t=1"),
        )
        assert start == 204, told
        assert stop in (204, 304), said
        assert state(world, made) == ("exited" if stop == 204 else "running")


@pytest.mark.parametrize("_round", ROUNDS)
def test_two_removals(world: World, _round: int) -> None:
    with created(world) as made:
        ask(world, "POST", f"/containers/{made}/start")
        results = at_once(*[lambda: ask(world, "DELETE", f"/containers/{made}?force=1")] * 4)
        statuses = Counter(status for status, _ in results)
        assert statuses[204] >= 1
        assert set(statuses) <= {204, 404, 409}, results
        assert all("removal of container" in told for status, told in results if status == 409), results
        assert state(world, made) == "gone"


@pytest.mark.parametrize("_round", ROUNDS)
def test_one_name_for_many(world: World, _round: int) -> None:
    results = at_once(*[lambda: ask(world, "POST", "/containers/create?name=contested", SLEEPER)] * 8)
    assert Counter(status for status, _ in results) == {201: 1, 409: 7}
    assert all("is already in use by container" in told for status, told in results if status == 409)
    assert ask(world, "DELETE", "/containers/contested")[0] == 204


@pytest.mark.parametrize("_round", ROUNDS)
def test_an_exec_while_it_ends(world: World, _round: int) -> None:
    with created(world) as made:
        ask(world, "POST", f"/containers/{made}/start")
        client = RawClient(str(world.socket))
        one = client.post(f"/containers/{made}/exec", {"Cmd": ["true"], "AttachStdout": True})["Id"]
        client.close()
        results = at_once(
            lambda: ask(world, "POST", f"/containers/{made}/kill"),
            lambda: ask(world, "POST", f"/containers/{made}/exec", {"Cmd": ["true"]}),
            lambda: ask(world, "POST", f"/exec/{one}/start", {}),
            lambda: ask(world, "POST", f"/exec/{one}/start", {"Detach": True}),
        )
        assert results[0][0] == 204, results
        for status, told in results[1:]:
            assert status in (200, 201, 409), results
            assert status != 409 or "is not running" in told or "has already run" in told or "already" in told, told
        assert ask(world, "POST", f"/containers/{made}/wait")[0] == 200
        status, told = ask(world, "POST", f"/containers/{made}/exec", {"Cmd": ["true"]})
        assert (status, "is not running" in told) == (409, True)
        status, told = ask(world, "POST", f"/exec/{one}/start", {})
        assert status in (404, 409), told


@pytest.mark.parametrize("_round", ROUNDS)
def test_a_pause_and_a_stop(world: World, _round: int) -> None:
    with created(world) as made:
        ask(world, "POST", f"/containers/{made}/start")
        (pause, told), (stop, said) = at_once(
            lambda: ask(world, "POST", f"/containers/{made}/pause"),
            lambda: ask(world, "POST", f"/containers/{made}/stop?t=1"),
        )
        assert pause in (204, 409), told
        assert stop == 204, said
        assert state(world, made) == "exited"


@pytest.mark.parametrize("_round", ROUNDS)
def test_a_network_goes_while_a_container_comes(world: World, _round: int) -> None:
    assert ask(world, "POST", "/networks/create", {"Name": "contested"})[0] == 201
    with created(world, HostConfig={"NetworkMode": "contested", "Init": True}) as made:
        (start, told), (removal, said) = at_once(
            lambda: ask(world, "POST", f"/containers/{made}/start"),
            lambda: ask(world, "DELETE", "/networks/contested"),
        )
        assert (start, removal) in ((204, 403), (404, 204)), (told, said)
        assert start == 204 or "network contested not found" in told, told
        assert removal == 204 or "has active endpoints" in said, said
    ask(world, "DELETE", "/networks/contested")


@pytest.mark.parametrize("_round", ROUNDS)
def test_an_image_goes_while_a_container_comes(world: World, _round: int) -> None:
    assert ask(world, "POST", "/images/busybox/tag?repo=contested")[0] == 201
    (made, told), (removal, said) = at_once(
        lambda: ask(world, "POST", "/containers/create?name=guest", SLEEPER | {"Image": "contested"}),
        lambda: ask(world, "DELETE", "/images/contested"),
    )
    assert made == 201 or "No such image: contested" in told, told
    assert removal in (200, 409), said
    if made == 201:
        assert ask(world, "POST", "/containers/guest/start")[0] == 204
        assert ask(world, "DELETE", "/containers/guest?force=1")[0] == 204
    ask(world, "DELETE", "/images/contested")


@pytest.mark.parametrize("_round", ROUNDS)
def test_a_volume_goes_while_a_container_comes(world: World, _round: int) -> None:
    assert ask(world, "POST", "/volumes/create", {"Name": "contested"})[0] == 201
    host = {"Binds": ["contested:/v"], "Init": True}
    (made, told), (removal, said) = at_once(
        lambda: ask(world, "POST", "/containers/create?name=guest", SLEEPER | {"HostConfig": host}),
        lambda: ask(world, "DELETE", "/volumes/contested"),
    )
    assert made == 201, told
    assert removal == 204 or (removal == 409 and "in use" in said), said
    assert ask(world, "POST", "/containers/guest/start")[0] == 204
    assert ask(world, "DELETE", "/containers/guest?force=1")[0] == 204
    assert ask(world, "DELETE", "/volumes/contested")[0] == 204, "the create has made it again if need be"


@pytest.mark.parametrize("_round", ROUNDS)
def test_attached_before_the_start_nothing_is_missed(world: World, _round: int) -> None:
    with created(world, Cmd=["sh", "-c", "echo first; exit 3"]) as made:
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(30)
            stream.connect(str(world.socket))
            target = f"/containers/{made}/attach?stream=1&stdout=1&stderr=1"
            stream.sendall(f"POST {target} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                head += stream.recv(4096)
            assert head.startswith(b"HTTP/1.1 101 "), head
            start, told = ask(world, "POST", f"/containers/{made}/start")
            assert start == 204, told
            data = head.partition(b"\r\n\r\n")[2] + b"".join(iter(lambda: stream.recv(4096), b""))
        assert data == b"\x01\x00\x00\x00\x00\x00\x00\x06first\n"


def test_the_log_has_no_surprise(world: World) -> None:
    """None of the above was an internal error."""
    assert "Traceback" not in world.log, world.log[-4000:]
