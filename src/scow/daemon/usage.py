"""Who takes how much of the disk: ``GET /system/df``."""

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from scow.api.filters import Filters
from scow.containers.listing import Selection

if TYPE_CHECKING:
    from scow.daemon.engine import Engine


async def disk_usage(
    engine: "Engine", kinds: Collection[str], *, verbose: bool, version: tuple[int, int]
) -> dict[str, Any]:
    """The API's SystemDataUsageResponse.

    Args:
        kinds: of "container", "image", "volume", "build-cache": what to look at.
        verbose: list every object as well.
        version: of the API; before 1.53 it has flat fields instead.
    """
    found: dict[str, Any] = {}
    items: list[dict[str, Any]]
    legacy = version < (1, 53)
    if "image" in kinds:
        items = await asyncio.to_thread(engine.images.summaries, users=engine.containers.users(), shared_size=True)
        total = await asyncio.to_thread(engine.images.layers_size)
        unused = [item for item in items if item["Containers"] == 0]
        reclaimable = sum(item["Size"] - max(item["SharedSize"], 0) for item in unused)
        found["ImageUsage"] = _usage(items, len(items) - len(unused), total, min(reclaimable, total), verbose)
        if legacy:
            found |= {"LayersSize": total, "Images": items}
    if "container" in kinds:
        items = await engine.containers.list(
            Selection(everything=True, limit=0, filters=Filters()), version, sizes=True
        )
        running = [item for item in items if item["State"] in ("running", "paused", "restarting")]
        total = sum(item.get("SizeRw", 0) for item in items)
        active = sum(item.get("SizeRw", 0) for item in running)
        found["ContainerUsage"] = _usage(items, len(running), total, total - active, verbose)
        if legacy:
            found["Containers"] = items
    if "volume" in kinds:
        items = await asyncio.to_thread(_volumes, engine)
        unused = [item for item in items if item["UsageData"]["RefCount"] == 0]
        sizes = [item["UsageData"]["Size"] for item in items]
        reclaimable = sum(item["UsageData"]["Size"] for item in unused)
        found["VolumeUsage"] = _usage(items, len(items) - len(unused), sum(sizes), reclaimable, verbose)
        if legacy:
            found["Volumes"] = items
    if "build-cache" in kinds:
        items = [dict(item) for item in await engine.builder.disk_usage()]
        busy = [item for item in items if item["InUse"]]
        total = sum(item["Size"] for item in items if not item["Shared"])
        reclaimable = sum(item["Size"] for item in items if not item["InUse"] and not item["Shared"])
        found["BuildCacheUsage"] = _usage(items, len(busy), total, reclaimable, verbose)
        if legacy:
            found |= {"BuildCache": items, "BuilderSize": total}
    return found


def _usage(items: list[Any], active: int, total: int, reclaimable: int, verbose: bool) -> dict[str, Any]:
    """One kind's DiskUsage object; sizes in bytes."""
    usage = {"ActiveCount": active, "TotalCount": len(items), "TotalSize": total, "Reclaimable": reclaimable}
    return usage | ({"Items": items} if verbose else {})


def _volumes(engine: "Engine") -> list[dict[str, Any]]:
    """Every volume with its size and users. Blocking."""
    return [
        volume.to_api()
        | {"UsageData": {"Size": engine.volumes.usage(volume), "RefCount": len(engine.volumes.users(volume.name))}}
        for volume in engine.volumes.list()
    ]
