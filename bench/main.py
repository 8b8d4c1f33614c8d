"""Medians of what a user waits for, on an engine of its own, beside the peers that are installed.

    scripts/bench [--peers] [--rounds N] [--only WORD] [--json FILE]

Every figure is the median of its rounds; `best` shows what a quiet machine gives. Peers (crun, runc, podman) are run in
turn with ours, round by round, so that the machine's mood meets both alike. What cannot be had here is said, not
skipped in silence. The exec root is on a tmpfs, as /run is on most machines; data is in $TMPDIR.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from images import archives, builds, transfers
from many import five_hundred, memory
from output import output
from peers import peers
from report import Report, pss
from starts import starts, sustained

from support.world import World


def idle_memory(world: World, report: Report) -> None:
    """PSS of daemon and keeper, once they have worked."""
    assert world.process is not None
    daemon, keeper = pss(world.process.pid), pss(world.keeper_pid())
    report.put("daemon + keeper, PSS, idle", "MB", daemon + keeper)
    report.put("  of which keeper", "MB", keeper)


def main() -> int:
    """Measure all, or what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="install Debian's crun, runc and podman first")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--only", default="", help="only figures whose name contains this word")
    parser.add_argument("--containers", type=int, nargs="*", default=[200], help="for the memory of containers")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures here as well")
    arguments = parser.parse_args()
    report = Report(arguments.only)
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors, Linux {os.uname().release}")
    with (
        tempfile.TemporaryDirectory(prefix="scow-bench-") as folder,
        tempfile.TemporaryDirectory(prefix="scow-bench-", dir="/dev/shm") as run,
        tempfile.TemporaryDirectory(prefix="scow-peers-") as others,
        peers(Path(others)) as beside,
        World(Path(folder)) as world,
    ):
        (Path(folder) / "run").symlink_to(run)
        world.start()
        world.scow("image", "bootstrap", "busybox")
        starts(world, report, beside, arguments.rounds)
        idle_memory(world, report)
        sustained(world, report, beside, 200)
        output(world, report, beside, max(3, arguments.rounds // 6))
        for count in arguments.containers:
            memory(world, report, beside, count)
        five_hundred(world, report, arguments.rounds)
        builds(world, report, arguments.rounds)
        transfers(world, report, arguments.rounds)
        archives(world, report, arguments.rounds)
    if arguments.json:
        report.save(arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
