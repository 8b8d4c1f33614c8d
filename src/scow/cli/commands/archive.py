"""scow save, load, import: images as tar archives."""

from __future__ import annotations

from scow.cli.console import is_terminal
from scow.cli.exits import FAILED, Exit
from scow.cli.flags import Command, Flag, Options
from scow.cli.names import platform_json, split_tag
from scow.cli.options import PLATFORM
from scow.cli.outfile import check as check_output
from scow.cli.outfile import receive
from scow.cli.progress import check, show, source
from scow.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scow.cli.session import Session

_ONE_PLATFORM = 'Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")'
SAVE = Command(
    "[OPTIONS] IMAGE [IMAGE...]",
    "Save one or more images to a tar archive (streamed to STDOUT by default)",
    least=1,
    most=None,
    flags=(
        Flag("output", "string", "Write to a file, instead of STDOUT", short="o"),
        Flag("platform", "string", f"Save only the given platform variant. {_ONE_PLATFORM}"),
    ),
)
LOAD = Command(
    "[OPTIONS]",
    "Load an image from a tar archive or STDIN",
    flags=(
        Flag("input", "string", "Read from tar archive file, instead of STDIN", short="i"),
        Flag("platform", "string", f"Load only the given platform variant. {_ONE_PLATFORM}"),
        Flag("quiet", "bool", "Suppress the load output", short="q"),
    ),
)
IMPORT = Command(
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    "Import the contents from a tarball to create a filesystem image",
    least=1,
    most=2,
    flags=(
        Flag("change", "list", "Apply Dockerfile instruction to the created image", short="c"),
        Flag("message", "string", "Set commit message for imported image", short="m"),
        PLATFORM,
    ),
)


def save(session: Session, options: Options, arguments: list[str]) -> int:
    if not options.text("output") and is_terminal(1):
        raise Exit(FAILED, "cowardly refusing to save to a terminal. Use the -o flag or redirect")
    check_output(options.text("output"), "failed to save image")
    query = {"names": arguments, "platform": platform_json(options.text("platform"))}
    receive(session.client.request("GET", "/images/get", query), options.text("output"), "failed to save image")
    return 0


def load(session: Session, options: Options, arguments: list[str]) -> int:
    given = options.text("input")
    if not given and is_terminal(0):
        raise Exit(FAILED, "requested load from stdin, but stdin is empty")
    quiet = options.on("quiet") or not is_terminal(1)
    messages = session.client.messages(
        "POST",
        "/images/load",
        {"quiet": quiet, "platform": platform_json(options.text("platform"))},
        body=_open(given or "-"),
        headers={"Content-Type": "application/x-tar"},
    )
    if quiet:
        for message in messages:
            check(message)
            if message.get("stream"):
                session.console.out(str(message["stream"]))
    else:
        show(messages)
    return 0


def _open(name: str) -> Any:
    """Chunks of a file, which is opened at once so that a wrong name is told before anything is sent."""
    if name != "-":
        try:
            with open(name, "rb"):
                pass
        except OSError as error:
            raise InvalidArgument(f"open {name}: {(error.strerror or '').lower()}") from None
    return source(name)


def import_image(session: Session, options: Options, arguments: list[str]) -> int:
    name = arguments[0]
    repository, tag = split_tag(arguments[1]) if len(arguments) > 1 else ("", "")
    remote = name.startswith(("http://", "https://"))
    query = {
        "fromSrc": name if remote else "-",
        "repo": repository,
        "tag": tag,
        "message": options.text("message"),
        "changes": options.items("change"),
        "platform": options.text("platform"),
    }
    body = None if remote else _open(name)
    show(session.client.messages("POST", "/images/create", query, body=body))
    return 0


COMMANDS = {"image save": (SAVE, save), "image load": (LOAD, load), "image import": (IMPORT, import_image)}
