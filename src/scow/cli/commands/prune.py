"""scow container prune, image prune, builder prune, system prune."""

from scow.api import units
from scow.cli import pruning
from scow.cli.exits import FAILED, Exit
from scow.cli.flags import Command, Flag, Options
from scow.cli.options import FORCE_PRUNE
from scow.cli.session import Session
from scow.client.client import filters_text

_UNTIL = Flag("filter", "filter", 'Provide filter values (e.g. "until=<timestamp>")')
CONTAINERS = Command("[OPTIONS]", "Remove all stopped containers", flags=(_UNTIL, FORCE_PRUNE))
IMAGES = Command(
    "[OPTIONS]",
    "Remove unused images",
    flags=(
        Flag("all", "bool", "Remove all unused images, not just dangling ones", short="a"),
        _UNTIL,
        FORCE_PRUNE,
    ),
)
BUILDER = Command(
    "[OPTIONS]",
    "Remove build cache",
    flags=(
        Flag("all", "bool", "Remove all unused build cache, not just dangling ones", short="a"),
        Flag("filter", "filter", 'Provide filter values (e.g. "until=24h")'),
        FORCE_PRUNE,
        Flag("keep-storage", "bytes", "Amount of disk space to keep for cache"),
    ),
)
SYSTEM = Command(
    "[OPTIONS]",
    "Remove unused data",
    flags=(
        Flag("all", "bool", "Remove all unused images not just dangling ones", short="a"),
        Flag("filter", "filter", 'Provide filter values (e.g. "label=<key>=<value>")'),
        FORCE_PRUNE,
        Flag("volumes", "bool", "Prune anonymous volumes"),
    ),
)


def containers(session: Session, options: Options, arguments: list[str]) -> int:
    return pruning.run(session, options, pruning.CONTAINERS)


def images(session: Session, options: Options, arguments: list[str]) -> int:
    return pruning.run(session, options, pruning.IMAGES)


def builder(session: Session, options: Options, arguments: list[str]) -> int:
    every = options.on("all")
    if not options.on("force"):
        kind = "all" if every else "all dangling"
        session.console.out(f"WARNING! This will remove {kind} build cache.\n")
        if not session.console.confirm(pruning.QUESTION):
            return 0
    text, freed = _build_cache(session, options.filters(), every, options.number("keep-storage"))
    session.console.out(text)
    session.console.line(f"Total reclaimed space: {units.human_size(freed)}")
    return 0


def _build_cache(session: Session, filters: dict[str, list[str]], every: bool, keep: int = 0) -> tuple[str, int]:
    query = {"all": every, "keep-storage": keep or None, "filters": filters_text(filters)}
    answer = session.client.post("/build/prune", query) or {}
    names = answer.get("CachesDeleted") or []
    text = "".join(f"{line}\n" for line in ["Deleted build cache objects:", *names]) + "\n" if names else ""
    return text, int(answer.get("SpaceReclaimed") or 0)


def system(session: Session, options: Options, arguments: list[str]) -> int:
    every, volumes, filters = options.on("all"), options.on("volumes"), options.filters()
    if volumes and "until" in filters:
        raise Exit(FAILED, 'ERROR: The "until" filter is not supported with "--volumes"')
    if not options.on("force"):
        session.console.out(_warning(every, volumes, filters))
        if not session.console.confirm(pruning.QUESTION):
            return 0
    kinds = [pruning.CONTAINERS, pruning.NETWORKS, *([pruning.VOLUMES] if volumes else []), pruning.IMAGES]
    total = 0
    for kind in kinds:
        text, freed = pruning.call(session, kind, filters, every and kind is pruning.IMAGES)
        session.console.out(text)
        total += freed
    text, freed = _build_cache(session, {k: v for k, v in filters.items() if k != "label"}, every)
    session.console.out(text)
    session.console.line(f"Total reclaimed space: {units.human_size(total + freed)}")
    return 0


def _warning(every: bool, volumes: bool, filters: dict[str, list[str]]) -> str:
    what = ["all stopped containers", "all networks not used by at least one container"]
    if volumes:
        what.append("all anonymous volumes not used by at least one container")
    what.append("all images without at least one container associated to them" if every else "all dangling images")
    what.append("all build cache" if every else "unused build cache")
    text = "WARNING! This will remove:\n" + "".join(f"  - {line}\n" for line in what)
    if filters:
        words = [f"{key}={value}" for key in sorted(filters) for value in filters[key]]
        text += "\n  Items to be pruned will be filtered with:\n" + "".join(f"  - {word}\n" for word in words)
    return text + "\n"


COMMANDS = {
    "container prune": (CONTAINERS, containers),
    "image prune": (IMAGES, images),
    "builder prune": (BUILDER, builder),
    "system prune": (SYSTEM, system),
}
