"""What a container may use, on a real kernel: limits in force and changed while it runs, and memory that runs out."""

import contextlib
import json
import os
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
MEBIBYTE = 1 << 20


@pytest.fixture
def client(world: World) -> Iterator[docker.DockerClient]:
    made = world.docker()
    yield made
    for container in made.containers.list(all=True):
        with contextlib.suppress(docker.errors.NotFound):
            container.remove(force=True, v=True)


def group(container: Any, controller: str, file: str) -> str:
    """A file of the container's group in a v1 hierarchy."""
    mounts = [place for place in Path("/sys/fs/cgroup").iterdir() if controller in place.name.split(",")]
    found = next((place / "scow" / container.id for place in mounts), None)
    if found is None or not (found / file).exists():
        pytest.skip(f"this kernel has no v1 {file}")
    return (found / file).read_text().strip()


def start(client: docker.DockerClient, *command: str, **options: Any) -> Any:
    return client.containers.run("busybox", list(command) or SLEEP, detach=True, **options)


def until(holds: Callable[[], Any]) -> Any:
    end = time.monotonic() + 20
    while not (found := holds()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


# -- in force --------------------------------------------------------------------------------------------------------


def test_limits_are_in_force(client) -> None:
    box = start(
        client, mem_limit="32m", memswap_limit="48m", mem_reservation="16m", mem_swappiness=30, cpu_shares=77,
        cpuset_cpus="0", cpuset_mems="0", nano_cpus=250_000_000, pids_limit=33,
    )  # fmt: skip
    assert group(box, "memory", "memory.limit_in_bytes") == str(32 * MEBIBYTE)
    assert group(box, "memory", "memory.memsw.limit_in_bytes") == str(48 * MEBIBYTE)
    assert group(box, "memory", "memory.soft_limit_in_bytes") == str(16 * MEBIBYTE)
    assert group(box, "memory", "memory.swappiness") == "30"
    assert group(box, "cpu", "cpu.shares") == "77"
    assert group(box, "cpu", "cpu.cfs_quota_us") == "25000"
    assert group(box, "cpuset", "cpuset.cpus") == "0"
    assert group(box, "pids", "pids.max") == "33"


def test_realtime_is_lent_by_the_groups_above(client) -> None:
    first = start(client, cpu_rt_period=1_000_000, cpu_rt_runtime=20_000)
    second = start(client, cpu_rt_runtime=30_000)
    assert group(first, "cpu", "cpu.rt_runtime_us") == "20000"
    assert group(second, "cpu", "cpu.rt_runtime_us") == "30000"


def test_devices_are_throttled(client) -> None:
    disk = next((f"/dev/{name}" for name in ("loop0", "vda", "sda") if Path(f"/dev/{name}").is_block_device()), None)
    if disk is None:
        pytest.skip("this machine has no disk to be throttled")
    number = os.stat(disk).st_rdev
    box = start(
        client,
        device_read_bps=[{"Path": disk, "Rate": MEBIBYTE}],
        device_write_bps=[{"Path": disk, "Rate": 2 * MEBIBYTE}],
        device_read_iops=[{"Path": disk, "Rate": 100}],
        device_write_iops=[{"Path": disk, "Rate": 200}],
    )
    device = f"{os.major(number)}:{os.minor(number)}"
    assert group(box, "blkio", "blkio.throttle.read_bps_device") == f"{device} {MEBIBYTE}"
    assert group(box, "blkio", "blkio.throttle.write_bps_device") == f"{device} {2 * MEBIBYTE}"
    assert group(box, "blkio", "blkio.throttle.read_iops_device") == f"{device} 100"
    assert group(box, "blkio", "blkio.throttle.write_iops_device") == f"{device} 200"
    client.api._result(client.api._post_json(
        client.api._url("/containers/{0}/update", box.id),
        data={"BlkioDeviceReadBps": [{"Path": disk, "Rate": 0}], "BlkioDeviceWriteIOps": [{"Path": disk, "Rate": 300}]},
    ))  # fmt: skip
    assert group(box, "blkio", "blkio.throttle.read_bps_device") == ""
    assert group(box, "blkio", "blkio.throttle.write_iops_device") == f"{device} 300"
    box.reload()
    assert box.attrs["HostConfig"]["BlkioDeviceReadBps"] == []


def test_what_this_machine_lacks_is_told_alike_by_info_and_create(client) -> None:
    info = client.info()
    assert info["CgroupDriver"] == "cgroupfs"
    told = client.api.create_container("busybox", SLEEP, host_config=client.api.create_host_config(blkio_weight=300))
    lacks = [text for text in told["Warnings"] or [] if "Block I/O weight" in text]
    assert bool(lacks) == any("blkio weight support" in text for text in info["Warnings"] or [])
    refused = [text for text in info["Warnings"] or [] if text.removeprefix("WARNING: No ").startswith("memory")]
    assert bool(refused) != info["MemoryLimit"]


# -- update ----------------------------------------------------------------------------------------------------------


def test_memory_moves_both_ways_while_it_runs(client) -> None:
    box = start(client, mem_limit="32m", memswap_limit="32m")
    for memory, swap in ((256, 512), (64, 64), (16, 32), (128, -1), (64, 96)):
        box.update(mem_limit=memory * MEBIBYTE, memswap_limit=swap * MEBIBYTE if swap > 0 else -1)
        assert group(box, "memory", "memory.limit_in_bytes") == str(memory * MEBIBYTE)
        if swap > 0:
            assert group(box, "memory", "memory.memsw.limit_in_bytes") == str(swap * MEBIBYTE)
    with pytest.raises(docker.errors.APIError) as caught:
        box.update(mem_limit=1024 * MEBIBYTE)
    assert caught.value.response.status_code == 409
    assert f"Cannot update container {box.id}: Memory limit should be smaller" in str(caught.value)


def test_a_limit_below_what_is_used_is_refused_and_changes_nothing(client) -> None:
    box = start(client, "sh", "-c", "dd if=/dev/zero of=/dev/shm/f bs=1M count=40; echo full; sleep 1000",
                mem_limit="128m", memswap_limit="128m")  # fmt: skip
    until(lambda: b"full" in box.logs())
    with pytest.raises(docker.errors.APIError) as caught:
        box.update(mem_limit=16 * MEBIBYTE, memswap_limit=16 * MEBIBYTE)
    assert "uses more than that; free some or choose a higher limit" in str(caught.value)
    assert group(box, "memory", "memory.limit_in_bytes") == str(128 * MEBIBYTE)
    box.reload()
    assert (box.status, box.attrs["HostConfig"]["Memory"]) == ("running", 128 * MEBIBYTE)


def test_the_pids_limit_is_lifted_by_zero(client) -> None:
    box = start(client, pids_limit=20)
    client.api._result(client.api._post_json(
        client.api._url("/containers/{0}/update", box.id), data={"PidsLimit": 0}
    ))  # fmt: skip
    assert group(box, "pids", "pids.max") == "max"


# -- out of memory ---------------------------------------------------------------------------------------------------


class Listener:
    """Events of one container as they come, until `die`."""

    def __init__(self, client: docker.DockerClient, identity: str) -> None:
        self.found: list[str] = []
        self._stream = client.events(decode=True, filters={"container": identity})
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        for event in self._stream:
            self.found.append(event["Action"])
            if event["Action"] == "die":
                self._stream.close()
                return

    def until_death(self) -> list[str]:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.found


def test_a_child_killed_for_memory_is_told_while_the_container_runs(client, world: World) -> None:
    script = "while read -r line; do tail /dev/zero; echo killed; done; exit 3"
    box = client.containers.create(
        "busybox", ["sh", "-c", script], mem_limit="16m", memswap_limit="16m", stdin_open=True
    )
    listener = Listener(client, box.id)
    socket = box.attach_socket(params={"stdin": 1, "stream": 1})
    box.start()
    for number in (1, 2):
        socket._sock.sendall(b"again\n")
        until(lambda number=number: box.logs().count(b"killed") == number)
        until(lambda number=number: listener.found.count("oom") == number)
        box.reload()
        assert (box.status, box.attrs["State"]["OOMKilled"]) == ("running", True)
        time.sleep(0.4)  # the burst is over: the next shortage is another one
    box.kill("KILL")
    assert box.wait()["StatusCode"] == 137
    told = listener.until_death()
    assert (told.count("oom"), told[-1]) == (2, "die")
    socket._sock.close()
    socket.close()
    box.start()
    box.reload()
    assert box.attrs["State"]["OOMKilled"] is False


def test_the_end_by_memory_is_told_once_and_before_the_death(client) -> None:
    for _ in range(3):
        box = client.containers.create("busybox", ["tail", "/dev/zero"], mem_limit="16m", memswap_limit="16m")
        listener = Listener(client, box.id)
        box.start()
        assert box.wait()["StatusCode"] == 137
        assert listener.until_death()[-2:] == ["oom", "die"]
        box.reload()
        assert box.attrs["State"]["OOMKilled"] is True
        box.remove()


def test_a_storm_of_kills_is_few_events(client) -> None:
    script = "i=0; while [ $i -lt 20 ]; do tail /dev/zero & i=$((i+1)); done; wait; echo over; exit 4"
    box = client.containers.create("busybox", ["sh", "-c", script], mem_limit="16m", memswap_limit="16m")
    listener = Listener(client, box.id)
    box.start()
    assert box.wait()["StatusCode"] in (4, 137)
    told = listener.until_death().count("oom")
    assert 1 <= told <= 3


def test_what_happened_while_the_daemon_was_away_is_told_by_the_next(own_world: World) -> None:
    own_world.start()
    own_world.scow("image", "bootstrap", "busybox")
    client = own_world.docker()
    script = "while [ ! -e /dev/shm/go ]; do sleep 0.05; done; tail /dev/zero; touch /dev/shm/done; exec sleep 1000"
    box = start(client, "sh", "-c", script, mem_limit="16m", memswap_limit="16m")
    box.reload()
    inside = Path(f"/proc/{box.attrs['State']['Pid']}/root/dev/shm")
    own_world.kill()
    (inside / "go").touch()
    until((inside / "done").exists)
    own_world.start()
    box.reload()
    assert (box.status, box.attrs["State"]["OOMKilled"]) == ("running", True)
    for _ in range(2):
        told = own_world.docker_cli("events", "--since", "1", "--until", f"{time.time():.9f}", "--filter", "event=oom",
                                    "--format", "{{json .}}")  # fmt: skip
        assert [json.loads(line)["Actor"]["ID"] for line in told.splitlines()] == [box.id]
        own_world.kill()
        own_world.start()
