"""Commit: a new image of what a container has changed; and the list of those changes."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from scow.api.containers import ContainerConfig, to_wire
from scow.api.units import rfc3339
from scow.containers import changes, inspect
from scow.containers.container import Container
from scow.containers.context import Context
from scow.containers.paths import split
from scow.containers.spec import ETC_FILES
from scow.containers.state import COMMIT, State, require
from scow.errors import EngineError
from scow.images.image import Image
from scow.oci.config import History, ImageConfig
from scow.oci.platform import host_platform
from scow.oci.reference import Reference
from scow.snapshots import diff
from scow.snapshots.diff import Change

#: What belongs to one container only and is no part of an image.
NOT_OF_IMAGES = (
    "Hostname",
    "Domainname",
    "AttachStdin",
    "AttachStdout",
    "AttachStderr",
    "Tty",
    "OpenStdin",
    "StdinOnce",
)

#: Files and folders that are made for the engine's own mounts where the image has none.
MOUNT_POINTS = frozenset({*ETC_FILES, "/dev", "/proc", "/sys", "/etc", "/dev/console"})


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """What the client asks for; `config` replaces parts of the container's, `changes` are Dockerfile instructions."""

    name: Reference | None = None
    author: str = ""
    message: str = ""
    pause: bool = True
    changes: Sequence[str] = ()
    config: ContainerConfig | None = None


async def commit(context: Context, ref: str, request: CommitRequest) -> Image:
    """Make an image of the container; one that runs is held still meanwhile, unless the request says otherwise.

    Raises:
        NoSuchContainer, InvalidArgument: a change that cannot be applied; nothing was made.
        Conflict: it is being removed.
        NoSpace: the disk is full.
    """
    container = context.get(ref)
    require(COMMIT, container.state, container.name, container.id)
    config = _config(container, request)
    async with container.lock, _still(container, wanted=request.pause):
        image = await asyncio.to_thread(_make, context, container, request, config)
    context.tell(container, "commit", comment=request.message, imageID=str(image.id), imageRef=str(request.name or ""))
    return image


@contextlib.asynccontextmanager
async def _still(container: Container, *, wanted: bool) -> Any:
    """Freeze a running container for as long as the block runs."""
    task = container.task
    if not wanted or task is None or container.state is not State.RUNNING:
        yield
        return
    await task.pause()
    try:
        yield
    finally:
        with contextlib.suppress(EngineError):  # it ended: nothing to resume
            await task.resume()


def _config(container: Container, request: CommitRequest) -> dict[str, Any]:
    """The new image's config object: the container's, the request's over it, then the changes."""
    found = inspect.config(container, (1, 55))
    for key in NOT_OF_IMAGES:
        found.pop(key, None)
    if request.config is not None:
        given = to_wire(request.config)
        found |= {k: v for k, v in given.items() if k not in NOT_OF_IMAGES and v not in (None, "", [], {}, False)}
    found["Image"] = ""
    return changes.apply(found, request.changes)


def _make(context: Context, container: Container, request: CommitRequest, config: dict[str, Any]) -> Image:
    record = container.record
    created = rfc3339(time.time_ns())
    try:
        base: ImageConfig | None = context.images.resolve(record.image_id).config
        layers = context.images.resolve(record.image_id).layers
    except EngineError:
        base, layers = None, ()
    with context.images.content.leases.hold():
        layer, diff_id, _ = context.images.add_layer(container.id, keep=True)
        step = History(created, " ".join([record.path, *record.args]), request.author, request.message)
        if base is None:
            platform = host_platform()
            base = ImageConfig(architecture=platform.architecture, os=platform.os)
        made = replace(
            base,
            created=created,
            author=request.author,
            config=config,
            diff_ids=(*base.diff_ids, diff_id),
            history=(*base.history, step),
        )
        return context.images.add(made, [*layers, layer], request.name)


def differences(context: Context, ref: str) -> list[dict[str, Any]]:
    """The API's list of FilesystemChange. Blocking.

    Raises:
        NoSuchContainer.
    """
    container = context.get(ref)
    return [{"Path": change.path, "Kind": change.kind} for change in own(diff.changes(context.snapshots, container.id))]


def own(found: Sequence[Change]) -> list[Change]:
    """The changes without the mount points the engine made for its own mounts, and folders changed only by those."""
    kept = [change for change in found if not (change.kind == diff.ADDED and change.path in MOUNT_POINTS)]
    if len(kept) == len(found):
        return kept
    parents = {split(path)[0] for path in MOUNT_POINTS}
    busy = {split(change.path)[0] for change in kept}
    return [c for c in kept if c.kind != diff.MODIFIED or c.path not in parents or c.path in busy]
