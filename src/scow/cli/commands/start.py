"""scow start: start containers, attached if asked."""

from scow.cli.attached import Attachment, join
from scow.cli.each import each
from scow.cli.exits import FAILED, Exit
from scow.cli.flags import Command, Flag, Options
from scow.cli.options import DETACH_KEYS
from scow.cli.session import Session
from scow.cli.streams import Detached
from scow.client.client import path
from scow.errors import Unsupported

START = Command(
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Start one or more stopped containers",
    least=1,
    most=None,
    flags=(
        Flag("attach", "bool", "Attach STDOUT/STDERR and forward signals", short="a"),
        Flag("checkpoint", "string", "Restore from this checkpoint", hidden=True),
        Flag("checkpoint-dir", "string", "Use a custom checkpoint storage directory", hidden=True),
        DETACH_KEYS,
        Flag("interactive", "bool", "Attach container's STDIN", short="i"),
        Flag("sig-proxy", "bool", "Proxy all received signals to the process", default=True, hidden=True),
    ),
)


def start(session: Session, options: Options, arguments: list[str]) -> int:
    if options.text("checkpoint") or options.text("checkpoint-dir"):
        raise Unsupported("checkpoints are not supported by this engine: start the container without one")
    if not options.on("attach") and not options.on("interactive"):
        return each(
            session,
            arguments,
            lambda name: session.client.post(path("containers", name, "start")),
            failed="Error: failed to start containers",
        )
    if len(arguments) > 1:
        raise Exit(FAILED, "you cannot start and attach multiple containers at once")
    return _attached(session, options, arguments[0])


def _attached(session: Session, options: Options, name: str) -> int:
    found = session.client.get(path("containers", name, "json"))
    identifier = str(found["Id"])
    attachment = Attachment(
        identifier,
        tty=bool(found["Config"].get("Tty")),
        stdin=options.on("interactive") and bool(found["Config"].get("OpenStdin")),
        condition="removed" if found["HostConfig"].get("AutoRemove") else "next-exit",
        keys=options.text("detach-keys") or session.config.text("detachKeys"),
        signals=options.on("sig-proxy"),
    )
    try:
        return join(session, attachment, lambda: session.client.post(path("containers", identifier, "start")))
    except Detached:
        return 0


COMMANDS = {"container start": (START, start)}
