"""A keeper without processes or descriptors to give: starts fail with a reason, it lives on, and all is well after."""

import contextlib
import itertools
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from support.world import World

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

PIDS = Path("/sys/fs/cgroup/pids")
ROUNDS = 12


@pytest.fixture
def own(own_world: World) -> World:
    own_world.start()
    own_world.scow("image", "bootstrap", "busybox")
    return own_world


@contextlib.contextmanager
def no_forks(pid: int) -> Iterator[None]:
    """The process and its nursery of shims are in a pids cgroup that is full."""
    if not (PIDS / "cgroup.procs").exists():
        pytest.skip("no v1 pids controller here")
    group = PIDS / f"starved-{os.getpid()}-{pid}"
    group.mkdir()
    (group / "pids.max").write_text("0")
    for member in (pid, *nurseries(pid)):
        (group / "cgroup.procs").write_text(str(member))
    try:
        yield
    finally:
        for member in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (PIDS / "cgroup.procs").write_text(member)
        group.rmdir()


def nurseries(keeper: int) -> list[int]:
    """Children of the keeper that shims are forked from."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            if name == "scow-nursery" and rest.split()[1] == str(keeper):
                found.append(int(stat.parent.name))
    return found


@contextlib.contextmanager
def few_descriptors(pid: int, more: int) -> Iterator[None]:
    """The process can open `more` than it has open, and no further, until the block ends."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    free = (number for number in itertools.count() if number not in taken)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (next(itertools.islice(free, more, None)), before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def attempts(client: docker.DockerClient) -> list[tuple[int, str]]:
    """What starts answered that failed; those that worked used what was ready."""
    failures = []
    for _ in range(ROUNDS):
        made = client.containers.create("busybox", ["true"])
        try:
            made.start()
            made.wait()
        except docker.errors.APIError as error:
            failures.append((error.response.status_code, str(error.explanation)))
        made.remove(force=True)
    return failures


def well(client: docker.DockerClient) -> None:
    for _ in range(4):
        assert client.containers.run("busybox", ["echo", "well"], remove=True) == b"well\n"


def check(failures: list[tuple[int, str]], *words: str) -> None:
    assert failures
    for status, text in failures:
        assert status == 500
        assert any(word in text.lower() for word in words), text


def test_no_process_to_be_had(own: World) -> None:
    client = own.docker()
    box: Any = client.containers.run("busybox", ["sleep", "1000"], detach=True)
    keeper = own.keeper_pid()
    with no_forks(keeper):
        check(attempts(client), "resource temporarily unavailable")
        assert box.exec_run("true").exit_code == 0
    assert own.keeper_pid() == keeper
    well(client)


def test_no_descriptor_to_be_had(own: World) -> None:
    client = own.docker()
    well(client)
    keeper = own.keeper_pid()
    failures = []
    for more in range(8):
        with few_descriptors(keeper, more):
            failures += attempts(client)
    check(failures, "too many open files", "keeper.log says why")
    assert "Too many open files" in (own.root / "run" / "keeper.log").read_text()
    assert own.keeper_pid() == keeper
    well(client)
    quiet(keeper)


def test_a_shim_without_descriptors(own: World) -> None:
    """Execs and attachments are refused with the reason; the container, its log and its end are as ever."""
    client = own.docker()
    script = "echo up; while [ ! -e /tmp/end ]; do sleep 0.05; done; echo last; exit 7"
    box = client.containers.run("busybox", ["sh", "-c", script], detach=True)
    box.reload()
    shim = int(Path(f"/proc/{box.attrs['State']['Pid']}/stat").read_text().rpartition(")")[2].split()[1])
    refused = 0
    for more in range(10):
        with few_descriptors(shim, more):
            code, output = box.exec_run("true")
            assert code == 0 or b"oo many open files" in output, (more, code, output)
            refused += code != 0
            box.reload()
            assert box.status == "running"
    assert refused
    assert box.exec_run("true").exit_code == 0
    with few_descriptors(shim, 0):
        Path(f"/proc/{box.attrs['State']['Pid']}/root/tmp/end").touch()
        assert box.wait() == {"StatusCode": 7}
    assert box.logs() == b"up\nlast\n"
    box.remove()
    end = time.monotonic() + 20
    while list((own.root / "run" / "tasks").iterdir()):  # cleared away behind the answer
        assert time.monotonic() < end
        time.sleep(0.05)


def quiet(pid: int) -> None:
    """It does not spin."""
    before = ticks(pid)
    time.sleep(1.5)
    assert ticks(pid) - before < 20


def ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
