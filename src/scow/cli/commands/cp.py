"""scow cp: files between a container and here."""

from scow.cli import copying, human
from scow.cli.console import is_terminal
from scow.cli.exits import FAILED, Exit
from scow.cli.flags import Command, Flag, Options
from scow.cli.session import Session

COPY = Command(
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n[OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    "Copy files/folders between a container and the local filesystem\n\n"
    "Use '-' as the source to read a tar archive from stdin\n"
    "and extract it to a directory destination in a container.\n"
    "Use '-' as the destination to stream a tar archive of a\n"
    "container source to stdout.",
    least=2,
    most=2,
    flags=(
        Flag("archive", "bool", "Archive mode (copy all uid/gid information)", short="a"),
        Flag("follow-link", "bool", "Always follow symbol link in SRC_PATH", short="L"),
        Flag(
            "quiet",
            "bool",
            "Suppress the last line; it is suppressed anyway if no terminal is attached",
            short="q",
        ),
    ),
)


def split(text: str) -> tuple[str, str]:
    """ "web:/etc" → ("web", "/etc"); a path here → ("", path). A colon behind a slash or a dot is part of a path."""
    if text.startswith(("/", ".")):
        return "", text
    name, colon, rest = text.partition(":")
    return (name, rest) if colon and "/" not in name else ("", text)


def cp(session: Session, options: Options, arguments: list[str]) -> int:
    (source_container, source), (target_container, target) = map(split, arguments)
    if not source or not target:
        raise Exit(FAILED, "source can not be empty" if not source else "destination can not be empty")
    if source_container and target_container:
        raise Exit(FAILED, "copying between containers is not supported")
    if not source_container and not target_container:
        raise Exit(FAILED, "must specify at least one container source")
    follow, owners = options.on("follow-link"), options.on("archive")
    if source_container:
        size = copying.out_of(session, source_container, source, target, follow=follow, owners=owners)
        place = target
    else:
        size = copying.into(session, source, target_container, target, follow=follow, owners=owners)
        place = f"{target_container}:{target}"
    if "-" not in (source, target) and not options.on("quiet") and is_terminal(2):
        session.console.error(f"Successfully copied {human.size(size)} to {place}")
    return 0


COMMANDS = {"container cp": (COPY, cp)}
