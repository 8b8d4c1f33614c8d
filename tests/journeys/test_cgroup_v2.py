"""Scow on a pure cgroup v2 host with Debian's stock kernel, booted under emulation; the checks are in tests/guest.

One boot serves all tests: each reports one check. The first run fetches the kernel and the emulator with apt.
"""

import ast
from pathlib import Path

import pytest

from support.guest import Guest, Unavailable

CHECKS = Path(__file__).parent.parent / "guest/checks.py"
NAMES = [
    node.name
    for node in ast.parse(CHECKS.read_text()).body
    if isinstance(node, ast.FunctionDef) and any(isinstance(each, ast.Name) for each in node.decorator_list)
]
#: Lines of the console shown when a check has not even been reached.
TAIL = 60

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("guest")]


@pytest.fixture(scope="module")
def console() -> list[str]:
    """Everything the guest said, from the kernel's first words to its end."""
    guest = Guest()
    try:
        guest.prepare()
    except Unavailable as error:
        pytest.skip(f"no guest: {error}")
    return guest.run(CHECKS.name, print)


@pytest.mark.parametrize("name", NAMES)
def test_on_cgroup_v2(console: list[str], name: str) -> None:
    if any(line.startswith(f"ok {name} ") for line in console):
        return
    end = next((index for index, line in enumerate(console) if line.startswith(f"FAIL {name} ")), len(console) - 1)
    start = max((index for index, line in enumerate(console[:end]) if line.startswith(("ok ", "FAIL "))), default=-1)
    pytest.fail("\n".join([*console[start + 1 : end + 1], "the console's end:", *console[-TAIL:]]), pytrace=False)
