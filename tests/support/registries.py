"""Registries to talk to: ours, and Debian's docker-registry, each on a machine of the tests'."""

import shutil
import subprocess
import threading
from pathlib import Path

from support.world import BIN, World

UNPACKED = Path(__file__).parents[2] / ".venv/peers/usr/bin/docker-registry"


def docker_registry_program() -> str | None:
    """Where Debian's docker-registry is, installed or unpacked by scripts/setup."""
    return shutil.which("docker-registry") or (str(UNPACKED) if UNPACKED.exists() else None)


def start_scow_registry(world: World, address: str, *options: str, name: str = "registry") -> subprocess.Popen[bytes]:
    """scow-registry on `address`, stopped with the world."""
    process = world.spawn(
        str(BIN / "scow-registry"), "--root", str(world.root / name), "--addr", address, *options, log=f"{name}.log"
    )
    world.others.append(process)
    return process


def start_docker_registry(world: World, address: str) -> subprocess.Popen[bytes]:
    """Debian's docker-registry on `address`, stopped with the world; returns once it says it listens."""
    program = docker_registry_program()
    assert program is not None
    config = world.root / "docker-registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {world.root / 'peer'}}},"
        f" delete: {{enabled: true}}}}\nhttp: {{addr: {address}}}\n"
    )
    process = subprocess.Popen(
        world.inside(program, "serve", str(config)), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    assert process.stderr is not None
    for line in process.stderr:
        if b"listening on" in line:
            break
    else:
        raise AssertionError("docker-registry did not start")
    # Its later log must be read, or it would wait for room in the pipe.
    reader = threading.Thread(target=process.stderr.read, daemon=True)
    reader.start()
    world.others.append(process)
    return process
