"""Figures: measured in turn, printed as they come, held against what they are to be."""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

Timed = Callable[[], object]

#: What a figure is to be at most on a quiet machine (rates: at least), by name.
GOALS: dict[str, float] = {
    "POST start → first output": 3,
    "create+attach+start+wait over the API": 8,
    "scow run --rm busybox true": 20,
    "processor time of scow run": 15,
    "processor time of scow exec": 15,
    "processor time of scow ps": 15,
    "exec true over the API": 4,
    "create+start+wait+remove, concurrency 4": 100,
    "per running container, PSS, at 200": 0.35,
    "daemon + keeper, PSS, idle": 50,
    "200 MB of 100-byte lines until exit": 0.7,
    "200 MB of 100-byte lines, read back": 2,
    "exec stream": 300,
    "attach stream": 300,
    "stop": 10,
    "remove": 10,
    "GET /containers/json, 500 running": 100,
    "scow ps, 500 running": 100,
}
#: Units of figures that are to be at least their goal.
RATES = frozenset({"/s", "MB/s"})


class Report:
    """Figures by name; `only` picks those whose name contains that word."""

    def __init__(self, only: str) -> None:
        self.only = only
        self.figures: dict[str, dict[str, float | str]] = {}

    def wants(self, *names: str) -> bool:
        """Whether one of the figures was asked for."""
        return any(self.only in name for name in names)

    def measure(self, rounds: int, cases: dict[str, Timed], pause: float = 0) -> None:
        """Time every case `rounds` times, interleaved, after one round that does not count; `pause` before each."""
        cases = {name: case for name, case in cases.items() if self.wants(name)}
        samples: dict[str, list[float]] = {name: [] for name in cases}
        for number in range(rounds + 1):
            for name, case in cases.items():
                time.sleep(pause)
                started = time.perf_counter()
                told = case()
                spent = (time.perf_counter() - started) * 1000
                if number:
                    samples[name].append(told if isinstance(told, float) else spent)
        for name, values in samples.items():
            self.take(name, "ms", values)

    def take(self, name: str, unit: str, values: Sequence[float]) -> None:
        """The median of `values`, and the best of them."""
        if values and self.wants(name):
            best = max(values) if unit in RATES else min(values)
            self.put(name, unit, statistics.median(values), best)

    def put(self, name: str, unit: str, median: float, best: float | None = None) -> None:
        """One figure, against its goal if it has one."""
        self.figures[name] = {"unit": unit, "median": median} | ({"best": best} if best is not None else {})
        line = f"{name:58} {median:10.2f} {unit:4} {'' if best is None else f'best {best:9.2f}':14}"
        goal = GOALS.get(name)
        if goal is not None:
            met = median >= goal if unit in RATES else median <= goal
            line += f" goal {goal:g}: {'met' if met else 'MISSED'}"
        print(line.rstrip(), flush=True)

    def save(self, path: str) -> None:
        """Write the figures as JSON."""
        Path(path).write_text(json.dumps(self.figures, indent=1) + "\n")


def quiet(*command: str, **options: object) -> None:
    """Run to success, output thrown away."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)  # type: ignore[call-overload]


def timed(case: Timed) -> float:
    """Milliseconds one call takes."""
    started = time.perf_counter()
    case()
    return (time.perf_counter() - started) * 1000


def processor_time_of(*command: str) -> float:
    """Milliseconds of processor a command and what it waits for take."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return (usage.ru_utime + usage.ru_stime) * 1000


def processor_time(pid: int) -> float:
    """Milliseconds all threads of a process have spent on a processor."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e6


def pss(pid: int) -> float:
    """Proportional memory of a process, in MB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1000
    return 0.0


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found.append(int(process.name))
    return found
