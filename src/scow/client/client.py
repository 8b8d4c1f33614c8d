"""The Engine API, called synchronously: version negotiation, JSON both ways, streams, hijacked connections.

One idle connection is kept for the next call; streams and hijacks take one of their own. Errors of the daemon
(``{"message": …}``) come out as `ApiError` with the status.
"""

from __future__ import annotations

from scow.api.version import LATEST, OLDEST, text
from scow.client import jsontext
from scow.client.http import ApiError, CannotConnect, Connection, Hangup, Response, connect
from scow.errors import EngineError, InvalidArgument, System

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from scow.client.endpoint import Endpoint
    from scow.client.http import Body, Socket

    QueryValue = str | int | bool | None | Sequence[str]
    Query = Mapping[str, QueryValue]


_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SAFE_PATH = _SAFE | frozenset(b"/:@")


def quote(value: str, safe: frozenset[int] = _SAFE) -> str:
    """`value` percent-encoded."""
    return "".join(chr(byte) if byte in safe else f"%{byte:02X}" for byte in value.encode("utf-8", "surrogateescape"))


def path(*parts: str) -> str:
    """("containers", "a b", "json") → "/containers/a%20b/json"; slashes and colons inside a part stay."""
    return "/" + "/".join(quote(part, _SAFE_PATH) for part in parts)


def query_text(query: Query | None) -> str:
    """``?a=1&b=x`` or ""; None and "" and False are left out, lists repeat their key."""
    pairs: list[str] = []
    for key, value in (query or {}).items():
        if value is None or value is False or value == "":
            continue
        if value is True:
            pairs.append(f"{key}=1")
        elif isinstance(value, str | int):
            pairs.append(f"{key}={quote(str(value))}")
        else:
            pairs += [f"{key}={quote(item)}" for item in value]
    return "?" + "&".join(pairs) if pairs else ""


def filters_text(filters: Mapping[str, Sequence[str]]) -> str:
    """{"label": ["a=b"]} → the JSON the API's `filters` parameter takes; "" for none."""
    if not filters:
        return ""
    return jsontext.dumps({key: dict.fromkeys(values, True) for key, values in filters.items()}, sort=True)


class Hijacked:
    """Both directions of a connection that stopped being HTTP."""

    def __init__(self, connection: Connection, headers: Mapping[str, str]) -> None:
        self._connection = connection
        self.multiplexed = "multiplexed-stream" in headers.get("content-type", "")

    def fileno(self) -> int:
        return self._connection.sock.fileno()

    def pending(self) -> bool:
        """Whether `read` answers without touching the kernel: bytes that came with the head, or decrypted ones."""
        return bool(self._connection.buffer) or self._connection.sock.pending()

    def read(self) -> bytes:
        return self._connection.receive()

    def send_some(self, data: bytes) -> int:
        """Write without blocking; how many bytes were taken."""
        return self._connection.sock.send_some(data)

    def write_eof(self) -> None:
        """Half-close: the other side sees the end of input and may go on sending."""
        self._connection.sock.shutdown(1)

    def close(self) -> None:
        self._connection.close()


