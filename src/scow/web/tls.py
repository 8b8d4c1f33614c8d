"""TLS on `ssl.MemoryBIO` over a plain transport, so that a half-close stays a half-close.

asyncio's own ``ssl=`` turns the peer's close_notify into the end of the whole connection and drops what is still on
its way to the peer: ``docker exec -i`` over TLS loses output. Here close_notify from the peer is `eof_received` and
nothing else, and `write_eof` sends ours while reading goes on (RFC 8446 section 6.1 allows exactly that; with TLS 1.2
OpenSSL does too).

::

    transport (ciphertext) ⇄ TlsLayer ⇄ Stream (plaintext; sees the layer as its transport)

A bare end of the TCP stream without close_notify counts as the peer's end as well: everyone who needs to know whether
a message is whole has a length or a digest for that.
"""

import asyncio
import contextlib
import ssl
from collections import deque
from dataclasses import dataclass
from typing import Any, cast

from scow.errors import System

#: Plaintext asked of OpenSSL at a time.
CHUNK = 256 << 10
#: Ciphertext handed to the transport in one piece.
WRITE_CHUNK = 256 << 10
#: Seconds a handshake may take.
HANDSHAKE_TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """A server's TLS: paths of its certificate and key; with `verify_peer` only clients that `ca` signed get in."""

    cert: str
    key: str
    ca: str | None = None
    verify_peer: bool = False

    def context(self) -> ssl.SSLContext:
        """What the sockets use; reads the files.

        Raises:
            System: a file is missing or does not hold what its name says, or `verify_peer` has no `ca`.
        """
        if self.verify_peer and not self.ca:
            raise System("verifying clients needs a certificate authority: name its file with --tlscacert")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.cert, self.key)
            if self.ca and self.verify_peer:
                context.load_verify_locations(self.ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(path for path in (self.cert, self.key, self.ca) if path)
            raise System(f"cannot load the TLS files {files}: {error}") from error
        return context


def client_context(
    ca: str | None = None, certificate: str | None = None, key: str | None = None, *, verify: bool = True
) -> ssl.SSLContext:
    """TLS for a client: the system's authorities plus `ca`; a client certificate; `verify=False` accepts anybody.

    Raises:
        System: a file is missing or does not hold what its name says.
    """
    context = ssl.create_default_context()
    try:
        if ca is not None:
            context.load_verify_locations(ca)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(path for path in (ca, certificate, key) if path)
        raise System(f"cannot load the TLS files {files}: {error}") from error
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class TlsLayer(asyncio.Protocol, asyncio.Transport):
    """Protocol towards the socket, transport towards `inner`, whose `connection_made` is called after the handshake."""

    def __init__(
        self,
        inner: asyncio.Protocol,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        failed: "asyncio.Future[None] | None" = None,
    ) -> None:
        asyncio.Transport.__init__(self)
        self._inner = inner
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side, server_hostname)
        self._outer: asyncio.Transport | None = None
        self._connected = False
        self._inner_eof = False
        self._eof_sent = False
        self._closing = False
        self._paused = False
        self._failed = failed
        self._timer: asyncio.TimerHandle | None = None
        self._plain: deque[bytes] = deque()
        self._raw_eof = False
        self._peer_eof = False

    # -- towards the socket ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._outer = cast("asyncio.Transport", transport)  # see Stream.connection_made
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_TIMEOUT, self._handshake_late)
        self._handshake()

    def data_received(self, data: bytes) -> None:
        """Ciphertext from the peer."""
        self._incoming.write(data)
        if not self._connected:
            self._handshake()
        if self._connected:
            self._read()

    def eof_received(self) -> bool:
        """The TCP stream ended: before the handshake a failure, later at most the end of reading."""
        # OpenSSL is not told: an end without close_notify would break the session, and with it our own sending.
        self._raw_eof = True
        if not self._connected:
            self._fail(ConnectionResetError("the connection was closed during the TLS handshake"))
            return False
        self._read()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._stop_timer()
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(
                exc or ConnectionResetError("the connection was closed during the TLS handshake")
            )
        if self._connected:
            self._connected = False
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """The socket's buffer is full."""
        if self._connected:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """The socket's buffer has room."""
        if self._connected:
            self._inner.resume_writing()

    def _handshake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, ssl.CertificateError) as error:
            self._flush()
            self._fail(error)
            return
        self._flush()
        self._stop_timer()
        self._connected = True
        if self._failed is not None and not self._failed.done():
            self._failed.set_result(None)
        self._inner.connection_made(self)

    def _handshake_late(self) -> None:
        self._fail(TimeoutError("the TLS handshake took too long"))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, error: Exception) -> None:
        self._stop_timer()
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)
        if self._outer is not None:
            self._outer.close()

    def _read(self) -> None:
        """Give the inner protocol what can be decrypted now, unless it asked for a pause."""
        while self._connected and not self._paused and (self._plain or self._decrypt()):
            self._inner.data_received(self._plain.popleft())
        if self._peer_eof and not self._plain:
            self._give_eof()
        self._flush()

    def _decrypt(self) -> bool:
        """Decrypt one piece into `_plain`; False when nothing more has come."""
        if self._peer_eof:
            return False
        try:
            data = self._tls.read(CHUNK)
        except ssl.SSLWantReadError:
            self._peer_eof = self._raw_eof
            return False
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            data = b""
        except ssl.SSLError:
            self._flush()
            self.abort()
            return False
        if not data:
            self._peer_eof = True
            return False
        self._plain.append(data)
        return True

    def _give_eof(self) -> None:
        if not self._inner_eof and not self._paused and self._connected:
            self._inner_eof = True
            self._inner.eof_received()

    def _flush(self) -> None:
        if self._outer is not None and self._outgoing.pending and not self._outer.is_closing():
            self._outer.write(self._outgoing.read())

    # -- towards the inner protocol --------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send."""
        if self._eof_sent or self._closing or not data:
            return
        view = memoryview(data)
        while view:
            piece, view = view[:WRITE_CHUNK], view[WRITE_CHUNK:]
            try:
                self._tls.write(piece)
            except ssl.SSLError:
                self.abort()
                return
            self._flush()

    def can_write_eof(self) -> bool:
        """TLS can half-close."""
        return True

    def write_eof(self) -> None:
        """Send close_notify; reading goes on."""
        if self._eof_sent or self._closing:
            return
        self._eof_sent = True
        # unwrap() also looks for the peer's close_notify and would throw application data away that it meets.
        while self._decrypt():
            pass
        with contextlib.suppress(ssl.SSLError):  # "want read": ours is written, the peer's has not come yet
            self._tls.unwrap()
        self._flush()
        if self._outer is not None and self._outer.can_write_eof() and not self._outer.is_closing():
            with contextlib.suppress(OSError):  # the peer is gone; connection_lost tells
                self._outer.write_eof()

    def close(self) -> None:
        """Send close_notify and close once everything is sent."""
        if self._closing:
            return
        self.write_eof()
        self._closing = True
        if self._outer is not None:
            self._outer.close()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        if self._outer is not None:
            self._outer.abort()

    def is_closing(self) -> bool:
        """Whether `close` or `abort` was called, or the socket is going."""
        return self._closing or self._outer is None or self._outer.is_closing()

    def pause_reading(self) -> None:
        """Stop giving data to the inner protocol, and reading the socket."""
        self._paused = True
        if self._outer is not None:
            self._outer.pause_reading()

    def resume_reading(self) -> None:
        """Go on giving data."""
        self._paused = False
        if self._outer is not None and not self._outer.is_closing():
            self._outer.resume_reading()
        asyncio.get_running_loop().call_soon(self._read)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Passed to the socket's transport."""
        if self._outer is not None:
            self._outer.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Bytes not yet sent."""
        return self._outer.get_write_buffer_size() if self._outer is not None else 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``peercert`` is the verified certificate; the rest comes from the socket's transport."""
        if name == "peercert":
            return self._tls.getpeercert() or default
        if name == "ssl_object":
            return self._tls
        return self._outer.get_extra_info(name, default) if self._outer is not None else default
