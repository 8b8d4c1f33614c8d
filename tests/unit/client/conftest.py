"""A stub engine for each test that asks for one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scow.client.client import Client
from scow.client.endpoint import parse
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


@pytest.fixture
def dial() -> Iterator[Callable[..., Client]]:
    """Makes clients, of an engine or of an address, whose connections are closed at the end."""
    made: list[Client] = []

    def make(target: StubEngine | str, **options: Any) -> Client:
        made.append(Client(parse(target if isinstance(target, str) else target.url), **options))
        return made[-1]

    yield make
    for client in made:
        client.close()
