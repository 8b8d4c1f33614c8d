"""Builds, pushes, pulls, and archives of images."""

import os
from pathlib import Path

from report import Report, quiet, timed
from starts import cli

from scow.content.store import ContentStore
from scow.errors import EngineError
from scow.images.bootstrap import DEBIAN_SUITE, bootstrap_debian
from scow.images.store import Images
from scow.oci.reference import Reference
from scow.snapshots.overlay import OverlaySnapshotter
from support.world import BIN, World


def builds(world: World, report: Report, rounds: int) -> None:
    """A small Dockerfile, from cache and not."""
    context = world.root / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(
        'FROM busybox\nCOPY file /file\nRUN cat /file > /copy\nRUN echo done\nCMD ["true"]\n'
    )
    (context / "file").write_text("content\n")
    report.measure(
        max(3, rounds // 3),
        {
            "scow build, 4 steps, cached": lambda: quiet(*cli(world, "build", "-q", str(context))),
            "scow build, 4 steps, --no-cache": lambda: quiet(*cli(world, "build", "-q", "--no-cache", str(context))),
        },
    )


def transfers(world: World, report: Report, rounds: int) -> None:
    """push and pull of 64 MiB that does not compress, through our registry."""
    names = ("scow push, 64 MiB, to scow-registry", "scow pull, 64 MiB, from scow-registry")
    if not any(map(report.wants, names)):
        return
    storage = ("--root", str(world.root / "registry"), "--addr", "127.0.0.1:5000")
    world.others.append(world.spawn(str(BIN / "scow-registry"), *storage, log="registry.log"))
    context = world.root / "big"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM busybox\nCOPY blob /blob\n")
    tag = "127.0.0.1:5000/bench/big"
    pushes, pulls = [], []
    for _ in range(max(3, rounds // 5)):
        (context / "blob").write_bytes(os.urandom(64 << 20))
        quiet(*cli(world, "build", "-q", "-t", tag, str(context)))
        pushes.append(timed(lambda: quiet(*cli(world, "push", tag))))
        quiet(*cli(world, "rmi", tag))
        pulls.append(timed(lambda: quiet(*cli(world, "pull", tag))))
    for name, values in zip(names, (pushes, pulls), strict=True):
        report.take(name, "ms", values)


def archives(world: World, report: Report, rounds: int) -> None:
    """save | load of a Debian image, everything there already; and the first load, which unpacks."""
    if not report.wants("save | load, debian"):
        return
    archive = world.root / "debian.tar"
    if not debian(world.root / "bootstrap", archive):
        return
    size = archive.stat().st_size >> 20
    report.put(
        f"scow load, debian, {size} MiB, new", "ms", timed(lambda: quiet(*cli(world, "load", "-i", str(archive))))
    )
    pipe = f"{' '.join(cli(world, 'save', 'debian'))} | {' '.join(cli(world, 'load'))}"
    report.measure(max(3, rounds // 5), {"scow save | load, debian": lambda: quiet("sh", "-c", pipe)})


def debian(folder: Path, archive: Path) -> bool:
    """A Debian image as `archive`, made in this process: the engine has no way out. False without a mirror."""
    for name in ("content", "snapshots"):
        (folder / name).mkdir(parents=True)
    images = Images(ContentStore(folder / "content"), OverlaySnapshotter(folder / "snapshots"))
    try:
        bootstrap_debian(images, DEBIAN_SUITE, Reference.parse("debian", default_tag="latest"))
    except EngineError as error:
        print(f"no figures for save | load of Debian: {error}")
        return False
    with archive.open("wb") as out:
        images.save(["debian"], out.write)
    return True
