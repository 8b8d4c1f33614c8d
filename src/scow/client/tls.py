"""TLS for the client over a plain socket, with a half-close that keeps the other direction open.

``ssl.SSLSocket.unwrap`` waits for the peer's goodbye and throws away what arrives in between, which would lose the
output that follows the end of ``exec -i``'s input; a `MemoryBIO` pair does not. Imported only when a host asks for
TLS.
"""

import _socket
import contextlib
import ssl

from scow.client.endpoint import TlsFiles
from scow.errors import System

CHUNK = 1 << 16


def context(files: TlsFiles) -> ssl.SSLContext:
    """A client context: TLS 1.2 or newer, our certificate if there is one, the peer checked when asked.

    Raises:
        System: a certificate file cannot be read; the sentence names it.
    """
    result = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    result.minimum_version = ssl.TLSVersion.TLSv1_2
    if not files.verify:
        result.check_hostname = False
        result.verify_mode = ssl.CERT_NONE
    try:
        if files.verify:
            if files.ca:
                result.load_verify_locations(files.ca)
            else:
                result.load_default_certs()
        if files.cert and files.key:
            result.load_cert_chain(files.cert, files.key)
    except OSError as error:
        raise System(f"could not read the TLS certificates ({files.ca or files.cert}): {error}") from None
    return result


class TlsSocket:
    """The few methods `Connection` uses of a socket, encrypted."""

    def __init__(self, sock: _socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._sock = sock
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)
        self._plain = bytearray()
        self._ended = False
        self._unsent = b""  # encrypted, and the kernel had no room
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
            else:
                break
        self._flush()

    def fileno(self) -> int:
        return self._sock.fileno()

    def pending(self) -> bool:
        """Whether `recv` would answer without reading the socket."""
        self._decrypt()
        return bool(self._plain) or self._ended

    def recv(self, limit: int) -> bytes:
        while True:
            self._decrypt()
            if self._plain or self._ended:
                data = bytes(self._plain[:limit])
                del self._plain[:limit]
                return data
            self._feed()

    def sendall(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._tls.write(view[:CHUNK]) :]
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
            self._flush()

    def send_some(self, data: bytes) -> int:
        """Send without blocking; how many bytes were taken, 0 when the other side has to read first."""
        if self._unsent:
            try:
                self._unsent = self._unsent[self._sock.send(self._unsent, _socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                return 0
        if self._unsent or not data:
            return 0
        taken = self._tls.write(memoryview(data)[:CHUNK])
        self._unsent = self._out.read()
        self.send_some(b"")
        return taken

    def shutdown(self, how: int) -> None:
        """Say that nothing more will be sent; what the peer still sends can be read."""
        if how != _socket.SHUT_WR:
            self._sock.shutdown(how)
            return
        self._decrypt()  # OpenSSL refuses its goodbye while application data waits
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush()

    def close(self) -> None:
        self._sock.close()

    def settimeout(self, seconds: float | None) -> None:
        self._sock.settimeout(seconds)

    def _decrypt(self) -> None:
        while not self._ended:
            try:
                data = self._tls.read(CHUNK)
            except ssl.SSLWantReadError:
                return
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                data = b""
            if not data:
                self._ended = True
            self._plain += data

    def _feed(self) -> None:
        data = self._sock.recv(CHUNK)
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()

    def _flush(self) -> None:
        if self._unsent:
            unsent, self._unsent = self._unsent, b""
            self._sock.sendall(unsent)
        while self._out.pending:
            self._sock.sendall(self._out.read())
