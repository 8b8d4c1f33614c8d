"""A machine with an engine on it: a network namespace, a data root, a real `scowd`, and real clients.

The namespace has a loopback and nothing else, so no packet for a container's address can leave the machine. The API's
UNIX socket is a path and therefore reachable from the tests' own namespace; published ports are reached by `talk`.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import docker
import pytest

from scow.linux.namespaces import CLONE_NEWNET, setns

T = TypeVar("T")

#: SCOW_POOL_SIZE=0 runs the journeys without sandboxes made ahead.
POOL = ("--pool-size", os.environ["SCOW_POOL_SIZE"]) if "SCOW_POOL_SIZE" in os.environ else ()
BIN = Path(sys.executable).parent
DOCKER_CLI = next((str(p) for p in map(Path, ("/usr/local/bin/docker", "/usr/bin/docker")) if p.exists()), None)


def docker_program() -> str:
    """Path of the real docker CLI; skips the test, visibly, where it is not installed."""
    if DOCKER_CLI is None:
        pytest.skip("the docker CLI is not installed here")
    return DOCKER_CLI


class World:
    """An engine under `root`. Use as a context manager; leaving it stops the engine and removes its containers."""

    def __init__(self, root: Path, options: tuple[str, ...] = ()) -> None:
        self.root = root
        self.options = options
        self.socket = root / "scow.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self._namespace: subprocess.Popen[bytes] | None = None
        self._clients: list[docker.DockerClient] = []
        self.others: list[subprocess.Popen[bytes]] = []

    # -- life --------------------------------------------------------------------------------------------------------

    def __enter__(self) -> "World":
        self._namespace = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", "ip link set lo up; echo; exec sleep infinity"], stdout=subprocess.PIPE
        )
        assert self._namespace.stdout is not None
        self._namespace.stdout.readline()
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        with contextlib.suppress(Exception):
            if self.process is None or self.process.poll() is not None:
                self.start()
            self.remove_everything()
        for process in [*self.others, *([self.process] if self.process else [])]:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=60)
            if process.stderr is not None:
                process.stderr.close()
        assert self._namespace is not None
        assert self._namespace.stdout is not None
        self._namespace.kill()
        self._namespace.wait()
        self._namespace.stdout.close()

    @property
    def namespace(self) -> str:
        """Path of this machine's network namespace."""
        assert self._namespace is not None
        return f"/proc/{self._namespace.pid}/ns/net"

    def inside(self, *command: str) -> list[str]:
        """`command`, to be run on this machine."""
        return ["nsenter", f"--net={self.namespace}", "--", *command]

    def spawn(self, *command: str, log: str) -> subprocess.Popen[bytes]:
        """Start a server of ours and return once it says it is ready (``--ready-fd``)."""
        reader, writer = os.pipe()
        with (self.root / log).open("ab") as output:
            process = subprocess.Popen(
                self.inside(*command, "--ready-fd", str(writer)), pass_fds=(writer,), stdout=output, stderr=output
            )
        os.close(writer)
        with open(reader, "rb") as ready:
            if not ready.read(1):
                process.wait()
                raise AssertionError(f"{command[0]} did not start: {(self.root / log).read_text()[-4000:]}")
        return process

    def start(self, *options: str) -> None:
        """Start the daemon and return once its API answers."""
        self.process = self.spawn(*self.daemon(*options), log="scowd.log")

    def begin(self, *options: str) -> subprocess.Popen[bytes]:
        """Start a daemon without waiting for it; the caller ends it."""
        with (self.root / "scowd.log").open("ab") as output:
            return subprocess.Popen(self.inside(*self.daemon(*options)), stdout=output, stderr=output)

    def daemon(self, *options: str) -> tuple[str, ...]:
        """The daemon's command line."""
        return (
            str(BIN / "scowd"), "--data-root", str(self.root / "data"), "--exec-root", str(self.root / "run"),
            "--config-file", str(self.config_file()), "-H", f"unix://{self.socket}", *POOL, *self.options, *options,
        )  # fmt: skip

    def config_file(self) -> Path:
        path = self.root / "daemon.json"
        if not path.exists():
            path.write_text("{}")
        return path

    def kill(self) -> None:
        """kill -9 the daemon; keeper, shims and containers go on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Stop the daemon kindly; its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def keeper_pid(self) -> int:
        """Process id of the keeper."""
        return int((self.root / "run" / "keeper.lock").read_text())

    def remove_everything(self) -> None:
        client = self.docker()
        for container in client.containers.list(all=True):
            with contextlib.suppress(docker.errors.NotFound):
                container.remove(force=True, v=True)

    @property
    def log(self) -> str:
        """What the daemon wrote."""
        return (self.root / "scowd.log").read_text()

    # -- clients -----------------------------------------------------------------------------------------------------

    def docker(self, **options: Any) -> docker.DockerClient:
        """A docker-py client of this engine."""
        client = docker.DockerClient(base_url=f"unix://{self.socket}", timeout=60, **options)
        self._clients.append(client)
        return client

    def scow(self, *arguments: str, status: int = 0, data: bytes | None = None, **options: Any) -> str:
        """Run our CLI; its standard output. The exit status must be `status`."""
        return self._run([str(BIN / "scow"), *self._host(arguments), *arguments], status, data, **options)

    def docker_cli(self, *arguments: str, status: int = 0, data: bytes | None = None, **options: Any) -> str:
        """Run the real docker CLI; its standard output."""
        return self._run([docker_program(), *self._host(arguments), *arguments], status, data, **options)

    def _host(self, arguments: tuple[str, ...]) -> list[str]:
        """The option that names this engine, unless the words name another."""
        return [] if arguments[:1] == ("-H",) else ["-H", f"unix://{self.socket}"]

    def _run(self, command: list[str], status: int, data: bytes | None, **options: Any) -> str:
        environment = dict(os.environ, DOCKER_BUILDKIT="0", HOME=str(self.root), **options.pop("env", {}))
        done = subprocess.run(
            self.inside(*command), input=data, capture_output=True, timeout=100, env=environment, **options
        )
        text = done.stdout.decode(errors="replace")
        assert done.returncode == status, (
            f"{' '.join(command)} ended with {done.returncode}\n{text}{done.stderr.decode(errors='replace')}"
        )
        self.errors = done.stderr.decode(errors="replace")
        return text

    @contextlib.contextmanager
    def clients_of_a_test(self) -> Iterator[None]:
        """Clients made within the block end with it: in a long session their sockets would add up."""
        before = len(self._clients)
        yield
        while len(self._clients) > before:
            self._clients.pop().close()

    def here(self, function: Callable[[], T]) -> T:
        """Call `function` in this machine's network namespace, from a thread that steps in and ends there."""
        answer: list[T] = []
        trouble: list[BaseException] = []

        def run() -> None:
            fd = os.open(self.namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                setns(fd, CLONE_NEWNET)
                answer.append(function())
            except BaseException as error:  # handed to the caller's thread
                trouble.append(error)
            finally:
                os.close(fd)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if trouble:
            raise trouble[0]
        return answer[0]

    def talk(self, address: str, port: int, data: bytes = b"", timeout: float = 10) -> bytes:
        """Connect over TCP from this machine, send `data`, half-close, read to the end."""

        def connect() -> bytes:
            with socket.create_connection((address, port), timeout=timeout) as sock:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: sock.recv(65536), b""))

        return self.here(connect)


def cable(one: World, two: World) -> tuple[str, str]:
    """Join two machines by a cable; their addresses on it."""
    addresses = ("10.213.0.1", "10.213.0.2")
    assert two._namespace is not None
    far = str(two._namespace.pid)
    subprocess.run(
        one.inside("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", far), check=True
    )
    for world, address in zip((one, two), addresses, strict=True):
        subprocess.run(world.inside("ip", "address", "add", f"{address}/24", "dev", "eth0"), check=True)
        subprocess.run(world.inside("ip", "link", "set", "eth0", "up"), check=True)
    return addresses


@contextlib.contextmanager
def container(world: World, *arguments: str) -> Iterator[str]:
    """A detached container from our CLI's `run`, removed at the end; its id."""
    made = world.scow("run", "-d", *arguments).strip()
    try:
        yield made
    finally:
        with contextlib.suppress(AssertionError):
            world.scow("rm", "-f", "-v", made)
