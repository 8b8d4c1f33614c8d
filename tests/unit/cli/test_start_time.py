"""What a first answer costs: modules imported and processor time."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from support.stub_data import ROUTES
from support.stub_engine import StubEngine

from .conftest import SOURCES

Stub = Callable[..., StubEngine]

#: Each of these costs one to twenty milliseconds of a start of fifteen.
SLOW = {
    "typing", "re", "enum", "json", "socket", "ssl", "asyncio", "logging", "dataclasses", "argparse", "contextlib",
    "functools", "subprocess", "threading", "tarfile", "datetime", "pathlib", "inspect", "msgspec",
}  # fmt: skip
#: Of a `ps`, on the machine this was measured on (CPython 3.11, two shared cores): 11 above a bare interpreter.
BUDGET = 0.025
CODE = "import sys; sys.path.insert(0, {sources!r}); from scow.cli.main import main; code = main({words!r}); "


def command(engine: StubEngine, words: list[str], then: str = "sys.exit(code)") -> list[str]:
    code = CODE.format(sources=SOURCES, words=[f"--host={engine.url}", *words]) + then
    return [sys.executable, "-I", "-S", "-c", code]


@pytest.mark.parametrize("words", [["ps"], ["version"], ["images", "-q"], ["inspect", "web"], ["stop", "web"]])
def test_nothing_slow_is_imported(stub: Stub, words: list[str]) -> None:
    engine = stub({**ROUTES, "POST /containers/web/stop": (204, None), "GET /version": {"Version": "x"}})
    then = "sys.stdout.write('\\n' + ' '.join(sys.modules))"
    done = subprocess.run(command(engine, words, then), capture_output=True, text=True, check=True, timeout=30)
    imported = set(done.stdout.rpartition("\n")[2].split())
    assert imported & SLOW == set()
    assert {name.partition(".")[0] for name in imported if "." in name} <= {
        "scow",
        "os",
        "collections",
        "importlib",
        "encodings",
    }


def test_a_list_costs_little_processor_time(stub: Stub) -> None:
    engine = stub(ROUTES)
    words = command(engine, ["ps"])
    costs = []
    for _ in range(7):
        actions = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
        pid = os.posix_spawn(words[0], words, {}, file_actions=actions)
        _, status, used = os.wait4(pid, 0)
        assert status == 0
        costs.append(used.ru_utime + used.ru_stime)
    assert min(costs) < BUDGET
