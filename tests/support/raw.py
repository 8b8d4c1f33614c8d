"""The smallest client that speaks to the engine: one kept connection, JSON in and out; for figures and odd requests."""

import http.client
import json
import socket
from typing import Any


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class ApiFailure(Exception):
    """An answer of 400 or more."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message


class RawClient:
    """JSON over one kept connection to the UNIX socket at `path`."""

    def __init__(self, path: str) -> None:
        self._connection = _UnixConnection(path)

    def request(
        self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body; `body` is sent as JSON unless it is bytes."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        extra = {"Content-Type": "application/json"} if data is not None else {}
        self._connection.request(method, target, data, extra | (headers or {}))
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def _json(self, method: str, target: str, body: Any = None) -> Any:
        status, data = self.request(method, target, body)
        if status >= 400:
            raise ApiFailure(status, data.decode(errors="replace").strip())
        try:
            return json.loads(data) if data else None
        except ValueError:
            return data

    def get(self, target: str) -> Any:
        return self._json("GET", target)

    def post(self, target: str, body: Any = None) -> Any:
        return self._json("POST", target, body)

    def delete(self, target: str) -> Any:
        return self._json("DELETE", target)

    def close(self) -> None:
        self._connection.close()
