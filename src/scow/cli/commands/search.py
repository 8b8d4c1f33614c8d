"""scow search: repositories of the default registry."""

from __future__ import annotations

from scow.cli import human
from scow.cli.commands.pull import auth_header
from scow.cli.flags import Command, Flag, Options
from scow.cli.format import Row, View, show
from scow.cli.options import FILTER, NO_TRUNC
from scow.client.client import filters_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scow.cli.session import Session

SEARCH = Command(
    "[OPTIONS] TERM",
    "Search Docker Hub for images",
    least=1,
    most=1,
    flags=(
        FILTER,
        Flag("format", "string", "Pretty-print search using a Go template"),
        Flag("limit", "int", "Max number of search results"),
        NO_TRUNC,
    ),
)
HEADINGS = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "StarCount": "STARS",
    "IsOfficial": "OFFICIAL",
    "IsAutomated": "AUTOMATED",
}
COLUMNS = ("Name", "Description", "StarCount", "IsOfficial")
LONGEST = 45


def search(session: Session, options: Options, arguments: list[str]) -> int:
    query = {
        "term": arguments[0],
        "limit": options.number("limit") or None,
        "filters": filters_text(options.filters()),
    }
    found = session.client.call("GET", "/images/search", query, headers=auth_header(session, arguments[0]))
    rows = [_row(item, not options.on("no-trunc")) for item in found or []]
    show(session, View(HEADINGS, COLUMNS, "Name"), rows, options.text("format"))
    return 0


def _row(item: dict[str, Any], truncate: bool) -> Row:
    description = str(item.get("description") or "").replace("\n", " ").replace("\r", " ")
    return {
        "Name": item.get("name") or "",
        "Description": human.ellipsis(description, LONGEST) if truncate else description,
        "StarCount": str(item.get("star_count") or 0),
        "IsOfficial": "[OK]" if item.get("is_official") else "",
        "IsAutomated": "[OK]" if item.get("is_automated") else "",
    }


COMMANDS = {"search": (SEARCH, search)}
