"""The docker CLI on this engine: a container's life, its streams, files, limits and events."""

import contextlib
import io
import json
import os
import re
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.terminal import Terminal
from support.world import DOCKER_CLI, World

pytestmark = [
    pytest.mark.root,
    pytest.mark.peer,
    pytest.mark.skipif(DOCKER_CLI is None, reason="the docker CLI is not installed here"),
]

Docker = Callable[..., str]


@pytest.fixture(scope="module")
def docker(world: World) -> Docker:
    return world.docker_cli


@pytest.fixture(scope="module")
def box(docker: Docker) -> Iterator[str]:
    """A container that runs and does nothing."""
    docker("run", "-d", "--name", "box", "-e", "COLOUR=red", "--label", "kind=box", "busybox", "sleep", "1000")
    yield "box"
    docker("rm", "-f", "-v", "box")


@pytest.fixture
def made(docker: Docker) -> Iterator[str]:
    """A name for a container that is removed at the end."""
    yield "made"
    docker("rm", "-f", "-v", "made")


def terminal(world: World, *words: str, rows: int = 24, cols: int = 80) -> Terminal:
    assert DOCKER_CLI is not None
    command = world.inside(DOCKER_CLI, "-H", f"unix://{world.socket}", *words)
    return Terminal(command, rows=rows, cols=cols, env=dict(os.environ, HOME=str(world.root), TERM="xterm"))


@contextlib.contextmanager
def following(world: World, *words: str) -> Iterator[Iterator[str]]:
    """A command that runs on, as an iterator over the lines it prints."""
    assert DOCKER_CLI is not None
    process = subprocess.Popen(
        world.inside(DOCKER_CLI, "-H", f"unix://{world.socket}", *words),
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ, HOME=str(world.root)),
    )
    assert process.stdout is not None
    try:
        yield iter(process.stdout.readline, "")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def up(world: World, name: str) -> None:
    """Return once the container has printed its first line."""
    with following(world, "logs", "-f", name) as lines:
        next(lines)


def trapping(signal: str, status: int) -> tuple[str, ...]:
    """A program that ends with `status` on `signal` and says when it is ready for it."""
    return ("sh", "-c", f"trap 'exit {status}' {signal}; echo up; while :; do sleep 0.05; done")


def state(docker: Docker, name: str, member: str = "Status") -> str:
    return docker("inspect", "-f", f"{{{{.State.{member}}}}}", name).strip()


# -- life ------------------------------------------------------------------------------------------------------------


def test_create_start_stop_and_remove(docker: Docker, world: World, made: str) -> None:
    identity = docker("create", "--name", made, "busybox", *trapping("TERM", 9)).strip()
    assert re.fullmatch("[0-9a-f]{64}", identity)
    assert state(docker, made) == "created"
    assert docker("start", made) == f"{made}\n"
    up(world, made)
    docker("stop", made)
    assert state(docker, made, "ExitCode") == "9"
    assert docker("wait", made) == "9\n"
    assert docker("rm", made) == f"{made}\n"
    docker("inspect", made, status=1)


def test_a_process_that_ignores_the_stop_signal_is_killed(docker: Docker, made: str) -> None:
    docker("run", "-d", "--name", made, "busybox", "sleep", "1000")
    started = time.monotonic()
    docker("stop", "-t", "1", made)
    assert time.monotonic() - started >= 1
    assert state(docker, made, "ExitCode") == "137"


def test_the_stop_signal_can_be_another(docker: Docker, world: World, made: str) -> None:
    docker("run", "-d", "--name", made, "--stop-signal", "USR1", "busybox", *trapping("USR1", 4))
    up(world, made)
    docker("stop", made)
    assert state(docker, made, "ExitCode") == "4"


def test_kill_by_name_and_number(docker: Docker, world: World, made: str) -> None:
    docker("run", "-d", "--name", made, "busybox", *trapping("HUP", 3))
    up(world, made)
    docker("kill", "-s", "SIGHUP", made)
    assert docker("wait", made) == "3\n"
    docker("start", made)
    docker("kill", "-s", "9", made)
    assert docker("wait", made) == "137\n"
    docker("kill", made, status=1)


