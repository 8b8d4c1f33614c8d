"""An engine that only speaks HTTP: canned answers, streams and hijacked connections for tests of client and CLI.

Threads and blocking sockets on purpose: nothing of the product is in it, so that its errors cannot hide here.
"""

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Answer = tuple[int, Any]
Handler = Callable[["Call"], Any]


class Call:
    """One request as it came in, and the ways to answer it out of the ordinary."""

    def __init__(self, sock: socket.socket, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        parts = urlsplit(target)
        self.sock = sock
        self.method = method
        self.version, self.path = split_version(unquote(parts.path))
        self.query = parse_qs(parts.query, keep_blank_values=True)
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)

    def text(self, key: str) -> str:
        return self.query.get(key, [""])[0]

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} X", *(f"{key}: {value}" for key, value in headers.items())]
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode())

    def upgrade(self, multiplexed: bool = True) -> socket.socket:
        """Answer 101; the socket is the stream from here on."""
        kind = "multiplexed" if multiplexed else "raw"
        self.head(
            101,
            {
                "Content-Type": f"application/vnd.docker.{kind}-stream",
                "Connection": "Upgrade",
                "Upgrade": "tcp",
            },
        )
        return self.sock


class Raw:
    """An answer that is not JSON."""

    def __init__(self, data: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.data = data
        self.status = status
        self.headers = dict(headers or {})


def split_version(path: str) -> tuple[str, str]:
    first, _, rest = path.lstrip("/").partition("/")
    if first.startswith("v1."):
        return first[1:], f"/{rest}"
    return "", path


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


class StubEngine:
    """Answers by a table "METHOD /path" → answer.

    An answer is a value (sent as JSON), (status, value or message), `Raw`, an iterator of chunks or objects, or a
    function of the call that gives one of these, or takes the socket over and returns None.
    """

    def __init__(self, path: str, routes: Mapping[str, Any], api: str = "1.50") -> None:
        self.routes = {"GET /_ping": "OK", "HEAD /_ping": Raw(b""), **routes}
        self.api = api
        self.calls: list[Call] = []
        self.connections = 0
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(64)
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> "StubEngine":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self.listener.close()
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        os.unlink(self.path)

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def asked(self, route: str) -> list[Call]:
        """The calls of "METHOD /path" so far."""
        method, _, path = route.partition(" ")
        return [call for call in self.calls if call.method == method and call.path == path]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            while self._exchange(sock):
                pass
        except OSError:
            return

    def _exchange(self, sock: socket.socket) -> bool:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = sock.recv(65536)
            if not piece:
                return False
            data += piece
        head, _, rest = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = _body(sock, headers, rest)
        call = Call(sock, method, target, headers, body)
        self.calls.append(call)
        return self._answer(call)

    def _answer(self, call: Call) -> bool:
        value = self.routes.get(f"{call.method} {call.path}", (404, f"no route {call.method} {call.path}"))
        if callable(value):
            value = value(call)
            if value is None:
                return False
        common = {"Api-Version": self.api, "Ostype": "linux", "Docker-Experimental": "false", "Server": "stub"}
        if isinstance(value, Raw):
            call.head(value.status, {**common, **value.headers, "Content-Length": str(len(value.data))})
            call.sock.sendall(b"" if call.method == "HEAD" else value.data)
            return True
        if isinstance(value, Iterator):
            call.head(200, {**common, "Content-Type": "application/json", "Transfer-Encoding": "chunked"})
            for chunk in value:
                data = chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode() + b"\r\n"
                call.sock.sendall(b"%x\r\n%s\r\n" % (len(data), data))
            call.sock.sendall(b"0\r\n\r\n")
            return True
        status, value = value if isinstance(value, tuple) else (200, value)
        if status >= 400:
            value = {"message": value}
        data = b"" if status in (204, 304) else json.dumps(value).encode()
        headers = {**common, "Content-Type": "application/json"}
        if status not in (204, 304):
            headers["Content-Length"] = str(len(data))
        call.head(status, headers)
        call.sock.sendall(data)
        return True


def _body(sock: socket.socket, headers: Mapping[str, str], rest: bytes) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        file = sock.makefile("rb")
        stream = _Joined(rest, file)
        parts = []
        while size := int(stream.line(), 16):
            parts.append(stream.take(size))
            stream.line()
        stream.line()
        return b"".join(parts)
    length = int(headers.get("content-length") or 0)
    while len(rest) < length:
        piece = sock.recv(length - len(rest))
        if not piece:
            break
        rest += piece
    return rest[:length]


class _Joined:
    """Bytes already read, then a file."""

    def __init__(self, rest: bytes, file: Any) -> None:
        self.rest = rest
        self.file = file

    def take(self, count: int) -> bytes:
        have, self.rest = self.rest[:count], self.rest[count:]
        return have + (self.file.read(count - len(have)) if len(have) < count else b"")

    def line(self) -> bytes:
        if b"\n" in self.rest:
            found, _, self.rest = self.rest.partition(b"\n")
            return found
        found, self.rest = self.rest, b""
        return found + self.file.readline()
