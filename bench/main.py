"""Medians of what a user waits for, on an engine of its own, beside the peers that are installed.

    scripts/bench [--rounds N] [--only WORD] [--json FILE]

Every figure is the median of its rounds; `min` shows what a quiet machine gives. Peers (crun, runc, podman, docker with
a daemon) are run in turn with ours, round by round, so that the machine's mood meets both alike.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.raw import RawClient
from support.world import BIN, World

Timed = Callable[[], object]


class Report:
    """Figures by name, printed as they come."""

    def __init__(self, only: str) -> None:
        self.only = only
        self.figures: dict[str, dict[str, float]] = {}

    def wants(self, name: str) -> bool:
        return self.only in name

    def measure(self, rounds: int, cases: dict[str, Timed], unit: str = "ms") -> None:
        """Time every case `rounds` times, interleaved, after one round that does not count."""
        cases = {name: case for name, case in cases.items() if self.wants(name)}
        samples: dict[str, list[float]] = {name: [] for name in cases}
        for number in range(rounds + 1):
            for name, case in cases.items():
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


def starts(world: World, report: Report, rounds: int) -> None:
    """create + start + wait over the API, the whole CLI, exec; beside runtimes that have no API."""
    api = RawClient(str(world.socket))
    scow = world.inside(str(BIN / "scow"), "-H", f"unix://{world.socket}")

    def over_the_api() -> None:
        made = api.post("/containers/create", {"Image": "busybox", "Cmd": ["true"]})["Id"]
        api.post(f"/containers/{made}/start")
        assert api.post(f"/containers/{made}/wait")["StatusCode"] == 0
        api.delete(f"/containers/{made}")

    made = api.post("/containers/create", {"Image": "busybox", "Cmd": ["sleep", "infinity"]})["Id"]
    api.post(f"/containers/{made}/start")

    def exec_over_the_api() -> None:
        job = api.post(f"/containers/{made}/exec", {"Cmd": ["true"], "AttachStdout": True})["Id"]
        api.post(f"/exec/{job}/start", {"Detach": False})
        assert api.get(f"/exec/{job}/json")["ExitCode"] == 0

    with tempfile.TemporaryDirectory() as folder:
        report.measure(
            rounds,
            {
                "API create+start+wait+remove, busybox true, bridge": over_the_api,
                "scow run --rm busybox true": lambda: quiet(*scow, "run", "--rm", "busybox", "true"),
                "exec true over the API": exec_over_the_api,
                "scow ps": lambda: quiet(*scow, "ps"),
                **peer_starts(Path(folder)),
            },
        )
    api.delete(f"/containers/{made}?force=1")


def peer_starts(folder: Path) -> dict[str, Timed]:
    """`run` of the same busybox by low-level runtimes (no image, network or API) and by engines, where installed."""
    cases: dict[str, Timed] = {}
    rootfs = folder / "rootfs" / "bin"
    rootfs.mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "/bin/busybox", rootfs / "busybox")
    (rootfs / "true").symlink_to("busybox")
    for runtime in ("crun", "runc"):
        if not shutil.which(runtime):
            continue
        bundle = folder / runtime
        bundle.mkdir()
        quiet(runtime, "spec", cwd=bundle)
        spec = json.loads((bundle / "config.json").read_text())
        spec["process"] |= {"terminal": False, "args": ["true"]}
        spec["root"] = {"path": str(folder / "rootfs"), "readonly": True}
        (bundle / "config.json").write_text(json.dumps(spec))
        name = f"bench-{os.getpid()}"
        works = subprocess.run([runtime, "run", "-b", str(bundle), name], capture_output=True).returncode == 0
        if works:
            cases[f"peer: {runtime} run (no image, no network, no API)"] = lambda r=runtime, b=bundle, n=name: quiet(  # type: ignore[misc]
                r, "run", "-b", str(b), n
            )
        else:
            print(f"peer: {runtime} is installed but does not run here")
    for engine in ("podman", "docker"):
        if (
            shutil.which(engine)
            and subprocess.run([engine, "image", "inspect", "busybox"], capture_output=True).returncode == 0
        ):
            cases[f"peer: {engine} run --rm busybox true"] = lambda e=engine: quiet(e, "run", "--rm", "busybox", "true")  # type: ignore[misc]
    return cases


def builds(world: World, report: Report, rounds: int) -> None:
    """A small Dockerfile, from cache and not."""
    context = world.root / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(
        'FROM busybox\nCOPY file /file\nRUN cat /file > /copy\nRUN echo done\nCMD ["true"]\n'
    )
    (context / "file").write_text("content\n")
    scow = world.inside(str(BIN / "scow"), "-H", f"unix://{world.socket}")
    report.measure(
        max(3, rounds // 3),
        {
            "scow build, 4 steps, cached": lambda: quiet(*scow, "build", "-q", str(context)),
            "scow build, 4 steps, --no-cache": lambda: quiet(*scow, "build", "-q", "--no-cache", str(context)),
        },
    )


def transfers(world: World, report: Report, rounds: int) -> None:
    """push and pull of 64 MiB that does not compress, through our registry; save | load of a large image."""
    registry = world.spawn(
        str(BIN / "scow-registry"),
        "--root",
        str(world.root / "registry"),
        "--addr",
        "127.0.0.1:5000",
        log="registry.log",
    )
    world.others.append(registry)
    context = world.root / "big"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM busybox\nCOPY blob /blob\n")
    tag = "127.0.0.1:5000/bench/big"
    scow = world.inside(str(BIN / "scow"), "-H", f"unix://{world.socket}")

    def fresh() -> None:
        (context / "blob").write_bytes(os.urandom(64 << 20))
        quiet(*scow, "build", "-q", "-t", tag, str(context))

    pushes, pulls = [], []
    for _ in range(max(3, rounds // 5)):
        fresh()
        pushes.append(timed(lambda: quiet(*scow, "push", tag)))
        quiet(*scow, "rmi", tag)
        pulls.append(timed(lambda: quiet(*scow, "pull", tag)))
    report.put("scow push, 64 MiB, to scow-registry", "ms", statistics.median(pushes), min(pushes))
    report.put("scow pull, 64 MiB, from scow-registry", "ms", statistics.median(pulls), min(pulls))
    big = largest(world)
    pipe = f"{' '.join(scow)} save {big} | {' '.join(scow)} load"
    report.measure(max(3, rounds // 5), {f"scow save | load, {big}": lambda: quiet("sh", "-c", pipe)})


def largest(world: World) -> str:
    """A Debian image where the package mirror is in reach, else the one just built."""
    done = subprocess.run(
        world.inside(str(BIN / "scow"), "-H", f"unix://{world.socket}", "image", "bootstrap", "debian"),
        capture_output=True,
    )
    return "debian" if done.returncode == 0 else "127.0.0.1:5000/bench/big"


def timed(case: Timed) -> float:
    started = time.perf_counter()
    case()
    return (time.perf_counter() - started) * 1000


def memory(world: World, report: Report, count: int) -> None:
    """PSS of daemon and keeper, and of each shim beside `count` running containers."""
    api = RawClient(str(world.socket))
    assert world.process is not None
    daemon, keeper = pss(world.process.pid), pss(world.keeper_pid())
    report.put("daemon, PSS after the runs above", "MB", daemon)
    report.put("keeper, PSS", "MB", keeper)
    made = []
    for _ in range(count):
        made.append(api.post("/containers/create", {"Image": "busybox", "Cmd": ["sleep", "infinity"]})["Id"])
        api.post(f"/containers/{made[-1]}/start")
    shims = [pss(int(pid.name)) for pid in Path("/proc").glob("[0-9]*") if parent(pid) == world.keeper_pid()]
    total = (pss(world.process.pid) - daemon + pss(world.keeper_pid()) - keeper + sum(shims)) / count
    report.put(f"per running container, PSS beyond its own, at {count}", "MB", total)
    for container in made:
        api.delete(f"/containers/{container}?force=1")


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
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures here as well")
    arguments = parser.parse_args()
    report = Report(arguments.only)
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors, Linux {os.uname().release}")
    with tempfile.TemporaryDirectory(prefix="scow-bench-") as folder, World(Path(folder)) as world:
        world.start()
        world.scow("image", "bootstrap", "busybox")
        starts(world, report, arguments.rounds)
        builds(world, report, arguments.rounds)
        transfers(world, report, arguments.rounds)
        memory(world, report, 20)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(report.figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
