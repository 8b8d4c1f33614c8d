"""The API over TCP: mutual TLS lets every byte through and no stranger in."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.certificates import Certificates
from support.world import BIN, DOCKER_CLI, World

pytestmark = pytest.mark.root


class Served:
    def __init__(self, world: World, certificates: Certificates) -> None:
        self.world, self.certificates = world, certificates
        self.client = ("-H", "tcp://127.0.0.1:2376", *certificates.client())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with World(tmp_path_factory.mktemp("tls")) as world:
        certificates = Certificates(world.root / "tls", "127.0.0.1")
        world.start("-H", "tcp://127.0.0.1:2376", *certificates.daemon())
        world.scow("image", "bootstrap", "busybox")
        world.scow("run", "-d", "--name", "echo", "busybox", "sleep", "infinity")
        yield Served(world, certificates)


@pytest.mark.parametrize("client", ["scow", "docker"])
def test_exec_returns_every_byte_of_32_mib(served: Served, client: str) -> None:
    program = str(BIN / "scow") if client == "scow" else DOCKER_CLI
    if program is None:
        pytest.skip("the docker CLI is not installed here")
    data = os.urandom(32 << 20)
    # What is written after the end of input must arrive as well: TLS has to carry a half-closed stream.
    command = [program, *served.client, "exec", "-i", "echo", "sh", "-c", "cat; echo over >&2"]
    done = subprocess.run(served.world.inside(*command), input=data, capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) == len(data)
    assert done.stdout == data
    assert done.stderr == b"over\n"


def test_a_stranger_is_turned_away(served: Served, tmp_path: Path) -> None:
    stranger = Certificates(tmp_path, "127.0.0.1")
    served.world.scow("-H", "tcp://127.0.0.1:2376", *stranger.client(), "version", status=1)
    # In the clear nothing is answered: what comes is a TLS alert or the end of the connection.
    try:
        answer = served.world.talk("127.0.0.1", 2376, b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
    except ConnectionResetError:
        answer = b""
    assert b"HTTP/" not in answer


def test_plain_tcp_beyond_loopback_is_refused_unless_forced(own_world: World) -> None:
    with pytest.raises(AssertionError, match=r"refusing to serve tcp://0\.0\.0\.0:2375 without TLS"):
        own_world.start("-H", "tcp://0.0.0.0:2375")
    own_world.start("-H", "tcp://0.0.0.0:2375", "--allow-plain-tcp")
    answer = own_world.talk("127.0.0.1", 2375, b"GET /_ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answer.endswith(b"OK")
