"""Whatever is sent to whatever operation: an answer comes, it is no server error, errors are JSON with a message."""

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from scow.daemon.routes import all_routes
from support.world import World

pytestmark = pytest.mark.root

BODIES: list[bytes | None] = [
    None, b"", b"null", b"[]", b"5", b'"text"', b"{", b"{}", b"\xff\xfe", b'{"Image": []}', b'{"Name": 5}',
    b'{"Image": "nothing", "HostConfig": {"Memory": "much"}}', b'{"a": ' * 500 + b"1" + b"}" * 500, b"[" * 100_000,
]  # fmt: skip
PARAMETERS = (
    "all", "buildargs", "changes", "condition", "container", "detachKeys", "dockerfile", "extrahosts", "filters",
    "fromImage", "fromSrc", "h", "id", "limit", "memory", "name", "names", "path", "platform", "remote", "repo",
    "signal", "since", "t", "tag", "tail", "term", "type", "until", "verbose",
)  # fmt: skip
VALUES = ("%ff", "%00", "-1", "[]", "../../x", "9" * 25, '{"dangling":["maybe"]}'.replace('"', "%22"), "x" * 5000)
#: Statuses above 499 that say what they mean: not supported, and nobody to ask (a registry, a swarm).
MEANT = (501, 503)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An engine of this module's own: what is sent here may prune, create and cancel."""
    with World(tmp_path_factory.mktemp("hostile")) as world:
        world.start()
        yield world


def ask(path: Path, method: str, target: str, body: bytes | None) -> tuple[int, bytes]:
    """Status and body of one request on a connection of its own; fails if no answer ends within ten seconds."""
    length = b"" if body is None else b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
    head = f"{method} {target} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n".encode()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(head + length + b"\r\n" + (body or b""))
            sock.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), rest


def fault(method: str, status: int, body: bytes) -> str:
    """What is wrong with an answer; "" for nothing."""
    if status >= 500 and status not in MEANT:
        return f"status {status}: {body[:200]!r}"
    if status < 400 or method == "HEAD":
        return ""
    try:
        return "" if json.loads(body)["message"] else "an empty message"
    except (ValueError, LookupError, TypeError):
        return f"status {status} without a message: {body[:200]!r}"


def operations() -> list[tuple[str, str]]:
    """Method and path of every operation, on objects that do not exist."""
    return sorted(
        (method, re.sub(r"\{[^}]+\}", "nothing", path))
        for method, path, _ in all_routes().table()
        if path not in ("/events", "/session", "/grpc")
    )


@pytest.mark.timeout(120)
def test_wrong_bodies(engine: World) -> None:
    faults = {}
    for method, target in operations():
        for body in BODIES if method in ("POST", "PUT", "DELETE") else BODIES[:1]:
            if wrong := fault(method, *ask(engine.socket, method, target, body)):
                faults[f"{method} {target}", (body or b"")[:40]] = wrong
    assert faults == {}


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_wrong_parameters(engine: World) -> None:
    faults = {}
    for method, target in operations():
        for number, name in enumerate(PARAMETERS):
            for value in (VALUES[number % len(VALUES)], VALUES[(number + 3) % len(VALUES)], "%ff"):
                full = f"{target}?{name}={value}"
                if wrong := fault(method, *ask(engine.socket, method, full, b"{}" if method == "POST" else None)):
                    faults[f"{method} {full[:80]}"] = wrong
    assert faults == {}


def test_the_engine_still_serves(engine: World) -> None:
    assert ask(engine.socket, "GET", "/_ping", None) == (200, b"OK")
    assert "Traceback" not in engine.log
