"""What a first answer costs is mostly what is imported for it (figures: bench/)."""

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
    "functools", "collections", "signal", "binascii", "subprocess", "threading", "tarfile", "datetime", "pathlib",
    "inspect", "msgspec",
}  # fmt: skip
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
        "importlib",
        "encodings",
    }


def test_what_runs_containers_imports_nothing_slow() -> None:
    modules = ", ".join(f"scow.cli.commands.{name}" for name in ("run", "exec", "start", "attach", "logs"))
    code = f"import sys; sys.path.insert(0, {SOURCES!r}); import scow.cli.main, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & SLOW == set()
