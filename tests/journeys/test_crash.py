"""kill -9 of daemon, keeper or registry at work, a hundred times at random: nothing half-made, lost or leaked.

Intent: whoever dies, the next start opens everything; running containers go on with their logs and exit codes.
Model: one machine with an engine and a registry; a witness container counts aloud through all of it.
Steps: pick an operation and a victim, start the operation, kill the victim after a random time, start it again, look.
At the end everything is removed and pruned: the disk holds what it held before, the machine nothing.
The seed is printed with a failure: SCOW_CRASH_SEED repeats a run, SCOW_CRASH_ROUNDS makes it longer.
"""

import contextlib
import hashlib
import http.client
import io
import json
import os
import random
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import footprint
from support.raw import ApiFailure, RawClient
from support.registries import start_scow_registry
from support.world import World

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(1200)]

ROUNDS = int(os.environ.get("SCOW_CRASH_ROUNDS", "100"))
SEED = int(os.environ.get("SCOW_CRASH_SEED", "20240229"))
REGISTRY = "127.0.0.1:5000"
WITNESS = "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.02; done"
BODY = "echo begin; sleep 0.1; echo end; exit 7"
SLEEPER = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"Init": True}}
#: Of the daemon's threads and descriptors: pools have made theirs by then.
MOST_DESCRIPTORS, MOST_THREADS = 64, 48


