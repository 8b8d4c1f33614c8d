"""The ``scow`` command: global flags, one command looked up and imported, errors turned into words and exit codes.

Everything on this path counts against the time to a first answer: commands are imported when they are named, tables are
plain data, and nothing slow of the standard library is imported before it is needed.
"""

from __future__ import annotations

import os
import sys

from scow.cli import table
from scow.cli.exits import FAILED, INTERRUPTED, REFUSED, Exit, sentence
from scow.cli.flags import Flag, Misuse, parse
from scow.cli.session import Session
from scow.errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from scow.cli.flags import Command, Options

    Runner = Callable[[Session, Options, list[str]], int]

PROGRAM = "scow"

GLOBAL_FLAGS = (
    Flag("config", "string", 'Location of client config files (default "~/.docker")'),
    Flag("context", "string", 'Name of the context to use; only "default" exists: use --host or SCOW_HOST', short="c"),
    Flag("debug", "bool", "Enable debug mode", short="D"),
    Flag("host", "list", "Daemon socket to connect to", short="H"),
    Flag(
        "log-level",
        "string",
        'Set the logging level ("debug", "info", "warn", "error", "fatal")',
        short="l",
        default="info",
    ),
    Flag("tls", "bool", "Use TLS; implied by --tlsverify"),
    Flag("tlscacert", "string", 'Trust certs signed only by this CA (default "~/.docker/ca.pem")'),
    Flag("tlscert", "string", 'Path to TLS certificate file (default "~/.docker/cert.pem")'),
    Flag("tlskey", "string", 'Path to TLS key file (default "~/.docker/key.pem")'),
    Flag("tlsverify", "bool", "Use TLS and verify the remote"),
    Flag("version", "bool", "Print version information and quit", short="v"),
)

#: Commands whose failures are the engine's refusal to run a container, not the container's own code.
REFUSING = ("container run", "container create")


def main(words: list[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    session = Session()
    try:
        try:
            code = _dispatch(session, sys.argv[1:] if words is None else words)
            session.console.flush()
        except Exit as end:
            code = end.code
            if str(end):
                session.console.error(str(end))
        except KeyboardInterrupt:
            code = INTERRUPTED
        finally:
            session.close()
    except BrokenPipeError:
        # The reader of our output is gone: what is left in the buffers must not fail again at the end.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        return 141
    return code


def run() -> NoReturn:
    """Be the program: `main`, then end at once.

    Nothing of ours runs at an interpreter's end, and taking every module apart costs two milliseconds.
    """
    code = main()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # closed before we were started
                stream.flush()
    except OSError:  # nobody reads it any more
        code = code or FAILED
    os._exit(code)


def _dispatch(session: Session, words: list[str]) -> int:
    try:
        parsed = parse(GLOBAL_FLAGS, words, interspersed=False)
    except Misuse as error:
        raise Exit(
            REFUSED,
            f"{error}\n\nUsage:  {PROGRAM} [OPTIONS] COMMAND [ARG...]\n\nRun '{PROGRAM} --help' for more information",
        ) from None
    rest = parsed.arguments
    if parsed.options.on("version"):
        from scow.cli.commands.version import one_line

        session.console.line(one_line())
        return 0
    if rest[:1] == ["help"]:
        rest = [*rest[1:], "--help"] if len(rest) > 1 else []
    if not rest or parsed.help:
        from scow.cli.help import top_help

        session.console.out(top_help(GLOBAL_FLAGS, session.width))
        return 0
    try:
        session.configure(parsed.options)
    except EngineError as error:
        raise Exit(FAILED, str(error)) from None
    return _command(session, rest)


def _command(session: Session, words: list[str]) -> int:
    if words[0] in table.GROUPS:
        return _group(session, words)
    entry = table.BY_NAME.get(words[0])
    if entry is None:
        raise Exit(FAILED, f"{PROGRAM}: '{words[0]}' is not a {PROGRAM} command.\nSee '{PROGRAM} --help'")
    return run_entry(session, entry, words[0], words[1:])


def _group(session: Session, words: list[str]) -> int:
    group = words[0]
    if len(words) == 1 or words[1] in ("--help", "-h"):
        from scow.cli.help import group_help

        session.console.out(group_help(group))
        return 0
    name = f"{group} {words[1]}"
    entry = table.BY_NAME.get(name)
    if entry is not None:
        return run_entry(session, entry, table.shown_name(entry, name), words[2:])
    if words[1].startswith("-"):
        raise Exit(
            REFUSED,
            f"unknown flag: {words[1]}\n\nUsage:  {PROGRAM} {group}\n\n"
            f"Run '{PROGRAM} {group} --help' for more information",
        )
    raise Exit(
        FAILED,
        f"{PROGRAM}: unknown command: {PROGRAM} {name}\n\nUsage:  {PROGRAM} {group}\n\n"
        f"Run '{PROGRAM} {group} --help' for more information",
    )


def load(entry: table.Entry) -> tuple[Command, Runner]:
    """The command of an entry, its module imported now."""
    command, runner = __import__(f"scow.cli.commands.{entry.module}", fromlist=["COMMANDS"]).COMMANDS[entry.names[0]]
    return command, runner


def run_entry(session: Session, entry: table.Entry, name: str, words: list[str]) -> int:
    """Parse the words of one command and run it."""
    if "--help" not in words:
        session.greet()  # answered while the command is imported
    command, runner = load(entry)
    try:
        parsed = parse(command.flags, ["--", *words] if command.passes else words, command.interspersed)
    except Misuse as error:
        raise Exit(REFUSED, _misuse(str(error), command, name)) from None
    if parsed.help:
        from scow.cli.help import command_help

        session.console.out(command_help(entry, command, name, session.width))
        return 0
    _count(command, name, len(parsed.arguments))
    session.name = name
    try:
        return runner(session, parsed.options, parsed.arguments)
    except EngineError as error:
        if entry.names[0] in REFUSING:
            raise Exit(
                REFUSED, f"{PROGRAM}: {sentence(error)}\n\nRun '{PROGRAM} {name} --help' for more information"
            ) from None
        raise Exit(FAILED, sentence(error)) from None


def _misuse(message: str, command: Command, name: str, hint: str = "Run") -> str:
    from scow.cli.help import usage

    more = " for more information"
    return f"{message}\n\nUsage:  {usage(command, name)}\n\n{hint} '{PROGRAM} {name} --help'{more}"


def _count(command: Command, name: str, count: int) -> None:
    """Refuse a wrong number of arguments in Docker's words."""
    least, most = command.least, command.most
    if count >= least and (most is None or count <= most):
        return
    plural = "" if (most if most is not None and count >= least else least) == 1 else "s"
    if most == 0:
        wanted = "accepts no arguments"
    elif most is None:
        wanted = f"requires at least {least} argument{plural}"
    elif least == most:
        wanted = f"requires {least} argument{plural}"
    elif count < least:
        wanted = f"requires at least {least} argument{plural}"
    else:
        wanted = f"requires at most {most} argument{plural}"
    hint = "See" if most is None else "Run"
    raise Exit(FAILED, _misuse(f"{PROGRAM}: '{PROGRAM} {name}' {wanted}", command, name, hint))


if __name__ == "__main__":
    run()
