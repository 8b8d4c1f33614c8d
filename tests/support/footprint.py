"""What an engine takes up on its machine, to be compared: files, processes, cgroups, links, firewall, descriptors."""

import os
import re
import subprocess
import time
from collections.abc import Collection
from pathlib import Path

from support.world import World

#: Endpoints an engine keeps ahead at most (--pool-size).
SPARE = 8
#: Files that come and go without meaning: a database's side files, a noted size.
_PASSING = re.compile(r"build/cache\.db-(wal|shm)|snapshots/\d+/usage(\.\d+\.tmp)?|events\.jsonl")


def data_files(world: World) -> set[str]:
    """Everything under the data root that stands for something: paths, layers not opened."""
    root = world.root / "data"
    found: set[str] = set()
    for folder, folders, files in os.walk(root):
        here = os.path.relpath(folder, root)
        if re.fullmatch(r"snapshots/\d+/(fs|work|image)", here):
            folders.clear()
            files = []
        found |= {os.path.normpath(f"{here}/{name}") for name in [*folders, *files]}
    return {name for name in found if not _PASSING.fullmatch(name)}


def exec_files(world: World) -> set[str]:
    """What stands for a container under the exec root: tasks, sandboxes, shared memory."""
    root = world.root / "run"
    return {str(path.relative_to(root)) for name in ("tasks", "networks", "shm") for path in (root / name).glob("*")}


def mounts(world: World) -> list[str]:
    """Mounts of the engine's in the host's mount namespace."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if f"{world.root}/" in line and "/disk " not in line]


def cgroups(ids: Collection[str]) -> list[str]:
    """Cgroups, of every hierarchy, of the containers `ids`."""
    return [str(path) for path in Path("/sys/fs/cgroup").glob("*/scow/*") if path.name in ids] + [
        str(path) for path in Path("/sys/fs/cgroup/scow").glob("*") if path.name in ids
    ]


def settled(world: World, ids: Collection[str] = ()) -> bool:
    """Wait until the engine has put away what its answers left: removed files, ended tasks, cgroups of `ids`."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        names = {
            path.name for folder in ("containers", "snapshots") for path in (world.root / "data" / folder).glob("*")
        }
        tasks = {path.name for path in (world.root / "run" / "tasks").glob("*")}
        rubbish = [name for name in names if name.endswith(".removing") or name.startswith("rm-")]
        if not rubbish and not tasks - names and not cgroups(ids):
            return True
        time.sleep(0.02)
    return False


def links(world: World) -> list[str]:
    """Names of the machine's links, loopback left out."""
    command = world.inside("ip", "-o", "link")
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return sorted(name for line in shown.splitlines() if (name := line.split(": ")[1].split("@")[0]) != "lo")


def lone_links(world: World, containers: int = 0, spare: int = SPARE) -> list[str]:
    """Links beside bridges, of `containers` and of at most `spare` made ahead: the rest, once the kernel had time."""
    deadline = time.monotonic() + 20
    while True:
        found = [name for name in links(world) if name.startswith("veth")]
        if containers <= len(found) <= containers + spare or time.monotonic() > deadline:
            return found[containers + spare :] if len(found) >= containers else [f"{containers - len(found)} missing"]
        time.sleep(0.02)


def published(world: World) -> list[str]:
    """Lines of the firewall that publish a port."""
    command = world.inside("nft", "list", "ruleset")
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line.strip() for line in shown.splitlines() if re.search(r"elements? = \{|dnat to \d", line)]


def processes(world: World) -> dict[int, str]:
    """Processes of the machine (those in its network namespace), without the one that holds it: pid → command line."""
    wanted = os.readlink(world.namespace)
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                if os.readlink(f"/proc/{entry}/ns/net") == wanted:
                    words = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found[int(entry)] = words
            except OSError:
                continue  # it ended meanwhile
    holder = int(world.namespace.split("/")[2])
    found.pop(holder, None)
    return found


class Vitals:
    """A process's descriptors, threads and resident memory in KiB."""

    def __init__(self, pid: int) -> None:
        self.descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        status = Path(f"/proc/{pid}/status").read_text()
        self.threads, self.resident = (
            int(found.group(1)) if (found := re.search(rf"^{name}:\s+(\d+)", status, re.M)) else 0
            for name in ("Threads", "VmRSS")
        )
        with open(f"/proc/{pid}/mountinfo") as file:
            self.mounts = len(file.readlines())

    def __repr__(self) -> str:
        return f"{self.descriptors} descriptors, {self.threads} threads, {self.resident} KiB, {self.mounts} mounts"
