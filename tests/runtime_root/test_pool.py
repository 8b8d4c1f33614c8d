"""Parked sandboxes: what starts from one is what a start from nothing makes, and none of them outlives its keeper."""

import asyncio
import contextlib
import json
import os
import re
import select
import signal
from pathlib import Path
from typing import Any

import pytest

from scow.linux import cgroup, pidfd
from scow.linux.namespaces import new_network_namespace
from scow.runtime.seccomp import default_program
from scow.shim import protocol
from scow.tasks.attachment import Attachment
from scow.tasks.pool import SandboxPool
from scow.tasks.spec import DEFAULT_CAPABILITIES
from scow.tasks.tasks import Tasks

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def with_a_pool(world):
    """Also where the other tests do without (SCOW_POOL_SIZE=0)."""
    world.pool = SandboxPool(parent=world.pool.parent)


#: Everything a program can see of how it was started, one section each.
SCRIPT = r"""
exec 2>&1; section() { echo "== $1"; }
section mountinfo; cat /proc/self/mountinfo
section status; cat /proc/1/status
section limits; cat /proc/1/limits
section cgroup; cat /proc/1/cgroup
section files; ls -1 /proc/1/fd; ls -ln /dev /dev/pts /dev/shm /dev/mqueue /proc/1/ns
section environment; env; pwd; umask; hostname; cat /proc/1/oom_score_adj /proc/1/comm; id
section session; cat /proc/1/stat | cut -d' ' -f4-8
section keyring; cat /proc/sys/net/ipv4/ip_unprivileged_port_start
section net; ls /sys/class/net; ip link
section hidden; ls /sys/firmware /proc/acpi; wc -c < /proc/keys; echo x > /proc/sys/kernel/hostname; echo $?
section tree; ls -la / | tail -n +2 | while read a b c d e f; do echo $a $c $d; done; ls /..
section writable; touch /sys/x /proc/x /dev/x /sys/fs/cgroup/x /data/x; echo $?; rm /dev/x
section end
"""


def sections(text: str) -> dict[str, str]:
    """What the script said, by section, without what differs from one run to the next of the same kind."""
    found: dict[str, str] = {}
    for part in re.split(r"^== ", text, flags=re.M)[1:]:
        name, _, body = part.partition("\n")
        found[name] = body
    # Numbers of mounts, peers and devices, and the order in which the kernel numbers mounts.
    lines = []
    for line in found["mountinfo"].splitlines():
        _, _, _, *rest = line.split()
        lines.append(re.sub(r"(upperdir|workdir|lowerdir\+?)=[^,]*|master:\d+|inode\d+", r"\1", " ".join(rest)))
    found["mountinfo"] = "\n".join(sorted(lines))
    found["status"] = "".join(
        line for line in found["status"].splitlines(True)
        if not line.startswith(("Vm", "Rss", "voluntary", "nonvoluntary", "HugetlbPages", "SigQ", "State"))
    )  # fmt: skip
    found["files"] = re.sub(r"\[\d+\]|\w{3} +\d+ +[\d:]+|\d+$", "", found["files"])
    return found


async def look(world, tasks: Tasks, change=None, **options: Any) -> dict[str, str]:
    """Run the script in a container like the daemon's own and take its words apart."""
    spec = world.spec(world.id(), "sh", "-c", SCRIPT, **options)
    etc, data = world.folder / "hosts", str(world.folder / "lower/data")
    etc.write_text("127.0.0.1 localhost\n")
    spec["mounts"] += [
        {"destination": "/etc/hosts", "type": "bind", "source": str(etc), "options": ["rbind", "rprivate"]},
        {
            "destination": "/data",
            "type": "bind",
            "source": str(world.folder / "lower/data"),
            "options": ["rbind", "ro"],
        },
        {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "mode=1777"]},
    ]
    spec["linux"]["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "0"}
    if change is not None:
        change(spec)
    attachment = Attachment.open()
    network_fd = new_network_namespace()
    try:
        program = default_program(DEFAULT_CAPABILITIES)
        task = await world.launch(tasks, spec, network_fd=network_fd, seccomp=program, attachments=[attachment])
        data = b""
        while more := await attachment.read():
            data += more
    finally:
        attachment.close()
        os.close(network_fd)
    assert (await task.wait()).code == 0
    await task.delete()
    text = re.sub(rb"[\x01\x02]\0\0\0....", b"", data, flags=re.S).decode()
    return sections(text.replace(spec["linux"]["cgroupsPath"], "/group"))


async def ready(tasks: Tasks, number: int = 1) -> dict[str, Any]:
    """Wait until the pool has that many."""
    while (told := await tasks.parked())["ready"] < number:
        await asyncio.sleep(0.02)
    return told


def limited(spec: dict[str, Any]) -> None:
    spec["linux"]["resources"]["memory"] = {"limit": 64 << 20}
    spec["linux"]["resources"]["pids"] = {"limit": 77}
    spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]


