"""Medians of what a user waits for, on an engine of its own, beside the peers that are installed.

    scripts/bench [--rounds N] [--only WORD] [--json FILE]

Every figure is the median of its rounds; `min` shows what a quiet machine gives. Peers (crun, runc, podman, docker with
a daemon) are run in turn with ours, round by round, so that the machine's mood meets both alike. What cannot be had
here is said, not skipped in silence. The exec root is on a tmpfs, as /run is on most machines; data is in $TMPDIR.
"""

import argparse
import contextlib
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from scow.content.store import ContentStore
from scow.errors import EngineError
from scow.images.bootstrap import DEBIAN_SUITE, bootstrap_debian
from scow.images.store import Images
from scow.oci.reference import Reference
from scow.snapshots.overlay import OverlaySnapshotter
from support.raw import RawClient
from support.world import BIN, World

Timed = Callable[[], object]

#: Pause before each round of starts: what the round before left (namespaces, parked shims) is done by then.
PAUSE = 0.1
UNIFIED = "/sys/fs/cgroup/unified"


class Report:
    """Figures by name, printed as they come."""

    def __init__(self, only: str) -> None:
        self.only = only
        self.figures: dict[str, dict[str, float]] = {}

    def wants(self, name: str) -> bool:
        return self.only in name

    def measure(self, rounds: int, cases: dict[str, Timed], unit: str = "ms", pause: float = 0) -> None:
        """Time every case `rounds` times, interleaved, after one round that does not count; `pause` before each."""
        cases = {name: case for name, case in cases.items() if self.wants(name)}
        samples: dict[str, list[float]] = {name: [] for name in cases}
        for number in range(rounds + 1):
            for name, case in cases.items():
                time.sleep(pause)
                started = time.perf_counter()
                case()
                if number:
                    samples[name].append((time.perf_counter() - started) * 1000)
        for name, values in samples.items():
            self.put(name, unit, statistics.median(values), min(values))

    def put(self, name: str, unit: str, median: float, least: float | None = None) -> None:
        self.figures[name] = {"median": median} | ({"min": least} if least is not None else {})
        tail = f"   min {least:10.2f}" if least is not None else ""
        print(f"{name:58} {median:10.2f} {unit:3}{tail}", flush=True)


def quiet(*command: str, **options: object) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)  # type: ignore[call-overload]


def cli(world: World, *words: str) -> list[str]:
    """Our command, on the engine's machine."""
    return world.inside(str(BIN / "scow"), "-H", f"unix://{world.socket}", *words)


class Api:
    """Starts over the API, split into their requests."""

    def __init__(self, world: World, report: Report) -> None:
        assert world.process is not None
        self.api = RawClient(str(world.socket))
        self.daemon = world.process.pid
        self.report = report
        self.steps: dict[str, list[float]] = {name: [] for name in ("create", "start", "wait", "remove", "first three")}
        self.spent: list[float] = []

    def start(self) -> None:
        """One container from its creation to its removal."""
        times = [time.perf_counter()]
        before = processor_time(self.daemon)
        made = self.api.post("/containers/create", {"Image": "busybox", "Cmd": ["true"]})["Id"]
        times.append(time.perf_counter())
        self.api.post(f"/containers/{made}/start")
        times.append(time.perf_counter())
        assert self.api.post(f"/containers/{made}/wait")["StatusCode"] == 0
        times.append(time.perf_counter())
        self.api.delete(f"/containers/{made}")
        times.append(time.perf_counter())
        self.spent.append(processor_time(self.daemon) - before)
        spans = [(end - begin) * 1000 for begin, end in itertools.pairwise(times)]
        for name, span in zip(self.steps, [*spans, (times[3] - times[0]) * 1000], strict=True):
            self.steps[name].append(span)

    def tell(self) -> None:
        """The figures; nothing was measured if nothing was wanted."""
        for name, values in self.steps.items():
            if values:
                label = "API create+start+wait" if name == "first three" else f"  of which {name}"
                self.report.put(label, "ms", statistics.median(values[1:]), min(values[1:]))
        if self.spent:
            self.report.put("  processor time of the daemon", "ms", statistics.median(self.spent), min(self.spent))


