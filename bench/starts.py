"""Starts, execs, stops: over the API with a connection that is open already, and as whole commands."""

import time
from concurrent.futures import ThreadPoolExecutor

from peers import Peers
from report import Report, processor_time, processor_time_of, quiet, timed
from wire import Wire

from support.world import BIN, World

#: Seconds before each round: what the round before left to clean up, and what is made ahead for the next, is done.
PAUSE = 0.1
WHOLE = "create+attach+start+wait+remove over the API"
STOPS = "create+start+stop+remove over the API"
SLEEPER = ["sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.01; done"]


def cli(world: World, *words: str) -> list[str]:
    """Our command; the engine's socket is a path, so it need not be run on the engine's machine."""
    return [str(BIN / "scow"), "-H", f"unix://{world.socket}", *words]


class Starts:
    """One container after the other, its requests timed."""

    def __init__(self, world: World) -> None:
        assert world.process is not None
        self.api = Wire(str(world.socket))
        self.daemon = world.process.pid
        self.samples: dict[str, list[float]] = {}

    def note(self, name: str, value: float) -> None:
        """One more value for a figure."""
        self.samples.setdefault(name, []).append(value)

    def create(self, *command: str) -> str:
        """A container of busybox; its id."""
        body = {"Image": "busybox", "Cmd": list(command), "AttachStdout": True}
        return str(self.api.ask("POST", "/containers/create", body)["Id"])

    def whole(self) -> None:
        """create, attach, start, wait, remove, as ``docker run`` asks for them."""
        marks = [time.perf_counter()]
        spent = processor_time(self.daemon)
        made = self.create("echo", "out")
        marks.append(time.perf_counter())
        streams = Wire(self.api.path)
        streams.hijack(f"/containers/{made}/attach?stream=1&stdout=1&stderr=1")
        waiting = Wire(self.api.path)
        waiting.begin("POST", f"/containers/{made}/wait?condition=next-exit")
        waiting.head()
        marks.append(time.perf_counter())
        self.api.begin("POST", f"/containers/{made}/start")
        streams.first()
        first = time.perf_counter()
        self.api.finish()
        marks.append(time.perf_counter())
        waiting.first()
        marks.append(time.perf_counter())
        streams.close()
        waiting.close()
        self.api.ask("DELETE", f"/containers/{made}")
        marks.append(time.perf_counter())
        self.note("POST start → first output", (first - marks[2]) * 1000)
        self.note("create+attach+start+wait over the API", (marks[4] - marks[0]) * 1000)
        for number, step in enumerate(("create", "attach and wait begun", "start", "exit", "remove")):
            self.note(f"  of which {step}", (marks[number + 1] - marks[number]) * 1000)
        self.note("  processor time of the daemon", processor_time(self.daemon) - spent)

    def stop(self) -> None:
        """A stop that is obeyed at once, and the removal after it."""
        made = self.create(*SLEEPER)
        self.api.ask("POST", f"/containers/{made}/start")
        time.sleep(0.05)  # its trap is set
        self.note("stop", timed(lambda: self.api.ask("POST", f"/containers/{made}/stop")))
        time.sleep(0.05)
        self.note("remove", timed(lambda: self.api.ask("DELETE", f"/containers/{made}")))

    def execute(self, made: str) -> None:
        """exec `true`: create, start, inspect."""
        job = self.api.ask("POST", f"/containers/{made}/exec", {"Cmd": ["true"], "AttachStdout": True})["Id"]
        streams = Wire(self.api.path)
        streams.hijack(f"/exec/{job}/start", {"Detach": False})
        streams.count()
        streams.close()
        assert self.api.ask("GET", f"/exec/{job}/json")["ExitCode"] == 0


def starts(world: World, report: Report, peers: Peers, rounds: int) -> None:
    """Everything that begins or ends one container, in turn with the peers."""
    work = Starts(world)
    resident = work.create("sleep", "infinity")
    work.api.ask("POST", f"/containers/{resident}/start")
    cases: dict[str, object] = {
        WHOLE: work.whole,
        "exec true over the API": lambda: work.execute(resident),
        "scow run --rm busybox true": lambda: quiet(*cli(world, "run", "--rm", "busybox", "true")),
        "scow exec true": lambda: quiet(*cli(world, "exec", resident, "true")),
        "scow ps": lambda: quiet(*cli(world, "ps")),
        "processor time of scow run": lambda: processor_time_of(*cli(world, "run", "--rm", "busybox", "true")),
        "processor time of scow exec": lambda: processor_time_of(*cli(world, "exec", resident, "true")),
        "processor time of scow ps": lambda: processor_time_of(*cli(world, "ps")),
        STOPS: work.stop,
    }
    for name, runtime in peers.runtimes.items():
        cases[f"peer: {name} run (no image, network, API, record)"] = runtime.run
    if peers.podman is not None:
        podman = peers.podman
        kept = podman.begin("sleep", "1000")
        cases["peer: podman run --rm busybox true"] = lambda: podman.run("true")
        cases["peer: podman exec true"] = lambda: podman.do("exec", kept, "true")
        cases["peer: podman ps"] = lambda: podman.do("ps")
        cases["peer: podman stop, rm"] = lambda: _stops(work, podman.stop_and_remove())
    report.measure(rounds, cases, pause=PAUSE)  # type: ignore[arg-type]
    for name, values in work.samples.items():
        report.take(name, "ms", values[1:])
    work.api.ask("DELETE", f"/containers/{resident}?force=1")


def _stops(work: Starts, spans: tuple[float, float]) -> None:
    for name, span in zip(("peer: podman stop", "peer: podman rm"), spans, strict=True):
        work.note(name, span)


def sustained(world: World, report: Report, peers: Peers, count: int) -> None:
    """Containers per second from creation to removal, four at a time."""
    name = "create+start+wait+remove, concurrency 4"
    if not report.wants(name):
        return

    def some(number: int) -> None:
        api = Wire(str(world.socket))
        for _ in range(number):
            made = api.ask("POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"]})["Id"]
            api.ask("POST", f"/containers/{made}/start")
            assert api.ask("POST", f"/containers/{made}/wait")["StatusCode"] == 0
            api.ask("DELETE", f"/containers/{made}")
        api.close()

    some(10)
    rates = []
    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            spent = timed(lambda: list(pool.map(some, [count // 4] * 4)))
        rates.append(count / spent * 1000)
    report.take(name, "/s", rates)
    if peers.podman is not None:
        podman = peers.podman
        with ThreadPoolExecutor(4) as pool:
            spent = timed(lambda: list(pool.map(lambda _: podman.run("true"), range(20))))
        report.put("peer: podman run --rm, concurrency 4", "/s", 20 / spent * 1000)
