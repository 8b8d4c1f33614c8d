"""Bad luck of every kind: a clear answer, nothing lost, nothing left, and all is well once the luck turns."""

import concurrent.futures
import contextlib
import itertools
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from support.world import World

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

SLEEP = ["sleep", "1000"]
#: Ignores every signal it may.
DEAF = ["sh", "-c", "trap '' TERM INT HUP QUIT USR1; echo up; while :; do sleep 1; done"]
#: Forks as fast as it can, for ever, in several processes that do not mind when they cannot.
BOMB = ["sh", "-c", """for i in 1 2 3 4; do awk 'BEGIN { while (1) system("true &") }' 2> /dev/null & done
    echo up; exec sleep 1000"""]  # fmt: skip


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


def groups(identity: str) -> list[Path]:
    """Every cgroup of the container that is there."""
    return [path for path in Path("/sys/fs/cgroup").glob(f"*/*/{identity}") if path.is_dir()]


def well(client: docker.DockerClient) -> None:
    """The engine does its work."""
    assert client.containers.run("busybox", ["echo", "well"], remove=True) == b"well\n"


def refused(call: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[int, str]:
    with pytest.raises(docker.errors.APIError) as caught:
        call(*arguments, **options)
    return caught.value.response.status_code, str(caught.value.explanation)


# -- memory and processes --------------------------------------------------------------------------------------------


def test_the_least_memory_is_enough_to_start(client) -> None:
    for _ in range(5):
        output = client.containers.run("busybox", ["echo", "small"], mem_limit="6m", memswap_limit="6m", remove=True)
        assert output == b"small\n"


def test_one_process_and_no_more(client) -> None:
    box = start(client, ["sh", "-c", "echo up; read -r x; (true) || echo refused; exec sleep 1000"], pids_limit=1,
                stdin_open=True)  # fmt: skip
    until(lambda: b"up" in box.logs())
    code, output = box.exec_run(["sh", "-c", "(true); echo unreached"])
    assert code != 0
    assert b"can't fork" in output
    box.kill()
    assert box.wait()["StatusCode"] == 137
    box.remove()
    assert until(lambda: not groups(box.id))


def test_no_process_for_the_small_init(client, world: World) -> None:
    box = client.containers.create("busybox", ["true"], pids_limit=1, init=True)
    status, text = refused(box.start)
    assert status == 500
    assert "init: resource temporarily unavailable" in text
    box.reload()
    assert (box.status, groups(box.id)) == ("created", [])
    world.docker_cli("update", "--pids-limit", "10", box.id)
    box.start()
    assert box.wait()["StatusCode"] == 0


def test_no_process_for_an_exec_that_is_born_inside(client) -> None:
    box = start(client, SLEEP, pids_limit=1, privileged=True)
    code, output = box.exec_run("true")
    assert code == 126
    assert b"resource temporarily unavailable" in output
    box.reload()
    assert box.status == "running"


@pytest.mark.parametrize("end", ["stop", "kill", "remove"])
def test_a_fork_bomb_is_ended_in_time(client, end: str) -> None:
    box = start(client, BOMB, pids_limit=60)
    until(lambda: b"up" in box.logs())
    began = time.monotonic()
    if end == "stop":
        box.stop(timeout=1)
    elif end == "kill":
        box.kill()
    if end == "remove":
        box.remove(force=True)
    else:
        assert box.wait(timeout=30)["StatusCode"] == 137
        box.remove()
    assert time.monotonic() - began < 20
    assert until(lambda: not groups(box.id))


def test_a_fork_bomb_in_the_hosts_pid_namespace(client) -> None:
    box = start(client, BOMB, pids_limit=60, pid_mode="host")
    until(lambda: b"up" in box.logs())
    box.kill()
    assert box.wait(timeout=30)["StatusCode"] == 137
    box.remove()
    assert until(lambda: not groups(box.id))


def test_one_that_ignores_every_signal(client) -> None:
    box = start(client, DEAF)
    until(lambda: b"up" in box.logs())
    for name in ("TERM", "INT", "HUP", "USR1"):
        box.kill(name)
    box.reload()
    assert box.status == "running"
    box.stop(timeout=1)
    assert box.wait()["StatusCode"] == 137


# -- cgroups ---------------------------------------------------------------------------------------------------------


def test_a_cgroup_that_is_taken_away(client) -> None:
    """Somebody removes the groups (moving their members up first): the container is still ours to end."""
    box = start(client, SLEEP, mem_limit="32m")
    taken = groups(box.id)
    assert taken
    for folder in taken:
        for pid in (folder / "cgroup.procs").read_text().split():
            (folder.parent / "cgroup.procs").write_text(pid)
        until(lambda folder=folder: removed(folder))
    assert box.stats(stream=False)["memory_stats"].get("usage", 0) == 0
    status, text = refused(box.update, mem_limit="64m", memswap_limit="64m")
    assert status == 409
    assert "cgroup" in text
    refused(box.pause)
    code, output = box.exec_run("true")
    assert code == 126
    assert b"cannot enter the cgroup" in output
    box.reload()
    assert box.status == "running"
    box.stop(timeout=1)
    assert box.wait()["StatusCode"] == 137
    box.start()
    assert box.stats(stream=False)["memory_stats"]["limit"] == 32 << 20
    box.remove(force=True)


def removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def test_a_cgroup_parent_that_cannot_be_made(client) -> None:
    """Below a file of the kernel there can be no folder; nothing is left of the container's start."""
    box = client.containers.create("busybox", SLEEP, cgroup_parent="/scow/cgroup.procs")
    status, text = refused(box.start)
    assert status == 500
    assert "cannot make the cgroup /scow/cgroup.procs/" in text
    box.reload()
    assert box.status == "created"
    well(client)


@pytest.mark.parametrize("end", ["stop", "kill", "remove", "restart"])
def test_one_that_is_frozen_by_somebody_else(client, end: str) -> None:
    """The freezer is shut behind our back: whoever is to end is thawed for it."""
    box = start(client, SLEEP)
    state = next(path / "freezer.state" for path in groups(box.id) if (path / "freezer.state").exists())
    state.write_text("FROZEN")
    if end == "stop":
        box.stop(timeout=1)
    elif end == "kill":
        box.kill()
    elif end == "restart":
        box.restart(timeout=1)
        box.reload()
        assert box.status == "running"
        return
    if end == "remove":
        box.remove(force=True)
    else:
        assert box.wait(timeout=30)["StatusCode"] == 137
        box.remove()
    assert until(lambda: not groups(box.id))


@pytest.mark.parametrize("end", ["stop", "kill", "remove", "restart"])
def test_one_that_is_paused(client, end: str) -> None:
    box = start(client, SLEEP)
    box.exec_run("sleep 1000", detach=True)
    box.pause()
    if end == "remove":
        box.remove(force=True)
    elif end == "restart":
        box.restart(timeout=1)
        box.reload()
        assert (box.status, box.attrs["State"]["Paused"]) == ("running", False)
        box.pause()
        box.unpause()
        return
    else:
        box.stop(timeout=1) if end == "stop" else box.kill()
        assert box.wait(timeout=30)["StatusCode"] == 137
        box.remove()
    assert until(lambda: not groups(box.id))


# -- at once ---------------------------------------------------------------------------------------------------------


def test_two_starts_of_one_container(client, world: World) -> None:
    box = client.containers.create("busybox", SLEEP)
    url = client.api._url("/containers/{0}/start", box.id)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        clients = [world.docker() for _ in range(8)]
        answers = [answer.result().status_code for answer in [pool.submit(c.api._post, url) for c in clients]]
    assert sorted(answers) == [204, *[304] * 7]
    box.reload()
    assert box.status == "running"


def test_one_that_is_removed_while_it_starts(client, world: World) -> None:
    for _ in range(10):
        box = client.containers.create("busybox", SLEEP)
        other = world.docker()
        thread = threading.Thread(target=lambda box=box, other=other: other.api.remove_container(box.id, force=True))
        thread.start()
        with contextlib.suppress(docker.errors.APIError):
            box.start()
        thread.join()
        with pytest.raises(docker.errors.NotFound):
            box.reload()
        assert until(lambda box=box: not groups(box.id))


def test_many_execs_at_once(client) -> None:
    box = start(client, SLEEP)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(lambda number: box.exec_run(["sh", "-c", f"exit {number}"]).exit_code, range(60)))
    assert codes == list(range(60))
    found = client.api.top(box.id)
    assert [row[-1] for row in found["Processes"]] == ["sleep 1000"]
    box.exec_run("sleep 999", detach=True)
    for order in ("pid", "-pid"):
        found = until(lambda order=order: two(client.api.top(box.id, f"-o pid,args --sort={order}")["Processes"]))
        pids = [int(row[0]) for row in found]
        assert pids == sorted(pids, reverse=order == "-pid")