class Machine:
    """The engine, its registry, and what must be true of them after every crash."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world, self.chance = world, chance
        self.registry = start_scow_registry(world, REGISTRY)
        self.ids: set[str] = set()
        self.archive = world.root / "busybox.tar"
        world.scow("save", "-o", str(self.archive), "busybox")
        self.before = footprint.data_files(world)
        self.create("witness", {"Image": "busybox", "Cmd": ["sh", "-c", WITNESS]})
        self.api("POST", "/containers/witness/start")
        self.round = 0

    def api(self, method: str, target: str, body: object = None) -> Any:
        client = RawClient(str(self.world.socket))
        try:
            return client._json(method, target, body)
        finally:
            client.close()

    def create(self, name: str, config: dict[str, Any]) -> str:
        made = str(self.api("POST", f"/containers/create?name={name}", config)["Id"])
        self.ids.add(made)
        return made

    # -- operations: each may die at any point with its connection --

    def run(self) -> None:
        name = f"run-{self.round}"
        self.create(name, {"Image": "busybox", "Cmd": ["sh", "-c", BODY]})
        self.api("POST", f"/containers/{name}/start")
        self.api("POST", f"/containers/{name}/wait")

    def run_and_remove(self) -> None:
        name = f"brief-{self.round}"
        host = {"AutoRemove": True, "Binds": ["/anonymous"], "PortBindings": {"80/tcp": [{"HostPort": "8081"}]}}
        self.create(name, {"Image": "busybox", "Cmd": ["sh", "-c", BODY], "HostConfig": host})
        self.api("POST", f"/containers/{name}/start")
        self.api("POST", f"/containers/{name}/wait?condition=removed")

    def stop(self) -> None:
        name = f"stopped-{self.round}"
        self.create(name, SLEEPER)
        self.api("POST", f"/containers/{name}/start")
        self.api("POST", f"/containers/{name}/stop?t=1")
        self.api("POST", f"/containers/{name}/restart?t=0")

    def remove(self) -> None:
        name = f"removed-{self.round}"
        self.create(name, SLEEPER)
        self.api("POST", f"/containers/{name}/start")
        self.api("DELETE", f"/containers/{name}?force=1&v=1")

    def execute(self) -> None:
        for _ in range(5):
            made = self.api("POST", "/containers/witness/exec", {"Cmd": ["true"], "AttachStdout": True})["Id"]
            self.api("POST", f"/exec/{made}/start", {"Detach": self.chance.random() < 0.5})
            self.api("GET", f"/exec/{made}/json")

    def network(self) -> None:
        name = f"net-{self.round}"
        self.api("POST", "/networks/create", {"Name": name})
        host = {"NetworkMode": name, "PortBindings": {"80/tcp": [{"HostPort": "8080"}]}}
        self.create(f"on-{name}", SLEEPER | {"HostConfig": host})
        self.api("POST", f"/containers/on-{name}/start")
        self.api("POST", "/networks/bridge/connect", {"Container": f"on-{name}"})
        self.api("POST", f"/networks/{name}/connect", {"Container": "witness"})
        self.api("POST", f"/networks/{name}/disconnect", {"Container": "witness", "Force": True})
        self.api("DELETE", f"/containers/on-{name}?force=1")
        self.api("DELETE", f"/networks/{name}")

    def volume(self) -> None:
        name = f"vol-{self.round}"
        self.api("POST", "/volumes/create", {"Name": name})
        command = ["sh", "-c", "echo kept > /v/file"]
        self.create(f"on-{name}", {"Image": "busybox", "Cmd": command, "HostConfig": {"Binds": [f"{name}:/v"]}})
        self.api("POST", f"/containers/on-{name}/start")
        self.api("POST", f"/containers/on-{name}/wait")
        self.api("DELETE", f"/containers/on-{name}")
        self.api("DELETE", f"/volumes/{name}")

    def build(self) -> None:
        files = {
            "Dockerfile": f"FROM busybox\nCOPY data /data\nRUN sha256sum /data > /sum\nRUN echo {self.round} > /r\n",
            "data": self.chance.randbytes(200_000),
        }
        status, data = self.request("POST", f"/build?t={REGISTRY}/crash/build:{self.round}", tar_of(files))
        assert status == 200, data

    def tag(self) -> None:
        name = self.some_image()
        for number in range(10):
            self.api("POST", f"/images/{name}/tag?repo=tagged&tag={number}")
        for number in range(10):
            self.api("DELETE", f"/images/tagged:{number}")
        self.api("DELETE", f"/images/{name}")

    def load(self) -> None:
        files = {"file": f"{self.round}"}
        target = f"/images/create?fromSrc=-&repo=imported&tag={self.round}"
        assert self.request("POST", target, tar_of(files))[0] == 200
        assert self.request("POST", "/images/load", self.archive.read_bytes())[0] == 200
        self.api("DELETE", f"/images/imported:{self.round}")

    def commit(self) -> None:
        self.api("POST", f"/commit?container=witness&repo=committed&tag={self.round}&pause=1", {})
        self.api("DELETE", f"/images/committed:{self.round}")

    def prune(self) -> None:
        self.api("POST", "/containers/prune")
        self.api("POST", "/images/prune")
        self.api("POST", "/build/prune")
        self.api("POST", "/networks/prune")
        self.api("POST", '/volumes/prune?filters={"all":["1"]}')

    def push(self) -> None:
        name = self.some_image()
        assert self.request("POST", f"/images/{name}/push", headers={"X-Registry-Auth": "e30="})[0] == 200

    def pull(self) -> None:
        name = self.some_image()
        self.request("POST", f"/images/{name}/push", headers={"X-Registry-Auth": "e30="})
        self.api("DELETE", f"/images/{name}")
        repository, _, tag = name.rpartition(":")
        self.request("POST", f"/images/create?fromImage={repository}&tag={tag}")

    def request(self, method: str, target: str, body: object = None, headers: Any = None) -> tuple[int, bytes]:
        client = RawClient(str(self.world.socket))
        try:
            return client.request(method, target, body, headers)
        finally:
            client.close()

    def some_image(self) -> str:
        names = sorted(
            name for image in self.api("GET", "/images/json") for name in image["RepoTags"] if name.startswith(REGISTRY)
        )
        if not names:
            self.api("POST", f"/images/busybox/tag?repo={REGISTRY}/crash/busybox&tag=1")
            return f"{REGISTRY}/crash/busybox:1"
        return self.chance.choice(names)

    # -- victims --

    def kill_daemon(self) -> None:
        self.world.kill()

    def kill_starting_daemon(self) -> None:
        """Once at work, and once more on its way up."""
        self.world.kill()
        process = self.world.begin()
        time.sleep(self.chance.uniform(0, 0.8))  # the moment of death is the experiment
        process.kill()
        process.wait()

    def kill_keeper(self) -> None:
        pid = self.world.keeper_pid()
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            if b"scow-keeper" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, 9)

    def kill_registry(self) -> None:
        self.registry.kill()
        self.registry.wait()

    def revive(self) -> None:
        assert self.world.process is not None
        self.ids |= {path.name for path in (self.world.root / "run/tasks").glob("*")}
        if self.world.process.poll() is not None:
            self.world.start()
        if self.registry.poll() is not None:
            self.registry = start_scow_registry(self.world, REGISTRY)

    # -- what must be true --

    def check(self) -> None:
        self.check_images()
        self.check_run()
        self.check_containers()
        self.check_networks()
        lines = self.logs("witness")
        assert lines == [f"line {number}" for number in range(1, len(lines) + 1)]
        assert self.api("GET", "/containers/witness/json")["State"]["Running"] is True

    def check_images(self) -> None:
        for image in self.api("GET", "/images/json?all=1"):
            for name in [image["Id"], *image["RepoTags"]]:
                assert self.api("GET", f"/images/{name}/json")["Id"] == image["Id"]
        check_blobs(self.world.root / "data" / "content")
        check_blobs(self.world.root / "registry")

    def check_run(self) -> None:
        """This round's container, if it was made: it runs to its end, with its code and its lines, or never started."""
        known = {name for made in self.api("GET", "/containers/json?all=1") for name in made["Names"]}
        if f"/run-{self.round}" not in known:
            return
        if self.api("GET", f"/containers/run-{self.round}/json")["State"]["Status"] == "created":
            return
        assert self.api("POST", f"/containers/run-{self.round}/wait")["StatusCode"] == 7
        assert self.logs(f"run-{self.round}") == ["begin", "end"]

    def check_containers(self) -> None:
        """Every container is in a state it may stay in; none has lost its disk, no disk or task its container."""
        present = {}
        for made in self.api("GET", "/containers/json?all=1"):
            if made["Names"][0].startswith("/brief-") and made["State"] != "created":
                self.settle(made["Id"])  # it ran, so it goes
            elif made["State"] == "removing":
                self.settle(made["Id"])
            else:
                present[made["Id"]] = made["State"]
        assert set(present.values()) <= {"created", "running", "exited"}, present
        assert footprint.settled(self.world)
        for made in present:
            self.api("GET", f"/containers/{made}/json?size=1")
        assert {path.name for path in (self.world.root / "data/containers").glob("*")} == set(present)
        active = {
            json.loads(path.read_text())["name"]
            for path in (self.world.root / "data/snapshots").glob("*/meta.json")
            if json.loads(path.read_text())["kind"] == "active"
        }
        assert active == set(present)
        running = {made for made, state in present.items() if state == "running"}
        assert {name for name in os.listdir(self.world.root / "run/tasks") if name not in present} == set()
        assert running <= set(os.listdir(self.world.root / "run/tasks"))
        assert os.listdir(self.world.root / "data/build/tmp") == []

    def settle(self, made: str) -> None:
        with contextlib.suppress(ApiFailure):
            self.api("POST", f"/containers/{made}/wait?condition=removed")

    def check_networks(self) -> None:
        """Who is on a network runs; the machine has one end of a cable for each of them."""
        running = {made["Id"] for made in self.api("GET", "/containers/json")}
        count = 0
        for network in self.api("GET", "/networks"):
            on = self.api("GET", f"/networks/{network['Id']}").get("Containers") or {}
            assert set(on) <= running, network["Name"]
            count += len(on)
        assert footprint.lone_links(self.world, containers=count) == []

    def logs(self, name: str) -> list[str]:
        _, data = self.request("GET", f"/containers/{name}/logs?stdout=1")
        text = b""
        while data:
            size = int.from_bytes(data[4:8], "big")
            text, data = text + data[8 : 8 + size], data[8 + size :]
        return text.decode().splitlines()

    # -- the end --

    def clear(self) -> None:
        """Remove everything but the base image, as a user would."""
        self.world.remove_everything()
        for image in self.api("GET", "/images/json"):
            for name in image["RepoTags"]:
                if name != "busybox:latest":
                    self.api("DELETE", f"/images/{name}")
        self.api("POST", "/build/prune?all=1")
        self.api("POST", "/images/prune")
        self.api("POST", "/networks/prune")
        self.api("POST", '/volumes/prune?filters={"all":["1"]}')


