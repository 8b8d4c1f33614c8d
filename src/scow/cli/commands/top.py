"""scow top: the processes of a container."""

from scow.cli.flags import Command, Options
from scow.cli.session import Session
from scow.cli.tabular import layout
from scow.client.client import path

TOP = Command(
    "CONTAINER [ps OPTIONS]", "Display the running processes of a container", least=1, most=None, interspersed=False
)


def top(session: Session, options: Options, arguments: list[str]) -> int:
    found = session.client.get(path("containers", arguments[0], "top"), {"ps_args": " ".join(arguments[1:])})
    rows = [found.get("Titles") or [], *(found.get("Processes") or [])]
    session.console.line(layout("\n".join("\t".join(row) for row in rows), least=20, padding=3))
    return 0


COMMANDS = {"container top": (TOP, top)}
