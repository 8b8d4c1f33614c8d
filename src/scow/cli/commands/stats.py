"""scow stats: what containers use right now."""

from __future__ import annotations

from functools import partial

from scow.api import units
from scow.cli import human
from scow.cli.console import is_terminal
from scow.cli.exits import sentence
from scow.cli.flags import Command, Flag, Options
from scow.cli.format import Row, View, show
from scow.cli.options import FORMAT_TABLE
from scow.client.client import path
from scow.client.http import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from scow.cli.session import Session

STATS = Command(
    "[OPTIONS] [CONTAINER...]",
    "Display a live stream of container(s) resource usage statistics",
    most=None,
    flags=(
        Flag("all", "bool", "Show all containers (default shows just running)", short="a"),
        FORMAT_TABLE,
        Flag("no-stream", "bool", "Disable streaming stats and only pull the first result"),
        Flag("no-trunc", "bool", "Do not truncate output"),
    ),
)
HEADINGS = {
    "Container": "CONTAINER",
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
MOST_AT_ONCE = 64
CLEAR = "\x1b[H\x1b[J"


def stats(session: Session, options: Options, arguments: list[str]) -> int:
    names = arguments or [item["Id"] for item in session.client.get("/containers/json", {"all": options.on("all")})]
    form = options.text("format") or session.config.text("statsFormat")
    view = View(HEADINGS, COLUMNS, "ID")
    truncate = not options.on("no-trunc")
    if options.on("no-stream"):
        samples = _together([partial(_once, session, name, named=bool(arguments)) for name in names])
        rows = [_row(name, sample or {}, truncate) for name, sample in zip(names, samples, strict=True)]
        show(session, view, rows, form)
        return 0
    watchers = [Watcher(session, name) for name in names]
    for rows in _rounds(watchers, truncate):
        if is_terminal(1):
            session.console.out(CLEAR)
        show(session, view, rows, form)
        session.console.flush()
    return 0


def _once(session: Session, name: str, *, named: bool) -> dict[str, Any]:
    """One sample; {} for a container that is gone meanwhile, unless the user `named` it.

    Raises:
        ApiError: there is no container of that name, or the engine failed.
    """
    try:
        found: dict[str, Any] = session.fresh_client().get(path("containers", name, "stats"), {"stream": "false"})
    except ApiError as error:
        if named or error.status != 404:
            raise
        session.console.error(sentence(error))
        return {}
    return found


class Watcher:
    """The stream of one container; each keeps its own connection."""

    def __init__(self, session: Session, name: str) -> None:
        self.name = name
        self._messages = session.fresh_client().messages("GET", path("containers", name, "stats"), {"stream": True})

    def next(self) -> dict[str, Any] | None:
        """The next sample, about a second after the last; None when the container is gone."""
        try:
            return next(self._messages, None)
        except ApiError as error:
            if error.status == 404:
                return None
            raise


def _together(calls: list[Callable[[], dict[str, Any] | None]]) -> list[dict[str, Any] | None]:
    """What each call gives, all of them waiting at once: a sample takes the daemon a second or two."""
    if len(calls) < 2:
        return [call() for call in calls]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(len(calls), MOST_AT_ONCE)) as pool:
        return list(pool.map(lambda call: call(), calls))


def _rounds(watchers: list[Watcher], truncate: bool) -> Iterator[list[Row]]:
    """One list of rows for every sample of all containers, until none is left."""
    while watchers:
        samples = list(zip(watchers, _together([watcher.next for watcher in watchers]), strict=True))
        watchers = [watcher for watcher, sample in samples if sample is not None]
        if watchers:
            yield [_row(watcher.name, sample, truncate) for watcher, sample in samples if sample is not None]


def _row(name: str, sample: dict[str, Any], truncate: bool) -> Row:
    if not sample:
        shown = human.short(name) if truncate else name
        return {**dict.fromkeys(HEADINGS, "--"), "Container": name, "ID": shown, "MemUsage": "-- / --"}
    identifier = str(sample.get("id") or name)
    memory = sample.get("memory_stats") or {}
    used, limit = memory_used(memory), memory.get("limit") or 0
    networks = (sample.get("networks") or {}).values()
    received = sum(item.get("rx_bytes") or 0 for item in networks)
    sent = sum(item.get("tx_bytes") or 0 for item in networks)
    read, written = block_bytes(sample.get("blkio_stats") or {})
    share = used / limit * 100 if limit else 0.0
    return {
        "Container": name,
        "ID": human.short(identifier) if truncate else identifier,
        "Name": str(sample.get("name") or "--").removeprefix("/"),
        "CPUPerc": f"{cpu_share(sample):.2f}%",
        "MemUsage": f"{units.binary_size(used)} / {units.binary_size(limit)}",
        "MemPerc": f"{share:.2f}%",
        "NetIO": f"{human.size(received)} / {human.size(sent)}",
        "BlockIO": f"{human.size(read)} / {human.size(written)}",
        "PIDs": str((sample.get("pids_stats") or {}).get("current") or 0),
    }


def cpu_share(sample: dict[str, Any]) -> float:
    """Percent of one CPU between the two halves of a sample."""
    now, before = sample.get("cpu_stats") or {}, sample.get("precpu_stats") or {}
    used = _total(now) - _total(before)
    passed = (now.get("system_cpu_usage") or 0) - (before.get("system_cpu_usage") or 0)
    count = now.get("online_cpus") or len((now.get("cpu_usage") or {}).get("percpu_usage") or []) or 1
    return used / passed * count * 100 if used > 0 and passed > 0 else 0.0


def _total(half: dict[str, Any]) -> int:
    return int((half.get("cpu_usage") or {}).get("total_usage") or 0)


def memory_used(memory: dict[str, Any]) -> int:
    """Bytes in use without what the page cache would give back."""
    usage = int(memory.get("usage") or 0)
    details = memory.get("stats") or {}
    for key in ("total_inactive_file", "inactive_file"):
        cached = details.get(key)
        if cached is not None and cached < usage:
            return usage - int(cached)
    return usage


def block_bytes(stats: dict[str, Any]) -> tuple[int, int]:
    """(read, written)."""
    totals = {"r": 0, "w": 0}
    for entry in stats.get("io_service_bytes_recursive") or []:
        letter = str(entry.get("op") or " ")[0].lower()
        if letter in totals:
            totals[letter] += int(entry.get("value") or 0)
    return totals["r"], totals["w"]


COMMANDS = {"container stats": (STATS, stats)}
