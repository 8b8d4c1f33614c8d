"""Verbs that are one call for each container: stop restart kill rm pause unpause rename wait."""

from scow.cli.each import each
from scow.cli.flags import Command, Flag, Options
from scow.cli.session import Session
from scow.client.client import path
from scow.client.http import ApiError
from scow.errors import InvalidArgument

MANY = "CONTAINER [CONTAINER...]"
_SIGNAL = Flag("signal", "string", "Signal to send to the container", short="s")
_GRACE = (
    _SIGNAL,
    Flag("time", "int", "Seconds to wait before killing the container", hidden=True),
    Flag("timeout", "int", "Seconds to wait before killing the container", short="t"),
)

STOP = Command(f"[OPTIONS] {MANY}", "Stop one or more running containers", least=1, most=None, flags=_GRACE)
RESTART = Command(f"[OPTIONS] {MANY}", "Restart one or more containers", least=1, most=None, flags=_GRACE)
KILL = Command(f"[OPTIONS] {MANY}", "Kill one or more running containers", least=1, most=None, flags=(_SIGNAL,))
PAUSE = Command(MANY, "Pause all processes within one or more containers", least=1, most=None)
UNPAUSE = Command(MANY, "Unpause all processes within one or more containers", least=1, most=None)
WAIT = Command(MANY, "Block until one or more containers stop, then print their exit codes", least=1, most=None)
RENAME = Command("CONTAINER NEW_NAME", "Rename a container", least=2, most=2)
REMOVE = Command(
    f"[OPTIONS] {MANY}",
    "Remove one or more containers",
    least=1,
    most=None,
    flags=(
        Flag("force", "bool", "Force the removal of a running container (uses SIGKILL)", short="f"),
        Flag("link", "bool", "Remove the specified link", short="l"),
        Flag("volumes", "bool", "Remove anonymous volumes associated with the container", short="v"),
    ),
)


def _grace(options: Options) -> dict[str, str | int | None]:
    name = next((name for name in ("timeout", "time") if options.given(name)), "")
    return {"signal": options.text("signal"), "t": options.number(name) if name else None}


def stop(session: Session, options: Options, arguments: list[str]) -> int:
    query = _grace(options)
    return each(session, arguments, lambda name: session.client.post(path("containers", name, "stop"), query))


def restart(session: Session, options: Options, arguments: list[str]) -> int:
    query = _grace(options)
    return each(session, arguments, lambda name: session.client.post(path("containers", name, "restart"), query))


def kill(session: Session, options: Options, arguments: list[str]) -> int:
    query = {"signal": options.text("signal")}
    return each(session, arguments, lambda name: session.client.post(path("containers", name, "kill"), query))


def pause(session: Session, options: Options, arguments: list[str]) -> int:
    return each(session, arguments, lambda name: session.client.post(path("containers", name, "pause")))


def unpause(session: Session, options: Options, arguments: list[str]) -> int:
    return each(session, arguments, lambda name: session.client.post(path("containers", name, "unpause")))


def remove(session: Session, options: Options, arguments: list[str]) -> int:
    query = {"v": options.on("volumes"), "force": options.on("force"), "link": options.on("link")}

    def call(name: str) -> None:
        name = name.strip("/")
        if not name:
            raise InvalidArgument("Container name cannot be empty")
        try:
            session.client.delete(path("containers", name), query)
        except ApiError as error:
            if not (options.on("force") and error.status == 404):
                raise
            session.console.error(f"Error response from daemon: {error}")
            raise _Gone from None

    found = 0
    for name in arguments:
        try:
            found |= each(session, [name], call)
        except _Gone:
            continue
    return found


class _Gone(Exception):
    """With --force a container that is not there is said and is no failure."""


def rename(session: Session, options: Options, arguments: list[str]) -> int:
    old, new = (word.strip() for word in arguments)
    if not old or not new:
        raise InvalidArgument("Error: Neither old nor new names may be empty")
    session.client.post(path("containers", old, "rename"), {"name": new})
    return 0


def wait(session: Session, options: Options, arguments: list[str]) -> int:
    return each(
        session,
        arguments,
        lambda name: session.client.post(path("containers", name, "wait")),
        show=lambda _, answer: str(answer["StatusCode"]),
    )


COMMANDS = {
    "container stop": (STOP, stop),
    "container restart": (RESTART, restart),
    "container kill": (KILL, kill),
    "container rm": (REMOVE, remove),
    "container pause": (PAUSE, pause),
    "container unpause": (UNPAUSE, unpause),
    "container rename": (RENAME, rename),
    "container wait": (WAIT, wait),
}
