"""A daemon's life: after many runs, builds and execs it and its keeper hold no more than after a few.

Descriptors, threads, mounts, links, cgroups and files must be where they were; memory may grow by what caches keep.
"""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support import footprint
from support.raw import RawClient
from support.tars import tar
from support.world import World

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600)]

#: KiB the daemon may grow by over the whole of it: what a record and its Python objects come to, and no more.
MAX_GROWTH = 12 << 10
#: Threads and descriptors that may come with the pool's threads.
SLACK = 4


class Life:
    """What is done over and over, through the API."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.client = RawClient(str(world.socket))
        self.ids: set[str] = set()

    def run(self, _number: int) -> None:
        host = {"AutoRemove": True, "PortBindings": {"80/tcp": [{"HostPort": "8099"}]}, "Binds": ["/anonymous"]}
        config = {"Image": "busybox", "Cmd": ["echo", "hello"], "HostConfig": host}
        made = self.client.post("/containers/create", config)["Id"]
        self.ids.add(made)
        waiting = RawClient(str(self.world.socket))
        self.client.post(f"/containers/{made}/start")
        waiting.request("POST", f"/containers/{made}/wait?condition=removed")
        waiting.close()

    def build(self, number: int) -> None:
        context = tar(("Dockerfile", f"FROM busybox\nCOPY file /\nRUN echo {number} > /n\n".encode()), ("file", b"x"))
        status, data = self.client.request("POST", "/build?t=leaky&rm=1&networkmode=none", context.read())
        assert status == 200
        assert b"Successfully tagged leaky:latest" in data, data

    def execute(self, _number: int) -> None:
        made = self.client.post("/containers/resident/exec", {"Cmd": ["echo", "hi"], "AttachStdout": True})["Id"]
        other = RawClient(str(self.world.socket))
        status, data = other.request("POST", f"/exec/{made}/start", {})
        other.close()
        assert (status, data) == (200, b"\x01\x00\x00\x00\x00\x00\x00\x03hi\n")

    def fail(self, _number: int) -> None:
        """What goes wrong leaves as little."""
        made = self.client.post("/containers/create", {"Image": "busybox", "Cmd": ["no-such-program"]})["Id"]
        self.ids.add(made)
        assert self.client.request("POST", f"/containers/{made}/start")[0] == 400
        assert self.client.request("DELETE", f"/containers/{made}")[0] == 204
        self.client.request("POST", "/build", b"no archive")
        self.client.request("POST", "/images/load", os.urandom(2000))

    def network(self, number: int) -> None:
        self.client.post("/networks/create", {"Name": f"n{number}"})
        self.client.post(f"/networks/n{number}/connect", {"Container": "resident"})
        self.client.request("POST", f"/networks/n{number}/disconnect", {"Container": "resident"})
        self.client.delete(f"/networks/n{number}")

    def watch(self, _number: int) -> None:
        """Clients that go in the middle of a stream."""
        for target in ("/events", "/containers/resident/logs?follow=1&stdout=1", "/containers/resident/stats"):
            other = RawClient(str(self.world.socket))
            other._connection.request("GET", target)
            other._connection.sock.recv(10)
            other.close()

    def tidy(self) -> None:
        self.client.request("DELETE", "/images/leaky")
        self.client.post("/build/prune?all=1")
        self.client.post("/images/prune")
        self.client.post("/volumes/prune")

    def repeat(self, work: Callable[[int], None], times: int) -> None:
        for number in range(times):
            work(number)


def test_nothing_grows(own_world: World) -> None:
    own_world.start()
    own_world.scow("image", "bootstrap", "busybox")
    life = Life(own_world)
    client = life.client
    with contextlib.closing(client):
        _nothing_grows(own_world, life)
    assert "Traceback" not in own_world.log, own_world.log[-3000:]


def _nothing_grows(own_world: World, life: Life) -> None:
    client = life.client
    config = {"Image": "busybox", "Cmd": ["sh", "-c", "echo here; sleep 1000"], "HostConfig": {"Init": True}}
    life.ids.add(client.post("/containers/create?name=resident", config)["Id"])
    client.post("/containers/resident/start")
    assert own_world.process is not None
    daemon, keeper = own_world.process.pid, own_world.keeper_pid()

    def all_of_it(share: int) -> None:
        life.repeat(life.run, 200 // share)
        life.repeat(life.build, 50 // share)
        life.repeat(life.execute, 50 // share)
        life.repeat(life.fail, 30 // share)
        life.repeat(life.network, 20 // share)
        life.repeat(life.watch, 20 // share)
        life.tidy()

    all_of_it(5)
    assert footprint.settled(own_world)
    before = footprint.Vitals(daemon), footprint.Vitals(keeper)
    files, tasks = footprint.data_files(own_world), footprint.exec_files(own_world)
    bridges = [name for name in footprint.links(own_world) if not name.startswith("veth")]
    processes = len(footprint.processes(own_world))
    all_of_it(1)
    after = settled(daemon, before[0]), footprint.Vitals(keeper)
    for old, new in zip(before, after, strict=True):
        assert new.descriptors <= old.descriptors + SLACK, f"{old} {new}\n" + "\n".join(descriptors(daemon))
        assert new.threads <= old.threads + SLACK, (old, new)
        assert new.mounts == old.mounts
    assert after[0].resident <= before[0].resident + MAX_GROWTH, (before, after)
    assert after[1].resident <= before[1].resident + (MAX_GROWTH >> 2), (before, after)
    assert footprint.settled(own_world)
    assert footprint.data_files(own_world) == files
    assert footprint.exec_files(own_world) == tasks
    assert [name for name in footprint.links(own_world) if not name.startswith("veth")] == bridges
    assert footprint.lone_links(own_world, containers=1) == []
    assert footprint.published(own_world) == []
    assert len(footprint.processes(own_world)) <= processes + 2  # parked shims come and go
    client.delete("/containers/resident?force=1")
    assert footprint.settled(own_world, life.ids)


def settled(pid: int, before: footprint.Vitals) -> footprint.Vitals:
    """A process's vitals once it has noticed that the last clients went, or after ten seconds."""
    deadline = time.monotonic() + 10
    while True:
        now = footprint.Vitals(pid)
        if now.descriptors <= before.descriptors + SLACK or time.monotonic() > deadline:
            return now
        time.sleep(0.05)


def descriptors(pid: int) -> list[str]:
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(entry))
        except OSError:
            continue  # it was closed meanwhile
    return sorted(found)
