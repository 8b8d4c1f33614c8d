"""Mutual TLS: who is trusted, and the output that comes after our half of the connection is closed."""

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scow.client.client import Client
from scow.client.endpoint import Endpoint, TlsFiles
from scow.client.http import CannotConnect, connect
from scow.errors import System
from support.certificates import Certificates

SIZE = 3_000_000


class EchoServer:
    """Reads to the end, then answers with what came: only a proper half-close gets an answer."""

    def __init__(self, certificates: Certificates) -> None:
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates.ca))
        self.context.verify_mode = ssl.CERT_REQUIRED
        folder = certificates.folder
        self.context.load_cert_chain(folder / "server-cert.pem", folder / "server-key.pem")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        try:
            raw, _ = self.listener.accept()
        except OSError:
            return  # closed before anybody came
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.context.wrap_bio(incoming, outgoing, server_side=True)
        got = bytearray()
        shaken = False
        with raw:
            while True:
                try:
                    if not shaken:
                        tls.do_handshake()
                        shaken = True
                    data = tls.read(65536)
                    if not data:
                        break
                    got += data
                except ssl.SSLWantReadError:
                    raw.sendall(outgoing.read())
                    piece = raw.recv(65536)
                    if not piece:
                        return
                    incoming.write(piece)
                except ssl.SSLZeroReturnError:
                    break
                except ssl.SSLError:
                    return
            tls.write(b"after:")
            for at in range(0, len(got), 65536):
                tls.write(bytes(got[at : at + 65536]))
                raw.sendall(outgoing.read())

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept
        self.listener.close()
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[EchoServer, Certificates]]:
    certificates = Certificates(tmp_path / "certs", "127.0.0.1")
    made = EchoServer(certificates)
    yield made, certificates
    made.close()


Server = tuple[EchoServer, Certificates]


def endpoint(port: int, ca: Path | str, folder: Path | None) -> Endpoint:
    cert, key = (str(folder / "cert.pem"), str(folder / "key.pem")) if folder else ("", "")
    return Endpoint(f"tcp://127.0.0.1:{port}", host="127.0.0.1", port=port, tls=TlsFiles(str(ca), cert, key, True))


def test_output_after_our_half_close_is_whole(server: Server) -> None:
    made, certificates = server
    sock = connect(endpoint(made.port, certificates.ca, certificates.folder))
    data = bytes(range(256)) * (SIZE // 256)
    sent = 0
    while sent < len(data):
        taken = sock.send_some(data[sent : sent + 65536])
        sent += taken
        if not taken:
            sock.sendall(b"")  # waits for room
    sock.shutdown(socket.SHUT_WR)
    got = b"".join(iter(lambda: sock.recv(65536), b""))
    sock.close()
    assert got == b"after:" + data


def test_a_stranger_is_not_trusted(server: Server, tmp_path: Path) -> None:
    made, certificates = server
    other = Certificates(tmp_path / "other", "127.0.0.1")
    with pytest.raises(CannotConnect, match=r"(?i)certificate.verify.failed"):
        connect(endpoint(made.port, other.ca, certificates.folder))


def test_a_client_without_a_certificate_gets_no_answer(server: Server) -> None:
    made, certificates = server
    with pytest.raises((System, CannotConnect, ssl.SSLError)):
        Client(endpoint(made.port, certificates.ca, None)).ping()


def test_a_missing_certificate_file_is_named(server: Server, tmp_path: Path) -> None:
    made, certificates = server
    with pytest.raises(System, match="nothere"):
        connect(endpoint(made.port, tmp_path / "nothere", certificates.folder))
    socket.create_connection(("127.0.0.1", made.port)).close()