def test_restart_pause_and_rename(docker: Docker, made: str) -> None:
    docker("run", "-d", "--name", "other", "busybox", "sleep", "1000")
    docker("rename", "other", made)
    before = state(docker, made, "Pid")
    docker("restart", "-t", "0", made)
    assert state(docker, made, "Pid") != before
    docker("pause", made)
    assert state(docker, made) == "paused"
    assert "(Paused)" in docker("ps", "--filter", f"name={made}")
    docker("exec", made, "true", status=1)
    docker("unpause", made)
    docker("exec", made, "true")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["busybox", "sh", "-c", "exit 42"], 42),
        (["busybox", "no-such-program"], 127),
        (["busybox", "/no/such/program"], 127),
        (["busybox", "/etc"], 126),
        (["--no-such-flag", "busybox"], 125),
        (["-v", "relative/path:/x", "busybox"], 125),
        (["--network", "no-such-network", "busybox"], 125),
        (["--memory", "1k", "busybox"], 125),
        (["--entrypoint", "/bin/sh", "busybox", "-c", "kill -KILL -1; exit 5"], 5),
        (["--init", "busybox", "sh", "-c", "kill -KILL $$"], 137),
        (["--init", "busybox", "sh", "-c", "kill -TERM $$"], 143),
    ],
)
def test_exit_statuses_of_run(docker: Docker, words: list[str], status: int) -> None:
    docker("run", "--rm", *words, status=status)
    assert docker("ps", "-aq", "--filter", "ancestor=busybox", "--filter", "status=created") == ""


def test_ps_filters_and_formats(docker: Docker, box: str) -> None:
    ended = docker("run", "-d", "busybox", "sh", "-c", "exit 6").strip()
    try:
        docker("wait", ended)
        listed = [json.loads(line) for line in docker("ps", "-a", "--no-trunc", "--format", "{{json .}}").splitlines()]
        assert {entry["ID"] for entry in listed} >= {ended}
        assert docker("ps", "-q", "--no-trunc", "--filter", "exited=6", "-a") == f"{ended}\n"
        assert docker("ps", "--filter", "name=^/box$", "--format", "{{.Names}} {{.Image}}") == "box busybox\n"
        assert docker("ps", "--filter", "label=kind=box", "--format", '{{.Label "kind"}}') == "box\n"
        assert docker("ps", "-a", "--filter", "status=exited", "--filter", "name=box", "-q") == ""
        assert docker("ps", "-a", "--filter", f"id={ended[:12]}", "-q") == f"{ended[:12]}\n"
        assert docker("ps", "-a", "--filter", f"since={box}", "-q") == f"{ended[:12]}\n"
        assert docker("ps", "-l", "-q") == f"{ended[:12]}\n"
        assert docker("ps", "-n", "1", "-q") == f"{ended[:12]}\n"
        assert "virtual" in docker("ps", "-s")
        assert docker("ps", "--filter", "nosuch=x", status=1) == ""
    finally:
        docker("rm", ended)


def test_inspect(docker: Docker, box: str) -> None:
    found = json.loads(docker("inspect", "-s", box))[0]
    assert found["Name"] == "/box"
    assert found["Path"] == "sleep"
    assert found["Args"] == ["1000"]
    assert found["State"]["Running"] is True
    assert "COLOUR=red" in found["Config"]["Env"]
    assert found["Config"]["Labels"]["kind"] == "box"
    assert found["SizeRootFs"] > 0
    assert docker("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", box).startswith("172.")
    assert docker("inspect", "--type", "image", box, status=1).strip() == "[]"


def test_rm_refuses_what_runs(docker: Docker, world: World, box: str) -> None:
    docker("rm", box, status=1)
    assert "cannot remove container" in world.errors
    assert "is running" in world.errors


def test_restart_policy(docker: Docker, world: World, made: str) -> None:
    command = ("busybox", "sh", "-c", "echo again; exit 3")
    identity = docker("create", "--name", made, "--restart", "on-failure:2", *command).strip()
    # By its id: containers of the same name that other tests have just removed died too.
    watch = ("events", "--filter", f"container={identity}", "--filter", "event=die", "--since", "1m")
    docker("start", made)
    with following(world, *watch) as lines:
        assert ["exitCode=3" in next(lines) for _ in range(3)] == [True] * 3
    assert docker("logs", made).count("again") == 3
    assert docker("inspect", "-f", "{{.RestartCount}} {{.State.ExitCode}}", made) == "2 3\n"


