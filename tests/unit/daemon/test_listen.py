"""Sockets: who may connect, what is refused, what is left behind."""

import os
import socket
import stat
from pathlib import Path

import pytest

from scow.daemon.config import Config, load
from scow.daemon.listen import listeners
from scow.errors import InvalidArgument, Unavailable


def config(tmp_path: Path, *flags: str) -> Config:
    path = tmp_path / "daemon.json"
    path.write_text("{}")
    return load(["--config-file", str(path), *flags])[0]


def test_a_unix_socket_is_for_its_group_and_goes_with_the_daemon(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "scow.sock"
    with listeners(config(tmp_path, "-H", f"unix://{path}", "--group", str(os.getgid()))) as (listener,):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        assert listener.tls is None
    assert not path.exists()


def test_a_path_longer_than_a_socket_name_may_be(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120) / "scow.sock"
    with listeners(config(tmp_path, "-H", f"unix://{path}", "--group", str(os.getgid()))):
        assert stat.S_ISSOCK(path.stat().st_mode)
    assert not path.exists()


def test_a_dead_daemons_socket_is_replaced_and_a_living_ones_is_not(tmp_path: Path) -> None:
    path = tmp_path / "scow.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    wanted = config(tmp_path, "-H", f"unix://{path}", "--group", str(os.getgid()))
    with listeners(wanted), pytest.raises(Unavailable, match="served by another daemon"), listeners(wanted):
        pass


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:0", "tcp://[::]:0", "tcp://192.0.2.1:2375", "tcp://:0"])
def test_plain_tcp_beyond_loopback_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(InvalidArgument, match="without TLS"), listeners(config(tmp_path, "-H", address)):
        pass


def test_tls_that_asks_clients_for_nothing_is_no_better(tmp_path: Path) -> None:
    for name in ("cert", "key"):
        (tmp_path / name).write_text("")
    tls = ("--tls", "--tlscert", str(tmp_path / "cert"), "--tlskey", str(tmp_path / "key"))
    with (
        pytest.raises(InvalidArgument, match="to clients without certificates"),
        listeners(config(tmp_path, "-H", "tcp://0.0.0.0:0", *tls)),
    ):
        pass


def test_plain_tcp_on_loopback_is_served(tmp_path: Path) -> None:
    with listeners(config(tmp_path, "-H", "tcp://127.0.0.1:0")) as (listener,):
        socket.create_connection(listener.socket.getsockname()).close()


@pytest.mark.parametrize("address", ["scow.sock", "http://x", "tcp://127.0.0.1:port", "fd://"])
def test_addresses_that_make_no_sense(tmp_path: Path, address: str) -> None:
    with pytest.raises(InvalidArgument), listeners(config(tmp_path, "-H", address)):
        pass
