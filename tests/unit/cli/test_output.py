"""What lists and pages look like, against golden files; `SCOW_GOLDEN=1` rewrites them.

Where Docker's client is installed, the same command lines go through it too, and the texts must be equal.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.stub_data import ROUTES
from support.stub_engine import StubEngine

from .conftest import Done

GOLDEN = Path(__file__).parents[2] / "golden" / "cli"
REWRITE = os.environ.get("SCOW_GOLDEN") == "1"

#: Name of the golden file → the words. A name that ends in "!" has its own look: Docker's client shows other things.
LINES: dict[str, tuple[str, ...]] = {
    "ps": ("ps",),
    "ps-all": ("ps", "-a", "--no-trunc"),
    "ps-quiet": ("ps", "-q"),
    "ps-size": ("ps", "-s"),
    "ps-template": ("ps", "--format", '{{.ID}}: {{.Names}} {{.Label "com.example.my-name"}} {{json .Labels}}'),
    "ps-table": ("ps", "--format", r'table {{.ID}}\t{{.Label "com.example.my-name"}}\t{{upper .Status}}\t{{.Mounts}}'),
    "images": ("images",),
    "images-digests": ("images", "-a", "--digests"),
    "images-quiet": ("images", "-q", "--no-trunc"),
    "history": ("history", "nginx"),
    "history-raw": ("history", "--no-trunc", "-q", "nginx"),
    "networks": ("network", "ls"),
    "networks-template": ("network", "ls", "--format", "{{.CreatedAt}} {{.Labels}} {{.IPv6}} {{.Internal}}"),
    "volumes": ("volume", "ls"),
    "volumes-json": ("volume", "ls", "--format", "json"),
    "df": ("system", "df"),
    "df-json": ("system", "df", "--format", "json"),
    "stats": ("stats", "--no-stream", "web"),
    "stats-template": ("stats", "--no-stream", "--format", "{{.Container}} {{.CPUPerc}} {{.MemUsage}}", "web"),
    "top": ("top", "web"),
    "diff": ("diff", "web"),
    "port": ("port", "web"),
    "port-one": ("port", "web", "80/tcp"),
    "events": ("events",),
    "events-template": ("events", "--format", "{{.Action}} {{.Actor.ID}} {{.Time}}"),
    "inspect": ("network", "inspect", "bridge"),
    "inspect-template": ("inspect", "-f", "{{.Id}} {{.Config.Env}} {{.HostConfig.Binds}} {{.State.Pid}}", "web"),
    "prune-containers": ("container", "prune", "-f"),
    "prune-networks": ("network", "prune", "-f"),
    "prune-volumes": ("volume", "prune", "-f", "-a"),
    "prune-images": ("image", "prune", "-f", "-a"),
    "prune-system": ("system", "prune", "-f", "-a", "--volumes"),
    "search": ("search", "busybox"),
    "info!": ("info",),
    "help!": ("--help",),
    "help-image!": ("image", "--help"),
    "help-exec": ("exec", "--help"),
    "help-network-connect": ("network", "connect", "--help"),
    "help-run!": ("run", "--help"),
}


@pytest.mark.parametrize("name", LINES)
def test_golden(name: str, stub: Callable[..., StubEngine], scow: Callable[..., Done]) -> None:
    done = scow(stub(ROUTES), *LINES[name])
    assert done.code == 0, done.err
    golden = GOLDEN / f"{name.rstrip('!')}.txt"
    if REWRITE:
        golden.write_text(done.out)
    assert done.out == golden.read_text()


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("docker") is None, reason="the docker CLI is not installed here")
@pytest.mark.parametrize("name", [name for name in LINES if not name.endswith("!")])
def test_dockers_client_says_the_same(name: str, stub: Callable[..., StubEngine], scow: Callable[..., Done]) -> None:
    engine = stub(ROUTES)
    ours = scow(engine, *LINES[name])
    theirs = subprocess.run(
        ["docker", f"--host={engine.url}", *LINES[name]], capture_output=True, text=True, check=False
    )
    assert ours.code == theirs.returncode
    ours_said, theirs_said = ours.out.replace("scow", "docker"), theirs.stdout.replace("scow", "docker")
    if name.startswith("images"):  # Docker's client lists the names of an image in no order
        assert sorted(ours_said.split("\n")) == sorted(theirs_said.split("\n"))
    else:
        assert ours_said == theirs_said


def test_every_golden_file_is_used() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {name.rstrip("!") for name in LINES}
