"""scow commit: a container's changes as an image."""

from scow.cli.flags import Command, Flag, Options
from scow.cli.names import split_tag
from scow.cli.session import Session

COMMIT = Command(
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Create a new image from a container's changes",
    least=1,
    most=2,
    flags=(
        Flag("author", "string", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")', short="a"),
        Flag("change", "list", "Apply Dockerfile instruction to the created image", short="c"),
        Flag("message", "string", "Commit message", short="m"),
        Flag("pause", "bool", "Pause container during commit", short="p", default=True),
    ),
)


def commit(session: Session, options: Options, arguments: list[str]) -> int:
    repository, tag = split_tag(arguments[1]) if len(arguments) > 1 else ("", "")
    query = {
        "container": arguments[0],
        "repo": repository,
        "tag": tag,
        "comment": options.text("message"),
        "author": options.text("author"),
        "changes": options.items("change"),
        "pause": "1" if options.on("pause") else "0",
    }
    session.console.line(session.client.post("/commit", query, {})["Id"])
    return 0


COMMANDS = {"container commit": (COMMIT, commit)}