def test_health(docker: Docker, world: World, made: str) -> None:
    identity = docker("run", "-d", "--name", made, "--health-cmd", "test -e /fine", "--health-interval", "100ms",
                      "--health-retries", "2", "busybox", "sleep", "1000").strip()  # fmt: skip
    assert "(health: " in docker("ps", "--filter", f"name={made}")
    watch = (
        "events",
        "--filter",
        f"container={identity}",
        "--filter",
        "event=health_status",
        "--since",
        "1m",
        "--format",
        "{{.Action}}",
    )
    with following(world, *watch) as lines:
        assert next(lines) == "health_status: unhealthy\n"
        docker("exec", made, "touch", "/fine")
        assert next(lines) == "health_status: healthy\n"
    assert docker("ps", "-q", "--filter", "health=healthy", "--filter", f"name={made}")


def test_events(docker: Docker) -> None:
    since = f"{time.time():.9f}"
    identity = docker("run", "--rm", "--cidfile", str(_fresh(docker)), "--label", "watched=yes", "busybox", "true")
    assert identity == ""
    until = f"{time.time() + 0.001:.9f}"
    between = ("events", "--since", since, "--until", until)
    told = docker(*between, "--filter", "label=watched=yes", "--format", "{{.Action}}")
    assert told.split() == ["create", "attach", "start", "die", "destroy"]
    told = docker(*between, "--filter", "type=network", "--format", "{{.Action}}")
    assert told.split() == ["connect", "disconnect"]
    one = json.loads(docker(*between, "--filter", "event=die", "--format", "{{json .}}"))
    assert one["Actor"]["Attributes"]["exitCode"] == "0"
    assert one["Actor"]["Attributes"]["image"] == "busybox"
    assert one["scope"] == "local"


def _fresh(docker: Docker) -> Path:
    path: Path = docker.__self__.root / "cid"  # type: ignore[attr-defined]
    path.unlink(missing_ok=True)
    return path


# -- streams ---------------------------------------------------------------------------------------------------------


