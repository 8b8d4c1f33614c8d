"""Who takes how much of the disk: ``GET /system/df``."""

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scow.daemon.engine import Engine


async def disk_usage(engine: "Engine", kinds: Collection[str], *, verbose: bool, legacy: bool) -> dict[str, Any]:
    """The API's SystemDataUsageResponse.

    Args:
        kinds: of "container", "image", "volume", "build-cache": what to look at.
        verbose: list every object as well.
        legacy: the flat fields that API versions before 1.53 carry.
    """
    found: dict[str, Any] = {}
    if "image" in kinds:
        items = await asyncio.to_thread(engine.images.summaries, users=engine.containers.users(), shared_size=True)
        total = await asyncio.to_thread(engine.images.layers_size)
        unused = [item for item in items if item["Containers"] == 0]
        reclaimable = sum(item["Size"] - max(item["SharedSize"], 0) for item in unused)
        found["ImageUsage"] = _usage(items, len(items) - len(unused), total, min(reclaimable, total), verbose)
        if legacy:
            found |= {"LayersSize": total, "Images": items}
    if "container" in kinds:
        items = await engine.containers.list(all=True, size=True)
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
        items = await engine.builder.disk_usage()
        busy = [item for item in items if item["InUse"]]
        total = sum(int(item["Size"]) for item in items if not item["Shared"])
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
