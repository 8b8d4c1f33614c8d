"""scow exec: a further process in a running container."""

from __future__ import annotations

from scow.cli import run_values
from scow.cli.attached import console_size, resize
from scow.cli.exits import REFUSED, Exit
from scow.cli.flags import Command, Flag, Options
from scow.cli.options import DETACH_KEYS
from scow.cli.streams import Detached, Streams
from scow.client.client import path
from scow.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scow.cli.session import Session

EXEC = Command(
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Execute a command in a running container",
    least=2,
    most=None,
    interspersed=False,
    flags=(
        Flag("detach", "bool", "Detached mode: run command in the background", short="d"),
        DETACH_KEYS,
        Flag("env", run_values.ENV, "Set environment variables", short="e"),
        Flag("env-file", "list", "Read in a file of environment variables"),
        Flag("interactive", "bool", "Keep STDIN open even if not attached", short="i"),
        Flag("privileged", "bool", "Give extended privileges to the command"),
        Flag("tty", "bool", "Allocate a pseudo-TTY", short="t"),
        Flag("user", "string", 'Username or UID (format: "<name|uid>[:<group|gid>]")', short="u"),
        Flag("workdir", "string", "Working directory inside the container", short="w"),
    ),
)


def execute(session: Session, options: Options, arguments: list[str]) -> int:
    detach, tty, interactive = options.on("detach"), options.on("tty"), options.on("interactive")
    if tty and interactive and not detach:
        from scow.cli.console import is_terminal

        if not is_terminal(0):
            raise InvalidArgument("the input device is not a TTY")
    keys = options.text("detach-keys") or session.config.text("detachKeys")
    request: dict[str, Any] = {
        "Cmd": arguments[1:],
        "Env": run_values.environment(options.items("env"), options.items("env-file")),
        "User": options.text("user"),
        "WorkingDir": options.text("workdir"),
        "Privileged": options.on("privileged"),
        "Tty": tty,
        "DetachKeys": keys,
        "AttachStdin": interactive and not detach,
        "AttachStdout": not detach,
        "AttachStderr": not detach,
    }
    size = console_size(tty)
    if size:
        request["ConsoleSize"] = size
    identifier = str(session.client.post(path("containers", arguments[0], "exec"), None, request)["Id"])
    if not identifier:
        raise Exit(REFUSED, "exec ID empty")
    target = path("exec", identifier, "start")
    if detach:
        session.client.post(target, None, {"Detach": True, "Tty": tty})
        return 0
    stream = session.client.hijack(
        target, None, {"Detach": False, "Tty": tty, **({"ConsoleSize": size} if size else {})}
    )
    beside = session.fresh_client()
    streams = Streams(
        stream,
        tty=tty,
        stdin=0 if interactive else None,
        keys=keys,
        on_resize=lambda rows, columns: resize(beside, path("exec", identifier, "resize"), rows, columns),
    )
    try:
        with streams:
            streams.resize()
            streams.copy(session.console)
    except Detached:
        return 0
    return int(session.client.get(path("exec", identifier, "json")).get("ExitCode") or 0)


COMMANDS = {"container exec": (EXEC, execute)}