def starts(world: World, report: Report, rounds: int) -> None:
    """create + start + wait over the API, the whole CLI, exec; beside runtimes that have no API."""
    api = Api(world, report)
    made = api.api.post("/containers/create", {"Image": "busybox", "Cmd": ["sleep", "infinity"]})["Id"]
    api.api.post(f"/containers/{made}/start")

    def exec_over_the_api() -> None:
        job = api.api.post(f"/containers/{made}/exec", {"Cmd": ["true"], "AttachStdout": True})["Id"]
        api.api.post(f"/exec/{job}/start", {"Detach": False})
        assert api.api.get(f"/exec/{job}/json")["ExitCode"] == 0

    with tempfile.TemporaryDirectory() as folder, peer_starts(Path(folder)) as peers:
        report.measure(
            rounds,
            {
                "API create+start+wait+remove, busybox true, bridge": api.start,
                "scow run --rm busybox true": lambda: quiet(*cli(world, "run", "--rm", "busybox", "true")),
                "exec true over the API": exec_over_the_api,
                "scow exec true": lambda: quiet(*cli(world, "exec", made, "true")),
                "scow ps": lambda: quiet(*cli(world, "ps")),
                **peers,
            },
            pause=PAUSE,
        )
    api.tell()
    api.api.delete(f"/containers/{made}?force=1")


@contextlib.contextmanager
def peer_starts(folder: Path) -> Iterator[dict[str, Timed]]:
    """`run` of the same busybox by low-level runtimes (no image, network or API) and by engines, where installed."""
    cases: dict[str, Timed] = {}
    rootfs = folder / "rootfs" / "bin"
    rootfs.mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "/bin/busybox", rootfs / "busybox")
    (rootfs / "true").symlink_to("busybox")
    with without_unified() as prefix:
        for runtime in ("crun", "runc"):
            if not shutil.which(runtime):
                print(f"peer: {runtime} is not installed")
                continue
            command = bundle(folder, runtime, prefix if runtime == "crun" else [])
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                cases[f"peer: {runtime} run (no image, no network, no API)"] = lambda c=command: quiet(*c)  # type: ignore[misc]
            else:
                print(f"peer: {runtime} does not run here: {done.stderr.strip()[-200:]}")
        for engine in ("podman", "docker"):
            words = [engine, "run", "--rm", "busybox", "true"]
            if shutil.which(engine) and subprocess.run(words, capture_output=True).returncode == 0:
                cases[f"peer: {engine} run --rm busybox true"] = lambda w=words: quiet(*w)  # type: ignore[misc]
            else:
                print(f"peer: {engine} is not installed, has no daemon or no busybox")
        yield cases


