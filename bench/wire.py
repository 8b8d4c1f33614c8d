"""The API as bytes on a socket: what a figure measures is the engine, not an HTTP library."""

import json
import socket
from typing import Any

BUFFER = 1 << 20


class Wire:
    """One kept connection to the engine's UNIX socket."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self._rest = b""

    def ask(self, method: str, target: str, body: Any = None) -> Any:
        """One request; the answer's JSON, None where it has no body.

        Raises:
            AssertionError: an answer of 400 or more.
        """
        self.begin(method, target, body)
        return self.finish()

    def begin(self, method: str, target: str, body: Any = None, more: str = "") -> None:
        """Send a request."""
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {target} HTTP/1.1\r\nHost: scow\r\nContent-Type: application/json\r\n{more}"
        self.socket.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)

    def finish(self) -> Any:
        """The answer to the request sent last."""
        head = self.head()
        status, lines = int(head.split(b" ", 2)[1]), head.lower().split(b"\r\n")
        length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
        data = self._chunks() if b"transfer-encoding: chunked" in lines else self._take(length)
        assert status < 400, data
        return json.loads(data) if data.strip() else None

    def head(self) -> bytes:
        """The answer's first lines."""
        while b"\r\n\r\n" not in self._rest:
            self._more()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        return head

    def hijack(self, target: str, body: Any = None) -> None:
        """Ask for a raw stream, and be given it."""
        self.begin("POST", target, body, "Connection: Upgrade\r\nUpgrade: tcp\r\n")
        assert b" 101 " in self.head()

    def first(self) -> bytes:
        """The next bytes of a raw stream, whatever they are."""
        if not self._rest:
            self._more()
        data, self._rest = self._rest, b""
        return data

    def count(self) -> int:
        """Bytes until the other side is done."""
        total, self._rest = len(self._rest), b""
        buffer = bytearray(BUFFER)
        while got := self.socket.recv_into(buffer):
            total += got
        return total

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def _more(self) -> None:
        data = self.socket.recv(BUFFER)
        assert data, "the engine hung up"
        self._rest += data

    def _take(self, size: int) -> bytes:
        while len(self._rest) < size:
            self._more()
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def _chunks(self) -> bytes:
        found = b""
        while True:
            while b"\r\n" not in self._rest:
                self._more()
            size, _, self._rest = self._rest.partition(b"\r\n")
            data = self._take(int(size, 16) + 2)
            if len(data) == 2:
                return found
            found += data[:-2]