def two(rows: list[list[str]]) -> list[list[str]]:
    return rows if len(rows) == 2 else []


# -- descriptors -----------------------------------------------------------------------------------------------------


def test_a_container_without_descriptors(client) -> None:
    limit = docker.types.Ulimit(name="nofile", soft=3, hard=3)
    box = client.containers.create("busybox", ["sh", "-c", "cat < /etc/hostname"], ulimits=[limit])
    box.start()
    assert box.wait()["StatusCode"] != 0
    assert b"o file descriptors available" in box.logs() or b"oo many open files" in box.logs()


@contextlib.contextmanager
def few_descriptors(pid: int, more: int) -> Iterator[None]:
    """The process can open `more` than it has open, and no further, until the block ends."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    free = (number for number in itertools.count() if number not in taken)
    lowest = next(itertools.islice(free, more, None))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@pytest.fixture
def own(own_world: World) -> World:
    own_world.start()
    own_world.scow("image", "bootstrap", "busybox")
    return own_world


def test_a_daemon_without_descriptors(own: World) -> None:
    """Wherever on its way a start runs out of them: it says so, and the next one finds nothing in its way."""
    assert own.process is not None
    client = own.docker()
    box = start(client, SLEEP)
    new = client.containers.create("busybox", SLEEP)
    well(client)
    failures: list[tuple[int, str]] = []
    for more in range(1, 12):
        with few_descriptors(own.process.pid, more):
            try:
                new.start()
            except docker.errors.APIError as error:
                failures.append((error.response.status_code, str(error.explanation)))
            box.reload()
            assert box.status == "running"
        new.reload()
        if new.status == "running":
            new.kill()
            new.wait()
    assert failures
    assert all(status == 500 and "oo many open files" in text for status, text in failures), failures
    new.start()
    well(client)
    assert box.exec_run("true").exit_code == 0


def test_clients_beyond_the_limit_of_descriptors_are_served_later(own: World) -> None:
    assert own.process is not None
    clients = []
    with few_descriptors(own.process.pid, 5):
        for _ in range(20):
            clients.append(socket.socket(socket.AF_UNIX))
            clients[-1].settimeout(30)
            clients[-1].connect(str(own.socket))
        clients[0].sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert clients[0].recv(100).startswith(b"HTTP/1.1 200")
    for client in clients[1:]:
        client.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    for client in clients:
        client.close()
    well(own.docker())