def weak(spec: dict[str, Any]) -> None:
    for names in spec["process"]["capabilities"].values():
        names[:] = ["CAP_KILL"]
    spec["process"]["noNewPrivileges"] = True
    spec["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5]}
    spec["root"]["readonly"] = True
    spec["linux"]["maskedPaths"].append("/sys/kernel")


@pytest.mark.parametrize("change", [None, limited])
def test_a_container_from_a_slot_is_one_made_from_nothing(world, change):
    found: list[dict[str, str]] = []

    async def scenario(tasks: Tasks) -> None:
        if tasks._pool.most:
            await ready(tasks)
        found.append(await look(world, tasks, change))

    world.pool = SandboxPool(most=0, parent=world.pool.parent)
    world.do(scenario)
    world.pool = SandboxPool(most=2, parent=world.pool.parent)
    world.do(scenario)
    cold, parked = found
    for name, text in cold.items():
        assert parked[name] == text, name
    assert "Seccomp:\t2" in parked["status"]


def test_it_may_be_weaker_than_the_slot(world):
    found: list[dict[str, str]] = []

    async def scenario(tasks: Tasks) -> None:
        if tasks._pool.most:
            await ready(tasks)
        found.append(await look(world, tasks, weak))

    for most in (0, 2):
        world.pool = SandboxPool(most=most, parent=world.pool.parent)
        world.do(scenario)
    cold, parked = found
    assert parked == cold
    assert "CapBnd:\t0000000000000020" in parked["status"]


def test_a_start_takes_a_slot_and_whoever_wants_something_else_does_not(world):
    taken: list[int] = []

    async def scenario(tasks: Tasks) -> None:
        await ready(tasks, 2)
        pids = parked_shims(world)
        for options in ({}, {"privileged": True}, {"shm_size": 1 << 20}, {"namespaces": {"pid": None}}):
            task = await world.launch(tasks, world.spec(world.id(), "sleep", "1000", **options))
            shim = (await task.ask({"do": "status"}))["shim"]
            taken.append(shim in pids)
            await task.kill(9)
            await task.wait()

    world.pool = SandboxPool(most=2, parent=world.pool.parent)
    world.do(scenario)
    assert taken == [True, False, False, False]


def parked_shims(world) -> set[int]:
    """Shims of this world's keeper that wait for a container."""
    keeper = int((world.exec_root / "keeper.lock").read_text())
    return {int(pid) for pid in Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()}


def test_a_slot_holds_nothing_of_anybodys(world):
    """No descriptor of another container, no mount of the host: both would be kept from going away."""

    async def scenario(tasks: Tasks) -> None:
        running = await world.launch(tasks, world.spec(world.id(), "sleep", "1000"))
        await asyncio.sleep(0.1)
        await ready(tasks, 2)
        for shim in parked_shims(world) - {(await running.ask({"do": "status"}))["shim"]}:
            for child in Path(f"/proc/{shim}/task/{shim}/children").read_text().split():
                mounts = Path(f"/proc/{child}/mountinfo").read_text().splitlines()
                kinds = {line.partition(" - ")[2].split()[0] for line in mounts}
                assert kinds <= {"tmpfs", "proc", "devpts", "mqueue", "cgroup"}, mounts
                fds = [os.readlink(f"/proc/{child}/fd/{fd}") for fd in os.listdir(f"/proc/{child}/fd")]
                assert not [name for name in fds if name.startswith("pipe:")], fds
        await running.kill(9)
        await running.wait()

    world.do(scenario)


def test_a_bind_is_of_what_the_host_has_when_the_container_starts(world):
    """A slot parked before something was mounted on the host shows it all the same, and what was unmounted is gone."""
    place = world.folder / "place"
    place.mkdir()

    async def scenario(tasks: Tasks) -> None:
        await ready(tasks, 2)
        os.system(f"mount -t tmpfs later {place} && echo new > {place}/file")
        try:
            bind = {"destination": "/data", "type": "bind", "source": str(place), "options": ["rbind", "rprivate"]}
            _, out, err = await world.run(tasks, "cat", "/data/file", change=lambda spec: spec["mounts"].append(bind))
            assert (out, err) == ("new\n", "")
        finally:
            assert os.system(f"umount {place}") == 0

    world.do(scenario)


def processes_of(world) -> set[int]:
    """Keeper, shims and parked children, by what they were forked from."""
    found = {int((world.exec_root / "keeper.lock").read_text())}
    for _ in range(3):
        for pid in list(found):
            with contextlib.suppress(OSError):
                found |= {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    return found


def wait_for_ends(fds: list[int]) -> None:
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    while fds:
        for fd, _ in poller.poll(20_000) or pytest.fail("they live on"):
            poller.unregister(fd)
            fds.remove(fd)
            os.close(fd)


def test_nothing_is_left_of_slots_whose_keeper_or_shims_are_killed(world):
    parent = world.pool.parent
    folders = [mount + parent for mount in cgroup.layout().v1_mounts().values()]

    def groups() -> list[str]:
        return [child for folder in folders for child in cgroup.children(folder)]

    async def scenario(tasks: Tasks) -> None:
        await ready(tasks, 2)
        keeper = int((world.exec_root / "keeper.lock").read_text())
        shims = parked_shims(world)
        fds = [pidfd.pidfd_open(pid) for pid in processes_of(world)]
        os.kill(keeper, signal.SIGKILL)
        wait_for_ends(fds)
        assert groups() == []
        # Shims that are killed cannot tidy up: the next keeper does.
        await tasks.close()
        await tasks.open()
        await ready(tasks, 2)
        keeper = int((world.exec_root / "keeper.lock").read_text())
        assert not shims & parked_shims(world)
        fds = [pidfd.pidfd_open(pid) for pid in processes_of(world)]
        for pid in [*parked_shims(world), keeper]:
            os.kill(pid, signal.SIGKILL)
        wait_for_ends(fds)
        assert cgroup.layout().version == 2 or groups()
        await tasks.close()
        await tasks.open()
        await ready(tasks, 2)
        alive = {f"parked-{child}" for child in processes_of(world)}
        assert {name.rpartition("/")[2] for name in groups()} <= alive

    world.do(scenario)


def test_a_burst_of_starts_all_succeed_and_the_pool_grows(world):
    async def scenario(tasks: Tasks) -> None:
        await ready(tasks, 2)
        results = await asyncio.gather(*(world.run(tasks, "echo", str(number)) for number in range(20)))
        assert [(status.code, out) for status, out, _ in results] == [(0, f"{number}\n") for number in range(20)]
        assert (await tasks.parked())["wanted"] > 2

    world.do(scenario)


def test_a_slot_that_cannot_be_made_is_told_and_starts_go_on(world):
    """Here its cgroup: the parent is a name no group may have."""
    world.pool = SandboxPool(most=2, parent="/scow-test-" + "x" * 300)

    async def scenario(tasks: Tasks) -> None:
        status, out, _ = await world.run(tasks, "echo", "on")
        assert (status.code, out) == (0, "on\n")

    with pytest.raises(AssertionError, match="invalid cgroup path"):  # in keeper.log
        world.do(scenario)
    assert list((world.exec_root / "tasks").iterdir()) == []


def test_the_keeper_says_what_it_has(world):
    async def scenario(tasks: Tasks) -> None:
        told = await ready(tasks, 2)
        assert told == {"n": told["n"], "ready": 2, "wanted": 2, "most": 5}
        end = protocol.connect(str(world.exec_root), "keeper.sock")
        protocol.receive(end)
        protocol.send(end, {"n": 7, "do": "count"})
        answer, _ = protocol.receive(end)
        end.close()
        assert json.dumps(answer) == json.dumps({"n": 7, "ready": 2, "wanted": 2, "most": 5})

    world.pool = SandboxPool(most=5, parent=world.pool.parent)
    world.do(scenario)
