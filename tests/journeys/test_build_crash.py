"""Intent: a daemon that dies in the middle of a build leaves nothing of it.

Model: a step's files are visible only once its layer is whole; what was under way carries the build's name and is found
again by it.
"""

import os
import threading
from pathlib import Path

import pytest

from support.world import World

pytestmark = pytest.mark.root


def test_killed_while_a_command_runs(own_world: World, tmp_path: Path) -> None:
    own_world.start()
    own_world.scow("image", "bootstrap", "busybox")
    before = sorted(os.listdir(own_world.root / "data" / "snapshots"))
    client = own_world.docker().api
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo on > /kept\nRUN echo started; sleep 600\n")
    running = threading.Event()

    def build() -> None:
        try:
            for line in client.build(path=str(context), decode=True, network_mode="none", tag="never"):
                if line.get("stream") == "started\n":
                    running.set()
        except Exception:  # the daemon dies under it
            running.set()

    thread = threading.Thread(target=build)
    thread.start()
    assert running.wait(60)
    own_world.kill()
    thread.join()

    own_world.start()
    root = own_world.root
    assert os.listdir(root / "data" / "build" / "tmp") == []
    assert [name for name in os.listdir(root / "run" / "tasks") if name.startswith("build-")] == []
    assert [image.tags for image in own_world.docker().images.list()] == [["busybox:latest"]]
    # The finished first step stays as cache, and is all there is beside the base.
    assert len(os.listdir(root / "data" / "snapshots")) <= len(before) + 1
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo on > /kept\nRUN cat /kept\n")
    lines = list(own_world.docker().api.build(path=str(context), decode=True, network_mode="none", tag="now"))
    text = "".join(line.get("stream", "") for line in lines)
    assert text.count(" ---> Using cache") == 1
    assert "on\n" in text
