"""Which files of a build context take no part: ``.dockerignore`` with the meaning moby's patternmatcher gives it. Pure.

The client leaves such files out of what it sends, the builder out of what it takes. Not gitignore: patterns are
anchored at the context's root, ``**`` spans folders, a pattern that matches a folder excludes everything below it,
``!`` takes paths back in, and the last pattern that applies wins.
"""

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scow.api.glob import Item, PatternError, Text, compile_pattern, matches
from scow.errors import InvalidArgument

#: Bytes of an ignore file and patterns in it.
MAX_SIZE = 1 << 20
MAX_PATTERNS = 10_000


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line: `negated` for ``!``; `literal` when there are no wildcards, else the compiled `items`."""

    text: str
    negated: bool
    literal: bool
    items: tuple[Item, ...]
    suffix: str  # literal end every match has: a cheap first test

    def covers(self, path: str, text: "Text | None") -> bool:
        """Whether the pattern matches exactly `path` (`text` is the same path prepared)."""
        if self.literal:
            return path == self.text
        if self.suffix and not path.endswith(self.suffix):
            return False
        return matches(self.items, text or Text.of(path))


class Ignore:
    """The patterns of one ignore file, or of ``--exclude`` flags."""

    def __init__(self, patterns: Iterable[Pattern] = ()) -> None:
        self.patterns = tuple(patterns)
        self._negations = any(pattern.negated for pattern in self.patterns)

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def excluded(self, path: str) -> bool:
        """Whether `path` (relative, slashes, no leading one) is left out, by itself or through a folder above it.

        moby's ``MatchesOrParentMatches``.
        """
        if not self.patterns or path in ("", "."):
            return False
        parts = path.split("/")
        prefixes = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        texts: list[Text | None] = [None] * len(prefixes)
        excluded = False
        for pattern in self.patterns:
            if pattern.negated != excluded:
                continue  # it could only say again what is already so
            if self._applies(pattern, prefixes, texts):
                excluded = not pattern.negated
        return excluded

    @staticmethod
    def _applies(pattern: Pattern, prefixes: Sequence[str], texts: list["Text | None"]) -> bool:
        for position in range(len(prefixes) - 1, -1, -1):
            if not pattern.literal and texts[position] is None:
                texts[position] = Text.of(prefixes[position])
            if pattern.covers(prefixes[position], texts[position]):
                return True
        return False

    @property
    def returns(self) -> bool:
        """Whether some pattern takes paths back in."""
        return self._negations

    def prunes(self, folder: str) -> bool:
        """Whether nothing below the excluded `folder` can come back in, so it need not be walked."""
        return self.excluded(folder) and not self._negations


def parse(data: bytes) -> Ignore:
    """The content of an ignore file.

    Raises:
        InvalidArgument: too large, or a malformed pattern (the text names it).
    """
    if len(data) > MAX_SIZE:
        raise InvalidArgument(f"the .dockerignore file is larger than {MAX_SIZE} bytes")
    lines = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").splitlines()
    return patterns(line for line in lines if not line.startswith("#"))


def patterns(lines: Iterable[str]) -> Ignore:
    """Patterns as written, one a string; empty ones are skipped.

    Raises:
        InvalidArgument: malformed, or too many.
    """
    found = [pattern for pattern in map(_pattern, lines) if pattern]
    if len(found) > MAX_PATTERNS:
        raise InvalidArgument(f"more than {MAX_PATTERNS} ignore patterns")
    return Ignore(found)


def _pattern(line: str) -> Pattern | None:
    text = line.strip()
    if not text:
        return None
    negated = text.startswith("!")
    if negated:
        text = text[1:].strip()
        if not text:
            raise InvalidArgument('illegal exclusion pattern: "!"')
    text = posixpath.normpath(text)
    text = text.lstrip("/") if len(text) > 1 else text
    try:
        items = compile_pattern(text, deep=True)
    except PatternError as error:
        raise InvalidArgument(f"invalid pattern {line.strip()!r} in .dockerignore: {error}") from None
    literal = all(isinstance(item, str) and item.startswith("=") for item in items)
    if literal:
        text = "".join(str(item)[1:] for item in items)
    return Pattern(text, negated, literal, items, _suffix(items))


def _suffix(items: Sequence[Item]) -> str:
    end: list[str] = []
    for item in reversed(items):
        if not isinstance(item, str) or not item.startswith("="):
            break
        end.append(item[1:])
    return "".join(reversed(end))
