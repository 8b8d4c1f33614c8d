"""A stub engine, and our command line run against it in this process or as a program."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scow.cli.main import main
from support.stub_engine import StubEngine

SOURCES = str(Path(__file__).parents[3] / "src")


class Done:
    """How one command line ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Callable[..., StubEngine]]:
    """Makes an engine that answers by the given routes."""
    made: list[StubEngine] = []

    def make(routes: dict[str, Any], **options: Any) -> StubEngine:
        made.append(StubEngine(str(tmp_path / f"e{len(made)}.sock"), routes, **options))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of the person who runs the tests, times in UTC, and no daemon started by accident."""
    for name in list(os.environ):
        if name.startswith(("SCOW_", "DOCKER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("SCOW_AUTOSTART", "0")


@pytest.fixture
def scow(capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs a command line in this process; the first argument may be the engine."""

    def run(*words: "str | StubEngine") -> Done:
        given = [word if isinstance(word, str) else f"--host={word.url}" for word in words]
        capfd.readouterr()
        code = main(given)
        said = capfd.readouterr()
        return Done(code, said.out, said.err)

    return run


@pytest.fixture
def program() -> Callable[..., Done]:
    """Runs a command line as a program, with `data` on stdin."""

    def run(*words: "str | StubEngine", data: bytes = b"", cwd: Path | None = None) -> Done:
        given = [word if isinstance(word, str) else f"--host={word.url}" for word in words]
        done = subprocess.run(
            [sys.executable, "-m", "scow.cli.main", *given],
            input=data,
            capture_output=True,
            timeout=60,
            check=False,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": SOURCES},
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run
