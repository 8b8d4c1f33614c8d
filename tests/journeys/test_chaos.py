"""kill -9 of daemon, keeper and shims at random, under fifty containers that come and go: nothing lost, or told twice.

Intent: a container does not notice who dies beside it; whoever asks afterwards gets its whole truth.
Model: workers keep fifty containers in being, each of which counts aloud and ends with a code of its own; a killer
kills, a second or so apart. Steps of a worker: create, start, wait; then the log, the code and the events must be what
the program did; remove. At the end nothing is left on the machine.
SCOW_CHAOS_SECONDS makes it longer, SCOW_CHAOS_SEED repeats its choices (not the kernel's).
"""

import contextlib
import http.client
import json
import os
import random
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from support import footprint
from support.raw import ApiFailure, RawClient
from support.world import World

SECONDS = float(os.environ.get("SCOW_CHAOS_SECONDS", "100"))
SEED = int(os.environ.get("SCOW_CHAOS_SEED", "20240301"))
pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(SECONDS + 300)]

#: Whom the killer chooses from; a word in it twice is chosen twice as often.
VICTIMS = os.environ.get("SCOW_CHAOS_VICTIMS", "daemon keeper shim shim").split()
CROWD = 50
#: A volume whose creation tells the listener that nothing follows.
LAST_WORD = "last-word"
#: Prints "begin CODE COUNT", COUNT lines a few hundredths of a second apart, and ends with CODE.
PROGRAM = "echo begin $0 $1; i=0; while [ $i -lt $1 ]; do echo line $i; i=$((i+1)); sleep 0.0$2; done; exit $0"
#: Seconds within which a daemon that was killed is back, and everybody who asks is answered.
PATIENCE = 60.0


class Chaos:
    """The engine, those who use it, and what went wrong."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chance = random.Random(SEED)
        self.over = threading.Event()
        self.up = threading.Lock()
        self.failures: list[str] = []
        self.ids: set[str] = set()
        self.ended: dict[str, int] = {}
        self.deaths: Counter[str] = Counter()
        self.events: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    # -- asking --

    def ask(self, method: str, target: str, body: object = None) -> Any:
        """Ask until somebody answers: the daemon may be dead, or die while it is asked."""
        deadline = time.monotonic() + PATIENCE
        while True:
            client = RawClient(str(self.world.socket))
            try:
                status, data = client.request(method, target, body)
            except (OSError, http.client.HTTPException):
                if time.monotonic() > deadline or self.failures:
                    raise
                with self.up:  # held while there is no daemon
                    pass
                time.sleep(0.02)
                continue
            finally:
                client.close()
            if status >= 400:
                raise ApiFailure(status, data.decode(errors="replace").strip())
            return data

    def inspect(self, name: str) -> Any:
        return json.loads(self.ask("GET", f"/containers/{name}/json"))

    # -- the workers --

    def work(self, number: int, chance: random.Random) -> None:
        """One container after the other, each to its end."""
        turn = 0
        while not self.over.is_set():
            turn += 1
            name = f"chaos-{number}-{turn}"
            try:
                self.live(
                    name, code=chance.randrange(1, 100), lines=chance.randrange(5, 60), pause=chance.randrange(1, 9)
                )
            except Exception as error:  # told by the test, from its own thread
                self.failures.append(f"{name}: {type(error).__name__}: {error}")
                return

    def live(self, name: str, *, code: int, lines: int, pause: int) -> None:
        made = self.create(name, ["sh", "-c", PROGRAM, str(code), str(lines), str(pause)])
        self.start(name)
        self.ask("POST", f"/containers/{name}/wait")
        state = self.inspect(name)["State"]
        assert state["ExitCode"] == code, state
        assert state["Status"] == "exited", state
        self.check_log(name, code, lines)
        with self.lock:
            self.ended[made] = code
        with contextlib.suppress(ApiFailure):  # asked twice, if the first answer was lost
            self.ask("DELETE", f"/containers/{name}")

    def create(self, name: str, command: list[str]) -> str:
        try:
            made = json.loads(self.ask("POST", f"/containers/create?name={name}", {"Image": "busybox", "Cmd": command}))
            found = str(made["Id"])
        except ApiFailure as error:
            if error.status != 409:  # it was made, only the answer was lost
                raise
            found = str(self.inspect(name)["Id"])
        with self.lock:
            self.ids.add(found)
        return found

    def start(self, name: str) -> None:
        """Start it; a start whose shim is killed under it fails, and is tried again."""
        for _ in range(20):
            try:
                self.ask("POST", f"/containers/{name}/start")
                return
            except ApiFailure as error:
                if error.status != 500:
                    raise
                last = error
        raise last

    def check_log(self, name: str, code: int, lines: int) -> None:
        """Every line of the last run, once, in order; a run before it is one whose start had failed."""
        data, text = self.ask("GET", f"/containers/{name}/logs?stdout=1&stderr=1"), b""
        while data:
            size = int.from_bytes(data[4:8], "big")
            text, data = text + data[8 : 8 + size], data[8 + size :]
        said = text.decode().splitlines()
        begin = f"begin {code} {lines}"
        assert begin in said, said
        last = len(said) - 1 - said[::-1].index(begin)
        assert said[last + 1 :] == [f"line {number}" for number in range(lines)], said

    # -- the killer --

    def kill(self) -> None:
        """Until it is over: one or two of the three, then a while."""
        while not self.over.wait(self.chance.uniform(0.1, 1.2)):
            victims = {self.chance.choice(VICTIMS) for _ in range(self.chance.choice((1, 1, 2)))}
            try:
                self.kill_at_once(sorted(victims))
                self.wait_for_others()
            except Exception as error:  # told by the test, from its own thread
                self.failures.append(f"{victims}: {type(error).__name__}: {error}\n{self.world.log[-1500:]}")
                return

    def kill_at_once(self, victims: list[str]) -> None:
        """All of `victims`, one right after the other; then the daemon is started again if it was among them."""
        daemon = "daemon" in victims
        with self.up if daemon else contextlib.nullcontext():
            self.chance.shuffle(victims)
            for victim in victims:
                getattr(self, f"kill_{victim}")()
                self.deaths[victim] += 1
            if daemon:
                time.sleep(self.chance.uniform(0, 0.5))  # how long it is away is part of the experiment
                self.world.start()

    def kill_daemon(self) -> None:
        self.world.kill()

    def kill_keeper(self) -> None:
        self._kill(self.keeper_pid(), b"scow-keeper")

    def keeper_pid(self) -> int:
        """0 while there is none."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return self.world.keeper_pid()
        return 0

    def kill_shim(self) -> None:
        """Some of them."""
        tasks = sorted((self.world.root / "run/tasks").glob("*/state.json"))
        for task in self.chance.sample(tasks, min(len(tasks), self.chance.choice((1, 1, 3, 10)))):
            with contextlib.suppress(FileNotFoundError, ValueError):
                self._kill(json.loads(task.read_text())["shim"], b"scow-shim")

    def _kill(self, pid: int, title: bytes) -> None:
        if title_of(pid).startswith(title):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)

    def wait_for_others(self) -> None:
        """Until the dead have been replaced: daemon, keeper and shim each hold what the others need.

        (A container that ends while all three are dead takes its last words along.)
        """
        deadline = time.monotonic() + PATIENCE
        while not self.replaced():
            assert time.monotonic() < deadline, "nobody takes the place of the dead"
            time.sleep(0.02)

    def replaced(self) -> bool:
        self.ask("GET", "/containers/json")
        if not title_of(self.keeper_pid()).startswith(b"scow-keeper"):
            return False
        for task in (self.world.root / "run/tasks").glob("*/state.json"):
            with contextlib.suppress(FileNotFoundError, ValueError):
                shim = json.loads(task.read_text())["shim"]
                if not title_of(shim).startswith(b"scow-shim") and not (task.parent / "exit.json").exists():
                    return False
        return True

    # -- the listener --

    def listen(self) -> None:
        """Follow the events, from the last one heard whenever the stream breaks off, until the one that ends it."""
        since = time.time_ns()
        while True:
            connection = http.client.HTTPConnection("localhost")
            with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
                connection.sock = socket.socket(socket.AF_UNIX)
                connection.sock.connect(str(self.world.socket))
                connection.request("GET", f"/events?since={since // 10**9}.{since % 10**9 + 1:09}")
                for line in connection.getresponse():
                    event = json.loads(line)
                    since = event["timeNano"]
                    if event["Type"] == "volume" and event["Actor"]["ID"] == LAST_WORD:
                        return
                    self.events.append(event)
            if self.failures:
                return
            with self.up:  # held while there is no daemon
                pass

    # -- afterwards --

    def check_events(self) -> None:
        """Each container that ended: it was created, it started, it died once for every start, with its code."""
        told: dict[str, list[dict[str, Any]]] = {}
        for event in self.events:
            if event["Type"] == "container":
                told.setdefault(event["Actor"]["ID"], []).append(event)
        for made, code in self.ended.items():
            actions = [event["Action"] for event in told.get(made, [])]
            assert actions.count("create") == 1, (made, actions)
            assert actions.count("start") >= 1, (made, actions)
            codes = [event["Actor"]["Attributes"]["exitCode"] for event in told[made] if event["Action"] == "die"]
            assert codes[-1:] == [str(code)], (made, actions, codes)
            assert len(codes) == actions.count("start"), (made, actions, codes)
            assert actions.count("destroy") == 1, (made, actions)


