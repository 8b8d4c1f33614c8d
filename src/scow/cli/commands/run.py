"""scow run: create, attach and wait, start, join the streams, end with the container's code.

Attach and wait are asked for before start, so that no output and no exit is lost.
"""

from __future__ import annotations

from scow.cli.attached import Attachment, console_size, join
from scow.cli.commands.create import create
from scow.cli.container_config import body
from scow.cli.exits import FAILED, NOT_EXECUTABLE, NOT_FOUND, REFUSED, Exit, sentence
from scow.cli.flags import Command, Flag, Options
from scow.cli.options import DETACH_KEYS
from scow.cli.run_flags import FLAGS
from scow.cli.streams import Detached
from scow.client.client import path
from scow.client.http import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scow.cli.session import Session

RUN = Command(
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image",
    least=1,
    most=None,
    interspersed=False,
    flags=(
        *FLAGS,
        Flag("detach", "bool", "Run container in background and print container ID", short="d"),
        DETACH_KEYS,
        Flag("sig-proxy", "bool", "Proxy received signals to the process", default=True),
    ),
)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    detach = options.on("detach")
    request = body(options, arguments, detach)
    _check_terminal(request)
    size = console_size(bool(request.get("Tty")))
    if size:
        request["HostConfig"]["ConsoleSize"] = size
    found = create(session, options, request)
    identifier = str(found["Id"])
    if detach or not any(request[f"Attach{name}"] for name in ("Stdin", "Stdout", "Stderr")):
        _start(session, identifier)
        session.console.line(identifier)
        return 0
    return _attached(session, options, identifier, request)


def _check_terminal(request: dict[str, Any]) -> None:
    """A terminal in the container needs one here when input is attached."""
    from scow.cli.console import is_terminal

    if request.get("Tty") and request["AttachStdin"] and not is_terminal(0):
        raise Exit(FAILED, "the input device is not a TTY")


def _attached(session: Session, options: Options, identifier: str, request: dict[str, Any]) -> int:
    attachment = Attachment(
        identifier,
        tty=bool(request.get("Tty")),
        stdin=bool(request["AttachStdin"]),
        stdout=bool(request["AttachStdout"]),
        stderr=bool(request["AttachStderr"]),
        condition="removed" if options.on("rm") else "next-exit",
        keys=options.text("detach-keys") or session.config.text("detachKeys"),
        signals=options.on("sig-proxy"),
    )
    try:
        return join(session, attachment, lambda: _start(session, identifier))
    except Detached:
        return 0


def _start(session: Session, identifier: str) -> None:
    try:
        session.client.post(path("containers", identifier, "start"))
    except ApiError as error:
        raise Exit(
            start_code(error), f"scow: {sentence(error)}\n\nRun 'scow {session.name} --help' for more information"
        ) from None


#: Words of the daemon's sentence → exit code. Words and not structure: the API has nothing else for it.
_NOT_FOUND = ("executable file not found", "no such file or directory", "system cannot find the file specified")
_NOT_EXECUTABLE = ("permission denied", "is a directory", "exec format error")


def start_code(error: ApiError) -> int:
    """127 when the program was not found, 126 when it cannot be executed, 125 for everything else."""
    words = str(error).lower()
    if any(word in words for word in _NOT_FOUND):
        return NOT_FOUND
    return NOT_EXECUTABLE if any(word in words for word in _NOT_EXECUTABLE) else REFUSED


COMMANDS = {"container run": (RUN, run)}