def test_logs(docker: Docker, world: World, made: str) -> None:
    docker("run", "--name", made, "busybox", "sh", "-c",
           "echo one; echo two >&2; sleep 0.6; echo three; printf four")  # fmt: skip
    assert docker("logs", made) == "one\nthree\nfour"
    assert world.errors == "two\n"
    assert docker("logs", "-n", "2", made) == "three\nfour"
    assert docker("logs", "-n", "0", made) == ""
    stamped = docker("logs", "-t", made).splitlines()
    assert [line.split(" ", 1)[1] for line in stamped] == ["one", "three", "four"]
    first, later = stamped[0].split(" ")[0], stamped[1].split(" ")[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", first)
    assert docker("logs", "--since", later, made) == "three\nfour"
    assert docker("logs", "--until", first, made) == "one\n"
    assert docker("logs", "-f", made) == "one\nthree\nfour"


def test_logs_follow_until_the_exit(docker: Docker, made: str) -> None:
    docker("run", "-d", "--name", made, "busybox", "sh", "-c", "echo early; sleep 0.5; echo late; exit 3")
    assert docker("logs", "-f", made) == "early\nlate\n"


def test_logging_can_be_off(docker: Docker, world: World, made: str) -> None:
    assert docker("run", "--name", made, "--log-driver", "none", "busybox", "echo", "heard") == "heard\n"
    docker("logs", made, status=1)
    assert "configured logging driver does not support reading" in world.errors


def test_run_passes_standard_input_and_its_end(docker: Docker, world: World) -> None:
    data = os.urandom(1 << 20).hex().encode()
    assert docker("run", "--rm", "-i", "busybox", "wc", "-c", data=data) == f"{len(data)}\n"
    assert docker("run", "--rm", "-i", "busybox", "cat", data=b"x\n") == "x\n"
    assert (
        docker("run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo error >&2; exit 7", data=b"in\n", status=7)
        == "in\n"
    )
    assert world.errors == "error\n"


def test_run_attaches_what_is_asked_for(docker: Docker, world: World) -> None:
    script = ("busybox", "sh", "-c", "echo out; echo err >&2")
    assert docker("run", "--rm", "-a", "stdout", *script) == "out\n"
    assert world.errors == ""
    assert docker("run", "--rm", "-a", "stderr", *script) == ""
    assert world.errors == "err\n"


def test_attach(docker: Docker, made: str) -> None:
    docker("run", "-d", "-i", "--name", made, "busybox", "sh")
    assert docker("attach", made, data=b"echo attached; exit 5\n", status=5) == "attached\n"


def test_start_attached_gets_everything(docker: Docker, made: str) -> None:
    docker("create", "-i", "--name", made, "busybox", "sh", "-c", "cat; exit 4")
    assert docker("start", "-a", "-i", made, data=b"started\n", status=4) == "started\n"


def test_a_terminal(world: World) -> None:
    with terminal(world, "run", "--rm", "-it", "busybox", "sh", rows=33, cols=99) as screen:
        screen.type(b"stty size; tty; exit 11\n")
        status, seen = screen.end()
    assert status == 11
    assert b"33 99\r\n/dev/pts/0\r\n" in seen


def test_a_terminal_follows_its_window(world: World, box: str) -> None:
    script = "trap 'stty size; exit 3' WINCH; stty size; echo up; while :; do sleep 0.05; done"
    with terminal(world, "exec", "-it", box, "sh", "-c", script, rows=20, cols=70) as screen:
        assert b"20 70" in screen.until(b"up")
        screen.resize(50, 120)
        status, seen = screen.end()
    assert (status, b"50 120" in seen) == (3, True)


def test_detach_keys(docker: Docker, world: World, made: str) -> None:
    with terminal(world, "run", "-it", "--name", made, "busybox", "sh") as screen:
        screen.type(b"echo rea''dy\n")
        screen.until(b"ready")
        screen.type(b"\x10\x11")
        status, _ = screen.end()
    assert status == 0
    assert state(docker, made) == "running"
    with terminal(world, "attach", "--detach-keys", "ctrl-x,x", made) as screen:
        screen.type(b"echo ba''ck\n")
        screen.until(b"back")
        screen.type(b"\x18x")
        screen.end()
    assert state(docker, made) == "running"


def test_control_c_reaches_the_container(docker: Docker, world: World, made: str) -> None:
    with terminal(world, "run", "-it", "--name", made, "busybox", *trapping("INT", 66)) as screen:
        screen.until(b"up")
        screen.type(b"\x03")
        assert screen.end()[0] == 66


# -- exec ------------------------------------------------------------------------------------------------------------


def test_exec(docker: Docker, world: World, box: str) -> None:
    assert docker("exec", box, "sh", "-c", "echo $COLOUR") == "red\n"
    assert docker("exec", "-e", "COLOUR=blue", "-w", "/tmp", box, "sh", "-c", "echo $COLOUR; pwd") == "blue\n/tmp\n"
    assert docker("exec", "-u", "7:8", box, "id") == "uid=7 gid=8 groups=8\n"
    assert docker("exec", "-u", "nobody", box, "id", "-un") == "nobody\n"
    docker("exec", box, "sh", "-c", "exit 19", status=19)
    docker("exec", box, "no-such-program", status=127)
    docker("exec", box, "/etc", status=126)
    docker("exec", "nobody-here", "true", status=1)
    assert docker("exec", box, "sh", "-c", "echo out; echo err >&2") == "out\n"
    assert world.errors == "err\n"
    effective = ("grep", "CapEff", "/proc/self/status")
    assert int(docker("exec", "--privileged", box, *effective).split()[1], 16) > 1 << 36
    assert int(docker("exec", box, *effective).split()[1], 16) == 0xA80425FB


def test_exec_detached(docker: Docker, box: str) -> None:
    docker("exec", box, "mkfifo", "/ready")
    assert docker("exec", "-d", box, "sh", "-c", "echo done > /ready") == ""
    assert docker("exec", box, "cat", "/ready") == "done\n"


def test_exec_takes_a_large_input(docker: Docker, box: str) -> None:
    data = os.urandom(8 << 20)
    assert docker("exec", "-i", box, "sh", "-c", "cat > /big; wc -c < /big", data=data) == f"{8 << 20}\n"
    assert docker("exec", "-i", box, "cmp", "-", "/big", data=data) == ""
    docker("exec", box, "rm", "/big")


def test_exec_on_a_terminal(world: World, box: str) -> None:
    with terminal(world, "exec", "-it", box, "sh", "-c", "tty && stty size && exit 12", rows=11, cols=55) as screen:
        status, seen = screen.end()
    assert (status, b"11 55" in seen) == (12, True)


def test_top_stats_and_port(docker: Docker, box: str, made: str) -> None:
    lines = docker("top", box).splitlines()
    assert lines[0].split()[:3] == ["UID", "PID", "PPID"]
    assert lines[1].endswith("sleep 1000")
    assert docker("top", box, "-o", "pid,comm").splitlines()[1].split()[1] == "sleep"
    shown = json.loads(docker("stats", "--no-stream", "--format", "{{json .}}", box))
    assert shown["Name"] == box
    assert shown["PIDs"] == "1"
    assert not shown["MemUsage"].startswith("0B")
    docker("run", "-d", "--name", made, "-p", "127.0.0.1:7001:70", "-p", "7002-7003:72-73/udp", "-p", "74", "busybox",
           "sleep", "1000")  # fmt: skip
    assert docker("port", made, "70") == "127.0.0.1:7001\n"
    assert "0.0.0.0:7003\n" in docker("port", made, "73/udp")
    assert re.search(r"74/tcp -> 0\.0\.0\.0:\d+", docker("port", made))
    assert "127.0.0.1:7001->70/tcp" in docker("ps", "--filter", f"name={made}", "--format", "{{.Ports}}")


# -- files -----------------------------------------------------------------------------------------------------------


def test_cp_both_ways(docker: Docker, box: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "file").write_text("content\n")
    (source / "sub" / "deep").write_text("deep\n")
    (source / "link").symlink_to("file")
    (source / "file").chmod(0o640)
    docker("cp", str(source), f"{box}:/")
    docker("cp", str(source), f"{box}:/renamed")
    docker("cp", f"{source}/.", f"{box}:/tmp")
    listing = docker("exec", box, "find", "/source", "/renamed", "/tmp").split()
    assert {"/source/sub/deep", "/renamed/link", "/tmp/file", "/tmp/sub/deep"} <= set(listing)
    assert docker("exec", box, "stat", "-c", "%a %F", "/source/file", "/source/link").splitlines() == [
        "640 regular file",
        "777 symbolic link",
    ]
    docker("cp", "-L", f"{source}/link", f"{box}:/followed")
    assert docker("exec", box, "cat", "/followed") == "content\n"
    back = tmp_path / "back"
    back.mkdir()
    docker("cp", f"{box}:/source", str(back))
    docker("cp", f"{box}:/source/sub/.", f"{back}/sub")
    docker("cp", f"{box}:/source/link", f"{back}/link")
    docker("cp", "-L", f"{box}:/source/link", f"{back}/followed")
    assert (back / "source" / "sub" / "deep").read_text() == (back / "sub" / "deep").read_text() == "deep\n"
    assert os.readlink(back / "link") == "file"
    assert (back / "followed").read_text() == "content\n"
    docker("exec", box, "rm", "-r", "/source", "/renamed", "/followed", "/tmp/file", "/tmp/sub", "/tmp/link")


def test_cp_tar_streams(docker: Docker, world: World, box: str) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("packed/file")
        member.size, member.uid, member.mode = 3, 1234, 0o600
        archive.addfile(member, io.BytesIO(b"abc"))
    docker("cp", "-", f"{box}:/tmp", data=packed.getvalue())
    assert docker("exec", box, "stat", "-c", "%a %s", "/tmp/packed/file") == "600 3\n"
    docker("cp", f"{box}:/tmp/packed", "-")
    docker("cp", "-", f"{box}:/no/such/dir", data=packed.getvalue(), status=1)
    assert "must be a directory" in world.errors
    docker("cp", f"{box}:/no/such/file", "-", status=1)
    assert "Could not find the file /no/such/file in container" in world.errors
    docker("exec", box, "rm", "-r", "/tmp/packed")


def test_cp_with_a_container_that_does_not_run(docker: Docker, made: str, tmp_path: Path) -> None:
    docker("create", "--name", made, "-v", "/data", "busybox", "cat", "/data/put")
    (tmp_path / "put").write_text("before the start\n")
    docker("cp", str(tmp_path / "put"), f"{made}:/data/put")
    assert docker("start", "-a", made) == "before the start\n"
    docker("cp", f"{made}:/data/put", str(tmp_path / "got"))
    assert (tmp_path / "got").read_text() == "before the start\n"


def test_diff_commit_export_and_import(docker: Docker, made: str, tmp_path: Path) -> None:
    docker("run", "--name", made, "busybox", "sh", "-c", "echo kept > /etc/kept; rm /etc/group")
    assert docker("diff", made).splitlines() == ["C /etc", "D /etc/group", "A /etc/kept"]
    docker("commit", "-a", "someone", "-m", "why", "-c", 'CMD ["cat", "/etc/kept"]', "-c", "ENV NEW=1", "-c",
           "LABEL l=m", made, "committed:1")  # fmt: skip
    try:
        assert docker("run", "--rm", "committed:1") == "kept\n"
        found = json.loads(docker("image", "inspect", "committed:1"))[0]
        assert (found["Author"], found["Comment"], found["Config"]["Labels"]["l"]) == ("someone", "why", "m")
        assert "why" in docker("history", "committed:1")
        docker("export", "-o", str(tmp_path / "tar"), made)
        with tarfile.open(tmp_path / "tar") as archive:
            assert archive.extractfile("etc/kept").read() == b"kept\n"  # type: ignore[union-attr]
            assert "etc/group" not in archive.getnames()
        docker("import", "-c", 'CMD ["cat", "/etc/kept"]', "-m", "said", str(tmp_path / "tar"), "imported:1")
        assert docker("run", "--rm", "imported:1") == "kept\n"
        docker("import", "-", "imported:2", data=(tmp_path / "tar").read_bytes())
    finally:
        docker("rmi", "-f", "committed:1", "imported:1", "imported:2")


# -- the engine ------------------------------------------------------------------------------------------------------


def test_update(docker: Docker, made: str) -> None:
    docker("run", "-d", "--name", made, "-m", "64m", "busybox", "sleep", "1000")
    docker("update", "-m", "96m", "--memory-swap", "-1", "--pids-limit", "77", "--restart", "always", made)
    shape = "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}}"
    assert docker("inspect", "-f", shape, made) == f"{96 << 20} 77 always\n"
    old = "memory/memory.limit_in_bytes pids/pids.max"
    new = "memory.max pids.max"
    limits = docker("exec", "-w", "/sys/fs/cgroup", made, "sh", "-c", f"cat {old} || cat {new}")
    assert limits.split() == [str(96 << 20), "77"]


def test_prune_commands(docker: Docker) -> None:
    gone = docker("run", "-d", "--label", "prune=me", "busybox", "true").strip()
    docker("wait", gone)
    assert gone in docker("container", "prune", "-f", "--filter", "label=prune=me")
    docker("network", "create", "--label", "prune=me", "prunable")
    assert "prunable" in docker("network", "prune", "-f", "--filter", "label=prune=me")
    docker("volume", "create", "--label", "prune=me", "prunable")
    assert "prunable" not in docker("volume", "prune", "-f", "--filter", "label=prune=not")
    assert "prunable" in docker("volume", "prune", "-a", "-f", "--filter", "label=prune=me")
    docker("image", "prune", "-f", "--filter", "until=24h")
    docker("builder", "prune", "-f")
    assert "Total reclaimed space" in docker("system", "prune", "-f", "--filter", "label=prune=me")


def test_information(docker: Docker, box: str) -> None:
    info = json.loads(docker("info", "--format", "{{json .}}"))
    assert info["ContainersRunning"] >= 1
    assert info["OSType"] == "linux"
    assert not info.get("ServerErrors")
    version = json.loads(docker("version", "--format", "{{json .}}"))
    assert version["Server"]["ApiVersion"] == "1.55"
    assert version["Server"]["Os"] == "linux"
    assert "Local Volumes" in docker("system", "df")
    assert box in docker("system", "df", "-v")


@pytest.mark.parametrize("version", ["1.24", "1.41", "1.44", "1.51", "1.55"])
def test_versions_of_the_api(docker: Docker, version: str, made: str) -> None:
    def ask(*words: str, **more: object) -> str:
        return docker(*words, env={"DOCKER_API_VERSION": version}, **more)

    assert ask("run", "--name", made, "busybox", "echo", "hello") == "hello\n"
    assert ask("logs", made) == "hello\n"
    assert ask("ps", "-a", "--filter", f"name={made}", "--format", "{{.Names}}") == f"{made}\n"
    assert json.loads(ask("inspect", made))[0]["State"]["ExitCode"] == 0
    assert "busybox" in ask("images")
    ask("image", "inspect", "busybox")
    assert "bridge" in ask("network", "ls")
    if version != "1.24":  # the client itself refuses
        ask("system", "df")
    ask("info")
    ask("rm", made)
    docker("create", "--name", made, "busybox")
