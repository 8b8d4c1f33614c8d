"""One HTTP/1.1 connection to the daemon, synchronous: heads, bodies both ways, and what remains after an upgrade.

Invariants: a response's body is never read past its end; heads are bounded; a connection is used for one exchange at
a time.
"""

from __future__ import annotations

import _socket
import os

from scow.errors import EngineError, System, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from scow.client.endpoint import Endpoint
    from scow.client.tls import TlsSocket

    Body = bytes | Iterable[bytes]

MAX_HEAD = 1 << 18
MAX_LINE = 1 << 16
CHUNK = 1 << 16
CONNECT_SECONDS = 30.0


class Hangup(System):
    """The peer closed before it answered anything."""

    def __init__(self) -> None:
        super().__init__("the daemon closed the connection in the middle of an answer")


class PlainSocket(_socket.socket):
    """A kernel socket: nothing is ever read ahead of `recv`."""

    def pending(self) -> bool:
        return False

    def send_some(self, data: bytes) -> int:
        """Send without blocking; how many bytes went, 0 when the other side has to read first."""
        try:
            return self.send(data, _socket.MSG_DONTWAIT) if data else 0
        except BlockingIOError:
            return 0


if TYPE_CHECKING:
    #: What a connection needs: fileno, pending, recv, sendall, send_some, shutdown, settimeout, close.
    Socket = PlainSocket | TlsSocket


