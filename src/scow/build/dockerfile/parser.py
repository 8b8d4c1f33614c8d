"""Logical lines → nodes: keyword, flags, and arguments cut the way that keyword cuts them. Pure.

Every instruction has its own idea of words: RUN takes the rest of the line, ENV pairs, COPY words or JSON. Those forms
are the table `_FORMS`; what the arguments mean is ``instructions``' business. Quotes and escapes stay in the words
here: ``expand`` removes them together with the variables.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from scow.build.dockerfile.lexer import DockerfileError, Heredoc, LogicalLine, Source, lex

_BLANKS = re.compile(r"[ \t\v\f\r]+")


@dataclass(frozen=True, slots=True)
class Flag:
    """``--name=value``; `value` is None for a bare ``--name``."""

    name: str
    value: str | None


@dataclass(frozen=True, slots=True)
class Arguments:
    """Words of one instruction, or `pairs` for the name=value forms (value None: a bare ARG name)."""

    words: tuple[str, ...] = ()
    json: bool = False
    pairs: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """One instruction as written."""

    keyword: str  # lower case
    written: str  # as in the file
    flags: tuple[Flag, ...]
    arguments: Arguments
    text: str  # the whole logical line
    rest: str  # everything after keyword and flags
    line: int
    end: int
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True)
class Tree:
    """A parsed Dockerfile."""

    nodes: tuple[Node, ...]
    escape: str
    source: Source


def parse(data: bytes) -> Tree:
    """A Dockerfile's bytes as nodes.

    Raises:
        DockerfileError: "dockerfile parse error on line N: …".
    """
    source = lex(data)
    return Tree(tuple(node_of(line, source.escape) for line in source.lines), source.escape, source)


def node_of(line: LogicalLine, escape: str) -> Node:
    """Cut one logical line; an unknown keyword is left for ``instructions`` to refuse.

    Raises:
        DockerfileError: the arguments have not the keyword's form.
    """
    written, _, rest = line.text.partition(" ") if " " in line.text else (line.text, "", "")
    if "\t" in written:
        written, _, tail = written.partition("\t")
        rest = f"{tail} {rest}"
    keyword = written.lower()
    flags, rest = split_flags(rest.strip(), escape)
    rest = rest.strip()
    form = _FORMS.get(keyword, _words)
    try:
        arguments = form(rest, escape)
    except ValueError as error:
        raise DockerfileError(line.line, str(error).replace("KEY", written.upper(), 1)) from None
    return Node(keyword, written, flags, arguments, line.text, rest, line.line, line.end, line.heredocs)


def split_flags(rest: str, escape: str) -> tuple[tuple[Flag, ...], str]:
    """The ``--flags`` in front of the arguments, quotes removed, and what follows; a lone ``--`` ends them."""
    flags: list[Flag] = []
    position = 0
    while True:
        while position < len(rest) and rest[position].isspace():
            position += 1
        if not rest.startswith("--", position):
            return tuple(flags), rest[position:]
        word, position = _flag_word(rest, position, escape)
        if word == "--":
            return tuple(flags), rest[position:]
        name, equals, value = word[2:].partition("=")
        flags.append(Flag(name, value if equals else None))


def _flag_word(rest: str, position: int, escape: str) -> tuple[str, int]:
    word: list[str] = []
    quote = ""
    while position < len(rest):
        character = rest[position]
        position += 1
        if character == escape and quote != "'":
            if position < len(rest):
                word.append(rest[position])
            position += 1
        elif quote:
            if character == quote:
                quote = ""
            else:
                word.append(character)
        elif character in "'\"":
            quote = character
        elif character.isspace():
            break
        else:
            word.append(character)
    return "".join(word), position


def words_of(rest: str, escape: str) -> list[str]:
    """`rest` split at blanks outside quotes and escapes; both stay in the words."""
    words: list[str] = []
    start = -1
    quote = ""
    position = 0
    while position < len(rest):
        character = rest[position]
        if start < 0:
            if character.isspace():
                position += 1
                continue
            start = position
        if character == escape and quote != "'":
            position += 2
            continue
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character.isspace():
            words.append(rest[start:position])
            start = -1
        position += 1
    if start >= 0:
        words.append(rest[start:])
    return words


def json_list(rest: str) -> tuple[str, ...] | None:
    """The exec form: a JSON list of strings, or None when `rest` is something else."""
    if not rest.startswith("["):
        return None
    try:
        value = json.loads(rest)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    return tuple(value)


# ---- the forms ---------------------------------------------------------------------------------


def _words(rest: str, escape: str) -> Arguments:
    return Arguments(tuple(_BLANKS.split(rest)) if rest else ())


def _whole(rest: str, escape: str) -> Arguments:
    return Arguments((rest,) if rest else ())


def _json_or_whole(rest: str, escape: str) -> Arguments:
    items = json_list(rest)
    return _whole(rest, escape) if items is None else Arguments(items, json=True)


def _json_or_words(rest: str, escape: str) -> Arguments:
    items = json_list(rest)
    return _words(rest, escape) if items is None else Arguments(items, json=True)


def _pairs(rest: str, escape: str) -> Arguments:
    """``name=value …`` or the old ``name value``."""
    words = words_of(rest, escape)
    if not words:
        return Arguments()
    if "=" not in words[0]:
        parts = _BLANKS.split(rest, maxsplit=1)
        if len(parts) < 2:
            raise ValueError("KEY must have two arguments")
        return Arguments(pairs=((parts[0], parts[1]),))
    pairs: list[tuple[str, str | None]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value')
        pairs.append((name, value))
    return Arguments(pairs=tuple(pairs))


def _names(rest: str, escape: str) -> Arguments:
    """``name`` or ``name=value``, several of them."""
    pairs: list[tuple[str, str | None]] = []
    for word in words_of(rest, escape):
        name, equals, value = word.partition("=")
        pairs.append((name, value if equals else None))
    return Arguments(pairs=tuple(pairs))


def _health(rest: str, escape: str) -> Arguments:
    """``NONE``, or ``CMD`` with a command in either form: words are the type, then the command."""
    if not rest:
        return Arguments()
    kind, *tail = _BLANKS.split(rest, maxsplit=1)
    command = tail[0] if tail else ""
    if kind.upper() != "CMD":
        return Arguments((kind, command) if command else (kind,))
    inner = _json_or_whole(command, escape)
    return Arguments((kind, *inner.words), json=inner.json)


_FORMS: dict[str, Callable[[str, str], Arguments]] = {
    "add": _json_or_words,
    "arg": _names,
    "cmd": _json_or_whole,
    "copy": _json_or_words,
    "entrypoint": _json_or_whole,
    "env": _pairs,
    "expose": _words,
    "from": _words,
    "healthcheck": _health,
    "label": _pairs,
    "maintainer": _whole,
    "onbuild": _whole,
    "run": _json_or_whole,
    "shell": _json_or_whole,
    "stopsignal": _whole,
    "user": _whole,
    "volume": _json_or_words,
    "workdir": _whole,
}