class Client:
    """One daemon.

    Args:
        on_absent: called once when nothing listens at a UNIX socket; True means "now something does, try again".
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        headers: Mapping[str, str] | None = None,
        version: str = "",
        on_absent: Callable[[], bool] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.server: dict[str, str] = {}  # headers of /_ping
        self._headers = dict(headers or {})
        self._version = version
        self._on_absent = on_absent
        self._idle: Connection | None = None
        self._greeted: Connection | None = None

    def greet(self) -> None:
        """Send the ping that asks for the daemon's version, whose answer is on its way while others things are done.

        Nobody there is no error: who needs the daemon finds out.
        """
        try:
            self._greeted = Connection(connect(self.endpoint))
            self._transmit(self._greeted, "HEAD", "/_ping", {}, None)
        except EngineError:
            self._greeted = None

    @property
    def version(self) -> str:
        """API version spoken with this daemon, such as "1.55": the older of both sides' newest."""
        if not self._version:
            self.ping()
            theirs = _version_of(self.server.get("api-version", ""))
            if theirs < OLDEST:
                raise System(f"the daemon at {self.endpoint.text} is too old: it speaks API {text(theirs)}")
            self._version = text(min(LATEST, theirs))
        return self._version

    def ping(self) -> dict[str, str]:
        """HEAD /_ping: the headers that describe the daemon (lower-case names)."""
        connection, self._greeted = self._greeted, None
        if connection is not None:
            response = self._receive(connection, "HEAD")
            response.released(self._keep)
        else:
            response = self._exchange("HEAD", "/_ping", {}, None)
        if response.status >= 400:
            raise ApiError(response.status, f"the peer at {self.endpoint.text} refused /_ping")
        self.server = response.headers
        return self.server

    def close(self) -> None:
        for connection in (self._idle, self._greeted):
            if connection is not None:
                connection.close()
        self._idle = self._greeted = None

    def begin(self, method: str, target: str, query: Query | None = None) -> Connection:
        """The first half of `request`, on a connection of its own: the call is on its way.

        Raises:
            CannotConnect: nobody there.
        """
        connection = Connection(self._socket())
        self._transmit(connection, method, f"/v{self.version}{target}{query_text(query)}", {}, None)
        return connection

    def finish(self, connection: Connection, method: str) -> Response:
        """The second half: wait for the answer's head.

        Raises:
            ApiError: as of `request`.
        """
        response = self._receive(connection, method)
        if response.status >= 400:
            raise self._error(response)
        return response

    def request(
        self,
        method: str,
        target: str,
        query: Query | None = None,
        *,
        value: Any = None,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """One call; the response's body is still to be read.

        Args:
            target: path without version, already encoded (see `path`).
            value: object to send as JSON.
            body: bytes or chunks to send as they are.

        Raises:
            ApiError: status of 400 or more, with the daemon's sentence.
            CannotConnect: nobody there.
        """
        sent = dict(headers or {})
        if value is not None:
            body = jsontext.dumps(value).encode("utf-8", "surrogateescape")
            sent["Content-Type"] = "application/json"
        response = self._exchange(method, f"/v{self.version}{target}{query_text(query)}", sent, body)
        if response.status >= 400:
            raise self._error(response)
        return response

    def call(
        self,
        method: str,
        target: str,
        query: Query | None = None,
        value: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """One call whose answer is a JSON value (None where there is no body)."""
        response = self.request(method, target, query, value=value, headers=headers)
        data = response.body()
        return jsontext.loads(data) if data.strip() else None

    def get(self, target: str, query: Query | None = None) -> Any:
        return self.call("GET", target, query)

    def post(self, target: str, query: Query | None = None, value: Any = None) -> Any:
        return self.call("POST", target, query, value)

    def delete(self, target: str, query: Query | None = None) -> Any:
        return self.call("DELETE", target, query)

    def messages(
        self,
        method: str,
        target: str,
        query: Query | None = None,
        *,
        value: Any = None,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """A call whose answer is a stream of JSON objects, each handed over as it arrives."""
        response = self.request(method, target, query, value=value, body=body, headers=headers)
        try:
            for line in lines(response):
                rest = line
                while rest:
                    message, rest = jsontext.scan_one(rest)
                    yield message
        finally:
            response.close()

    def hijack(self, target: str, query: Query | None = None, value: Any = None) -> Hijacked:
        """POST and take the connection over: the streams of attach and exec.

        Raises:
            ApiError: refused.
        """
        headers = {"Connection": "Upgrade", "Upgrade": "tcp"}
        body = None
        if value is not None:
            headers["Content-Type"] = "application/json"
            body = jsontext.dumps(value).encode("utf-8", "surrogateescape")
        target = f"/v{self.version}{target}{query_text(query)}"
        response = self._send(Connection(self._socket()), "POST", target, headers, body)
        if response.status >= 400:
            raise self._error(response)
        return Hijacked(response.connection, response.headers)

    def dial(self) -> Socket:
        """A bare connection to the daemon, for a program that speaks HTTP itself."""
        return self._socket()

    # ---- the wire -------------------------------------------------------------------------------

    def _exchange(self, method: str, target: str, headers: dict[str, str], body: Body | None) -> Response:
        connection, self._idle = self._idle, None
        if connection is not None and connection.stale():
            connection.close()
            connection = None
        reused = connection is not None
        try:
            response = self._send(connection or Connection(self._socket()), method, target, headers, body)
        except Hangup:
            # The daemon gave up an idle connection just as it was used again; asking once more changes nothing there.
            if not reused or method not in ("GET", "HEAD"):
                raise
            response = self._send(Connection(self._socket()), method, target, headers, body)
        response.released(self._keep)
        return response

    def _send(
        self, connection: Connection, method: str, target: str, headers: dict[str, str], body: Body | None
    ) -> Response:
        self._transmit(connection, method, target, headers, body)
        return self._receive(connection, method)

    def _transmit(
        self, connection: Connection, method: str, target: str, headers: dict[str, str], body: Body | None
    ) -> None:
        host = "api.scow" if self.endpoint.path else f"{self.endpoint.host}:{self.endpoint.port}"
        try:
            connection.send(method, target, {"Host": host, "User-Agent": "scow", **self._headers, **headers}, body)
        except BaseException:
            connection.close()
            raise

    def _receive(self, connection: Connection, method: str) -> Response:
        try:
            return connection.answer(method)
        except BaseException:
            connection.close()
            raise

    def _socket(self) -> Socket:
        try:
            return connect(self.endpoint)
        except CannotConnect as error:
            start, self._on_absent = self._on_absent, None
            if not error.absent or start is None or not start():
                raise
        return connect(self.endpoint)

    def _keep(self, response: Response) -> None:
        """Keep the connection of a finished exchange for the next one."""
        if self._idle is None and response.reusable and not response.connection.buffer:
            self._idle = response.connection
        else:
            response.connection.close()

    def _error(self, response: Response) -> ApiError:
        data = response.body(1 << 20)
        try:
            message = jsontext.loads(data)["message"]
        except (System, KeyError, TypeError):
            message = data.decode("utf-8", "replace").strip() or f"the daemon answered with status {response.status}"
        return ApiError(response.status, str(message))


def lines(response: Response) -> Iterator[str]:
    """The lines of a body as they arrive, without their ends; the last may lack one."""
    rest = b""
    for data in response:
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            if line.strip():
                yield line.decode("utf-8", "replace").strip()
    if rest.strip():
        yield rest.decode("utf-8", "replace").strip()


def _version_of(value: str) -> tuple[int, int]:
    major, _, minor = value.partition(".")
    if not (major.isdigit() and minor.isdigit()):
        return LATEST if not value else OLDEST
    return int(major), int(minor)


def check_version(value: str) -> str:
    """A version from DOCKER_API_VERSION, checked.

    Raises:
        InvalidArgument: not "1.N".
    """
    major, _, minor = value.partition(".")
    if not (major.isdigit() and minor.isdigit()):
        raise InvalidArgument(f"invalid API version {value!r} in DOCKER_API_VERSION: expected one like {text(LATEST)}")
    return value
