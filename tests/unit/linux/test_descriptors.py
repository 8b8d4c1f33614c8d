"""The limit on open files: ours is raised, that of containers stays."""

import json
import subprocess
import sys
from typing import Any

PROGRAM = """
import json, resource
from scow.linux import descriptors
from scow.tasks.spec import default_spec, with_given
before = with_given([])
raised = descriptors.raise_limit()
spec = default_spec(args=["true"], cgroup="/scow/x")
own = with_given([{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 6}])
print(json.dumps([before, raised, resource.getrlimit(resource.RLIMIT_NOFILE), spec["process"]["rlimits"], own]))
"""


def started_with(soft: int, hard: int) -> Any:
    command = ["prlimit", f"--nofile={soft}:{hard}", sys.executable, "-c", PROGRAM]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def test_the_soft_limit_becomes_the_hard_one_and_containers_keep_both() -> None:
    before, raised, ours, theirs, own = started_with(256, 1000)
    assert before == []
    assert (raised, ours) == (1000, [1000, 1000])
    assert theirs == [{"type": "RLIMIT_NOFILE", "soft": 256, "hard": 1000}]
    assert own == [{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 6}]


def test_what_is_not_raised_is_not_written_down() -> None:
    assert started_with(512, 512)[3] == []
