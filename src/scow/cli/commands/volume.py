"""scow volume: create, ls, rm, prune."""

from __future__ import annotations

from scow.cli import human, run_values
from scow.cli.each import each
from scow.cli.flags import Command, Flag, Options
from scow.cli.format import Row, View, show
from scow.cli.options import FORCE_PRUNE, FORMAT_TABLE
from scow.client.client import filters_text, path
from scow.client.http import ApiError
from scow.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scow.cli.session import Session

CREATE = Command(
    "[OPTIONS] [VOLUME]",
    "Create a volume",
    most=1,
    flags=(
        Flag("driver", "string", "Specify volume driver name", short="d", default="local"),
        Flag("label", run_values.LABEL, "Set metadata for a volume"),
        Flag("name", "string", "Specify volume name", hidden=True),
        Flag("opt", "map", "Set driver specific options (default map[])", short="o"),
    ),
)
LIST = Command(
    "[OPTIONS]",
    "List volumes",
    flags=(
        Flag("filter", "filter", 'Provide filter values (e.g. "dangling=true")', short="f"),
        FORMAT_TABLE,
        Flag("quiet", "bool", "Only display volume names", short="q"),
    ),
)
REMOVE = Command(
    "[OPTIONS] VOLUME [VOLUME...]",
    "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
    least=1,
    most=None,
    flags=(Flag("force", "bool", "Force the removal of one or more volumes", short="f"),),
)
PRUNE = Command(
    "[OPTIONS]",
    "Remove unused local volumes",
    flags=(
        Flag("all", "bool", "Remove all unused volumes, not just anonymous ones", short="a"),
        Flag("filter", "filter", 'Provide filter values (e.g. "label=<label>")'),
        FORCE_PRUNE,
    ),
)
HEADINGS = {
    "Driver": "DRIVER",
    "Name": "VOLUME NAME",
    "Scope": "SCOPE",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Size": "SIZE",
    "Availability": "AVAILABILITY",
    "Group": "GROUP",
    "Status": "STATUS",
}


def create(session: Session, options: Options, arguments: list[str]) -> int:
    if options.text("name") and arguments:
        raise InvalidArgument(
            "conflicting options: cannot specify a volume-name through both --name and as a positional arg"
        )
    request = {
        "Name": arguments[0] if arguments else options.text("name"),
        "Driver": options.text("driver"),
        "DriverOpts": options.mapping("opt"),
        "Labels": run_values.labels(options.items("label")),
    }
    session.console.line(session.client.post("/volumes/create", None, request)["Name"])
    return 0


def list_volumes(session: Session, options: Options, arguments: list[str]) -> int:
    found = session.client.get("/volumes", {"filters": filters_text(options.filters())}).get("Volumes") or []
    form = options.text("format") or ("" if options.on("quiet") else session.config.text("volumesFormat"))
    rows = [volume_row(item) for item in sorted(found, key=lambda item: str(item["Name"]))]
    show(session, View(HEADINGS, ("Driver", "Name"), "Name"), rows, form, options.on("quiet"))
    return 0


def volume_row(item: dict[str, Any]) -> Row:
    labels: dict[str, str] = item.get("Labels") or {}
    usage = item.get("UsageData")
    return {
        "Driver": item.get("Driver") or "",
        "Name": item["Name"],
        "Scope": item.get("Scope") or "",
        "Mountpoint": item.get("Mountpoint") or "",
        "Labels": human.labels_text(labels),
        "Label": lambda name: labels.get(name, ""),
        "Links": "N/A" if usage is None else str(usage.get("RefCount")),
        "Size": "N/A" if usage is None else human.size(usage.get("Size") or 0),
        "Availability": "N/A",
        "Group": "N/A",
        "Status": "N/A",
    }


def remove(session: Session, options: Options, arguments: list[str]) -> int:
    force = options.on("force")

    def call(name: str) -> None:
        try:
            session.client.delete(path("volumes", name), {"force": force})
        except ApiError as error:
            if not (force and error.status == 404):
                raise

    return each(session, arguments, call)


def prune(session: Session, options: Options, arguments: list[str]) -> int:
    from scow.cli.pruning import VOLUMES, run

    return run(session, options, VOLUMES)


COMMANDS = {
    "volume create": (CREATE, create),
    "volume ls": (LIST, list_volumes),
    "volume rm": (REMOVE, remove),
    "volume prune": (PRUNE, prune),
}
