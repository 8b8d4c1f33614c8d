"""Framing of responses and requests over a socket pair; a hostile peer on the other end."""

import socket
import threading
from collections.abc import Iterator

import pytest

from scow.client.http import Connection, PlainSocket, Response
from scow.errors import System


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    ours, theirs = socket.socketpair()
    connection = Connection(PlainSocket(fileno=ours.detach()))
    yield connection, theirs
    connection.close()
    theirs.close()


Pair = tuple[Connection, socket.socket]


def test_length_and_chunks_and_end_of_stream(pair: Pair) -> None:
    connection, theirs = pair
    theirs.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    theirs.sendall(b"2;x=y\r\nde\r\n1\r\nf\r\n0\r\nTrailer: x\r\n\r\nHTTP/1.0 200 OK\r\n\r\nrest")
    first = connection.answer("GET")
    first.released(lambda response: None)
    assert (first.body(), first.reusable) == (b"abc", True)
    second = connection.answer("GET")
    second.released(lambda response: None)
    assert second.body() == b"def"
    last = connection.answer("GET")
    theirs.shutdown(socket.SHUT_WR)
    assert (last.body(), last.reusable) == (b"rest", False)


def test_a_chunk_arrives_before_the_next_is_sent(pair: Pair) -> None:
    connection, theirs = pair
    theirs.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    response = connection.answer("GET")
    assert response.read() == b"abc"


def test_what_has_no_body_has_none(pair: Pair) -> None:
    connection, theirs = pair
    theirs.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    kept: list[Response] = []
    for method in ("POST", "HEAD"):
        response = connection.answer(method)
        response.released(kept.append)
        assert response.ended
        assert response.read() == b""
    assert len(kept) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Len",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
        b"x" * 300_000,
        b"",
    ],
)
def test_a_broken_answer_is_an_error_and_not_a_hang(pair: Pair, answer: bytes) -> None:
    connection, theirs = pair

    def send() -> None:
        try:
            theirs.sendall(answer)
            theirs.shutdown(socket.SHUT_WR)
        except OSError:
            return

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(System):
        connection.answer("GET").body()
    connection.close()
    sender.join(10)
    assert not sender.is_alive()


def test_a_body_longer_than_expected_is_refused(pair: Pair) -> None:
    connection, theirs = pair
    theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123456789")
    with pytest.raises(System, match="more than 5 bytes"):
        connection.answer("GET").body(5)


def test_requests_with_bytes_and_with_chunks(pair: Pair) -> None:
    connection, theirs = pair
    connection.send("POST", "/a", {"X": "y"}, b"body")
    connection.send("PUT", "/b", {}, iter([b"one", b"", b"two"]))
    connection.send("POST", "/c", {}, None)
    theirs.settimeout(5)
    assert theirs.recv(65536) == (
        b"POST /a HTTP/1.1\r\nX: y\r\nContent-Length: 4\r\n\r\nbody"
        b"PUT /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
        b"POST /c HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
    )


def test_a_line_break_cannot_be_smuggled_into_a_head(pair: Pair) -> None:
    connection, _ = pair
    with pytest.raises(System, match="line break"):
        connection.send("GET", "/", {"X": "a\r\nEvil: 1"})


def test_an_answer_before_the_upload_ends_is_read(pair: Pair) -> None:
    connection, theirs = pair
    theirs.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
    theirs.close()
    connection.send("PUT", "/", {}, (b"x" * 65536 for _ in range(200)))
    response = connection.answer("PUT")
    assert (response.status, response.body()) == (413, b"no")
