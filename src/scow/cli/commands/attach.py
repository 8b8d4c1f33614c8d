"""scow attach: join the streams of a running container."""

from scow.cli.attached import Attachment, join
from scow.cli.exits import FAILED, Exit
from scow.cli.flags import Command, Flag, Options
from scow.cli.options import DETACH_KEYS
from scow.cli.session import Session
from scow.cli.streams import Detached
from scow.client.client import path

ATTACH = Command(
    "[OPTIONS] CONTAINER",
    "Attach local standard input, output, and error streams to a running container",
    least=1,
    most=1,
    flags=(
        DETACH_KEYS,
        Flag("no-stdin", "bool", "Do not attach STDIN"),
        Flag("sig-proxy", "bool", "Proxy all received signals to the process", default=True),
    ),
)


def attach(session: Session, options: Options, arguments: list[str]) -> int:
    found = session.client.get(path("containers", arguments[0], "json"))
    state = found.get("State") or {}
    if not state.get("Running"):
        raise Exit(FAILED, "cannot attach to a stopped container, start it first")
    if state.get("Paused"):
        raise Exit(FAILED, "cannot attach to a paused container, unpause it first")
    if state.get("Restarting"):
        raise Exit(FAILED, "cannot attach to a restarting container, wait until it is running")
    attachment = Attachment(
        str(found["Id"]),
        tty=bool(found["Config"].get("Tty")),
        stdin=bool(found["Config"].get("OpenStdin")) and not options.on("no-stdin"),
        condition="not-running",
        keys=options.text("detach-keys") or session.config.text("detachKeys"),
        signals=options.on("sig-proxy"),
    )
    try:
        return join(session, attachment)
    except Detached:
        raise Exit(FAILED, "read escape sequence") from None


COMMANDS = {"container attach": (ATTACH, attach)}