def tar_of(files: dict[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def check_blobs(store: Path) -> None:
    """Every visible blob is what its name says, and whatever index.json names is there."""
    for blob in store.glob("blobs/sha256/*"):
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    index = store / "index.json"
    if index.exists():
        for descriptor in json.loads(index.read_text())["manifests"]:
            assert (store / "blobs/sha256" / descriptor["digest"].removeprefix("sha256:")).exists()


def attempt(operation: Callable[[], None]) -> threading.Thread:
    """Run `operation` in a thread; that its peer is killed under it is the point, so its failure is not one."""

    def run() -> None:
        failures = (OSError, ApiFailure, AssertionError, ValueError, http.client.HTTPException)
        with contextlib.suppress(*failures, subprocess.SubprocessError):
            operation()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_whoever_is_killed_nothing_is_lost(own_world: World) -> None:
    own_world.start()
    own_world.scow("image", "bootstrap", "busybox")
    chance = random.Random(SEED)
    machine = Machine(own_world, chance)
    operations = [
        machine.run, machine.run, machine.run_and_remove, machine.build, machine.build, machine.push, machine.pull,
        machine.pull, machine.stop, machine.remove, machine.execute, machine.network, machine.volume, machine.tag,
        machine.load, machine.commit, machine.prune,
    ]  # fmt: skip
    victims = [
        machine.kill_daemon, machine.kill_daemon, machine.kill_daemon, machine.kill_starting_daemon,
        machine.kill_keeper, machine.kill_registry,
    ]  # fmt: skip
    for machine.round in range(ROUNDS):
        operation, victim = chance.choice(operations), chance.choice(victims)
        delay = chance.uniform(0, 0.35)
        try:
            thread = attempt(operation)
            time.sleep(delay)  # the moment of death is the experiment
            victim()
            thread.join(60)
            assert not thread.is_alive(), "the operation hangs"
            machine.revive()
            machine.check()
        except (AssertionError, ApiFailure, OSError) as error:
            error.add_note(
                f"seed {SEED}, round {machine.round}: {operation.__name__}, {victim.__name__} after {delay:.3f} s\n"
                + own_world.log[-1500:]
            )
            raise
    machine.clear()
    assert own_world.process is not None
    vitals = footprint.Vitals(own_world.process.pid)
    assert vitals.descriptors <= MOST_DESCRIPTORS, vitals
    assert vitals.threads <= MOST_THREADS, vitals
    assert footprint.published(own_world) == []
    assert own_world.stop() == 0
    assert footprint.data_files(own_world) == machine.before
    assert footprint.exec_files(own_world) == set()
    assert footprint.mounts(own_world) == []
    assert footprint.cgroups(machine.ids) == []
    assert set(footprint.processes(own_world)) == {machine.registry.pid}
    assert footprint.lone_links(own_world, spare=0) == []
    assert footprint.links(own_world) == ["scow0"]
