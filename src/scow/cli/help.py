"""``--help``, generated from the tables in the layout Docker's users know. Pure: text in, text out."""

from __future__ import annotations

from scow.cli import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from scow.cli.flags import Command, Flag

PROGRAM = "scow"

#: pflag lets a last word stick out by this much rather than put it on a line of its own.
SLOP = 5
NARROWEST = 24


def command_help(entry: table.Entry, command: Command, name: str, width: int = 80) -> str:
    """The page of one command, invoked as `name`."""
    parts = [f"Usage:  {usage(command, name)}", command.text]
    if len(entry.names) > 1:
        parts.append("Aliases:\n  " + ", ".join(f"{PROGRAM} {alias}" for alias in entry.names))
    shown = [flag for flag in command.flags if not flag.hidden]
    if shown:
        parts.append("Options:\n" + flag_lines(shown, width - 1))
    return "\n\n".join(parts) + "\n"


def usage(command: Command, name: str) -> str:
    """ "scow run [OPTIONS] IMAGE …"; every form on a line of its own."""
    forms = [f"{PROGRAM} {name} {form}".rstrip() for form in command.usage.split("\n")]
    return "\n\t".join(forms)


def group_help(group: str) -> str:
    """The page of a management command such as ``scow image``."""
    return (
        f"Usage:  {PROGRAM} {group} COMMAND\n\n{table.GROUPS[group]}\n\nCommands:\n{_listed(table.members(group))}\n\n"
        f"Run '{PROGRAM} {group} COMMAND --help' for more information on a command.\n"
    )


def top_help(flags: Sequence[Flag], width: int = 80) -> str:
    """The page of ``scow`` itself."""
    everything = table.members("")
    common = [(name, everything[name]) for name in table.COMMON]
    others = {name: text for name, text in everything.items() if name not in table.COMMON}
    return (
        f"Usage:  {PROGRAM} [OPTIONS] COMMAND\n\nA container platform in Python, compatible with Docker\n\n"
        f"Common Commands:\n{_listed(dict(common))}\n\nManagement Commands:\n{_listed(table.GROUPS)}\n\n"
        f"Commands:\n{_listed(others)}\n\nGlobal Options:\n{flag_lines(flags, width - 1)}\n\n"
        f"Run '{PROGRAM} COMMAND --help' for more information on a command.\n"
    )


def _listed(entries: dict[str, str]) -> str:
    return "\n".join(f"  {name:<11} {text}" for name, text in entries.items())


def flag_lines(flags: Sequence[Flag], columns: int) -> str:
    """The table of flags, help texts wrapped at `columns`."""
    left = [_left(flag) for flag in flags]
    widest = max(map(len, left))
    return "\n".join(
        f"{head:<{widest}}   {_wrapped(_right(flag), widest + 3, columns)}"
        for head, flag in zip(left, flags, strict=True)
    )


def _left(flag: Flag) -> str:
    head = f"  -{flag.short}, --{flag.name}" if flag.short else f"      --{flag.name}"
    return f"{head} {flag.kind.word}" if flag.kind.word else head


def _right(flag: Flag) -> str:
    if not flag.default:
        return flag.text
    value = f'"{flag.default}"' if flag.kind.word == "string" else str(flag.default)
    return f"{flag.text} (default {value.lower() if flag.default is True else value})"


def _wrapped(text: str, indent: int, columns: int) -> str:
    room = columns - indent
    start = ""
    if room < NARROWEST:
        indent = 16
        room = columns - indent
        start = "\n" + " " * indent
    if room < NARROWEST:
        return text
    lines = []
    while text:
        line, text = _cut(text, room - SLOP)
        lines.append(line.replace("\n", "\n" + " " * indent))
    return start + ("\n" + " " * indent).join(lines)


def _cut(text: str, limit: int) -> tuple[str, str]:
    """The first line of `text` of about `limit` characters, and the rest."""
    if limit + SLOP > len(text):
        return text, ""
    blank = max(text.rfind(mark, 0, limit) for mark in " \t\n")
    if blank <= 0:
        return text, ""
    line_end = text.rfind("\n", 0, limit)
    if 0 < line_end < blank:
        blank = line_end
    return text[:blank], text[blank + 1 :]
