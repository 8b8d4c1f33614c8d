"""What keeper and shim import decides what a start costs and what each container weighs: standard library only, few."""

import json
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
BUDGET = 126

PROGRAM = """
import sys
sys.path.insert(0, {source!r})
import scow.keeper.main, scow.shim.main
modules = sorted(sys.modules)
print(__import__("json").dumps(modules))
"""


def test_keeper_and_shim_import_little_and_nothing_foreign() -> None:
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM.format(source=str(SOURCE))],
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(json.loads(run.stdout))
    tops = {name.partition(".")[0] for name in modules}
    assert tops - set(sys.stdlib_module_names) - {"scow", "__main__"} == set()
    assert len(modules) <= BUDGET, sorted(modules)
    forbidden = {"asyncio", "threading", "logging", "subprocess", "pathlib", "dataclasses", "re", "typing", "inspect"}
    assert modules & forbidden == set()
