"""kill -9 of daemon, keeper or registry at work, a hundred times at random: nothing half-made, lost or leaked.

Intent: whoever dies, the next start opens everything; running containers go on with their logs and exit codes.
Model: one machine with an engine and a registry; a witness container counts aloud through all of it.
Steps: pick an operation and a victim, start the operation, kill the victim after a random time, start it again, look.
The seed is printed with a failure: SCOW_CRASH_SEED repeats a run, SCOW_CRASH_ROUNDS makes it longer.
"""

import hashlib
import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.raw import ApiFailure, RawClient
from support.registries import start_scow_registry
from support.world import World

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(1200)]

ROUNDS = int(os.environ.get("SCOW_CRASH_ROUNDS", "100"))
SEED = int(os.environ.get("SCOW_CRASH_SEED", "20240229"))
REGISTRY = "127.0.0.1:5000"
WITNESS = "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.02; done"
BODY = "echo begin; sleep 0.1; echo end; exit 7"


class Machine:
    """The engine, its registry, and what must be true of them after every crash."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world, self.chance = world, chance
        self.registry = start_scow_registry(world, REGISTRY)
        self.witness = self.api(
            "POST", "/containers/create?name=witness", {"Image": "busybox", "Cmd": ["sh", "-c", WITNESS]}
        )["Id"]
        self.api("POST", "/containers/witness/start")
        self.round = 0

    def api(self, method: str, target: str, body: object = None) -> dict:
        client = RawClient(str(self.world.socket))
        try:
            return client._json(method, target, body)
        finally:
            client.close()

    # -- operations: each may die at any point with its connection --

    def run(self) -> None:
        name = f"run-{self.round}"
        self.api("POST", f"/containers/create?name={name}", {"Image": "busybox", "Cmd": ["sh", "-c", BODY]})
        self.api("POST", f"/containers/{name}/start")
        self.api("POST", f"/containers/{name}/wait")

    def build(self) -> None:
        context = self.world.root / f"context-{self.round}"
        context.mkdir()
        (context / "Dockerfile").write_text(
            f"FROM busybox\nCOPY data /data\nRUN sha256sum /data > /sum\nRUN echo {self.round} > /round\n"
        )
        (context / "data").write_bytes(self.chance.randbytes(200_000))
        self.world.scow("build", "-q", "-t", f"{REGISTRY}/crash/build:{self.round}", str(context))

    def push(self) -> None:
        self.world.scow("push", "-q", self.some_image())

    def pull(self) -> None:
        name = self.some_image()
        self.world.scow("push", "-q", name)
        self.world.scow("rmi", name)
        self.world.scow("pull", "-q", name)

    def some_image(self) -> str:
        names = [
            name for image in self.api("GET", "/images/json") for name in image["RepoTags"] if name.startswith(REGISTRY)
        ]
        if not names:
            self.world.scow("tag", "busybox", f"{REGISTRY}/crash/busybox:1")
            return f"{REGISTRY}/crash/busybox:1"
        return self.chance.choice(names)

    # -- victims --

    def kill_daemon(self) -> None:
        self.world.kill()

    def kill_keeper(self) -> None:
        os.kill(self.world.keeper_pid(), 9)

    def kill_registry(self) -> None:
        self.registry.kill()
        self.registry.wait()

    def revive(self) -> None:
        assert self.world.process is not None
        if self.world.process.poll() is not None:
            self.world.start()
        if self.registry.poll() is not None:
            self.registry = start_scow_registry(self.world, REGISTRY)

    # -- what must be true --

    def check(self) -> None:
        self.check_images()
        self.check_run()
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

    def logs(self, name: str) -> list[str]:
        client = RawClient(str(self.world.socket))
        _, data = client.request("GET", f"/containers/{name}/logs?stdout=1")
        client.close()
        text = b""
        while data:
            size = int.from_bytes(data[4:8], "big")
            text, data = text + data[8 : 8 + size], data[8 + size :]
        return text.decode().splitlines()


def check_blobs(store: Path) -> None:
    """Every visible blob is what its name says, and whatever index.json names is there."""
    for blob in store.glob("blobs/sha256/*"):
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    index = store / "index.json"
    if index.exists():
        for descriptor in json.loads(index.read_text())["manifests"]:
            assert (store / "blobs/sha256" / descriptor["digest"].removeprefix("sha256:")).exists()


def remains(world: World) -> list[str]:
    """Processes, mounts, cgroups and links that stand for a container of this engine."""
    ids = {path.name for path in (world.root / "data/containers").glob("*")}
    found = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(world.root) in line]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob("*/scow/*") if path.name in ids]
    found += [str(path) for path in (world.root / "run/tasks").glob("*")]
    links = subprocess.run(world.inside("ip", "-o", "link"), capture_output=True, text=True, check=True).stdout
    found += [line for line in links.splitlines() if "veth" in line]
    return found


def attempt(operation: Callable[[], None]) -> threading.Thread:
    """Run `operation` in a thread; that its peer is killed under it is the point, so its failure is not one."""

    def run() -> None:
        try:
            operation()
        except (OSError, ApiFailure, AssertionError, ValueError, subprocess.SubprocessError):
            return

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_whoever_is_killed_nothing_is_lost(own_world: World) -> None:
    own_world.start()
    own_world.scow("image", "bootstrap", "busybox")
    chance = random.Random(SEED)
    machine = Machine(own_world, chance)
    for machine.round in range(ROUNDS):
        operation = chance.choice([machine.run, machine.run, machine.build, machine.push, machine.pull])
        victim = chance.choice([machine.kill_daemon, machine.kill_daemon, machine.kill_keeper, machine.kill_registry])
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
                + own_world.log[-3000:]
            )
            raise
    own_world.remove_everything()
    assert own_world.stop() == 0
    assert remains(own_world) == []
