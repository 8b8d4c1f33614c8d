"""scow images: the list of images."""

from __future__ import annotations

from scow.api import units
from scow.cli import human
from scow.cli.flags import Command, Flag, Options
from scow.cli.format import Row, View, show
from scow.cli.names import split_tag
from scow.cli.options import FILTER, FORMAT_TABLE, NO_TRUNC
from scow.client.client import filters_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from scow.cli.session import Session

IMAGES = Command(
    "[OPTIONS] [REPOSITORY[:TAG]]",
    "List images",
    most=1,
    flags=(
        Flag("all", "bool", "Show all images (default hides intermediate images)", short="a"),
        Flag("digests", "bool", "Show digests"),
        FILTER,
        FORMAT_TABLE,
        NO_TRUNC,
        Flag("quiet", "bool", "Only show image IDs", short="q"),
    ),
)
HEADINGS = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
}
COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size")
DIGEST_COLUMNS = ("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size")
NONE = "<none>"


def images(session: Session, options: Options, arguments: list[str]) -> int:
    filters = options.filters()
    if arguments:
        filters.setdefault("reference", []).append(arguments[0])
    form = options.text("format") or ("" if options.on("quiet") else session.config.text("imagesFormat"))
    digests = options.on("digests")
    found = session.client.get("/images/json", {"all": options.on("all"), "filters": filters_text(filters)})
    truncate = not options.on("no-trunc")
    wants_digest = digests or ".Digest" in form
    rows = [row for item in found or [] for row in image_rows(item, truncate, wants_digest, "reference" in filters)]
    show(session, View(HEADINGS, DIGEST_COLUMNS if digests else COLUMNS, "ID"), rows, form, options.on("quiet"))
    return 0


def image_rows(item: dict[str, Any], truncate: bool, digests: bool, filtered: bool = False) -> Iterator[Row]:
    """One row for each name of an image; with digests one for each name and digest of the same repository."""
    tags = [tag for tag in item.get("RepoTags") or [] if tag != f"{NONE}:{NONE}"]
    known = [digest for digest in item.get("RepoDigests") or [] if not digest.startswith(NONE)]
    by_name: dict[str, tuple[list[str], list[str]]] = {}
    for tag in tags:
        by_name.setdefault(split_tag(tag)[0], ([], []))[0].append(split_tag(tag)[1])
    for digest in known:
        name, _, value = digest.partition("@")
        if name in by_name or (not tags and not filtered) or not tags:
            by_name.setdefault(name, ([], []))[1].append(value)
    if not by_name:
        yield _row(item, truncate, NONE, NONE, NONE)
    for name, (names, values) in by_name.items():
        if digests:
            for tag in names or [NONE]:
                for value in values or [NONE]:
                    yield _row(item, truncate, name, tag, value)
        else:
            for tag in names or [NONE]:
                yield _row(item, truncate, name, tag, NONE if names else "")


def _row(item: dict[str, Any], truncate: bool, repository: str, tag: str, digest: str) -> Row:
    created = int(item.get("Created") or 0) * units.SECOND
    count = item.get("Containers", -1)
    shared, size = item.get("SharedSize", -1), item.get("Size") or 0
    return {
        "ID": human.short(item["Id"]) if truncate else item["Id"],
        "Repository": repository,
        "Tag": tag,
        "Digest": digest,
        "CreatedSince": human.ago(created),
        "CreatedAt": human.moment(created),
        "Size": human.size(size),
        "Containers": "N/A" if count is None or count < 0 else str(count),
        "VirtualSize": units.human_size(size),
        "SharedSize": "N/A" if shared is None or shared < 0 else human.size(shared),
        "UniqueSize": "N/A" if shared is None or shared < 0 else units.human_size(size - shared),
    }


COMMANDS = {"image ls": (IMAGES, images)}
