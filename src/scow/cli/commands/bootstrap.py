"""scow image bootstrap, image from-host: base images without a registry, made by the daemon from what this host has."""

from __future__ import annotations

import os

from scow.cli.exits import FAILED, Exit
from scow.cli.flags import Command, Flag, Options
from scow.cli.progress import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scow.cli.session import Session

BOOTSTRAP = Command(
    "[OPTIONS] busybox | debian[:SUITE]",
    "Make a base image from this host's tools or package mirror",
    least=1,
    most=1,
    flags=(Flag("tag", "string", "Name of the image (default: the argument)", short="t"),),
)
FROM_HOST = Command(
    "[OPTIONS] NAME PROGRAM [PROGRAM...]",
    "Make an image of programs of this host and the libraries they need",
    least=2,
    most=None,
    flags=(Flag("include", "list", "Further file or folder of this host to put into the image"),),
)
DEFAULT_SUITE = "stable"
KINDS = ("busybox", "debian")


def bootstrap(session: Session, options: Options, arguments: list[str]) -> int:
    kind, _, suite = arguments[0].partition(":")
    if kind not in KINDS or (suite and kind != "debian"):
        raise Exit(FAILED, f"cannot bootstrap {arguments[0]!r}: choose busybox or debian[:SUITE]")
    request = {"kind": kind, "name": options.text("tag") or arguments[0]}
    if kind == "debian":
        request["suite"] = suite or DEFAULT_SUITE
    return _send(session, request)


def from_host(session: Session, options: Options, arguments: list[str]) -> int:
    return _send(
        session,
        {
            "kind": "host",
            "name": arguments[0],
            "programs": [os.path.abspath(name) if "/" in name else name for name in arguments[1:]],
            "include": [os.path.abspath(name) for name in options.items("include")],
        },
    )


def _send(session: Session, request: dict[str, Any]) -> int:
    show(session.client.messages("POST", "/scow/images/bootstrap", value=request))
    return 0


COMMANDS = {"image bootstrap": (BOOTSTRAP, bootstrap), "image from-host": (FROM_HOST, from_host)}
