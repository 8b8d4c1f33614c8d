"""Logs as users meet them: the docker CLI, docker-py and our own command on the drivers that keep files."""

import contextlib
import gc
import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.types import LogConfig

from support.world import BIN, World, container

pytestmark = [pytest.mark.root, pytest.mark.filterwarnings("ignore::ResourceWarning")]

DRIVERS = ["json-file", "local"]
#: Answers each line of its input with one of output, so that a test decides when something is logged.
ECHO = 'while read -r line; do echo "$line"; done'


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """docker-py leaves the sockets of streams to the garbage collector."""
    yield
    gc.collect()


@contextlib.contextmanager
def echo(world: World, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A container that logs what is written to the process's stdin."""
    with container(world, "-i", *options, "busybox", "sh", "-c", ECHO) as made:
        process = subprocess.Popen(
            world.inside(str(BIN / "scow"), "-H", f"unix://{world.socket}", "attach", made),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            yield made, process
        finally:
            for end in (process.stdin, process.stdout):
                assert end is not None
                end.close()
            process.kill()
            process.wait()


def say(process: subprocess.Popen[bytes], *lines: str) -> None:
    """Have the lines logged; returns when they are."""
    assert process.stdin is not None
    assert process.stdout is not None
    for line in lines:
        process.stdin.write(f"{line}\n".encode())
        process.stdin.flush()
        assert process.stdout.readline() == f"{line}\n".encode()


def files(world: World, made: str) -> list[Path]:
    return sorted((world.root / "data" / "containers" / made).glob("*-json.log*"))


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_the_docker_command_shows(world: World, driver: str) -> None:
    with echo(world, "--log-driver", driver) as (made, process):
        say(process, "one", "two")
        time.sleep(1.1)  # `since` and `until` count whole seconds here
        middle = int(time.time())
        say(process, "three", "four")
        assert world.docker_cli("logs", made) == "one\ntwo\nthree\nfour\n"
        assert world.docker_cli("logs", "--tail", "2", made) == "three\nfour\n"
        assert world.docker_cli("logs", "--since", str(middle), made) == "three\nfour\n"
        assert world.docker_cli("logs", "--until", str(middle), made) == "one\ntwo\n"
        stamped = world.docker_cli("logs", "-t", made).splitlines()
        assert [line.split(" ", 1)[1] for line in stamped] == ["one", "two", "three", "four"]
        assert stamped == sorted(stamped)
        assert all(len(line.split()[0]) == len("2026-01-02T03:04:05.123456789Z") for line in stamped)


@pytest.mark.parametrize("driver", DRIVERS)
def test_following_across_rotations_with_compression(world: World, driver: str) -> None:
    client = world.docker()
    made = client.containers.run(
        "busybox",
        ["sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"],
        detach=True,
        log_config=LogConfig(type=driver, config={"max-size": "100k", "max-file": "50", "compress": "true"}),
    )
    try:
        followed = b"".join(made.logs(stream=True, follow=True))
        wanted = b"".join(b"line %d\n" % number for number in range(20000))
        assert followed == wanted
        assert made.wait()["StatusCode"] == 0
        assert made.logs() == wanted
        assert made.logs(tail=3) == b"line 19997\nline 19998\nline 19999\n"
        stamps = [line.split()[0] for line in made.logs(timestamps=True).splitlines()]
        assert stamps == sorted(stamps)
        assert len(files(world, made.id)) > 2
    finally:
        made.remove(force=True)


def test_details_are_what_the_options_picked(world: World) -> None:
    options = ("labels=com.example.app", "env=MODE", "tag={{.Name}}/{{.ID}}")
    with container(
        world,
        *[word for option in options for word in ("--log-opt", option)],
        *("--label", "com.example.app=a b", "--label", "other=x", "-e", "MODE=1,2", "--name", "detailed"),
        *("busybox", "echo", "hello"),
    ) as made:
        world.scow("wait", made)
        wanted = f"MODE=1%2C2,com.example.app=a+b,tag=detailed%2F{made[:12]} hello\n"
        assert world.docker_cli("logs", "--details", made) == wanted
        line = json.loads(files(world, made)[0].read_text())
        assert line["attrs"] == {"MODE": "1,2", "com.example.app": "a b", "tag": f"detailed/{made[:12]}"}


# ── other programs' logs ──────────────────────────────────────────────────────────────────────────────────────────────


def test_syslog_from_run_to_rm(world: World, tmp_path: Path) -> None:
    path = tmp_path / "dev-log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        server.settimeout(20)
        options = ("--log-driver", "syslog", "--log-opt", f"syslog-address=unixgram://{path}")
        with container(
            world,
            *options,
            "--log-opt",
            "tag={{.Name}}",
            "--name",
            "told",
            "busybox",
            "sh",
            "-c",
            "echo out; echo err >&2",
        ) as made:
            found = [server.recv(4096), server.recv(4096)]
            assert sorted(line[:4] for line in found) == [b"<27>", b"<30>"]
            assert all(re.search(rb" told\[\d+\]: (out|err)\n$", line) for line in found)
            world.scow("wait", made)
            assert world.docker_cli("logs", made) == "out\n"
            assert world.docker_cli("inspect", "-f", "{{.HostConfig.LogConfig.Type}}", made) == "syslog\n"
        with container(world, *options, "--log-opt", "cache-disabled=true", "busybox", "echo", "x") as made:
            world.docker_cli("logs", made, status=1)
            assert "configured logging driver does not support reading" in world.errors


def test_a_log_server_that_is_not_there(world: World) -> None:
    world.docker_cli(
        *("run", "--log-driver", "syslog", "--log-opt", "syslog-address=tcp://127.0.0.1:9", "busybox", "true"),
        status=125,
    )
    wanted = "failed to initialize logging driver: dial tcp 127.0.0.1:9: connect: connection refused"
    assert wanted in world.errors
    assert world.scow("ps", "-q") == ""


def test_info_names_the_drivers(world: World) -> None:
    assert world.docker().info()["Plugins"]["Log"] == ["journald", "json-file", "local", "none", "syslog"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_non_blocking_log_is_there_when_the_container_has_ended(world: World, driver: str) -> None:
    out = world.docker().containers.run(
        "busybox",
        ["sh", "-c", "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done"],
        remove=True,
        log_config=LogConfig(type=driver, config={"mode": "non-blocking", "max-buffer-size": "4m"}),
    )
    if driver == "json-file":
        assert out == b"".join(b"line %d\n" % number for number in range(5000))


# ── clearing ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("driver", DRIVERS)
def test_clearing_while_it_runs_and_after(world: World, driver: str) -> None:
    with echo(world, "--log-driver", driver) as (made, process):
        say(process, "one", "two")
        lines: list[bytes] = []
        follower = subprocess.Popen(
            world.inside(str(BIN / "scow"), "-H", f"unix://{world.socket}", "logs", "-f", made), stdout=subprocess.PIPE
        )
        assert follower.stdout is not None
        lines += [follower.stdout.readline(), follower.stdout.readline()]
        assert world.scow("logs", "--clear", made) == ""
        assert world.scow("logs", made) == ""
        say(process, "three")
        lines.append(follower.stdout.readline())
        assert lines == [b"one\n", b"two\n", b"three\n"]
        assert world.docker_cli("logs", made) == "three\n"
        assert len(files(world, made)) == 1
        world.scow("kill", made)
        world.scow("wait", made)
        assert follower.wait(20) == 0
        follower.stdout.close()
        world.scow("logs", "--clear", made)
        assert world.docker_cli("logs", made) == ""
        world.scow("start", made)
        assert world.docker_cli("logs", made) == ""


def test_what_keeps_no_log_says_so(world: World) -> None:
    with container(world, "--log-driver", "none", "busybox", "sleep", "100") as made:
        for words in (("logs", made), ("logs", "--clear", made)):
            world.scow(*words, status=1)
            assert "configured logging driver does not support reading" in world.errors
    world.scow("logs", "--clear", "nobody", status=1)
    assert "No such container: nobody" in world.errors


# ── bad luck ────────────────────────────────────────────────────────────────────────────────────────────────────────


def daemon_memory(world: World) -> int:
    """Resident bytes."""
    assert world.process is not None
    status = Path(f"/proc/{world.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) << 10


def shim_of(world: World, made: str) -> int:
    state: dict[str, Any] = json.loads((world.root / "run" / "tasks" / made / "state.json").read_text())
    return int(state["shim"])


@pytest.mark.parametrize("driver", DRIVERS)
def test_output_without_end_or_newline_stays_small_everywhere(world: World, driver: str) -> None:
    with container(
        world, "--log-driver", driver, "--log-opt", "max-size=10m", "--log-opt", "max-file=2", "-i", "busybox",
        "sh", "-c", "head -c 60000000 /dev/zero | tr '\\0' x; read wait",
    ) as made:  # fmt: skip
        client = world.docker()
        before = daemon_memory(world)
        seen = 0
        for piece in client.containers.get(made).logs(stream=True, follow=True):
            seen += len(piece)
            assert set(piece) == {ord("x")}
            if seen > 8_000_000:
                break
        assert daemon_memory(world) - before < 60 << 20
        status = Path(f"/proc/{shim_of(world, made)}/status").read_text()
        assert int(status.split("VmRSS:")[1].split()[0]) < 40 << 10


def test_a_follower_that_does_not_read_holds_up_nobody(world: World) -> None:
    """A flood, two who follow it without reading, and the rest of the engine as if nothing were."""
    with container(world, "busybox", "sh", "-c", "yes 0123456789012345678901234567890123456789") as flood:
        idle = [world.docker().containers.get(flood).logs(stream=True, follow=True, tail=0) for _ in range(2)]
        for follower in idle:
            next(iter(follower))
        before = daemon_memory(world)
        for _ in range(5):
            assert world.scow("run", "--rm", "busybox", "echo", "quick") == "quick\n"
        size = files(world, flood)[0].stat().st_size
        time.sleep(0.5)
        assert files(world, flood)[0].stat().st_size > size, "the flood itself goes on"
        assert daemon_memory(world) - before < 60 << 20


def test_an_exit_before_anybody_attached_loses_no_output(world: World) -> None:
    client = world.docker()
    made = client.containers.create("busybox", ["echo", "gone"])
    try:
        found: list[bytes] = []
        ready = made.attach_socket(params={"stdout": 1, "stream": 1})
        made.start()
        made.wait()
        reader = threading.Thread(target=lambda: found.append(ready.read(64)))
        reader.start()
        reader.join(20)
        assert found[0][8:] == b"gone\n"
        ready.close()
        assert made.attach(logs=True, stream=False) == b"gone\n"
        assert made.logs(follow=True) == b"gone\n"
    finally:
        made.remove(force=True)


def test_a_reader_whose_files_are_rotated_away_reads_on(world: World) -> None:
    client = world.docker()
    made = client.containers.run(
        "busybox",
        ["sh", "-c", "i=0; while :; do echo line $i; i=$((i+1)); done"],
        detach=True,
        log_config=LogConfig(type="json-file", config={"max-size": "50k", "max-file": "2"}),
    )
    try:
        numbers = []
        for number, line in enumerate(made.logs(stream=True, follow=True)):
            numbers.append(int(line.split()[1]))
            if number < 20:
                time.sleep(0.1)  # the files it has open are gone by then
            if number > 3000:
                break
        assert numbers == sorted(set(numbers))
    finally:
        made.remove(force=True)


def test_docker_py_gets_its_exceptions(world: World) -> None:
    client = world.docker()
    with pytest.raises(docker.errors.NotFound):
        client.api.logs("nobody")
