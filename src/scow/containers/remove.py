"""Remove: a container, its files, its anonymous volumes; by hand, by itself at its end, or by prune."""

import asyncio
import logging
import shutil
from collections.abc import Callable

from scow.api.filters import Filters
from scow.containers import stop
from scow.containers.background import to_the_end
from scow.containers.container import Container
from scow.containers.context import Context
from scow.containers.exits import clean_up
from scow.containers.listing import prunable
from scow.containers.prepare import shm_folder
from scow.containers.state import REMOVE, State, require
from scow.containers.wait import ALIVE
from scow.errors import EngineError, NotFound

log = logging.getLogger("scow.containers")


async def remove(context: Context, ref: str, *, force: bool = False, volumes: bool = False) -> None:
    """Remove a container.

    Args:
        force: kill it first if it runs.
        volumes: remove its anonymous volumes too.

    Raises:
        NoSuchContainer.
        Conflict: it runs, or is being removed already.
        System: something could not be removed; the container is dead then, and can be removed again.
    """
    container = context.get(ref)
    while True:
        if force:
            await stop.end(context, container)
        async with container.lock:
            if container.removed:
                return
            if force and container.state in ALIVE:
                continue  # somebody started it in between
            require(REMOVE, container.state, container.name, container.id)
            await _remove(context, container, volumes=volumes)
            return


async def at_end(context: Context, container: Container) -> None:
    """Remove a container that ended and was to be removed then, with its anonymous volumes. Under its lock."""
    try:
        await _remove(context, container, volumes=True)
    except (EngineError, OSError) as error:
        log.error("container %s could not be removed: %s", container.id[:12], error)


async def finish(context: Context, container: Container) -> None:
    """Remove what a former daemon was to remove, or had begun to."""
    async with container.lock:
        await at_end(context, container)


async def _remove(context: Context, container: Container, *, volumes: bool) -> None:
    doomed = [mount.name for mount in container.record.mounts if mount.type == "volume" and mount.anonymous]
    container.record.state = State.REMOVING
    if volumes and doomed:  # only the record knows of them: a crash on the way is finished at the next start
        await context.keep(container, durable=False)
    container.changed()
    for attachment in container.pending:
        attachment.release()
    container.pending.clear()
    try:
        await clean_up(context, container)
        async with container.saving:  # a save that is on its way finds the folder, a later one knows it is gone
            rest = await to_the_end(_remove_sync, context, container, doomed if volumes else [])
            context.forget(container)
    except (EngineError, OSError) as error:
        container.removal_error = str(error)
        container.record.error = str(error)
        await context.moved(container, State.DEAD)
        raise
    container.removed = True
    container.changed()
    context.tell(container, "destroy")
    context.janitor.bury(container, rest)


def _remove_sync(context: Context, container: Container, doomed: list[str]) -> Callable[[], None]:
    """Volumes, then record and snapshot: two renames, after which both are rubbish; what deletes them is returned."""
    context.volumes.release(container.id)
    for name in doomed:
        if not context.volumes.users(name):
            context.volumes.remove(name, force=True)
    context.roots.drop(container.id)
    context.store.doom(container.id)
    try:
        delete = context.snapshots.discard(container.id)
    except NotFound:
        log.debug("the snapshot of container %s is gone already", container.id[:12])
        delete = None
    except BaseException:
        context.store.revive(container.id)
        raise

    def rest() -> None:
        if delete is not None:
            delete()
        context.store.bury(container.id)
        if container.record.host.ipc_mode == "shareable":
            shutil.rmtree(shm_folder(context, container.id), ignore_errors=True)

    return rest


async def prune(context: Context, filters: Filters) -> tuple[list[str], int]:
    """Remove every ended container that passes the filters: (ids, bytes reclaimed).

    Raises:
        InvalidArgument: an unknown filter.
    """
    removed: list[str] = []
    reclaimed = 0
    for container in prunable(context, filters):
        try:
            size = await asyncio.to_thread(context.snapshots.usage, container.id)
            await remove(context, container.id)
        except EngineError as error:
            log.warning("container %s was not pruned: %s", container.id[:12], error)
            continue
        removed.append(container.id)
        reclaimed += size
    context.events.publish("container", "prune", "", {"reclaimed": str(reclaimed)})
    return removed, reclaimed
