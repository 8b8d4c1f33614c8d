"""JSON of the wrong shape: every field of every body of the API, one at a time, is refused by its path."""

import types
import typing
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from scow.api.containers import ContainerConfig, CreateBody, ExecConfig, ExecStart, UpdateBody
from scow.api.networks import NetworkConnect, NetworkCreate, NetworkDisconnect
from scow.api.volumes import VolumeCreate
from support.raw import RawClient
from support.world import World

pytestmark = pytest.mark.root

BODIES: dict[str, tuple[str, type[msgspec.Struct]]] = {
    "create": ("/containers/create", CreateBody),
    "update": ("/containers/shaped/update", UpdateBody),
    "exec": ("/containers/shaped/exec", ExecConfig),
    "exec start": ("/exec/{exec}/start", ExecStart),
    "commit": ("/commit?container=shaped", ContainerConfig),
    "network": ("/networks/create", NetworkCreate),
    "connect": ("/networks/bridge/connect", NetworkConnect),
    "disconnect": ("/networks/bridge/disconnect", NetworkDisconnect),
    "volume": ("/volumes/create", VolumeCreate),
}
WRONG: Any = {"Odd": [{}]}


def wrongs(kind: Any) -> Iterator[tuple[str, Any]]:
    """(path, value) of everything that can be wrong in a value of type `kind`; the path is as messages show it."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        members = [member for member in typing.get_args(kind) if member is not type(None)]
        if len(members) == 1:
            yield from wrongs(members[0])
        else:
            yield "", 1.5
        return
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or kind is object:
        return
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield "", "text"
        hints = typing.get_type_hints(kind)
        for field in msgspec.structs.fields(kind):
            for path, value in wrongs(hints[field.name]):
                yield f".{field.encode_name}{path}", {field.encode_name: value}
    elif origin in (list, tuple):
        yield "", "text" if inner[:1] != (str,) else 5
        for path, value in wrongs(inner[0]):
            yield f"[...]{path}", [value]
    elif origin is dict:
        yield "", 5
        for path, value in wrongs(inner[1]):
            yield f"[...]{path}", {"key": value}
    else:
        yield "", WRONG


@pytest.fixture(scope="module")
def shaped(world: World) -> Iterator[tuple[RawClient, str]]:
    client = RawClient(str(world.socket))
    config = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"Init": True}}
    client.post("/containers/create?name=shaped", config)
    client.post("/containers/shaped/start")
    made = client.post("/containers/shaped/exec", {"Cmd": ["true"]})["Id"]
    yield client, made
    client.delete("/containers/shaped?force=1")
    client.close()


@pytest.mark.parametrize("which", BODIES)
def test_a_field_of_the_wrong_shape_is_named(world: World, shaped: tuple[RawClient, str], which: str) -> None:
    client, made = shaped
    target, kind = BODIES[which]
    before = [client.get(path) for path in ("/containers/json?all=1", "/networks", "/volumes")]
    count = 0
    for path, body in wrongs(kind):
        status, answer = client.request("POST", target.replace("{exec}", made), body)
        assert status == 400, f"{path}: {body}: {status} {answer!r}"
        said = str(msgspec.json.decode(answer)["message"])
        last = path.replace("[...]", "").rpartition(".")[2]
        assert last in said, f"{path}: {said}"
        count += 1
    assert count > 2
    assert [client.get(path) for path in ("/containers/json?all=1", "/networks", "/volumes")] == before
    assert "Traceback" not in world.log


@pytest.mark.parametrize("which", BODIES)
@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"5", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b'{"Name": "\\ud800"}', b"NaN"],
    ids=["cut", "list", "number", "text", "no utf-8", "deep list", "deep object", "half a character", "no number"],
)
def test_what_is_no_object_is_refused(world: World, shaped: tuple[RawClient, str], which: str, body: bytes) -> None:
    client, made = shaped
    target = BODIES[which][0].replace("{exec}", made)
    status, answer = client.request("POST", target, body)
    assert status == 400, answer
    assert "internal" not in str(msgspec.json.decode(answer)["message"])
    assert "Traceback" not in world.log


def test_a_body_larger_than_any(shaped: tuple[RawClient, str]) -> None:
    client, _ = shaped
    status, answer = client.request("POST", "/volumes/create", b'{"Name": "' + bytes(17 << 20) + b'"}')
    assert status in (400, 413), answer
