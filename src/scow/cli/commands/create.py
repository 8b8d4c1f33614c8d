"""scow create: a container that is not started. Its `create` is also the first half of run."""

from __future__ import annotations

import os

from scow.cli.container_config import body
from scow.cli.exits import REFUSED, Exit
from scow.cli.flags import Command, Options
from scow.cli.run_flags import FLAGS
from scow.client.endpoint import default_platform
from scow.client.http import ApiError
from scow.errors import InvalidArgument, System

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scow.cli.session import Session

CREATE = Command(
    "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Create a new container", least=1, most=None, flags=FLAGS, interspersed=False
)


def create_command(session: Session, options: Options, arguments: list[str]) -> int:
    found = create(session, options, body(options, arguments))
    session.console.line(found["Id"])
    return 0


def create(session: Session, options: Options, request: dict[str, Any]) -> dict[str, Any]:
    """Make the container, pulling the image if it is not there and --pull allows it; returns the API's answer.

    Warnings go to stderr, the id to --cidfile.
    """
    policy = options.text("pull")
    if policy not in ("always", "missing", "never"):
        raise InvalidArgument(f'invalid pull option: \'{policy}\': must be one of "always", "missing" or "never"')
    cidfile = _Cidfile(options.text("cidfile"))
    image = str(request["Image"])
    platform = options.text("platform") or default_platform(os.environ)
    query = {"name": options.text("name"), "platform": platform}
    if policy == "always":
        pull(session, options, image, platform)
    try:
        found: dict[str, Any] = session.client.post("/containers/create", query, request)
    except ApiError as error:
        if error.status != 404 or policy != "missing" or "No such image" not in str(error):
            raise
        if not options.on("quiet"):
            session.console.error(f"Unable to find image '{familiar(image)}' locally")
        pull(session, options, image, platform)
        found = session.client.post("/containers/create", query, request)
    for warning in found.get("Warnings") or []:
        session.console.error(f"WARNING: {warning}")
    cidfile.write(str(found["Id"]))
    return found


def familiar(image: str) -> str:
    """The name with the tag that will be pulled: "busybox" → "busybox:latest"."""
    last = image.rpartition("/")[2]
    return image if "@" in image or ":" in last else f"{image}:latest"


def pull(session: Session, options: Options, image: str, platform: str) -> None:
    """Pull `image`; progress goes to stderr, since stdout is the container's."""
    from scow.cli.commands.pull import pull_image

    pull_image(session, image, platform, quiet=options.on("quiet"), fd=2)


class _Cidfile:
    """--cidfile: it must not exist before, and holds the id afterwards."""

    def __init__(self, path: str) -> None:
        self._path = path
        if path and os.path.lexists(path):
            raise Exit(
                REFUSED,
                f"scow: container ID file found, make sure the other container isn't running or delete {path}",
            )

    def write(self, identifier: str) -> None:
        if not self._path:
            return
        try:
            with open(self._path, "x", encoding="ascii") as file:
                file.write(identifier)
        except OSError as error:
            raise System(f"failed to create the container ID file: {self._path}: {error.strerror}") from None


COMMANDS = {"container create": (CREATE, create_command)}
