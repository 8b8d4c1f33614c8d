"""Which containers a list shows: the filters of ``GET /containers/json`` and of prune."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from scow.api.filters import Filters
from scow.api.units import parse_time
from scow.containers import ports
from scow.containers.container import Container
from scow.containers.context import Context
from scow.containers.inspect import port_summaries
from scow.containers.state import State
from scow.containers.wait import ALIVE
from scow.errors import EngineError, InvalidArgument

LIST_FILTERS = frozenset(
    {"ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network"}
    | {"publish", "since", "status", "volume"}
)
PRUNE_FILTERS = frozenset({"label", "label!", "until"})
HEALTH = ("none", "starting", "healthy", "unhealthy")


@dataclass(frozen=True, slots=True)
class Selection:
    """What a list asks for; `limit` 0 means all of them."""

    everything: bool
    limit: int
    filters: Filters


def select(context: Context, wanted: Selection) -> list[Container]:
    """The containers a list shows, newest first.

    Raises:
        InvalidArgument: an unknown filter or a value it cannot have.
        NoSuchContainer: before or since names nothing.
    """
    filters = wanted.filters
    filters.require(LIST_FILTERS)
    tests = _tests(context, filters)
    everything = wanted.everything or wanted.limit > 0 or bool(filters.get("status"))
    found = []
    for container in context.all():
        if not everything and container.state not in ALIVE:
            continue
        if all(test(container) for test in tests):
            found.append(container)
        if wanted.limit and len(found) >= wanted.limit:
            break
    return found


def _tests(context: Context, filters: Filters) -> list[Callable[[Container], bool]]:
    """One test per kind of filter, values checked."""
    statuses = filters.get("status", ())
    for status in statuses:
        if status not in list(State):
            raise InvalidArgument(f"invalid filter 'status={status}'")
    for value in filters.get("health", ()):
        if value not in HEALTH:
            raise InvalidArgument(f"invalid filter 'health={value}'")
    codes = [_integer(value) for value in filters.get("exited", ())]
    task = filters.boolean("is-task", False)
    tests: list[Callable[[Container], bool]] = [
        lambda c: filters.exact("status", str(c.state)),
        lambda c: filters.exact("health", c.record.health.status if c.record.health else "none"),
        lambda c: filters.beginning("id", c.id),
        lambda c: filters.pattern("name", c.name) or filters.pattern("name", f"/{c.name}"),
        lambda c: filters.labels(c.record.config.labels or {}),
        lambda _: not task,
    ]
    if codes:
        tests.append(lambda c: c.state not in ALIVE and c.record.started > 0 and c.record.exit_code in codes)
    tests += _order(context, filters)
    for key, test in (("volume", _has_volume), ("ancestor", _ancestor_test(context, filters))):
        if filters.get(key):
            tests.append(lambda c, test=test, values=filters[key]: test(c, values))  # type: ignore[misc]
    if filters.get("network"):
        tests.append(lambda c: _on_network(context, c, filters["network"]))
    for key in ("publish", "expose"):
        ranges = [ports.parse_range(value) for value in filters.get(key, ())]
        if ranges:
            tests.append(lambda c, key=key, ranges=ranges: _has_port(context, c, key, ranges))  # type: ignore[misc]
    return tests


def _integer(text: str) -> int:
    if not (text.removeprefix("-").isascii() and text.removeprefix("-").isdigit() and len(text) < 12):
        raise InvalidArgument(f"invalid filter 'exited={text[:40]}'")
    return int(text)


def _order(context: Context, filters: Filters) -> list[Callable[[Container], bool]]:
    """Tests for created before and created since another container."""
    tests: list[Callable[[Container], bool]] = []
    for name in filters.get("before", ()):
        before = context.get(name).record.created
        tests.append(lambda c, limit=before: c.record.created < limit)  # type: ignore[misc]
    for name in filters.get("since", ()):
        since = context.get(name).record.created
        tests.append(lambda c, limit=since: c.record.created > limit)  # type: ignore[misc]
    return tests


def _has_volume(container: Container, values: tuple[str, ...]) -> bool:
    return any(
        value in (mount.name, mount.destination, mount.source) for mount in container.record.mounts for value in values
    )


def _ancestor_test(context: Context, filters: Filters) -> Callable[[Container, tuple[str, ...]], bool]:
    """Whether a container's image is, or was built on, one of the images named."""
    ids: set[str] = set()
    stacks = []
    for value in filters.get("ancestor", ()):
        try:
            image = context.images.resolve(value)
        except EngineError:
            continue  # an image that does not exist has no descendants
        ids.add(str(image.id))
        stacks.append(image.config.diff_ids)

    def test(container: Container, values: tuple[str, ...]) -> bool:
        if container.record.image_ref in values or container.record.image_id in ids:
            return True
        try:
            layers = context.images.resolve(container.record.image_id).config.diff_ids
        except EngineError:
            return False
        return any(stack and layers[: len(stack)] == stack for stack in stacks)

    return test


def _on_network(context: Context, container: Container, values: tuple[str, ...]) -> bool:
    for name, endpoint in context.endpoints(container).items():
        if any(value == name or endpoint.network_id.startswith(value) for value in values):
            return True
    return any(value in container.record.endpoints for value in values)


def _has_port(context: Context, container: Container, key: str, ranges: list[tuple[int, int, str]]) -> bool:
    if key == "expose":
        found = [(port.number, port.protocol) for port in ports.exposed(container.record.config.exposed_ports)]
    else:
        rows = port_summaries(container, context.endpoints(container).values()) if container.running else []
        found = [(row["PublicPort"], row["Type"]) for row in rows if "PublicPort" in row]
    return any(
        low <= number <= high and protocol == wanted for number, protocol in found for low, high, wanted in ranges
    )


def prunable(context: Context, filters: Filters) -> list[Container]:
    """The ended containers a prune removes.

    Raises:
        InvalidArgument: an unknown filter, or an ``until`` that is no time.
    """
    filters.require(PRUNE_FILTERS)
    until = [parse_time(value, time.time_ns()) for value in filters.get("until", ())]
    return [
        container
        for container in context.all()
        if container.state in (State.CREATED, State.EXITED, State.DEAD)
        and all(container.record.created < limit for limit in until)
        and filters.labels(container.record.config.labels or {})
    ]