@contextlib.contextmanager
def without_unified() -> Iterator[list[str]]:
    """Words in front of a command that takes the unified hierarchy of a hybrid host away: crun cannot do with it."""
    if not os.path.ismount(UNIFIED):
        yield []
        return
    script = f"umount {UNIFIED}; echo; exec sleep infinity"
    holder = subprocess.Popen(["unshare", "-m", "sh", "-c", script], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        yield ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", "--"]
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def bundle(folder: Path, runtime: str, prefix: list[str]) -> list[str]:
    """A bundle that runs `true` in the shared root file system; the command that does it."""
    made = folder / runtime
    made.mkdir()
    quiet(*prefix, runtime, "spec", "-b", str(made))
    spec = json.loads((made / "config.json").read_text())
    spec["process"] |= {"terminal": False, "args": ["true"]}
    spec["root"] = {"path": str(folder / "rootfs"), "readonly": True}
    (made / "config.json").write_text(json.dumps(spec))
    return [*prefix, runtime, "run", "-b", str(made), f"bench-{os.getpid()}"]


def builds(world: World, report: Report, rounds: int) -> None:
    """A small Dockerfile, from cache and not."""
    context = world.root / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(
        'FROM busybox\nCOPY file /file\nRUN cat /file > /copy\nRUN echo done\nCMD ["true"]\n'
    )
    (context / "file").write_text("content\n")
    report.measure(
        max(3, rounds // 3),
        {
            "scow build, 4 steps, cached": lambda: quiet(*cli(world, "build", "-q", str(context))),
            "scow build, 4 steps, --no-cache": lambda: quiet(*cli(world, "build", "-q", "--no-cache", str(context))),
        },
    )


def transfers(world: World, report: Report, rounds: int) -> None:
    """push and pull of 64 MiB that does not compress, through our registry."""
    names = ("scow push, 64 MiB, to scow-registry", "scow pull, 64 MiB, from scow-registry")
    if not any(map(report.wants, names)):
        return
    storage = ("--root", str(world.root / "registry"), "--addr", "127.0.0.1:5000")
    world.others.append(world.spawn(str(BIN / "scow-registry"), *storage, log="registry.log"))
    context = world.root / "big"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM busybox\nCOPY blob /blob\n")
    tag = "127.0.0.1:5000/bench/big"
    pushes, pulls = [], []
    for _ in range(max(3, rounds // 5)):
        (context / "blob").write_bytes(os.urandom(64 << 20))
        quiet(*cli(world, "build", "-q", "-t", tag, str(context)))
        pushes.append(timed(lambda: quiet(*cli(world, "push", tag))))
        quiet(*cli(world, "rmi", tag))
        pulls.append(timed(lambda: quiet(*cli(world, "pull", tag))))
    for name, values in zip(names, (pushes, pulls), strict=True):
        report.put(name, "ms", statistics.median(values), min(values))


def archives(world: World, report: Report, rounds: int) -> None:
    """save | load of a Debian image, everything there already; and the first load, which unpacks."""
    if not report.wants("save | load, debian"):
        return
    archive = world.root / "debian.tar"
    if not debian(world.root / "bootstrap", archive):
        return
    size = archive.stat().st_size >> 20
    report.put(
        f"scow load, debian, {size} MiB, new", "ms", timed(lambda: quiet(*cli(world, "load", "-i", str(archive))))
    )
    pipe = f"{' '.join(cli(world, 'save', 'debian'))} | {' '.join(cli(world, 'load'))}"
    report.measure(max(3, rounds // 5), {"scow save | load, debian": lambda: quiet("sh", "-c", pipe)})


def debian(folder: Path, archive: Path) -> bool:
    """A Debian image as `archive`, made in this process: the engine has no way out. False without a mirror."""
    for name in ("content", "snapshots"):
        (folder / name).mkdir(parents=True)
    images = Images(ContentStore(folder / "content"), OverlaySnapshotter(folder / "snapshots"))
    try:
        bootstrap_debian(images, DEBIAN_SUITE, Reference.parse("debian", default_tag="latest"))
    except EngineError as error:
        print(f"no figures for save | load of Debian: {error}")
        return False
    with archive.open("wb") as out:
        images.save(["debian"], out.write)
    return True


def timed(case: Timed) -> float:
    started = time.perf_counter()
    case()
    return (time.perf_counter() - started) * 1000


def idle_memory(world: World, report: Report, when: str) -> None:
    """PSS of daemon and keeper."""
    assert world.process is not None
    report.put(f"daemon, PSS {when}", "MB", pss(world.process.pid))
    report.put(f"keeper, PSS {when}", "MB", pss(world.keeper_pid()))


def memory(world: World, report: Report, count: int) -> None:
    """What each of `count` running containers adds to daemon, keeper and shims; its own program is not counted."""
    name = f"per running container, PSS, at {count}"
    if not report.wants(name):
        return
    api = RawClient(str(world.socket))
    assert world.process is not None
    before = pss(world.process.pid) + pss(world.keeper_pid())
    made = []
    for _ in range(count):
        made.append(api.post("/containers/create", {"Image": "busybox", "Cmd": ["sleep", "infinity"]})["Id"])
        api.post(f"/containers/{made[-1]}/start")
    shims = [pss(int(pid.name)) for pid in Path("/proc").glob("[0-9]*") if parent(pid) == world.keeper_pid()]
    after = pss(world.process.pid) + pss(world.keeper_pid()) + sum(shims)
    report.put(name, "MB", (after - before) / count)
    for container in made:
        api.delete(f"/containers/{container}?force=1")


def processor_time(pid: int) -> float:
    """Milliseconds all threads of a process have spent on a processor."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e6


def pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1000
    return 0.0


def parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--only", default="", help="only figures whose name contains this word")
    parser.add_argument("--containers", type=int, nargs="*", default=[20, 100], help="for the memory of containers")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures here as well")
    arguments = parser.parse_args()
    report = Report(arguments.only)
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors, Linux {os.uname().release}")
    with (
        tempfile.TemporaryDirectory(prefix="scow-bench-") as folder,
        tempfile.TemporaryDirectory(prefix="scow-bench-", dir="/dev/shm") as run,
        World(Path(folder)) as world,
    ):
        (Path(folder) / "run").symlink_to(run)
        world.start()
        idle_memory(world, report, "after its start")
        world.scow("image", "bootstrap", "busybox")
        starts(world, report, arguments.rounds)
        idle_memory(world, report, "after the starts above")
        for count in arguments.containers:
            memory(world, report, count)
        builds(world, report, arguments.rounds)
        transfers(world, report, arguments.rounds)
        archives(world, report, arguments.rounds)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(report.figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
