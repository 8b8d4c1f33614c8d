"""scow rmi, scow tag: names of images come and go."""

from __future__ import annotations

from scow.cli.each import each
from scow.cli.exits import sentence
from scow.cli.flags import Command, Flag, Options
from scow.cli.names import platform_json, split_tag
from scow.client.client import path
from scow.client.http import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scow.cli.session import Session
    from scow.client.client import QueryValue

REMOVE = Command(
    "[OPTIONS] IMAGE [IMAGE...]",
    "Remove one or more images",
    least=1,
    most=None,
    flags=(
        Flag("force", "bool", "Force removal of the image", short="f"),
        Flag("no-prune", "bool", "Do not delete untagged parents"),
        Flag(
            "platform",
            "strings",
            'Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
        ),
    ),
)
TAG = Command(
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    least=2,
    most=2,
)


def remove(session: Session, options: Options, arguments: list[str]) -> int:
    query: dict[str, QueryValue] = {
        "force": options.on("force"),
        "noprune": options.on("no-prune"),
        "platforms": [platform_json(text) for text in options.items("platform")],
    }

    def call(name: str) -> Any:
        try:
            return session.client.delete(path("images", name), query)
        except ApiError as error:
            if not (options.on("force") and error.status == 404):
                raise
            session.console.error(sentence(error))
            return []

    code = each(session, arguments, call, show=lambda _, answer: "\n".join(map(_line, answer)))
    return code


def _line(item: dict[str, str]) -> str:
    return f"Deleted: {item['Deleted']}" if item.get("Deleted") else f"Untagged: {item.get('Untagged', '')}"


def tag(session: Session, options: Options, arguments: list[str]) -> int:
    repository, name = split_tag(arguments[1])
    session.client.post(path("images", arguments[0], "tag"), {"repo": repository, "tag": name})
    return 0


COMMANDS = {"image rm": (REMOVE, remove), "image tag": (TAG, tag)}
