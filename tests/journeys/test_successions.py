"""Daemon, keeper and shims are killed or replaced; users of the docker CLI and docker-py see nothing of it.

Intent: containers run on, and state, logs and exit codes are exact, across kill -9 of any of them and an upgrade.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

import scow
from support.world import World, docker_program

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

#: Counts aloud; SIGTERM ends it with code 3.
COUNT = "trap 'exit 3' TERM; i=0; while true; do i=$((i+1)); echo line $i; sleep 0.02; done"
#: Seconds after which something that should have happened has not.
PATIENCE = 30


def state_file(world: World, made: str) -> dict[str, int]:
    found: dict[str, int] = json.loads((world.root / "run/tasks" / made / "state.json").read_text())
    return found


def kill_shim(world: World, made: str) -> None:
    """kill -9 the one there is, or that is about to take up the container."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            os.kill(state_file(world, made)["shim"], signal.SIGKILL)
        except ProcessLookupError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            return


def kill_keeper(world: World) -> None:
    os.kill(world.keeper_pid(), signal.SIGKILL)


def lines(world: World, name: str) -> list[str]:
    return world.docker_cli("logs", name).splitlines()


def count_is_whole(found: list[str]) -> bool:
    return len(found) > 3 and found == [f"line {number}" for number in range(1, len(found) + 1)]


@pytest.fixture
def busy(own_world: World) -> World:
    own_world.start("--live-restore")
    own_world.scow("image", "bootstrap", "busybox")
    return own_world


