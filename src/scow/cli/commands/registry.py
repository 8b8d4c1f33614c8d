"""scow registry serve: become the registry server, with whatever arguments it takes."""

import os

from scow.cli.flags import Command, Options
from scow.cli.programs import command
from scow.cli.session import Session

SERVE = Command(
    "[ARG...]",
    "Run a registry that stores images in a directory\n\n"
    "The arguments are those of scow-registry; see 'scow-registry --help'.",
    most=None,
    passes=True,
)


def serve(session: Session, options: Options, arguments: list[str]) -> int:
    session.console.flush()
    words, environment = command("scow.registry.server.main", *arguments)
    os.execve(words[0], words, environment)


COMMANDS = {"registry serve": (SERVE, serve)}
