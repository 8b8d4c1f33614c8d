"""Nodes → instructions: what each one means, with its arguments checked. Pure.

Variables are still in the words (they depend on the stage); quotes and escapes are removed with them by ``expand``.
Error sentences are those of Docker's builder, since people search for them.
"""

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from scow.api.units import parse_duration
from scow.build.dockerfile.flags import Flags
from scow.build.dockerfile.lexer import DockerfileError, Heredoc, LogicalLine
from scow.build.dockerfile.mounts import Mount, parse_mount
from scow.build.dockerfile.parser import Node, Tree, node_of, parse
from scow.errors import InvalidArgument

_STAGE_NAME = re.compile(r"^[a-z][a-z0-9-_.]*$")
_MILLISECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Instruction:
    """What all instructions share: where it stands (first line, 1-based) and how it is shown."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class From(Instruction):
    base: str
    name: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Run(Instruction):
    command: tuple[str, ...]
    shell: bool
    heredocs: tuple[Heredoc, ...] = ()
    mounts: tuple[Mount, ...] = ()
    network: str = "default"
    security: str = "sandbox"


@dataclass(frozen=True, slots=True)
class Copy(Instruction):
    """COPY, and ADD with `add` set."""

    sources: tuple[str, ...]
    target: str
    add: bool = False
    heredocs: tuple[Heredoc, ...] = ()
    origin: str = ""
    chown: str = ""
    chmod: str = ""
    checksum: str = ""
    link: bool = False
    parents: bool = False
    keep_git_dir: bool = False
    unpack: bool | None = None
    excludes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Arg(Instruction):
    pairs: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Env(Instruction):
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Label(Instruction):
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Command(Instruction):
    """CMD, ENTRYPOINT or SHELL (`what`)."""

    what: str
    words: tuple[str, ...]
    shell: bool


@dataclass(frozen=True, slots=True)
class Setting(Instruction):
    """USER, WORKDIR, STOPSIGNAL or MAINTAINER (`what`): one value."""

    what: str
    value: str


@dataclass(frozen=True, slots=True)
class Expose(Instruction):
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Volume(Instruction):
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Healthcheck(Instruction):
    """`test` is ("NONE",), ("CMD", …) or ("CMD-SHELL", text); times in nanoseconds, 0 for "as inherited"."""

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class OnBuild(Instruction):
    trigger: str


@dataclass(frozen=True, slots=True)
class Stage:
    """One FROM and what follows it, up to the next."""

    index: int
    start: From
    body: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        return self.start.name


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A whole Dockerfile: the ARGs before the first FROM, and the stages."""

    globals: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    escape: str = "\\"
    syntax: str = ""


def read(data: bytes) -> Dockerfile:
    """A Dockerfile's bytes, fully understood.

    Raises:
        DockerfileError: "dockerfile parse error on line 3: unknown instruction: RUNN (did you mean RUN?)".
    """
    tree = parse(data)
    arguments: list[Arg] = []
    stages: list[Stage] = []
    body: list[Instruction] = []
    start: From | None = None
    for instruction in instructions_of(tree):
        if isinstance(instruction, From):
            if start:
                stages.append(Stage(len(stages), start, tuple(body)))
            start, body = instruction, []
        elif start:
            body.append(instruction)
        elif isinstance(instruction, Arg):
            arguments.append(instruction)
        else:
            raise DockerfileError(instruction.line, "no build stage in current context")
    if not start:
        raise DockerfileError(tree.nodes[-1].line, "no build stage in current context")
    stages.append(Stage(len(stages), start, tuple(body)))
    return Dockerfile(tuple(arguments), tuple(stages), tree.escape, tree.source.syntax)


def read_trigger(text: str, line: int) -> Instruction:
    """One ONBUILD trigger of a base image as an instruction; `line` is the FROM's.

    Raises:
        DockerfileError: it is not an instruction, or one that cannot be a trigger.
    """
    try:
        nodes = parse(text.encode()).nodes
        if len(nodes) != 1:
            raise DockerfileError(line, "it is not one instruction")
        _check_trigger(nodes[0].keyword, line)
        return replace(instruction_of(nodes[0]), line=line)
    except DockerfileError as error:
        raise DockerfileError(line, f"the ONBUILD trigger {text[:200]!r} of the base image: {error.reason}") from None


