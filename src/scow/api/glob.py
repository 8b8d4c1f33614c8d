"""Glob patterns matched in time linear in pattern times text, whatever a hostile pattern looks like. Pure.

A match is computed as a set of text positions kept in one integer (bit n: "n characters are consumed"); every pattern
item maps the set to the next one with a few integer operations. There is no backtracking, hence no exponential case,
which Python's ``re`` would have.

Three dialects use it: Go's ``filepath.Match`` (COPY sources), moby's patternmatcher (.dockerignore: ``**`` as well),
and the patterns of ``${v#p}``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

#: Longest pattern (characters).
MAX_PATTERN = 1024

STAR = "*"  # any characters but "/"
ANY = "?"  # one character but "/"
DEEP = "**"  # nothing, or anything that ends in "/"
TAIL = "**$"  # anything to the end


class PatternError(ValueError):
    """The pattern is not well formed ("syntax error in pattern", Go's words) or too long."""


@dataclass(frozen=True, slots=True)
class Class:
    """``[a-z]`` or ``[^a-z]``: ranges of characters, both ends included."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool

    def has(self, character: str) -> bool:
        return any(low <= character <= high for low, high in self.ranges) != self.negated


Item = str | Class  # STAR, ANY, DEEP, TAIL, "=c" for the character c, or a Class


@dataclass(frozen=True, slots=True)
class Text:
    """A text prepared for matching: for each character, the set of positions where it stands."""

    value: str
    masks: Mapping[str, int]

    @classmethod
    def of(cls, value: str) -> "Text":
        masks: dict[str, int] = {}
        bit = 1
        for character in value:
            masks[character] = masks.get(character, 0) | bit
            bit <<= 1
        return cls(value, masks)

    @property
    def everything(self) -> int:
        return (1 << len(self.value)) - 1


def step(item: Item, ends: int, text: Text) -> int:
    """The positions reachable from `ends` by matching `item` once."""
    slash = text.masks.get("/", 0)
    if isinstance(item, Class):
        allowed = 0
        for character, mask in text.masks.items():
            if character != "/" and item.has(character):
                allowed |= mask
        return (ends & allowed) << 1
    if item == STAR:
        others = text.everything & ~slash
        # adding carries every set bit through its run of non-slashes: the run's bits flip, which xor makes visible
        return (((ends & others) + others) ^ others) | ends
    if item == ANY:
        return (ends & text.everything & ~slash) << 1
    if item == DEEP:
        lowest = ends & -ends
        return ends | ((slash & ~(lowest - 1)) << 1)
    if item == TAIL:
        return 1 << len(text.value)
    return (ends & text.masks.get(item[1], 0)) << 1


def matches(items: Sequence[Item], text: Text) -> bool:
    """Whether the pattern covers the whole text."""
    ends = 1
    for item in items:
        ends = step(item, ends, text)
        if not ends:
            return False
    return bool(ends >> len(text.value) & 1)


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str, deep: bool = False) -> tuple[Item, ...]:
    """A pattern as items; with `deep`, ``**`` has moby's meaning, else it is two stars.

    Raises:
        PatternError: an open ``[``, a trailing backslash, or too long.
    """
    if len(pattern) > MAX_PATTERN:
        raise PatternError(f"pattern is longer than {MAX_PATTERN} characters")
    items: list[Item] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*":
            stars = 1
            while position < len(pattern) and pattern[position] == "*":
                stars += 1
                position += 1
            if deep and stars > 1:
                if position < len(pattern) and pattern[position] == "/":
                    position += 1
                items.append(TAIL if position == len(pattern) else DEEP)
            else:
                items.append(STAR)
        elif character == "?":
            items.append(ANY)
        elif character == "[":
            found, position = _class(pattern, position)
            items.append(found)
        else:
            if character == "\\":
                if position == len(pattern):
                    raise PatternError("syntax error in pattern")
                character = pattern[position]
                position += 1
            items.append("=" + character)
    return tuple(items)


def _class(pattern: str, position: int) -> tuple[Class, int]:
    """The character class that begins after the ``[`` before `position`, and where it ends."""
    negated = pattern.startswith("^", position)
    position += negated
    ranges: list[tuple[str, str]] = []
    while True:
        if pattern.startswith("]", position) and ranges:
            return Class(tuple(ranges), negated), position + 1
        low, position = _member(pattern, position)
        high = low
        if pattern.startswith("-", position):
            high, position = _member(pattern, position + 1)
        ranges.append((low, high))


def _member(pattern: str, position: int) -> tuple[str, int]:
    if position >= len(pattern) or pattern[position] in "-]":
        raise PatternError("syntax error in pattern")
    if pattern[position] == "\\":
        position += 1
        if position >= len(pattern):
            raise PatternError("syntax error in pattern")
    if position + 1 >= len(pattern):
        raise PatternError("syntax error in pattern")
    return pattern[position], position + 1


def has_wildcards(path: str) -> bool:
    """Whether a COPY source is a pattern (Go's ``ContainsWildcards``): an unescaped ``*``, ``?`` or ``[``."""
    position = 0
    while position < len(path):
        if path[position] == "\\":
            position += 1
        elif path[position] in "*?[":
            return True
        position += 1
    return False


def file_match(pattern: str, name: str) -> bool:
    """Go's ``filepath.Match``: `pattern` covers all of `name`; ``*`` and ``?`` never match a slash.

    Raises:
        PatternError: malformed pattern.
    """
    return matches(compile_pattern(pattern), Text.of(name))
