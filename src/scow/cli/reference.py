"""``python -m scow.cli.reference`` prints docs/cli.md: every command and flag, from the tables."""

import sys

from scow.cli import table
from scow.cli.flags import Command, Flag
from scow.cli.help import usage
from scow.cli.main import GLOBAL_FLAGS, load

WIDTH = 100

INTRODUCTION = """# The command line

*Generated from the tables of `scow.cli` by `python -m scow.cli.reference`; do not edit.*

The grammar is the one of Docker's client: flags are `--name value` or `--name=value`, one-letter flags can be
joined (`-it`), `--` ends the flags. `run`, `create` and `exec` read no flags behind their first argument.

The daemon is named by `-H`, `SCOW_HOST` or `DOCKER_HOST`, in this order; without any it is `unix:///run/scow.sock`,
and root finds it started on demand (`SCOW_AUTOSTART=0` turns that off).

## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | the daemon refused, or something named was not there |
| 125 | the command line was wrong, or `run` failed before the program started |
| 126, 127 | the program of `run` could not be executed, or was not found |
| other | the exit code of the container's program |

## Output

`--format` takes `table`, `table TEMPLATE`, `json` or a Go template: fields (`{{.Name}}`), `{{json .}}`, pipelines,
variables, `if`, `range`, `with`, `eq ne lt le gt ge and or not len index slice print printf println`, and
`json join split lower upper title pad truncate`.

"""


def document() -> str:
    """The page."""
    parts = [INTRODUCTION, "## Global flags\n\n", flag_table([flag for flag in GLOBAL_FLAGS if not flag.hidden])]
    for entry in sorted(table.ENTRIES, key=lambda entry: shown(entry)):
        command, _ = load(entry)
        parts.append(page(entry, command))
    return "".join(parts)


def shown(entry: table.Entry) -> str:
    """The name people use: the shortest."""
    return min(entry.names, key=lambda name: (name.count(" "), entry.names.index(name)))


def page(entry: table.Entry, command: Command) -> str:
    name = shown(entry)
    text = f"\n## scow {name}\n\n{command.text}\n\n```\n{usage(command, name)}\n```\n"
    others = [f"`scow {other}`" for other in entry.names if other != name]
    if others:
        text += f"\nAlso: {', '.join(others)}\n"
    flags = [flag for flag in command.flags if not flag.hidden]
    return text + ("\n" + flag_table(flags) if flags else "")


def flag_table(flags: list[Flag]) -> str:
    lines = ["| flag | value | meaning |", "|---|---|---|"]
    for flag in flags:
        label = f"`-{flag.short}`, `--{flag.name}`" if flag.short else f"`--{flag.name}`"
        default = (
            ""
            if not flag.default
            else f" (default `{str(flag.default).lower() if flag.default is True else flag.default}`)"
        )
        meaning = flag.text.replace("\n", " ").replace("|", "\\|").replace("<", "&lt;")
        lines.append(f"| {label} | {flag.kind.word} | {meaning}{default} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