def instructions_of(tree: Tree) -> Iterable[Instruction]:
    """Every node of `tree`, understood, in order."""
    for node in tree.nodes:
        if node.keyword == "onbuild" and node.rest:
            _check_onbuild(node, tree.escape)
        yield instruction_of(node)


def instruction_of(node: Node) -> Instruction:
    """One node, understood.

    Raises:
        DockerfileError: unknown keyword, flag or argument.
    """
    make = _MAKERS.get(node.keyword)
    if make is None:
        raise DockerfileError(node.line, f"unknown instruction: {node.written}{_suggest(node.keyword, _MAKERS)}")
    flags = Flags(node.flags, node.line)
    try:
        instruction = make(node, flags)
    except InvalidArgument as error:
        if isinstance(error, DockerfileError):
            raise
        raise DockerfileError(node.line, str(error)) from None
    flags.finish()
    return instruction


def _suggest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word.lower()[:64], list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0].upper()}?)" if close else ""


def _check_onbuild(node: Node, escape: str) -> None:
    """A trigger is parsed where it is written, so a mistake shows in the right file and line."""
    keyword = node.rest.split(None, 1)[0].lower()
    _check_trigger(keyword, node.line)
    inner = node_of(_logical(node), escape)
    instruction_of(inner)


def _logical(node: Node) -> LogicalLine:
    return LogicalLine(node.rest, node.line, node.end, node.heredocs)


