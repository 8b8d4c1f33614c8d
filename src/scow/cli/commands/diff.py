"""scow diff: what a container changed in its files."""

from scow.cli.flags import Command, Options
from scow.cli.session import Session
from scow.client.client import path

DIFF = Command("CONTAINER", "Inspect changes to files or directories on a container's filesystem", least=1, most=1)
LETTERS = "CAD"


def diff(session: Session, options: Options, arguments: list[str]) -> int:
    for change in session.client.get(path("containers", arguments[0], "changes")) or []:
        session.console.line(f"{LETTERS[change['Kind']]} {change['Path']}")
    return 0


COMMANDS = {"container diff": (DIFF, diff)}
