"""Many containers at once: what each costs in memory, and whether the next one is still as quick.

.venv/bin/python bench/many.py [COUNT]       create, run, list, stop and remove COUNT containers (1000)
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from peers import Peers
from report import Report, children, pss, quiet, timed
from starts import Starts, cli
from wire import Wire

from support.world import World


def shims(world: World) -> list[int]:
    """Processes of the keeper that may be a container's."""
    return children(world.keeper_pid())


def memory_of(world: World) -> float:
    """MB of daemon, keeper and all its shims; what runs in the containers is not counted."""
    assert world.process is not None
    return pss(world.process.pid) + pss(world.keeper_pid()) + sum(map(pss, shims(world)))


@contextmanager
def crowd(world: World, count: int) -> Iterator[list[str]]:
    """`count` running containers."""
    api = Wire(str(world.socket))
    made: list[str] = []
    try:
        for _ in range(count):
            body = {"Image": "busybox", "Cmd": ["sleep", "infinity"], "HostConfig": {"Init": False}}
            made.append(api.ask("POST", "/containers/create", body)["Id"])
            api.ask("POST", f"/containers/{made[-1]}/start")
        yield made
    finally:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda one: _remove(world, one), made))


def _remove(world: World, made: str) -> None:
    api = Wire(str(world.socket))
    api.ask("DELETE", f"/containers/{made}?force=1")
    api.close()


def memory(world: World, report: Report, peers: Peers, count: int) -> None:
    """What each of `count` running containers adds to daemon, keeper and shims."""
    name = f"per running container, PSS, at {count}"
    if not report.wants(name):
        return
    before = memory_of(world)
    with crowd(world, count):
        report.put(name, "MB", (memory_of(world) - before) / count)
        report.put(f"  of which shims, PSS, at {count}", "MB", sum(map(pss, shims(world))) / count)
    if peers.podman is not None:
        report.put("peer: podman's monitor, PSS, at 20", "MB", peers.podman.memory(20))


def five_hundred(world: World, report: Report, rounds: int) -> None:
    """Listing them, and one more start beside them."""
    names = (
        "GET /containers/json, 500 running",
        "scow ps, 500 running",
        "one more start, 500 running: times the first",
    )
    if not report.wants(*names):
        return
    few = _starts(world, rounds)
    with crowd(world, 500):
        api = Wire(str(world.socket))
        report.measure(
            max(5, rounds // 3),
            {
                names[0]: lambda: api.ask("GET", "/containers/json"),
                names[1]: lambda: quiet(*cli(world, "ps")),
            },
        )
        many = _starts(world, rounds)
    report.put(names[2], "×", statistics.median(many) / statistics.median(few), min(many) / min(few))


def _starts(world: World, rounds: int) -> list[float]:
    work = Starts(world)
    for _ in range(rounds + 1):
        time.sleep(0.1)
        work.whole()
    return work.samples["POST start → first output"][1:]


def main() -> int:
    """Run the life of a crowd, printing what each step costs a container, in the first and the last hundred."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=1000)
    count = parser.parse_args().count
    with (
        tempfile.TemporaryDirectory(prefix="scow-many-") as folder,
        tempfile.TemporaryDirectory(prefix="scow-many-", dir="/dev/shm") as run,
        World(Path(folder)) as world,
    ):
        (Path(folder) / "run").symlink_to(run)
        world.start()
        world.scow("image", "bootstrap", "busybox")
        print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors, Linux {os.uname().release}")
        live(world, count)
    return 0


def live(world: World, count: int) -> None:
    """Create, run, list, stop, remove."""
    assert world.process is not None
    api = Wire(str(world.socket))
    made: list[str] = []
    before = memory_of(world)
    # TERM ends it: process 1 has no default for that.
    body = {"Image": "busybox", "Cmd": ["sh", "-c", "trap exit TERM; sleep infinity & wait"]}

    def create() -> None:
        made.append(api.ask("POST", "/containers/create", body)["Id"])

    each("create", count, lambda _number: create())
    each("start", count, lambda number: api.ask("POST", f"/containers/{made[number]}/start"))
    grown = (memory_of(world) - before) / count
    files = {name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in
             (("daemon", world.process.pid), ("keeper", world.keeper_pid()))}  # fmt: skip
    print(f"memory: {grown:.2f} MB a container; descriptors: {files}")
    running = api.ask("GET", "/containers/json")
    assert len(running) == count, len(running)
    print(f"list: {timed(lambda: api.ask('GET', '/containers/json')):.0f} ms, "
          f"scow ps -q: {timed(lambda: quiet(*cli(world, 'ps', '-q'))):.0f} ms")  # fmt: skip
    each("stop", count, lambda number: api.ask("POST", f"/containers/{made[number]}/stop"))
    each("remove", count, lambda number: api.ask("DELETE", f"/containers/{made[number]}"))
    assert api.ask("GET", "/containers/json?all=1") == []
    print(f"left behind: {memory_of(world) - before:.1f} MB of daemon, keeper and parked shims")


def each(step: str, count: int, work: object) -> None:
    """Do one step for every container; the median of the first and of the last hundred."""
    spans = [timed(lambda: work(number)) for number in range(count)]  # type: ignore[operator]  # noqa: B023
    some = min(100, count)
    first, last = statistics.median(spans[:some]), statistics.median(spans[-some:])
    print(
        f"{step:8} {count} in {sum(spans) / 1000:6.1f} s; a median of {first:6.2f} ms at first, {last:6.2f} ms at last"
    )


if __name__ == "__main__":
    sys.exit(main())
