"""The API by a stub engine: versions, errors, streams, hijacks, connections kept and given up."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scow.client.client import Client, filters_text, path, query_text
from scow.client.endpoint import choose
from scow.client.http import ApiError, CannotConnect
from scow.errors import System
from support.stub_engine import Call, Raw, StubEngine, frame

Stub = Callable[..., StubEngine]
Dial = Callable[..., Client]


@pytest.mark.parametrize(("theirs", "spoken"), [("1.43", "1.43"), ("1.99", "1.55"), ("1.55", "1.55")])
def test_the_older_of_both_versions_is_spoken(stub: Stub, theirs: str, spoken: str, dial: Dial) -> None:
    engine = stub({"GET /info": {"ID": "x"}}, api=theirs)
    assert dial(engine).get("/info") == {"ID": "x"}
    assert engine.asked("GET /info")[0].version == spoken


def test_an_ancient_daemon_is_refused(stub: Stub, dial: Dial) -> None:
    with pytest.raises(System, match=r"too old: it speaks API 1\.12"):
        dial(stub({}, api="1.12")).get("/info")


def test_one_connection_serves_many_calls(stub: Stub, dial: Dial) -> None:
    engine = stub({"GET /info": {"ID": "x"}})
    mine = dial(engine)
    for _ in range(5):
        mine.get("/info")
    assert engine.connections == 1


def test_an_idle_connection_the_daemon_closed_is_replaced(stub: Stub, dial: Dial) -> None:
    def once(call: Call) -> None:
        call.head(200, {"Content-Length": "2"})
        call.sock.sendall(b"{}")
        call.sock.close()

    engine = stub({"GET /info": once})
    mine = dial(engine)
    for _ in range(3):
        mine.get("/info")
    assert len(engine.asked("GET /info")) == 3


def test_errors_carry_status_and_sentence(stub: Stub, dial: Dial) -> None:
    engine = stub({"GET /a": (404, "No such container: a"), "GET /b": Raw(b"plain text", 500), "GET /c": Raw(b"", 503)})
    for target, status, words in (
        ("/a", 404, "No such container: a"),
        ("/b", 500, "plain text"),
        ("/c", 503, "status 503"),
    ):
        with pytest.raises(ApiError, match=words) as caught:
            dial(engine).get(target)
        assert caught.value.status == status


def test_messages_come_one_by_one_however_they_are_cut(stub: Stub, dial: Dial) -> None:
    chunks = [b'{"a"', b':1}\r\n{"b":2}', b'{"c":3}\n\n', b'{"d":4}']
    engine = stub({"POST /x": lambda call: iter(chunks)})
    assert list(dial(engine).messages("POST", "/x")) == [{"a": 1}, {"b": 2}, {"c": 3}, {"d": 4}]


def test_a_stream_that_breaks_is_an_error(stub: Stub, dial: Dial) -> None:
    def broken(call: Call) -> None:
        call.head(200, {"Transfer-Encoding": "chunked"})
        call.sock.sendall(b'9\r\n{"a":1}\r\n\r\n')
        call.sock.close()

    found: list[Any] = []
    with pytest.raises(System, match="closed the connection"):
        found.extend(dial(stub({"GET /x": broken})).messages("GET", "/x"))


def test_a_hijacked_stream_goes_both_ways_and_half_closes(stub: Stub, dial: Dial) -> None:
    def echo(call: Call) -> None:
        sock = call.upgrade()
        sock.sendall(frame(1, b"early"))
        got = b"".join(iter(lambda: sock.recv(65536), b""))
        sock.sendall(frame(1, got))
        sock.close()

    stream = dial(stub({"POST /containers/x/attach": echo})).hijack(path("containers", "x", "attach"))
    assert stream.multiplexed
    assert stream.send_some(b"hello") == 5
    stream.write_eof()
    got = b"".join(iter(stream.read, b""))
    stream.close()
    assert got == frame(1, b"early") + frame(1, b"hello")


def test_a_refused_hijack_is_an_error(stub: Stub, dial: Dial) -> None:
    with pytest.raises(ApiError, match="not running"):
        dial(stub({"POST /x": (409, "container is not running")})).hijack("/x")


def test_nobody_there(tmp_path: Path, dial: Dial) -> None:
    with pytest.raises(
        CannotConnect, match=r"Cannot connect to the scow daemon at unix://.*\. Is the scow daemon running\?"
    ):
        dial(f"unix://{tmp_path}/none").get("/info")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_socket_we_may_not_open_says_what_to_do(stub: Stub, dial: Dial) -> None:
    engine = stub({})
    os.chmod(engine.path, 0)
    with pytest.raises(CannotConnect, match="add your user to the group 'scow' or use sudo"):
        dial(engine).get("/info")


def test_a_daemon_is_started_once_when_nothing_listens(tmp_path: Path, dial: Dial) -> None:
    made: list[StubEngine] = []

    def start() -> bool:
        made.append(StubEngine(str(tmp_path / "late"), {"GET /info": {"ID": "late"}}))
        return True

    assert dial(f"unix://{tmp_path}/late", on_absent=start).get("/info") == {"ID": "late"}
    made[0].close()
    asked: list[int] = []
    refusing = dial(f"unix://{tmp_path}/none", on_absent=lambda: bool(asked.append(1)))
    for _ in range(2):
        with pytest.raises(CannotConnect):
            refusing.get("/info")
    assert asked == [1]


def test_a_long_socket_path(tmp_path: Path, dial: Dial) -> None:
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    short = StubEngine(str(tmp_path / "s"), {"GET /info": {"ID": "x"}})
    os.link(tmp_path / "s", folder / "scow.sock")
    try:
        assert dial(f"unix://{folder}/scow.sock").get("/info") == {"ID": "x"}
    finally:
        short.close()


def test_paths_and_queries_are_encoded() -> None:
    assert path("images", "host:5000/a b/ü%", "json") == "/images/host:5000/a%20b/%C3%BC%25/json"
    assert (
        query_text({"a": "x&y", "b": ["1", "2"], "c": True, "d": False, "e": None, "f": 0})
        == "?a=x%26y&b=1&b=2&c=1&f=0"
    )
    assert query_text(None) == ""
    assert filters_text({"label": ["a=b", "c"]}) == '{"label":{"a=b":true,"c":true}}'
    assert filters_text({}) == ""


def test_a_greeting_is_answered_while_others_things_are_done(stub: Stub, dial: Dial) -> None:
    engine = stub({"GET /info": {"ID": "x"}})
    mine = dial(engine)
    mine.greet()
    assert mine.get("/info") == {"ID": "x"}
    assert [(call.method, call.path) for call in engine.calls] == [("HEAD", "/_ping"), ("GET", "/info")]
    assert engine.connections == 1


def test_a_greeting_to_nobody_is_no_error(tmp_path: Path) -> None:
    mine = Client(choose({}, host=f"unix://{tmp_path}/none.sock"))
    mine.greet()
    with pytest.raises(CannotConnect):
        mine.get("/info")


def test_a_call_begun_is_answered_when_it_is_finished(stub: Stub, dial: Dial) -> None:
    engine = stub({"POST /wait": {"StatusCode": 3}, "POST /gone": (404, "No such container: a")})
    mine = dial(engine)
    begun, gone = mine.begin("POST", "/wait", {"condition": "next-exit"}), mine.begin("POST", "/gone")
    assert b"StatusCode" in mine.finish(begun, "POST").body()
    with pytest.raises(ApiError, match="No such container: a"):
        mine.finish(gone, "POST")
