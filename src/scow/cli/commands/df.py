"""scow system df: what takes up the disk."""

from __future__ import annotations

from scow.api import units
from scow.cli import human
from scow.cli.commands.images import image_rows
from scow.cli.commands.ps import container_row
from scow.cli.commands.volume import volume_row
from scow.cli.flags import Command, Flag, Options
from scow.cli.format import Row, View, show, table
from scow.cli.options import FORMAT_TABLE
from scow.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from scow.cli.session import Session

DF = Command(
    "[OPTIONS]",
    "Show scow disk usage",
    flags=(FORMAT_TABLE, Flag("verbose", "bool", "Show detailed information on space usage", short="v")),
)
HEADINGS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
COLUMNS = ("Type", "TotalCount", "Active", "Size", "Reclaimable")

Item = dict[str, "Any"]


def df(session: Session, options: Options, arguments: list[str]) -> int:
    verbose, form = options.on("verbose"), options.text("format")
    found = session.client.get("/system/df", {"verbose": verbose})
    kinds = (("ImageUsage", "Images"), ("ContainerUsage", "Containers"), ("VolumeUsage", "Volumes"),
             ("BuildCacheUsage", "BuildCache"))  # fmt: skip
    usages = [found.get(usage) for usage, _ in kinds]
    # Engines before API 1.53 send lists of everything; later ones send sums, and the lists only with verbose.
    images, containers, volumes, cache = (
        list((usage or {}).get("Items") or found.get(flat) or [])
        for usage, (_, flat) in zip(usages, kinds, strict=True)
    )
    if verbose and form in ("", "table"):
        session.console.out(_details(images, containers, volumes, cache))
        return 0
    if any(usages) and not found.get("Images"):
        titles = ("Images", "Containers", "Local Volumes", "Build Cache")
        show(session, View(HEADINGS, COLUMNS, "Type"), list(map(_summed, titles, usages)), form)
        return 0
    rows = [
        _images(images, int(found.get("LayersSize") or 0)),
        _row("Containers", containers, _running, lambda item: int(item.get("SizeRw") or 0)),
        _row("Local Volumes", volumes, lambda item: _usage(item, "RefCount") > 0, lambda item: _usage(item, "Size")),
        _cache(cache),
    ]
    show(session, View(HEADINGS, COLUMNS, "Type"), rows, form)
    return 0


def _summed(title: str, usage: Item | None) -> Row:
    """A row of what the engine has counted."""
    total, active, size, free = (
        int((usage or {}).get(key) or 0) for key in ("TotalCount", "ActiveCount", "TotalSize", "Reclaimable")
    )
    row = _counted(title, total, active, size, free)
    return {**row, "Reclaimable": human_size(free)} if title == "Build Cache" else row


def _running(item: Item) -> bool:
    return item.get("State") in ("running", "paused", "restarting")


def _usage(item: Item, key: str) -> int:
    return max(0, int((item.get("UsageData") or {}).get(key) or 0))


def _images(images: list[Item], layers: int) -> Row:
    """Layers are shared: what used images own alone cannot be freed."""
    active = sum((image.get("Containers") or 0) > 0 for image in images)
    sizes = [
        (int(image.get("Size") or 0), int(image.get("SharedSize") or 0)) for image in images if image.get("Containers")
    ]
    used = sum(size - shared for size, shared in sizes if size != -1 and shared != -1)
    return _counted("Images", len(images), active, layers, max(0, layers - used))


def _row(name: str, items: list[Item], active: Callable[[Item], bool], size: Callable[[Item], int]) -> Row:
    total = sum(map(size, items))
    used = sum(size(item) for item in items if active(item))
    return _counted(name, len(items), sum(map(active, items)), total, total - used)


def _cache(items: list[Item]) -> Row:
    size = sum(int(item.get("Size") or 0) for item in items if not item.get("Shared"))
    used = sum(int(item.get("Size") or 0) for item in items if item.get("InUse") and not item.get("Shared"))
    row = _counted("Build Cache", len(items), sum(bool(item.get("InUse")) for item in items), size, size - used)
    return {**row, "Reclaimable": human_size(size - used)}


def human_size(value: float) -> str:
    """Four significant digits, as this list has them."""
    return units.human_size(value)


def _counted(name: str, total: int, active: int, size: int, free: int) -> Row:
    reclaimable = human_size(free)
    if size > 0:
        reclaimable += f" ({free * 100 // size}%)"
    return {
        "Type": name,
        "TotalCount": str(total),
        "Active": str(active),
        "Size": human_size(size),
        "Reclaimable": reclaimable,
    }


#: Columns of the tables of --verbose: title → field of the list command's row.
_IMAGE = {
    "REPOSITORY": "Repository",
    "TAG": "Tag",
    "IMAGE ID": "ID",
    "CREATED": "CreatedSince",
    "SIZE": "Size",
    "SHARED SIZE": "SharedSize",
    "UNIQUE SIZE": "UniqueSize",
    "CONTAINERS": "Containers",
}
_CONTAINER = {
    "CONTAINER ID": "ID",
    "IMAGE": "Image",
    "COMMAND": "Command",
    "LOCAL VOLUMES": "LocalVolumes",
    "SIZE": "Size",
    "CREATED": "RunningFor",
    "STATUS": "Status",
    "NAMES": "Names",
}
_VOLUME = {"VOLUME NAME": "Name", "LINKS": "Links", "SIZE": "Size"}


def _details(images: list[Item], containers: list[Item], volumes: list[Item], cache: list[Item]) -> str:
    """The four tables of --verbose; an image is one line, under its first name."""
    image_list = [next(image_rows(image, True, False)) for image in images]
    container_list = [container_row({**item, "SizeRootFs": 0}, True) for item in containers]
    volume_list = [{**volume_row(item), "Size": units.human_size(_usage(item, "Size"))} for item in volumes]
    return (
        f"Images space usage:\n\n{_chosen(_IMAGE, image_list)}\n"
        f"Containers space usage:\n\n{_chosen(_CONTAINER, container_list)}\n"
        f"Local Volumes space usage:\n\n{_chosen(_VOLUME, volume_list)}\n"
        f"Build cache usage: {_cache(cache)['Size']}\n\n"
        + table(["CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "USAGE", "SHARED"], map(_cached, cache))
    )


def _chosen(columns: dict[str, str], rows: list[Row]) -> str:
    return table(list(columns), ([str(row[field]) for field in columns.values()] for row in rows))


def _cached(item: Item) -> list[str]:
    return [
        human.short(str(item.get("ID") or "")),
        str(item.get("Type") or ""),
        human.size(item.get("Size") or 0),
        _age(item.get("CreatedAt")),
        _age(item.get("LastUsedAt")),
        str(item.get("UsageCount") or 0),
        "true" if item.get("Shared") else "false",
    ]


def _age(value: Any) -> str:
    try:
        return human.ago(units.parse_rfc3339(str(value or "")))
    except InvalidArgument:
        return ""


COMMANDS = {"system df": (DF, df)}
