"""A stub engine for each test that asks for one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.stub_engine import StubEngine


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