def _check_trigger(keyword: str, line: int) -> None:
    if keyword == "onbuild":
        raise DockerfileError(line, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if keyword in ("from", "maintainer"):
        raise DockerfileError(line, f"{keyword.upper()} isn't allowed as an ONBUILD trigger")


def _shown(node: Node) -> str:
    """The instruction as progress shows it: keyword in capitals, blanks as written."""
    rest = node.text[len(node.written) :].strip()
    return f"{node.keyword.upper()} {rest}".strip()


# ---- one maker per instruction ----------------------------------------------------------------------


def _one(node: Node) -> str:
    if len(node.arguments.words) != 1:
        raise DockerfileError(node.line, f"{node.keyword.upper()} requires exactly one argument")
    return node.arguments.words[0]


def _some(node: Node) -> None:
    if not node.arguments.words and not node.arguments.pairs:
        raise DockerfileError(node.line, f"{node.keyword.upper()} requires at least one argument")


def _from(node: Node, flags: Flags) -> From:
    words = node.arguments.words
    name = ""
    if len(words) == 3 and words[1].lower() == "as":
        name = words[2].lower()
        if not _STAGE_NAME.match(name):
            raise DockerfileError(
                node.line,
                f'invalid name for build stage: "{words[2]}", name can\'t start with a number or contain symbols',
            )
    elif len(words) != 1:
        raise DockerfileError(node.line, "FROM requires either one or three arguments")
    return From(node.line, _shown(node), words[0], name, flags.text("platform"))


def _run(node: Node, flags: Flags) -> Run:
    mounts = tuple(parse_mount(value, node.line) for value in flags.all("mount"))
    network = flags.text("network", "default")
    if network not in ("default", "none", "host"):
        raise DockerfileError(node.line, f'invalid network mode: "{network}", use default, none or host')
    security = flags.text("security", "sandbox")
    if security not in ("sandbox", "insecure"):
        raise DockerfileError(node.line, f'security "{security}" is not valid, use sandbox or insecure')
    _some(node)
    words = node.arguments.words
    return Run(node.line, _shown(node), words, not node.arguments.json, node.heredocs, mounts, network, security)


def _copy(node: Node, flags: Flags) -> Copy:
    add = node.keyword == "add"
    words = node.arguments.words
    if len(words) < 2:
        raise DockerfileError(
            node.line,
            f"{node.keyword.upper()} requires at least two arguments"
            + (", but only one was provided. Destination could not be determined" if words else ""),
        )
    return Copy(
        node.line,
        _shown(node),
        words[:-1],
        words[-1],
        add,
        node.heredocs,
        "" if add else flags.text("from"),
        flags.text("chown"),
        flags.text("chmod"),
        checksum=flags.text("checksum") if add else "",
        link=flags.boolean("link"),
        parents=False if add else flags.boolean("parents"),
        keep_git_dir=flags.boolean("keep-git-dir") if add else False,
        unpack=flags.boolean("unpack") if add and flags.given("unpack") else None,
        excludes=tuple(flags.all("exclude")),
    )


def _named(node: Node, value: str | None, name: str) -> str:
    if not name:
        raise DockerfileError(node.line, f"{node.keyword.upper()} names can not be blank")
    return value or ""


def _arg(node: Node, flags: Flags) -> Arg:
    _some(node)
    for name, value in node.arguments.pairs:
        _named(node, value, name)
    return Arg(node.line, _shown(node), node.arguments.pairs)


def _env(node: Node, flags: Flags) -> Env:
    _some(node)
    return Env(
        node.line, _shown(node), tuple((name, _named(node, value, name)) for name, value in node.arguments.pairs)
    )


def _label(node: Node, flags: Flags) -> Label:
    _some(node)
    return Label(
        node.line, _shown(node), tuple((name, _named(node, value, name)) for name, value in node.arguments.pairs)
    )


def _command(node: Node, flags: Flags) -> Command:
    words = node.arguments.words
    return Command(node.line, _shown(node), node.keyword, words, bool(words) and not node.arguments.json)


def _shell(node: Node, flags: Flags) -> Command:
    if not node.arguments.json:
        raise DockerfileError(node.line, "SHELL requires the arguments to be in JSON form")
    _some(node)
    return Command(node.line, _shown(node), "shell", node.arguments.words, shell=False)


def _setting(node: Node, flags: Flags) -> Setting:
    return Setting(node.line, _shown(node), node.keyword, _one(node))


def _expose(node: Node, flags: Flags) -> Expose:
    _some(node)
    return Expose(node.line, _shown(node), node.arguments.words)


def _volume(node: Node, flags: Flags) -> Volume:
    _some(node)
    if not all(path.strip() for path in node.arguments.words):
        raise DockerfileError(node.line, "VOLUME specified can not be an empty string")
    return Volume(node.line, _shown(node), node.arguments.words)


def _health(node: Node, flags: Flags) -> Healthcheck:
    _some(node)
    kind, *command = node.arguments.words
    kind = kind.upper()
    if kind == "NONE":
        if command:
            raise DockerfileError(node.line, "HEALTHCHECK NONE takes no arguments")
        return Healthcheck(node.line, _shown(node), ("NONE",))
    if kind != "CMD":
        raise DockerfileError(node.line, f'Unknown type "{kind}" in HEALTHCHECK (try CMD)')
    if not command:
        raise DockerfileError(node.line, "Missing command after HEALTHCHECK CMD")
    test = ("CMD", *command) if node.arguments.json else ("CMD-SHELL", command[0])
    return Healthcheck(
        node.line,
        _shown(node),
        test,
        _interval(flags, "interval"),
        _interval(flags, "timeout"),
        _interval(flags, "start-period"),
        _interval(flags, "start-interval"),
        _retries(flags),
    )


def _interval(flags: Flags, name: str) -> int:
    text = flags.text(name)
    if not text:
        return 0
    duration = parse_duration(text)
    if 0 != duration < _MILLISECOND:
        raise DockerfileError(flags.line, f'Interval "{name}" cannot be less than 1ms')
    return duration


def _retries(flags: Flags) -> int:
    text = flags.text("retries")
    if not text:
        return 0
    negative = text.startswith("-")
    digits = text.lstrip("+-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 9):
        raise DockerfileError(flags.line, f"--retries must be a number, not {text!r}")
    if negative and int(digits):
        raise DockerfileError(flags.line, f"--retries cannot be negative (-{int(digits)})")
    return int(digits)


def _onbuild(node: Node, flags: Flags) -> OnBuild:
    if not node.rest:
        raise DockerfileError(node.line, "ONBUILD requires at least one argument")
    trigger = node.rest
    for document in node.heredocs:
        trigger += f"\n{document.content}{document.name}"
    return OnBuild(node.line, _shown(node), trigger)


_MAKERS: dict[str, Callable[[Node, Flags], Instruction]] = {
    "add": _copy,
    "arg": _arg,
    "cmd": _command,
    "copy": _copy,
    "entrypoint": _command,
    "env": _env,
    "expose": _expose,
    "from": _from,
    "healthcheck": _health,
    "label": _label,
    "maintainer": _setting,
    "onbuild": _onbuild,
    "run": _run,
    "shell": _shell,
    "stopsignal": _setting,
    "user": _setting,
    "volume": _volume,
    "workdir": _setting,
}
