"""Packets, documents and sockets whose paths are too long for an address."""

import os
import socket

import pytest

from scow.shim import protocol


def test_a_socket_at_a_long_path(tmp_path):
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    (folder / "s").write_text("left over")
    listener = protocol.listen(str(folder), "s")
    end = protocol.connect(str(folder), "s")
    assert (folder / "s").stat().st_mode & 0o777 == 0o600
    peer, _ = listener.accept()
    protocol.send(end, {"do": "x"}, [end.fileno()])
    message, fds = protocol.receive(peer)
    assert message == {"do": "x"}
    assert len(fds) == 1
    os.close(fds[0])
    end.close()
    assert protocol.receive(peer) == (None, [])
    peer.close()
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        protocol.connect(str(folder), "s")


def test_documents_travel_in_memory():
    value = {"args": ["x" * 300_000], "n": [1, 2.5, None, True]}
    assert protocol.read_document(protocol.document(value)) == value


def test_a_document_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(protocol, "MAX_DOCUMENT", 10)
    with pytest.raises(ValueError, match="bytes"):
        protocol.read_document(protocol.document("x" * 20))


def test_nothing_there_yet():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        protocol.receive(ours)
    ours.close()
    theirs.close()
