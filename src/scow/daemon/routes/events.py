"""The Engine API's SystemEvents: what happens, as it happens."""

import time
from collections.abc import AsyncIterator

from scow.api.filters import Filters
from scow.api.units import parse_time
from scow.daemon.engine import Engine
from scow.errors import InvalidArgument
from scow.events import FILTERS, Event
from scow.web.request import Request
from scow.web.response import JSON, Response, encode
from scow.web.router import Routes

routes = Routes()

#: Until this version every event has the flat fields of the first versions, too.
WITHOUT_LEGACY = (1, 52)
SEQUENCE = "application/json-seq"
NEWLINE_DELIMITED = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")


@routes.get("/events")
async def system_events(engine: Engine, request: Request) -> Response:
    """SystemEvents: past ones from `since`, then those to come, until `until`."""
    query = request.query
    now = time.time_ns()
    since = _time(query.text("since"), now)
    until = _time(query.text("until"), now)
    if since is not None and until is not None and since > until:
        raise InvalidArgument("`since` time cannot be after `until` time")
    filters = Filters.parse(query.text("filters"), FILTERS)
    kind = _kind(request.headers.get("accept", ""))
    events = engine.events.subscribe(filters, since=since, until=until)
    return Response(200, _body(events, kind, legacy=request.version < WITHOUT_LEGACY), content_type=kind)


def _time(text: str, now: int) -> int | None:
    return parse_time(text, now) if text else None


def _kind(accept: str) -> str:
    """The content type to answer with: what is accepted, plain JSON if nothing else is said."""
    wanted = [part.partition(";")[0].strip() for part in accept.split(",")]
    return next((kind for kind in wanted if kind == SEQUENCE or kind in NEWLINE_DELIMITED), JSON)


async def _body(events: AsyncIterator[Event], kind: str, *, legacy: bool) -> AsyncIterator[bytes]:
    mark = b"\x1e" if kind == SEQUENCE else b""
    async for event in events:
        yield mark + encode(event.to_json(legacy=legacy)) + b"\n"
