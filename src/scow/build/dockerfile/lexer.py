"""Dockerfile bytes → logical lines: parser directives, comments, continuations and here-documents.

A logical line is one instruction, however many lines of the file it takes. What the words on it mean is decided by
``parser``; only two facts about instructions are known here: which may be followed by a here-document, and that a JSON
argument list never is. Pure; every size is bounded by `MAX_SIZE`.

Grammar: BuildKit's Dockerfile reference, sections "Parser directives", "Format", "Here-Documents".
"""

import json
import re
from dataclasses import dataclass, field

from scow.errors import InvalidArgument

#: Largest Dockerfile read (bytes); a file this long is not a Dockerfile.
MAX_SIZE = 2 << 20

#: Instructions a here-document may follow.
HEREDOC_KEYWORDS = frozenset({"add", "copy", "run"})

_DIRECTIVE = re.compile(r"^#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$")
_DIRECTIVES = frozenset({"syntax", "escape", "check"})
_HEREDOC = re.compile(r"^(\d*)<<(-?)([^<]*)$")


class DockerfileError(InvalidArgument):
    """The Dockerfile is wrong at `line` (1-based); the text says so in the words of Docker's builder."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"dockerfile parse error on line {line}: {reason}")
        self.line = line
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Heredoc:
    """One here-document: `content` as written (each line with its newline), leading tabs kept."""

    name: str
    expand: bool  # False when any part of the delimiter was quoted
    chomp: bool  # <<-: leading tabs do not count
    content: str

    def text(self) -> str:
        """The content as the program sees it: without leading tabs when it was written with ``<<-``."""
        if not self.chomp:
            return self.content
        return "".join(line.lstrip("\t") for line in self.content.splitlines(keepends=True))


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """One instruction: its text joined over continuations, and where it stands (1-based, inclusive)."""

    text: str
    line: int
    end: int
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A Dockerfile cut into logical lines."""

    lines: tuple[LogicalLine, ...]
    escape: str = "\\"
    syntax: str = ""
    check: str = ""
    directives: dict[str, str] = field(default_factory=dict)


def lex(data: bytes) -> Source:
    """Cut a Dockerfile into logical lines.

    A UTF-8 byte order mark is skipped, CRLF and LF both end lines, bytes that are not UTF-8 become U+FFFD (as in the
    JSON of the image).

    Raises:
        DockerfileError: too long, a bad or repeated directive, a here-document without its end, or no instruction.
    """
    if len(data) > MAX_SIZE:
        raise DockerfileError(1, f"the file is larger than {MAX_SIZE} bytes")
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    raw = text.split("\n")
    lines = [line.removesuffix("\r") for line in raw]
    directives = read_directives(lines)
    escape = directives.get("escape", "\\")
    logical = tuple(_join(lines, raw, escape))
    if not logical:
        raise DockerfileError(len(lines), "file with no instructions")
    return Source(logical, escape, directives.get("syntax", ""), directives.get("check", ""), directives)


def read_directives(lines: list[str]) -> dict[str, str]:
    """The parser directives: ``# name=value`` lines at the very top, before any other comment, blank or instruction."""
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.match(line.strip())
        name = match.group(1).lower() if match else ""
        if not match or name not in _DIRECTIVES:
            break
        if name in found:
            raise DockerfileError(number, f"only one {name} parser directive can be used")
        value = match.group(2)
        if name == "escape" and value not in ("\\", "`"):
            raise DockerfileError(number, f"invalid escape token '{value}' does not match ` or \\")
        found[name] = value
    return found


def _is_comment(line: str) -> bool:
    return line.lstrip(" \t").startswith("#")


def _continued(line: str, escape: str) -> tuple[str, bool]:
    """`line` without its continuation character, and whether it had one (an escaped escape is none)."""
    stripped = line.rstrip(" \t")
    if stripped.endswith(escape) and not stripped[:-1].endswith(escape):
        return stripped[:-1], True
    return line, False


def _join(lines: list[str], raw: list[str], escape: str) -> list[LogicalLine]:
    logical: list[LogicalLine] = []
    index = 0
    while index < len(lines):
        line = lines[index].lstrip()
        index += 1
        if not line or line.startswith("#"):
            continue
        start = index
        head, more = _continued(line, escape)
        parts = [head]
        while more and index < len(lines):
            line = lines[index]
            index += 1
            if not line.strip() or _is_comment(line):
                continue
            head, more = _continued(line, escape)
            parts.append(head)
        text = "".join(parts).strip()
        if not text:
            continue
        documents: list[Heredoc] = []
        if "<<" in text and may_have_heredoc(text):
            for name, expand, chomp in heredocs_of(text):
                end = _find_end(lines, index, start, name, chomp)
                content = "".join(line + "\n" for line in raw[index:end])
                index = end + 1
                documents.append(Heredoc(name, expand, chomp, content))
        logical.append(LogicalLine(text, start, index, tuple(documents)))
    return logical


def _find_end(lines: list[str], index: int, start: int, name: str, chomp: bool) -> int:
    """The index of the line that ends the here-document which begins at `index`."""
    for position in range(index, len(lines)):
        line = lines[position]
        if (line.lstrip("\t") if chomp else line) == name:
            return position
    raise DockerfileError(start, "unterminated heredoc")


def may_have_heredoc(text: str) -> bool:
    """Whether here-documents can follow the instruction: RUN, COPY, ADD (also after ONBUILD), not in JSON form."""
    keyword, _, rest = text.partition(" ")
    while keyword.lower() == "onbuild":
        keyword, _, rest = rest.strip().partition(" ")
    if keyword.lower() not in HEREDOC_KEYWORDS:
        return False
    rest = rest.strip()
    while rest.startswith("--"):
        rest = rest.partition(" ")[2].lstrip()
    return not is_json_list(rest)


def is_json_list(text: str) -> bool:
    """Whether `text` is a JSON list of strings, the exec form of an argument list."""
    if not text.startswith("["):
        return False
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def heredocs_of(text: str) -> list[tuple[str, bool, bool]]:
    """The here-documents announced on a line: (delimiter, expand, chomp), in order."""
    found = []
    for word in shell_words(text):
        document = parse_heredoc(word)
        if document:
            found.append(document)
    return found


def parse_heredoc(word: str) -> tuple[str, bool, bool] | None:
    """``<<EOF``, ``<<-EOF``, ``3<<"EOF"`` → (delimiter, expand, chomp); None for any other word."""
    match = _HEREDOC.match(word)
    if not match or not match.group(3):
        return None
    rest = match.group(3)
    name = re.sub(r"""['"]""", "", re.sub(r"\\(.)", r"\1", rest))
    if not name or any(character.isspace() for character in name):
        return None
    return name, name == rest, match.group(2) == "-"


def shell_words(text: str) -> list[str]:
    """`text` split at blanks outside quotes; quotes and escapes stay in the words."""
    words: list[str] = []
    word = ""
    quote = ""
    index = 0
    while index < len(text):
        character = text[index]
        if character == "\\" and quote != "'" and index + 1 < len(text):
            word += text[index : index + 2]
            index += 2
            continue
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character.isspace():
            if word:
                words.append(word)
            word = ""
            index += 1
            continue
        word += character
        index += 1
    if word:
        words.append(word)
    return words
