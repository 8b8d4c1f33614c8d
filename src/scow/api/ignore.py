"""Which files of a build context stay at home: ``.dockerignore`` as moby's patternmatcher reads it. Pure, standard
library.

Not gitignore: patterns are anchored at the root of the context, ``**`` spans folders, a pattern that matches a folder
covers everything below it, ``!`` takes paths back in, and the last pattern that applies wins. Used by the client,
which sends less for it.
"""

import posixpath
import re
from collections.abc import Sequence

from scow.errors import InvalidArgument

MAX_SIZE = 1 << 20
MAX_PATTERNS = 10_000


class Ignore:
    """The patterns of one file, in order."""

    def __init__(self, lines: Sequence[str]) -> None:
        """Compile `lines`; blank ones and comments are skipped.

        Raises:
            InvalidArgument: a malformed pattern, or too many.
        """
        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        self.returns = False  # some pattern takes paths back in
        for line in lines:
            text = "" if line.startswith("#") else line.strip()
            if not text:
                continue
            back = text.startswith("!")
            text = text[1:].strip() if back else text
            if not text:
                raise InvalidArgument('illegal exclusion pattern: "!"')
            text = posixpath.normpath(text)
            text = text.lstrip("/") if len(text) > 1 else text
            self._rules.append((back, _compiled(text, line)))
            self.returns = self.returns or back
        if len(self._rules) > MAX_PATTERNS:
            raise InvalidArgument(f"more than {MAX_PATTERNS} patterns in .dockerignore")

    def excludes(self, path: str) -> bool:
        """Whether `path` (relative, with slashes) stays out, by itself or by a folder above it."""
        parts = path.split("/")
        names = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        out = False
        for back, pattern in self._rules:
            if back == out and any(pattern.fullmatch(name) for name in names):
                out = not back
        return out


def parse(data: bytes) -> Ignore:
    """The content of a ``.dockerignore``.

    Raises:
        InvalidArgument: too large, or a malformed pattern.
    """
    if len(data) > MAX_SIZE:
        raise InvalidArgument(f"the .dockerignore file is larger than {MAX_SIZE} bytes")
    return Ignore(data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").splitlines())


def _compiled(text: str, line: str) -> re.Pattern[str]:
    try:
        return re.compile(_expression(text), re.DOTALL)
    except (re.error, IndexError):
        raise InvalidArgument(f"invalid pattern {line.strip()!r} in .dockerignore: syntax error in pattern") from None


def _expression(text: str) -> str:
    """A regular expression for the whole of a path."""
    out: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == "*" and text.startswith("*", at):
            at += 1
            if text.startswith("/", at):
                at += 1
            out.append(".*" if at >= len(text) else "(?:.*/)?")
        elif char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "\\":
            out.append(re.escape(text[at]))
            at += 1
        elif char == "[":
            end = _class_end(text, at)
            out.append(_class(text[at:end]))
            at = end + 1
        else:
            out.append(re.escape(char))
    return "".join(out)


def _class_end(text: str, at: int) -> int:
    """Where the bracket closes; IndexError when it does not."""
    first = at
    while True:
        if text[at] == "]" and at > first and text[first:at] != "^":
            return at
        at += 2 if text[at] == "\\" else 1


def _class(inside: str) -> str:
    """ "^a-c" → "[^a-c]" with everything but ranges and escapes taken as it is."""
    negated = inside.startswith("^")
    body = inside[1:] if negated else inside
    body = body.replace("[", "\\[").replace("&&", "&\\&").replace("||", "|\\|").replace("~~", "~\\~")
    return f"(?!/)[{'^' if negated else ''}{body}]"
