"""scow export: a container's files as one tar archive."""

from scow.cli.console import is_terminal
from scow.cli.exits import FAILED, Exit
from scow.cli.flags import Command, Flag, Options
from scow.cli.outfile import check, receive
from scow.cli.session import Session
from scow.client.client import path

EXPORT = Command(
    "[OPTIONS] CONTAINER",
    "Export a container's filesystem as a tar archive",
    least=1,
    most=1,
    flags=(Flag("output", "string", "Write to a file, instead of STDOUT", short="o"),),
)


def export(session: Session, options: Options, arguments: list[str]) -> int:
    if not options.text("output") and is_terminal(1):
        raise Exit(FAILED, "cowardly refusing to save to a terminal. Use the -o flag or redirect")
    check(options.text("output"), "failed to export container")
    response = session.client.request("GET", path("containers", arguments[0], "export"))
    receive(response, options.text("output"), "failed to export container")
    return 0


COMMANDS = {"container export": (EXPORT, export)}