def title_of(pid: int) -> bytes:
    """What a process shows itself as; nothing if it is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def test_nobody_notices_who_dies(own_world: World) -> None:
    own_world.start()
    own_world.scow("image", "bootstrap", "busybox")
    before = footprint.data_files(own_world)
    chaos = Chaos(own_world)
    listener = threading.Thread(target=chaos.listen)
    seeds = [random.Random(f"{SEED}-{number}") for number in range(CROWD)]
    workers = [threading.Thread(target=chaos.work, args=(number, seeds[number])) for number in range(CROWD)]
    killer = threading.Thread(target=chaos.kill)
    for thread in [listener, killer, *workers]:
        thread.start()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and not chaos.failures:
        time.sleep(0.2)
    chaos.over.set()
    for thread in [killer, *workers]:
        thread.join(PATIENCE)
    story = f"seed {SEED}: {dict(chaos.deaths)} killed, {len(chaos.ended)} containers ended"
    print(story)
    assert not chaos.failures, story + "\n" + "\n".join(chaos.failures[:10])
    assert len(chaos.ended) > CROWD, story
    chaos.ask("POST", "/volumes/create", {"Name": LAST_WORD})
    chaos.ask("DELETE", f"/volumes/{LAST_WORD}")
    listener.join(PATIENCE)
    chaos.check_events()
    own_world.remove_everything()
    assert own_world.stop() == 0
    assert footprint.data_files(own_world) == before
    assert footprint.exec_files(own_world) == set()
    assert footprint.mounts(own_world) == []
    assert footprint.cgroups(chaos.ids) == []
    assert footprint.processes(own_world) == {}
    deadline = time.monotonic() + 20  # the kernel takes dropped namespaces down one after the other, in its own time
    while (left := footprint.links(own_world)) != ["scow0"] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == ["scow0"]
    assert "Traceback" not in own_world.log, own_world.log[-3000:]