class ApiError(EngineError):
    """The daemon answered with a status of 400 or more."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class CannotConnect(Unavailable):
    """Nobody answers at the endpoint; `absent` when nothing listens there, so a daemon could be started."""

    def __init__(self, message: str, absent: bool = False) -> None:
        super().__init__(message)
        self.absent = absent


def connect(endpoint: Endpoint) -> Socket:
    """A connected socket.

    Raises:
        CannotConnect: with the sentence to show, which says what to do next.
    """
    try:
        return _unix(endpoint.path) if endpoint.path else _tcp(endpoint)
    except PermissionError:
        raise CannotConnect(
            f"permission denied while trying to connect to the scow daemon socket at {endpoint.text}: "
            "add your user to the group 'scow' or use sudo"
        ) from None
    except OSError as error:
        absent = bool(endpoint.path) and isinstance(error, FileNotFoundError | ConnectionRefusedError)
        if absent or isinstance(error, ConnectionRefusedError):
            sentence = f"Cannot connect to the scow daemon at {endpoint.text}. Is the scow daemon running?"
        else:
            sentence = f"error during connect: {endpoint.text}: {error.strerror or error}"
        raise CannotConnect(sentence, absent) from None


def _unix(path: str) -> Socket:
    sock = PlainSocket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        if len(os.fsencode(path)) < 108:  # sun_path's size; longer paths go through their open folder
            sock.connect(path)
        else:
            folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                sock.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
            finally:
                os.close(folder)
    except BaseException:
        sock.close()
        raise
    return sock


def _tcp(endpoint: Endpoint) -> Socket:
    last: OSError = OSError("no address")
    for family, kind, protocol, _, address in _socket.getaddrinfo(endpoint.host, endpoint.port, 0, _socket.SOCK_STREAM):
        sock = PlainSocket(family, kind | _socket.SOCK_CLOEXEC, protocol)
        try:
            sock.settimeout(CONNECT_SECONDS)
            sock.connect(address)
            sock.settimeout(None)
            sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
            if endpoint.tls is None:
                return sock
            from scow.client.tls import TlsSocket, context

            return TlsSocket(sock, context(endpoint.tls), endpoint.host)
        except OSError as error:
            sock.close()
            last = error
        except BaseException:
            sock.close()
            raise
    raise last


class Connection:
    """A socket and the bytes read ahead of it."""

    def __init__(self, sock: Socket) -> None:
        self.sock = sock
        self.buffer = b""

    def close(self) -> None:
        self.sock.close()

    def stale(self) -> bool:
        """Whether an idle connection has become readable, which means that the peer closed it."""
        import select

        poll = select.poll()
        poll.register(self.sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def receive(self) -> bytes:
        """The next bytes, at most `CHUNK`; b"" at the end."""
        if self.buffer:
            data, self.buffer = self.buffer, b""
            return data
        try:
            return self.sock.recv(CHUNK)
        except ConnectionResetError:
            return b""

    def line(self, limit: int = MAX_LINE) -> bytes:
        """One line without its end.

        Raises:
            System: the peer closed in the middle, or the line is longer than `limit`.
        """
        while b"\n" not in self.buffer:
            if len(self.buffer) > limit:
                raise System("the daemon sent a line that is too long for HTTP")
            data = self._more()
            if not data:
                raise Hangup
            self.buffer += data
        found, _, self.buffer = self.buffer.partition(b"\n")
        return found.rstrip(b"\r")

    def _more(self) -> bytes:
        try:
            return self.sock.recv(CHUNK)
        except ConnectionResetError:
            return b""

    def send(self, method: str, target: str, headers: dict[str, str], body: Body | None = None) -> None:
        """Write one request. A body that is not bytes goes out in chunks as it is produced.

        A peer that answers and closes before it read everything is not an error here: its answer tells.
        """
        lines = [f"{method} {target} HTTP/1.1"]
        if isinstance(body, bytes):
            headers["Content-Length"] = str(len(body))
        elif body is not None:
            headers["Transfer-Encoding"] = "chunked"
        elif method in ("POST", "PUT"):
            headers["Content-Length"] = "0"
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([*lines, "", ""])
        if len(lines) != head.count("\n") - 1:
            raise System("a line break in a request head: a header or a name holds one")
        try:
            self._send_all(head.encode("latin-1", "replace"), body)
        except (BrokenPipeError, ConnectionResetError):
            return

    def _send_all(self, head: bytes, body: Body | None) -> None:
        if isinstance(body, bytes):
            self.sock.sendall(head + body if len(body) < CHUNK else head)
            if len(body) >= CHUNK:
                self.sock.sendall(body)
            return
        self.sock.sendall(head)
        if body is None:
            return
        for piece in body:
            if piece:
                self.sock.sendall(b"%x\r\n" % len(piece))
                self.sock.sendall(piece)
                self.sock.sendall(b"\r\n")
        self.sock.sendall(b"0\r\n\r\n")

    def answer(self, method: str) -> Response:
        """Read the next response head; 1xx other than 101 are passed over.

        Raises:
            System: the peer does not speak HTTP, or went away.
        """
        while True:
            status_line = self.line()
            parts = status_line.split(None, 2)
            if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
                raise System(f"the peer does not speak HTTP: {status_line[:80]!r} (is TLS missing or too much?)")
            status = int(parts[1])
            headers: dict[str, str] = {}
            total = 0
            while line := self.line():
                total += len(line)
                if total > MAX_HEAD:
                    raise System("the daemon sent a head that is too long for HTTP")
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            if status >= 200 or status == 101:
                return Response(self, method, status, headers)


class Response:
    """A response whose body is read on demand.

    At the body's end the connection goes back through `released` (set by whoever keeps connections), or is closed; a
    body that breaks closes it.
    """

    def __init__(self, connection: Connection, method: str, status: int, headers: dict[str, str]) -> None:
        self.connection = connection
        self.status = status
        self.headers = headers
        self.ended = False
        self._released: Callable[[Response], None] | None = None
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length", "")
        self._left = int(length) if length.isdigit() and not self._chunked else -1
        if method == "HEAD" or status in (204, 304):
            self._chunked, self._left = False, 0
        self.reusable = (self._chunked or self._left >= 0) and headers.get("connection", "").lower() != "close"
        self._chunk_left = 0

    def released(self, keep: Callable[[Response], None]) -> None:
        """Call `keep` when the body has ended, at once where there is none."""
        self._released = keep
        if self._left == 0:
            self._end()

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        if self._released:
            self._released(self)
        else:
            self.connection.close()

    def read(self) -> bytes:
        """Some bytes of the body; b"" at its end.

        Raises:
            System: the connection broke before the body was whole.
        """
        if self.ended:
            return b""
        try:
            return self._read()
        except BaseException:
            self.close()
            raise

    def _read(self) -> bytes:
        if self._left == 0 or (self._chunked and self._chunk_left == 0 and not self._next_chunk()):
            self._end()
            return b""
        data = self.connection.receive()
        limit = self._chunk_left if self._chunked else self._left
        if not data:
            if limit < 0:
                self._end()
                return b""
            raise Hangup
        if limit < 0:
            return data
        data, rest = data[:limit], data[limit:]
        if rest:
            self.connection.buffer = rest
        self._consumed(len(data))
        return data

    def _consumed(self, count: int) -> None:
        if self._chunked:
            self._chunk_left -= count
            if self._chunk_left == 0:
                self.connection.line()
            return
        self._left -= count
        if self._left == 0:
            self._end()

    def _next_chunk(self) -> bool:
        size = self.connection.line().split(b";", 1)[0].strip()
        try:
            self._chunk_left = int(size, 16)
        except ValueError:
            raise System(f"the daemon sent a bad chunk size: {size[:20]!r}") from None
        if self._chunk_left < 0:
            raise System("the daemon sent a negative chunk size")
        if self._chunk_left:
            return True
        while self.connection.line():
            pass  # trailers
        return False

    def body(self, limit: int = 1 << 30) -> bytes:
        """The rest of the body at once.

        Raises:
            System: more than `limit` bytes.
        """
        parts = []
        total = 0
        while data := self.read():
            total += len(data)
            if total > limit:
                raise System(f"the daemon sent more than {limit} bytes where an object was expected")
            parts.append(data)
        return b"".join(parts)

    def __iter__(self) -> Iterator[bytes]:
        while data := self.read():
            yield data

    def close(self) -> None:
        """Give the connection up if the body has not ended; nothing more of it is read."""
        if not self.ended:
            self.ended = True
            self.connection.close()
