"""What every test may ask for: whole worlds (an engine, a registry), made once and cleaned by those who made them."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from support.world import World


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need root say so visibly where it is missing."""
    if os.geteuid() == 0:
        return
    reason = pytest.mark.skip(reason="needs root: runs real containers")
    for item in items:
        if "root" in item.keywords:
            item.add_marker(reason)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One engine with a `busybox` image, in a network namespace of its own, for tests that tidy up after themselves."""
    with World(tmp_path_factory.mktemp("world")) as made:
        made.start()
        made.scow("image", "bootstrap", "busybox")
        yield made


@pytest.fixture
def own_world(tmp_path: Path) -> Iterator[World]:
    """An engine of the test's own, not started yet: to be killed, restarted, filled and configured."""
    with World(tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def _clients_end_with_their_test(request: pytest.FixtureRequest) -> Iterator[None]:
    if "world" not in request.fixturenames:
        yield
        return
    shared = request.getfixturevalue("world")
    if not isinstance(shared, World):  # some files have a world of another kind
        yield
        return
    with shared.clients_of_a_test():
        yield
