"""What the prune commands share: warn, ask, call, say what went and how much room that made."""

from __future__ import annotations

from scow.api import units
from scow.client.client import filters_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from scow.cli.flags import Options
    from scow.cli.session import Session

QUESTION = "Are you sure you want to continue? [y/N] "


class Prune:
    """One kind of prune.

    Args:
        warning: function of "all" → the sentence before the question.
        title: line above what was deleted, "" for none.
        lines: the answer → names of what was deleted.
        all_filter: filter that --all or its absence sets: (key, value with --all, value without).
    """

    __slots__ = ("all_filter", "lines", "space", "target", "title", "warning")

    def __init__(
        self,
        target: str,
        warning: Callable[[bool], str],
        title: str,
        lines: Callable[[dict[str, Any]], list[str]],
        all_filter: tuple[str, str, str] | None = None,
        space: bool = True,
    ) -> None:
        self.target = target
        self.warning = warning
        self.title = title
        self.lines = lines
        self.all_filter = all_filter
        self.space = space


def run(session: Session, options: Options, prune: Prune) -> int:
    """The whole command."""
    every = options.on("all") if prune.all_filter else False
    if not options.on("force"):
        session.console.out(f"WARNING! {prune.warning(every)}\n")
        if not session.console.confirm(QUESTION):
            return 0
    text, reclaimed = call(session, prune, options.filters(), every)
    session.console.out(text)
    if prune.space:
        session.console.line(f"Total reclaimed space: {units.human_size(reclaimed)}")
    return 0


def call(session: Session, prune: Prune, filters: dict[str, list[str]], every: bool) -> tuple[str, int]:
    """(what to show, bytes freed)."""
    given = {**session_filters(session), **filters}
    if prune.all_filter:
        key, with_all, without = prune.all_filter
        value = with_all if every else without
        if value:
            given[key] = [value]
    answer = session.client.post(f"/{prune.target}s/prune", {"filters": filters_text(given)}) or {}
    names = prune.lines(answer)
    text = "".join(f"{line}\n" for line in [prune.title, *names]) + "\n" if names else ""
    return text, int(answer.get("SpaceReclaimed") or 0)


def session_filters(session: Session) -> dict[str, list[str]]:
    """``pruneFilters`` of config.json: "label=keep" words."""
    found: dict[str, list[str]] = {}
    for word in session.config.values.get("pruneFilters") or []:
        key, _, value = str(word).partition("=")
        found.setdefault(key, []).append(value)
    return found


def image_lines(answer: dict[str, Any]) -> list[str]:
    """ "untagged: x" and "deleted: sha256:…"."""
    return [
        f"untagged: {item['Untagged']}" if item.get("Untagged") else f"deleted: {item.get('Deleted', '')}"
        for item in answer.get("ImagesDeleted") or []
    ]


CONTAINERS = Prune(
    "container",
    lambda every: "This will remove all stopped containers.",
    "Deleted Containers:",
    lambda answer: answer.get("ContainersDeleted") or [],
)
IMAGES = Prune(
    "image",
    lambda every: (
        "This will remove all images without at least one container associated to them."
        if every
        else "This will remove all dangling images."
    ),
    "Deleted Images:",
    image_lines,
    ("dangling", "false", "true"),
)
NETWORKS = Prune(
    "network",
    lambda every: "This will remove all custom networks not used by at least one container.",
    "Deleted Networks:",
    lambda answer: answer.get("NetworksDeleted") or [],
    space=False,
)
VOLUMES = Prune(
    "volume",
    lambda every: (
        "This will remove all local volumes not used by at least one container."
        if every
        else "This will remove anonymous local volumes not used by at least one container."
    ),
    "Deleted Volumes:",
    lambda answer: answer.get("VolumesDeleted") or [],
    ("all", "true", ""),
)
