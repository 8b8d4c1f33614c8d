"""scow logs: what a container wrote."""

from scow.api.streams import Decoder
from scow.cli import timestamps
from scow.cli.flags import Command, Flag, Options
from scow.cli.session import Session
from scow.client.client import path

_SINCE = ' timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)'
LOGS = Command(
    "[OPTIONS] CONTAINER",
    "Fetch the logs of a container",
    least=1,
    most=1,
    flags=(
        Flag("clear", "bool", "Remove what was logged so far; with --follow, show what comes then"),
        Flag("details", "bool", "Show extra details provided to logs"),
        Flag("follow", "bool", "Follow log output", short="f"),
        Flag("since", "string", f"Show logs since{_SINCE}"),
        Flag(
            "tail",
            "string",
            "Number of lines to show from the end of the logs",
            short="n",
            default="all",
        ),
        Flag("timestamps", "bool", "Show timestamps", short="t"),
        Flag("until", "string", f"Show logs before a{_SINCE}"),
    ),
)


def logs(session: Session, options: Options, arguments: list[str]) -> int:
    found = session.client.get(path("containers", arguments[0], "json"))
    if options.on("clear"):
        session.client.delete(path("scow", "containers", str(found["Id"]), "logs"))
        if not options.on("follow"):
            return 0
    response = session.client.request(
        "GET",
        path("containers", str(found["Id"]), "logs"),
        {
            "stdout": True,
            "stderr": True,
            "follow": options.on("follow"),
            "timestamps": options.on("timestamps"),
            "details": options.on("details"),
            "tail": options.text("tail"),
            "since": timestamps.wire(options.text("since")),
            "until": timestamps.wire(options.text("until")),
        },
    )
    console = session.console
    frames = None if found["Config"].get("Tty") else Decoder()
    for data in response:
        for kind, piece in frames.feed(data) if frames else [(1, data)]:
            if kind == 2:
                console.flush()
                console.error_bytes(piece)
            else:
                console.out_bytes(piece)
        console.flush()
    response.close()
    return 0


COMMANDS = {"container logs": (LOGS, logs)}
