"""scow pull, scow push: images from and to registries, with progress."""

import os

from scow.cli.exits import FAILED, Exit
from scow.cli.flags import Command, Flag, Options
from scow.cli.names import canonical, platform_json, split_tag
from scow.cli.options import CONTENT_TRUST, PLATFORM
from scow.cli.progress import check, show
from scow.cli.session import Session
from scow.client.client import path
from scow.client.credentials import domain_of, encode, server_of
from scow.client.endpoint import default_platform
from scow.errors import InvalidArgument

PULL = Command(
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Download an image from a registry",
    least=1,
    most=1,
    flags=(
        Flag("all-tags", "bool", "Download all tagged images in the repository", short="a"),
        CONTENT_TRUST,
        PLATFORM,
        Flag("quiet", "bool", "Suppress verbose output", short="q"),
    ),
)
PUSH = Command(
    "[OPTIONS] NAME[:TAG]",
    "Upload an image to a registry",
    least=1,
    most=1,
    flags=(
        Flag("all-tags", "bool", "Push all tags of an image to the repository", short="a"),
        Flag("disable-content-trust", "bool", "Skip image signing", default=True),
        Flag(
            "platform",
            "string",
            "Push a platform-specific manifest as a single-platform image to the registry.\n"
            "'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
        ),
        Flag("quiet", "bool", "Suppress verbose output", short="q"),
    ),
)


def auth_header(session: Session, name: str) -> dict[str, str]:
    """``X-Registry-Auth`` for the registry of an image name; {} without a login."""
    auth = session.config.find(server_of(domain_of(name)))
    return {"X-Registry-Auth": encode(auth)} if auth else {}


def pull(session: Session, options: Options, arguments: list[str]) -> int:
    name = arguments[0]
    repository, tag = split_tag(name)
    if options.on("all-tags") and tag:
        raise InvalidArgument("tag can't be used with --all-tags/-a")
    platform = options.text("platform") or default_platform(os.environ)
    quiet = options.on("quiet")
    if not tag and not options.on("all-tags") and not quiet:
        session.console.line("Using default tag: latest")
        session.console.flush()
    pull_image(session, name, platform, quiet=quiet, every_tag=options.on("all-tags"))
    session.console.line(canonical(repository, tag or "latest"))
    return 0


def pull_image(
    session: Session, name: str, platform: str, *, quiet: bool = False, every_tag: bool = False, fd: int = 1
) -> None:
    """Pull one name, or all tags of a repository; progress goes to `fd`.

    Raises:
        StreamError: the daemon says why not.
    """
    repository, tag = split_tag(name)
    query = {"fromImage": repository, "tag": tag or ("" if every_tag else "latest"), "platform": platform}
    messages = session.client.messages("POST", "/images/create", query, headers=auth_header(session, name))
    if quiet:
        for message in messages:
            check(message)
    else:
        show(messages, fd)


def push(session: Session, options: Options, arguments: list[str]) -> int:
    name = arguments[0]
    repository, tag = split_tag(name)
    if "@" in name:
        raise Exit(FAILED, "cannot push a digest reference")
    if options.on("all-tags") and tag:
        raise InvalidArgument("tag can't be used with --all-tags/-a")
    if not tag and not options.on("all-tags"):
        tag = "latest"
        if not options.on("quiet"):
            session.console.line("Using default tag: latest")
            session.console.flush()
    headers = auth_header(session, name) or {"X-Registry-Auth": encode({})}
    query = {"tag": tag, "platform": platform_json(options.text("platform"))}
    messages = session.client.messages("POST", path("images", repository, "push"), query, headers=headers)
    if options.on("quiet"):
        for message in messages:
            check(message)
        session.console.line(canonical(repository, tag) if tag else repository)
    else:
        show(messages)
    return 0


COMMANDS = {"image pull": (PULL, pull), "image push": (PUSH, push)}
