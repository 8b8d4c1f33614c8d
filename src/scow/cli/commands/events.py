"""scow events: what happens in the daemon, as it happens."""

from __future__ import annotations

from scow.cli import human, timestamps
from scow.cli.exits import FAILED, Exit
from scow.cli.flags import Command, Flag, Options
from scow.cli.format import unescaped
from scow.cli.options import FILTER, FORMAT_TEXT_JSON
from scow.client import jsontext
from scow.client.client import filters_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scow.cli.session import Session

EVENTS = Command(
    "[OPTIONS]",
    "Get real time events from the server",
    flags=(
        FILTER,
        Flag("format", "string", FORMAT_TEXT_JSON),
        Flag("since", "string", "Show all events created since timestamp"),
        Flag("until", "string", "Stream events until this timestamp"),
    ),
)


def events(session: Session, options: Options, arguments: list[str]) -> int:
    form = options.text("format")
    show = _templated(form) if form not in ("", "json") else (jsontext.dumps if form else _line)
    query = {
        "since": timestamps.wire(options.text("since")),
        "until": timestamps.wire(options.text("until")),
        "filters": filters_text(options.filters()),
    }
    for event in session.client.messages("GET", "/events", query):
        session.console.line(show(event))
        session.console.flush()
    return 0


def _line(event: dict[str, Any]) -> str:
    """ "2026-01-02T03:04:05.000000006Z container start 0123abcd (image=busybox, name=web)"."""
    when = int(event.get("timeNano") or 0) or int(event.get("time") or 0) * 10**9
    actor = event.get("Actor") or {}
    attributes = ", ".join(f"{key}={value}" for key, value in sorted((actor.get("Attributes") or {}).items()))
    head = f"{human.local_rfc3339(when)} {event.get('Type', '')} {event.get('Action', '')} {actor.get('ID', '')}"
    return f"{head} ({attributes})" if attributes else head


def _templated(form: str) -> Any:
    from scow.cli.template import Template
    from scow.cli.template_functions import Fields, TemplateError, structure

    try:
        template = Template(unescaped(form))
    except TemplateError as error:
        raise Exit(FAILED, f"Error parsing format: {error}") from None

    def show(event: dict[str, Any]) -> str:
        value = structure(event)
        for name, key in (
            ("Status", "status"),
            ("ID", "id"),
            ("From", "from"),
            ("Time", "time"),
            ("TimeNano", "timeNano"),
        ):
            value.setdefault(name, event.get(key, ""))
        try:
            return template.execute(Fields(value))
        except TemplateError as error:
            raise Exit(FAILED, str(error)) from None

    return show


COMMANDS = {"system events": (EVENTS, events)}
