"""scow history: how an image came about."""

from __future__ import annotations

from scow.api import units
from scow.cli import human
from scow.cli.flags import Command, Flag, Options
from scow.cli.format import Row, View, show
from scow.cli.names import platform_json
from scow.cli.options import FORMAT_TABLE, NO_TRUNC
from scow.client.client import path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scow.cli.session import Session

HISTORY = Command(
    "[OPTIONS] IMAGE",
    "Show the history of an image",
    least=1,
    most=1,
    flags=(
        FORMAT_TABLE,
        Flag("human", "bool", "Print sizes and dates in human readable format", short="H", default=True),
        NO_TRUNC,
        Flag("platform", "string", 'Show history for the given platform. Formatted as "os[/arch[/variant]]"'),
        Flag("quiet", "bool", "Only show image IDs", short="q"),
    ),
)
HEADINGS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
LONGEST = 45


def history(session: Session, options: Options, arguments: list[str]) -> int:
    query = {"platform": platform_json(options.text("platform"))}
    found = session.client.get(path("images", arguments[0], "history"), query)
    readable, truncate = options.on("human"), not options.on("no-trunc")
    columns = ("ID", "CreatedSince" if readable else "CreatedAt", "CreatedBy", "Size", "Comment")
    rows = [_row(item, readable, truncate) for item in found or []]
    show(session, View(HEADINGS, columns, "ID"), rows, options.text("format"), options.on("quiet"))
    return 0


def _row(item: dict[str, Any], readable: bool, truncate: bool) -> Row:
    created = int(item.get("Created") or 0) * units.SECOND
    command = str(item.get("CreatedBy") or "").replace("\t", " ")
    at = human.local_rfc3339(created, digits=False)
    size = item.get("Size") or 0
    return {
        "ID": human.short(item["Id"]) if truncate else item["Id"],
        "CreatedSince": (human.ago(created) if readable else at) if created > 0 else "N/A",
        "CreatedAt": at,
        "CreatedBy": human.ellipsis(command, LONGEST) if truncate else command,
        "Size": human.size(size) if readable else str(size),
        "Comment": item.get("Comment") or "",
    }


COMMANDS = {"image history": (HISTORY, history)}
