"""scow ps: the list of containers."""

from __future__ import annotations

from scow.api import units
from scow.cli import human
from scow.cli.flags import Command, Flag, Options
from scow.cli.format import Row, View, show
from scow.cli.options import FILTER, FORMAT_TABLE, NO_TRUNC
from scow.client.client import filters_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scow.cli.session import Session

PS = Command(
    "[OPTIONS]",
    "List containers",
    flags=(
        Flag("all", "bool", "Show all containers (default shows just running)", short="a"),
        FILTER,
        FORMAT_TABLE,
        Flag("last", "int", "Show n last created containers (includes all states)", short="n", default=-1),
        Flag("latest", "bool", "Show the latest created container (includes all states)", short="l"),
        NO_TRUNC,
        Flag("quiet", "bool", "Only display container IDs", short="q"),
        Flag("size", "bool", "Display total file sizes", short="s"),
    ),
)

HEADINGS = {
    "ID": "CONTAINER ID",
    "Names": "NAMES",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
}
COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


def ps(session: Session, options: Options, arguments: list[str]) -> int:
    form = options.text("format") or ("" if options.on("quiet") else session.config.text("psFormat"))
    limit = 1 if options.on("latest") else options.number("last")
    # A template that shows everything (`json .`) shows the size as well.
    shows = ".Size" in form or form == "json" or "json.}}" in form.replace(" ", "")
    size = options.on("size") or (not options.given("size") and shows)
    items = session.client.get(
        "/containers/json",
        {
            "all": options.on("all") or limit > 0,
            "limit": limit if limit > 0 else None,
            "size": size,
            "filters": filters_text(options.filters()),
        },
    )
    truncate = not options.on("no-trunc")
    columns = (*COLUMNS, "Size") if options.on("size") else COLUMNS
    rows = [container_row(item, truncate) for item in items or []]
    show(session, View(HEADINGS, columns, "ID"), rows, form, options.on("quiet"))
    return 0


def container_row(item: dict[str, Any], truncate: bool) -> Row:
    """The fields of one container."""
    labels: dict[str, str] = item.get("Labels") or {}
    created = int(item.get("Created") or 0) * units.SECOND
    mounts = item.get("Mounts") or []
    row: Row = {
        "ID": human.short(item["Id"]) if truncate else item["Id"],
        "Names": ",".join(_names(item.get("Names") or [], truncate)),
        "Image": _image(item, truncate),
        "Command": f'"{human.ellipsis(item.get("Command") or "", human.LONGEST_COMMAND if truncate else 1 << 30)}"',
        "CreatedAt": human.moment(created),
        "RunningFor": human.ago(created),
        "Ports": ports_text(item.get("Ports") or []),
        "State": item.get("State") or "",
        "Status": item.get("Status") or "",
        "Size": _size(item),
        "Labels": human.labels_text(labels),
        "Label": lambda name: labels.get(name, ""),
        "Mounts": ",".join(_mount(mount, truncate) for mount in mounts),
        "LocalVolumes": str(sum(mount.get("Driver") == "local" for mount in mounts)),
        "Networks": ",".join(sorted((item.get("NetworkSettings") or {}).get("Networks") or {})),
        "Platform": None,
    }
    return row


def _names(names: list[str], truncate: bool) -> list[str]:
    """Names without their slash; those that a link gave ("/other/alias") only with --no-trunc."""
    bare = [name.removeprefix("/") for name in names]
    return [name for name in bare if "/" not in name] if truncate else bare


def _image(item: dict[str, Any], truncate: bool) -> str:
    image = str(item.get("Image") or "<no image>")
    if truncate and image.removeprefix("sha256:") == str(item.get("ImageID", "")).removeprefix("sha256:"):
        return human.short(image)
    if truncate and "@" in image:
        return image.partition("@")[0]
    return image


def _size(item: dict[str, Any]) -> str:
    own, virtual = item.get("SizeRw") or 0, item.get("SizeRootFs") or 0
    text = human.size(own)
    return f"{text} (virtual {human.size(virtual)})" if virtual > 0 else text


def _mount(mount: dict[str, Any], truncate: bool) -> str:
    name = str(mount.get("Name") or mount.get("Source") or "")
    return human.ellipsis(name, 15) if truncate else name


def ports_text(ports: list[dict[str, Any]]) -> str:
    """Ports as one cell: "0.0.0.0:8080->80/tcp, 9000-9002/tcp"; neighbours with the same distance are one range."""
    ordered = sorted(
        ports, key=lambda p: (p.get("PrivatePort", 0), p.get("IP") or "", p.get("PublicPort", 0), p.get("Type", ""))
    )
    groups: dict[tuple[str, str, bool], list[int]] = {}
    shown: list[tuple[str, int, int, str]] = []
    exposed: list[str] = []
    for port in ordered:
        private, public = int(port.get("PrivatePort") or 0), int(port.get("PublicPort") or 0)
        kind, address = str(port.get("Type") or "tcp"), str(port.get("IP") or "")
        if public and public != private:
            shown.append((address, public, private, kind))
            continue
        key = (address, kind, bool(public))
        last = groups.get(key)
        if last is None:
            groups[key] = [private, private]
        elif last[1] + 1 == private:
            last[1] = private
        elif last[1] != private:
            exposed.append(_range(key, last))
            groups[key] = [private, private]
    lines = [f"{join_address(address, public)}->{private}/{kind}" for address, public, private, kind in shown]
    rest = exposed + [_range(key, bounds) for key, bounds in groups.items()]
    return ", ".join(rest + lines)


def join_address(address: str, port: int) -> str:
    """("::", 80) → "[::]:80"."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _range(key: tuple[str, str, bool], bounds: list[int]) -> str:
    address, kind, published = key
    first, last = bounds
    text = str(first) if first == last else f"{first}-{last}"
    if not address:
        return f"{text}/{kind}"
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{text}->{text}/{kind}" if published else f"{text}/{kind}"


COMMANDS = {"container ls": (PS, ps)}
