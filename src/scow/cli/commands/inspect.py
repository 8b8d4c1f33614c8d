"""scow inspect and its kin: objects as the daemon describes them."""

from __future__ import annotations

from scow.cli.exits import FAILED, Exit, sentence
from scow.cli.flags import Command, Flag, Options
from scow.cli.names import platform_json
from scow.cli.options import FORMAT_JSON
from scow.client import jsontext
from scow.client.client import path
from scow.client.http import ApiError, CannotConnect
from scow.errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from scow.cli.session import Session

    Finder = Callable[[str], Any]

_SIZE = Flag("size", "bool", "Display total file sizes", short="s")
ANY = Command(
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Return low-level information on Scow objects",
    least=1,
    most=None,
    flags=(
        FORMAT_JSON,
        Flag("size", "bool", "Display total file sizes if the type is container", short="s"),
        Flag("type", "string", "Only inspect objects of the given type"),
    ),
)
CONTAINER = Command(
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Display detailed information on one or more containers",
    least=1,
    most=None,
    flags=(FORMAT_JSON, _SIZE),
)
IMAGE = Command(
    "[OPTIONS] IMAGE [IMAGE...]",
    "Display detailed information on one or more images",
    least=1,
    most=None,
    flags=(FORMAT_JSON, Flag("platform", "string", "Inspect a specific platform of the multi-platform image.")),
)
NETWORK = Command(
    "[OPTIONS] NETWORK [NETWORK...]",
    "Display detailed information on one or more networks",
    least=1,
    most=None,
    flags=(FORMAT_JSON, Flag("verbose", "bool", "Verbose output for diagnostics", short="v")),
)
VOLUME = Command(
    "[OPTIONS] VOLUME [VOLUME...]",
    "Display detailed information on one or more volumes",
    least=1,
    most=None,
    flags=(FORMAT_JSON,),
)

#: Kinds in the order they are tried, and where they are.
KINDS = {
    "container": lambda name: path("containers", name, "json"),
    "image": lambda name: path("images", name, "json"),
    "network": lambda name: path("networks", name),
    "volume": lambda name: path("volumes", name),
}


def inspect_any(session: Session, options: Options, arguments: list[str]) -> int:
    wanted = options.text("type")
    if wanted and wanted not in KINDS:
        raise Exit(FAILED, f'unknown type: "{wanted}": must be one of "container", "image", "network", "volume"')
    size = options.on("size")

    def find(name: str) -> Any:
        for kind in [wanted] if wanted else KINDS:
            try:
                return session.client.get(KINDS[kind](name), {"size": size and kind == "container"})
            except ApiError as error:
                if error.status != 404 or wanted:
                    raise
        raise _NotThere(f"Error: No such object: {name}")

    return write(session, arguments, find, options.text("format"))


class _NotThere(EngineError):
    """No kind has it."""


def _of(kind: str, query: Callable[[Options], dict[str, Any]]) -> Callable[[Session, Options, list[str]], int]:
    def command(session: Session, options: Options, arguments: list[str]) -> int:
        given = query(options)
        return write(
            session, arguments, lambda name: session.client.get(KINDS[kind](name), given), options.text("format")
        )

    return command


def write(session: Session, names: list[str], find: Finder, form: str) -> int:
    """Print what `find` gives for each name, as one JSON list or through a template.

    Raises:
        Exit: 1 when a name was not found, after what was found is printed; 64 when the template is wrong.
    """
    found, failures = [], []
    for name in names:
        try:
            found.append(find(name))
        except CannotConnect:
            raise
        except EngineError as error:
            failures.append(sentence(error))
    if form in ("", "json"):
        session.console.line(jsontext.dumps(found, indent="    " if not form else ""))
    else:
        _templated(session, found, form)
    if failures:
        raise Exit(FAILED, "\n".join(failures))
    return 0


def _templated(session: Session, found: list[Any], form: str) -> None:
    from scow.cli.template import Template
    from scow.cli.template_functions import TemplateError, structure, untyped

    try:
        template = Template(form)
    except TemplateError as error:
        raise Exit(64, f"template parsing error: {error}") from None
    for value in found:
        try:
            text = template.execute(structure(value))
        except TemplateError:  # the JSON's own names (.Id) fit when Go's (.ID) do not
            try:
                text = template.execute(untyped(value))
            except TemplateError as error:
                raise Exit(FAILED, f"template parsing error: {error}") from None
        session.console.line(text)
    if not found:
        session.console.line("")


COMMANDS = {
    "inspect": (ANY, inspect_any),
    "container inspect": (CONTAINER, _of("container", lambda options: {"size": options.on("size")})),
    "image inspect": (IMAGE, _of("image", lambda options: {"platform": platform_json(options.text("platform"))})),
    "network inspect": (NETWORK, _of("network", lambda options: {"verbose": options.on("verbose")})),
    "volume inspect": (VOLUME, _of("volume", lambda options: {})),
}