def test_what_clients_see_after_the_daemon_was_killed(busy: World) -> None:
    """One ran on, one ended meanwhile with code 3, one is restarted by its policy; waiters from before and after."""
    client = busy.docker()
    on = client.containers.run("busybox", ["sh", "-c", COUNT], detach=True, name="on")
    ends = client.containers.run("busybox", ["sh", "-c", "echo bye; sleep 1; exit 3"], detach=True, name="ends")
    policy = client.containers.run(
        "busybox",
        ["sh", "-c", "sleep 1; exit 4"],
        detach=True,
        name="policy",
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 1},
    )
    started = {each.id: client.api.inspect_container(each.id)["State"]["StartedAt"] for each in (on, ends)}
    task = state_file(busy, ends.id)
    busy.kill()
    deadline = time.monotonic() + PATIENCE
    while not (busy.root / "run/tasks" / ends.id / "exit.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    ended = json.loads((busy.root / "run/tasks" / ends.id / "exit.json").read_text())
    assert ended["code"] == 3
    busy.start("--live-restore")
    assert busy.docker_cli("wait", "ends").strip() == "3"
    seen = client.api.inspect_container("ends")["State"]
    assert (seen["Status"], seen["ExitCode"], seen["StartedAt"]) == ("exited", 3, started[ends.id])
    assert seen["FinishedAt"] > seen["StartedAt"]
    assert not Path(f"/proc/{task['pid']}").exists() or task["pid"] != state_file(busy, on.id)["pid"]
    assert lines(busy, "ends") == ["bye"]
    dies = [
        json.loads(line)
        for line in busy.docker_cli(
            "events", "--since", "5m", "--until", str(int(time.time()) + 1), "--filter", "container=ends",
            "--filter", "event=die", "--format", "{{json .}}",
        ).splitlines()
    ]  # fmt: skip
    assert [die["Actor"]["Attributes"]["exitCode"] for die in dies] == ["3"]
    deadline = time.monotonic() + PATIENCE
    while client.api.inspect_container("policy")["State"]["Status"] != "exited":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    seen = client.api.inspect_container(policy.id)
    assert (seen["State"]["ExitCode"], seen["RestartCount"]) == (4, 1)
    assert client.api.inspect_container("on")["State"]["StartedAt"] == started[on.id]
    codes: list[str] = []
    waiter = threading.Thread(target=lambda: codes.append(busy.docker_cli("wait", "on").strip()))
    waiter.start()
    follower = subprocess.Popen(
        busy.inside(docker_program(), "-H", f"unix://{busy.socket}", "logs", "-f", "on"), stdout=subprocess.PIPE
    )
    busy.docker_cli("stop", "on")
    waiter.join(PATIENCE)
    assert codes == ["3"]
    followed, _ = follower.communicate(timeout=PATIENCE)
    assert count_is_whole(followed.decode().splitlines())
    assert lines(busy, "on") == followed.decode().splitlines()


@pytest.mark.parametrize("order", ["s", "ks", "sk", "ds", "sd", "dks", "skd", "ss"])
def test_every_order_of_death(busy: World, order: str) -> None:
    """Letters are killed in turn: daemon, keeper, shim. What lives on does what it did before."""
    client = busy.docker()
    on = client.containers.run("busybox", ["sh", "-c", COUNT], detach=True, name="on")
    held = client.containers.run("busybox", ["sh", "-c", COUNT], detach=True, name="held")
    held.pause()
    typed = client.containers.run("busybox", "sh", detach=True, name="typed", tty=True, stdin_open=True)
    client.api.exec_start(client.api.exec_create(on.id, ["sleep", "1000"])["Id"], detach=True)
    for victim in order:
        if victim == "d":
            busy.kill()
        elif victim == "k":
            kill_keeper(busy)
        else:
            for container in (on, held, *([typed] if "k" not in order else [])):
                kill_shim(busy, container.id)
    if "d" in order:
        busy.start("--live-restore")
    assert busy.docker_cli("exec", "on", "echo", "in there").strip() == "in there"
    assert "sleep 1000" in busy.docker_cli("top", "on")
    assert busy.docker_cli("stats", "--no-stream", "--format", "{{.PIDs}}", "on").strip() not in ("", "0")
    assert client.api.inspect_container("held")["State"]["Paused"] is True
    held.unpause()
    size = client.api.inspect_container("typed")["State"]
    assert size["Running"] is True
    typed.resize(31, 79)
    stream = typed.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    with contextlib.closing(stream), contextlib.closing(stream._sock) as end:
        end.sendall(b"stty size; exit 5\n")
        assert b"31 79" in b"".join(iter(lambda: end.recv(4096), b""))
    assert typed.wait()["StatusCode"] == 5
    busy.docker_cli("stop", "on", "held")
    for name in ("on", "held"):
        seen = client.api.inspect_container(name)["State"]
        assert (seen["Status"], seen["ExitCode"], seen["Error"]) == ("exited", 3, "")
    assert count_is_whole(lines(busy, "on"))


def test_an_exec_that_runs_is_inspected_rightly(busy: World) -> None:
    client = busy.docker()
    made = client.containers.run("busybox", ["sleep", "1000"], detach=True, name="host")
    script = "trap 'exit 7' TERM; while true; do echo noise; sleep 0.02; done"
    exec_id = client.api.exec_create(made.id, ["sh", "-c", script])["Id"]
    client.api.exec_start(exec_id, detach=True)
    time.sleep(0.2)  # until the trap is set
    kill_shim(busy, made.id)
    told = client.api.exec_inspect(exec_id)
    assert told["Running"] is True
    os.kill(told["Pid"], signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    while (told := client.api.exec_inspect(exec_id))["Running"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert told["ExitCode"] == 7


def test_an_upgrade_in_place(own_world: World, tmp_path: Path) -> None:
    """Shims of other code go on under a new daemon and keeper, and are succeeded by new code."""
    old = tmp_path / "old"
    shutil.copytree(Path(scow.__file__).parent, old / "scow", ignore=shutil.ignore_patterns("__pycache__"))
    new_command = own_world.daemon

    def old_command(*options: str) -> tuple[str, ...]:
        return ("env", f"PYTHONPATH={old}", *new_command(*options))

    own_world.daemon = old_command  # type: ignore[method-assign]
    own_world.start("--live-restore")
    own_world.scow("image", "bootstrap", "busybox")
    keeper = own_world.keeper_pid()
    assert str(old).encode() in Path(f"/proc/{own_world.process.pid}/environ").read_bytes()  # type: ignore[union-attr]
    client = own_world.docker()
    runs = [client.containers.run("busybox", ["sh", "-c", COUNT], detach=True, name=f"old-{n}") for n in range(2)]
    assert own_world.stop() == 0
    own_world.daemon = new_command  # type: ignore[method-assign]
    own_world.start("--live-restore")
    assert own_world.keeper_pid() != keeper
    kill_shim(own_world, runs[1].id)
    for number, made in enumerate(runs):
        name = f"old-{number}"
        assert own_world.docker_cli("exec", name, "echo", "hello").strip() == "hello"
        assert own_world.docker_cli("stats", "--no-stream", "--format", "{{.PIDs}}", name).strip() not in ("", "0")
        attach = (
            docker_program(),
            "-H",
            f"unix://{own_world.socket}",
            "attach",
            "--no-stdin",
            "--sig-proxy=false",
            name,
        )
        with subprocess.Popen(own_world.inside(*attach), stdout=subprocess.PIPE) as attached:
            assert attached.stdout is not None
            assert attached.stdout.readline().startswith(b"line")
            attached.kill()
        own_world.docker_cli("stop", name)
        assert client.api.inspect_container(made.id)["State"]["ExitCode"] == 3
        assert count_is_whole(lines(own_world, name))
    assert own_world.docker_cli("run", "--rm", "busybox", "echo", "new").strip() == "new"


def test_a_second_daemon_on_one_exec_root(busy: World) -> None:
    done = subprocess.run(
        busy.inside(*busy.daemon("--data-root", str(busy.root / "other"))), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert f"{busy.root}/run is already in use by process" in done.stderr
    assert "Traceback" not in done.stderr
    busy.scow("ps")
