"""Who looks after containers: health checks and what is done about them, restart policies, and the daemon's own end."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from support.world import World

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

SLEEP = ["sleep", "1000"]
MILLISECOND = 1_000_000
#: Notices TERM, says so, and ends.
KIND = ["sh", "-c", "trap 'echo asked; exit 7' TERM; echo up; while :; do sleep 0.05; done"]
#: Notices TERM, says so, and goes on.
STUBBORN = ["sh", "-c", "trap 'echo asked' TERM; echo up; while :; do sleep 0.05; done"]


@pytest.fixture
def client(world: World) -> Iterator[docker.DockerClient]:
    made = world.docker()
    yield made
    for container in made.containers.list(all=True):
        with contextlib.suppress(docker.errors.NotFound):
            container.remove(force=True, v=True)


def until(holds: Callable[[], Any]) -> Any:
    end = time.monotonic() + 30
    while not (found := holds()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def start(client: docker.DockerClient, command: list[str], **options: Any) -> Any:
    return client.containers.run("busybox", command, detach=True, **options)


def state(container: Any) -> dict[str, Any]:
    container.reload()
    found: dict[str, Any] = container.attrs["State"]
    return found


def health(container: Any) -> dict[str, Any]:
    found: dict[str, Any] = state(container)["Health"]
    return found


def probe(test: str | list[str], **options: int) -> dict[str, Any]:
    command = ["CMD-SHELL", test] if isinstance(test, str) else test
    return {"test": command, "interval": 50 * MILLISECOND, "retries": 1, **options}


def actions(world: World, container: Any) -> list[str]:
    """What has been told about the container so far, without its execs."""
    now = f"{time.time() + 0.001:.9f}"
    told = world.docker_cli("events", "--since", "1", "--until", now, "--filter", f"container={container.id}",
                            "--format", "{{.Action}}")  # fmt: skip
    return [line for line in told.splitlines() if not line.startswith("exec_")]


def events_of(world: World, container: Any, action: str) -> list[dict[str, Any]]:
    now = f"{time.time() + 0.001:.9f}"
    told = world.docker_cli("events", "--since", "1", "--until", now, "--filter", f"container={container.id}",
                            "--filter", f"event={action}", "--format", "{{json .}}")  # fmt: skip
    return [json.loads(line) for line in told.splitlines()]


# -- health ----------------------------------------------------------------------------------------------------------


def test_the_log_tells_what_probes_said(client) -> None:
    box = start(client, SLEEP, healthcheck=probe("echo out; echo err >&2; exit 3"))
    until(lambda: len(health(box)["Log"]) == 5)
    found = health(box)
    assert (found["Status"], found["FailingStreak"] >= 5) == ("unhealthy", True)
    assert [(entry["ExitCode"], sorted(entry["Output"].split())) for entry in found["Log"]] == [(3, ["err", "out"])] * 5
    box.kill()
    box.wait()
    assert health(box)["Status"] == "unhealthy"


def test_long_output_is_cut(client) -> None:
    box = start(client, SLEEP, healthcheck=probe("yes | head -c 10000"))
    output = until(lambda: health(box)["Log"])[0]["Output"]
    assert output == "y\n" * 2048 + "..."


def test_a_probe_that_hangs_is_killed_with_its_children(client, world: World) -> None:
    box = start(client, SLEEP, healthcheck=probe("echo before; sleep 4321; true", timeout=200 * MILLISECOND))
    entry = until(lambda: health(box)["Log"])[0]
    assert (entry["ExitCode"], entry["Output"]) == (-1, "Health check exceeded timeout (200ms): before\n")
    box.pause()  # no further probes
    box.unpause()
    until(lambda: "4321" not in world.scow("top", box.id, "-o", "pid,args").partition("CMD")[2] or None)


def test_a_probe_that_cannot_be_started(client) -> None:
    box = start(client, SLEEP, healthcheck=probe(["CMD", "no-such-program"]))
    entry = until(lambda: health(box)["Log"])[0]
    assert entry["ExitCode"] == -1
    assert "no-such-program" in entry["Output"]


def test_no_probe_while_paused(client) -> None:
    box = start(client, SLEEP, healthcheck=probe("true"))
    until(lambda: health(box)["Status"] == "healthy")
    box.pause()
    before = health(box)
    time.sleep(0.4)
    assert health(box) == before
    assert before["Status"] == "healthy"
    box.unpause()
    until(lambda: health(box)["Log"][-1]["Start"] > before["Log"][-1]["End"])


def test_the_start_period_excuses_and_is_probed_at_its_own_interval(client) -> None:
    slow = probe("test -e /ready", start_period=60_000 * MILLISECOND, start_interval=50 * MILLISECOND)
    box = start(client, SLEEP, healthcheck=slow | {"interval": 3_600_000 * MILLISECOND})
    until(lambda: len(health(box)["Log"]) >= 3)
    assert (health(box)["Status"], health(box)["FailingStreak"]) == ("starting", 0)
    box.exec_run("touch /ready")
    until(lambda: health(box)["Status"] == "healthy")


def test_health_outlives_the_daemon_and_probes_leave_nothing(own_world: World) -> None:
    own_world.start()
    own_world.scow("image", "bootstrap", "busybox")
    client = own_world.docker()
    box = start(client, SLEEP, healthcheck=probe("test ! -e /ill", retries=2))
    until(lambda: health(box)["Status"] == "healthy")
    box.exec_run("touch /ill")
    until(lambda: health(box)["Status"] == "unhealthy")
    own_world.kill()
    own_world.start("--live-restore")
    found = health(box)
    assert (found["Status"], found["FailingStreak"] >= 2, bool(found["Log"])) == ("unhealthy", True, True)
    box.exec_run("rm /ill")
    until(lambda: health(box)["Status"] == "healthy")
    box.pause()
    records = own_world.root / "run" / "tasks" / box.id / "execs"
    until(lambda: len(list(records.iterdir())) <= 1)  # one may have been on its way


@pytest.mark.parametrize("action", ["none", "stop", "kill", "restart"])
def test_what_is_done_about_an_unhealthy_container(client, world: World, action: str) -> None:
    name = f"on-{action}"
    world.scow(
        "run", "-d", "--name", name, "--health-cmd", "test ! -e /dev/shm/ill", "--health-interval", "50ms",
        "--health-retries", "1", "--health-on-failure", action, "busybox", *KIND,
    )  # fmt: skip
    box = client.containers.get(name)
    assert box.attrs["HostConfig"]["HealthOnFailure"] == action
    until(lambda: b"up" in box.logs())
    until(lambda: health(box)["Status"] == "healthy")
    box.exec_run("touch /dev/shm/ill")
    if action == "none":
        until(lambda: health(box)["FailingStreak"] >= 3)
        assert state(box)["Status"] == "running"
        return
    if action == "restart":
        until(lambda: "restart" in actions(world, box))
        box.reload()
        assert (box.status, box.attrs["RestartCount"]) == ("running", 1)
        until(lambda: health(box)["Status"] == "healthy")  # the file went with the old /dev/shm
        told = actions(world, box)
        assert told[told.index("health_status: unhealthy") :][:5] == [
            "health_status: unhealthy", "kill", "die", "start", "restart",
        ]  # fmt: skip
        return
    assert box.wait()["StatusCode"] == (7 if action == "stop" else 137)
    until(lambda: state(box)["Status"] == "exited")
    told = actions(world, box)
    assert told.index("health_status: unhealthy") < told.index("kill") < told.index("die")


def test_kill_on_failure_leaves_the_rest_to_the_restart_policy(client) -> None:
    created = client.api.create_container(
        "busybox", SLEEP, healthcheck=probe("test ! -e /dev/shm/ill"),
        host_config=client.api.create_host_config(restart_policy={"Name": "always"}) | {"HealthOnFailure": "kill"},
    )  # fmt: skip
    box = client.containers.get(created["Id"])
    box.start()
    until(lambda: health(box)["Status"] == "healthy")
    box.exec_run("touch /dev/shm/ill")
    until(lambda: box.reload() or box.attrs["RestartCount"] == 1)
    until(lambda: health(box)["Status"] == "healthy")


def test_an_action_nobody_knows_or_that_could_never_come(world: World) -> None:
    world.scow("create", "--health-on-failure", "panic", "--health-cmd", "true", "busybox", status=125)
    assert "invalid health-on-failure action 'panic': use one of 'none', 'restart', 'stop' or 'kill'" in world.errors
    world.scow("create", "--health-on-failure", "stop", "busybox", status=125)
    assert "without a health check: give one with --health-cmd" in world.errors


# -- restart policies ------------------------------------------------------------------------------------------------


def test_a_stop_during_the_back_off(client, world: World) -> None:
    box = start(client, ["sh", "-c", "exit 5"], restart_policy={"Name": "always"})
    until(lambda: state(box)["Restarting"] and box.attrs["RestartCount"] >= 2)
    box.stop()
    found = state(box)
    assert (found["Status"], found["ExitCode"]) == ("exited", 5)
    count = box.attrs["RestartCount"]
    starts = actions(world, box).count("start")
    time.sleep(1.5)  # longer than the back-off it was in
    assert state(box)["Status"] == "exited"
    assert (box.attrs["RestartCount"], actions(world, box).count("start")) == (count, starts)
    box.start()
    until(lambda: box.reload() or box.attrs["RestartCount"] >= 1)
    box.remove(force=True)


def test_the_back_off_doubles(client, world: World) -> None:
    box = start(client, ["false"], restart_policy={"Name": "on-failure", "MaximumRetryCount": 4})
    until(lambda: state(box)["Status"] == "exited" and box.attrs["RestartCount"] == 4)
    died = [event["timeNano"] for event in events_of(world, box, "die")]
    started = [event["timeNano"] for event in events_of(world, box, "start")]
    pauses = [(start - die) / 1e9 for die, start in zip(died, started[1:], strict=False)]
    assert len(pauses) == 4
    assert all(pause >= wanted for pause, wanted in zip(pauses, (0.1, 0.2, 0.4, 0.8), strict=True)), pauses


def test_a_policy_is_changed_while_it_runs(client, world: World) -> None:
    box = start(client, ["sh", "-c", "while [ ! -e /dev/shm/end ]; do sleep 0.05; done; exit 3"])
    world.docker_cli("update", "--restart", "on-failure:1", box.id)
    box.exec_run("touch /dev/shm/end")
    until(lambda: box.reload() or box.attrs["RestartCount"] == 1)
    world.docker_cli("update", "--restart", "no", box.id)
    box.exec_run("touch /dev/shm/end")
    assert box.wait()["StatusCode"] == 3
    assert until(lambda: state(box)["Status"] == "exited")
    world.docker_cli("update", "--restart", "sometimes", box.id, status=1)
    assert "invalid restart policy: unknown policy 'sometimes'" in world.errors


# -- the daemon's end ------------------------------------------------------------------------------------------------


@pytest.fixture
def own(own_world: World) -> World:
    own_world.start()
    own_world.scow("image", "bootstrap", "busybox")
    return own_world


def test_a_daemon_that_stops_gives_each_container_its_own_time(own: World) -> None:
    assert own.stop() == 0
    own.start("--shutdown-timeout", "1")
    client = own.docker()
    kind = start(client, KIND, restart_policy={"Name": "unless-stopped"})
    stubborn = [start(client, STUBBORN, name=f"stubborn{number}") for number in range(3)]
    patient = client.api.create_container(
        "busybox", ["sh", "-c", "trap 'sleep 2; exit 5' TERM; echo up; while :; do sleep 0.05; done"], stop_timeout=60
    )["Id"]
    client.api.start(patient)
    for each in (kind, *stubborn, client.containers.get(patient)):
        until(lambda each=each: b"up" in each.logs())
    paused = start(client, SLEEP)
    paused.pause()
    failing = start(client, ["false"], restart_policy={"Name": "always"})
    until(lambda: state(failing)["Restarting"])
    began = time.monotonic()
    assert own.stop() == 0
    assert time.monotonic() - began < 12  # side by side, not one after the other
    own.start()
    assert [state(each)["ExitCode"] for each in stubborn] == [137] * 3
    assert b"asked" in stubborn[0].logs()
    assert state(client.containers.get(patient))["ExitCode"] == 5
    assert state(paused)["Status"] == "exited"
    until(lambda: state(kind)["Status"] == "running")
    until(lambda: failing.reload() or failing.attrs["RestartCount"] >= 1)


def test_with_live_restore_containers_run_on_and_policies_hold(own: World) -> None:
    assert own.stop() == 0
    own.start("--live-restore")
    client = own.docker()
    steady = start(client, KIND)
    until(lambda: b"up" in steady.logs())
    pid = state(steady)["Pid"]
    mortal = start(client, SLEEP, restart_policy={"Name": "on-failure", "MaximumRetryCount": 3})
    stopped = start(client, SLEEP, restart_policy={"Name": "unless-stopped"})
    always = start(client, SLEEP, restart_policy={"Name": "always"})
    for each in (stopped, always):
        each.stop(timeout=0)
    victim = state(mortal)["Pid"]
    assert own.stop() == 0
    assert Path(f"/proc/{pid}").exists()
    os.kill(victim, signal.SIGKILL)
    own.start("--live-restore")
    assert (state(steady)["Status"], state(steady)["Pid"]) == ("running", pid)
    assert b"asked" not in steady.logs()
    until(lambda: state(mortal)["Status"] == "running")
    until(lambda: state(always)["Status"] == "running")
    assert state(stopped)["Status"] == "exited"
