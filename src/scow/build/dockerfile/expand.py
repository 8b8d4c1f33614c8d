"""Variables, quotes and escapes in the words of a Dockerfile. Pure.

`word` gives one string for one word (ENV values, COPY paths), `words` may give several (EXPOSE $PORTS), `document`
expands the text of a here-document, where quotes mean nothing. The language is the Dockerfile reference's "Environment
replacement": ``$v ${v} ${v:-w} ${v-w} ${v:+w} ${v+w} ${v:?w} ${v?w} ${v#p} ${v##p} ${v%p} ${v%%p} ${v/p/w} ${v//p/w}``.
A result longer than `MAX_RESULT` is refused: ``ENV A=$A$A`` must not eat the daemon.
"""

from collections.abc import Mapping

from scow.api.glob import Text

#: Longest result of one expansion (characters).
MAX_RESULT = 1 << 20

#: Longest text a pattern is searched in, and longest pattern (characters): the search is quadratic.
MAX_SEARCHED = 16 << 10
MAX_PATTERN = 256

#: Deepest ``${a:-${b:-…}}``.
MAX_DEPTH = 50

_SPECIAL = frozenset("@*#?-$!0123456789")
_MODIFIERS = "+-?#%/"


class ExpansionError(ValueError):
    """The word cannot be expanded; the text is Docker's sentence."""


def word(text: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """`text` with variables replaced and quotes and escapes removed; never split.

    Raises:
        ExpansionError: an unfinished quote or brace, a ``${v:?w}`` whose variable is missing, too long a result.
    """
    return _Expander(text, variables, escape).run()


def words(text: str, variables: Mapping[str, str], escape: str = "\\") -> list[str]:
    """As `word`, but blanks outside quotes, also those that came out of a variable, separate the results."""
    expander = _Expander(text, variables, escape, split=True)
    expander.run()
    return expander.finished


def document(text: str, variables: Mapping[str, str]) -> str:
    """The text of a here-document: variables replaced, quotes kept; a backslash only protects ``$`` and itself."""
    return _Expander(text, variables, "\\", raw=True).run()


class _Expander:
    """One pass over one text; `finished` collects the words when splitting."""

    def __init__(
        self, text: str, variables: Mapping[str, str], escape: str, *, split: bool = False, raw: bool = False
    ) -> None:
        self.text = text
        self.variables = variables
        self.escape = escape
        self.split = split
        self.raw = raw
        self.position = 0
        self.size = 0
        self.depth = 0
        self.finished: list[str] = []
        self.current: list[str] = []
        self.started = False

    def run(self) -> str:
        whole = self.until("")
        if self.split:
            self._end_word()
        return whole

    def until(self, stop: str) -> str:
        """Expand up to the unquoted character `stop` (which is consumed), or to the end when it is empty."""
        result: list[str] = []
        while self.position < len(self.text):
            character = self.text[self.position]
            if stop and character == stop:
                self.position += 1
                return "".join(result)
            quoted = False
            if character == "$":
                piece = self._dollar()
            elif character == self.escape:
                piece, quoted = self._escaped(), True
            elif character in "'\"" and not self.raw:
                piece, quoted = (self._single() if character == "'" else self._double()), True
            else:
                piece = character
                self.position += 1
            self._count(piece)
            result.append(piece)
            if self.split and not stop:
                self._feed(piece, quoted)
        if stop:
            raise ExpansionError("syntax error: missing '}'" if stop == "}" else f"syntax error: missing '{stop}'")
        return "".join(result)

    def _count(self, piece: str) -> None:
        self.size += len(piece)
        if self.size > MAX_RESULT:
            raise ExpansionError(f"the expanded value is longer than {MAX_RESULT} characters")

    def _feed(self, piece: str, quoted: bool) -> None:
        if quoted:
            self.current.append(piece)
            self.started = True
            return
        for character in piece:
            if character.isspace():
                self._end_word()
            else:
                self.current.append(character)
                self.started = True

    def _end_word(self) -> None:
        if self.started:
            self.finished.append("".join(self.current))
        self.current = []
        self.started = False

    def _escaped(self) -> str:
        self.position += 1
        if self.position >= len(self.text):
            return self.escape if self.raw else ""
        character = self.text[self.position]
        self.position += 1
        if self.raw and character not in ("$", self.escape):
            return self.escape + character
        return character

    def _single(self) -> str:
        end = self.text.find("'", self.position + 1)
        if end < 0:
            raise ExpansionError("unexpected end of statement while looking for matching single-quote")
        piece = self.text[self.position + 1 : end]
        self.position = end + 1
        return piece

    def _double(self) -> str:
        self.position += 1
        result: list[str] = []
        while self.position < len(self.text):
            character = self.text[self.position]
            if character == '"':
                self.position += 1
                return "".join(result)
            if character == "$":
                result.append(self._dollar())
                self._count(result[-1])
                continue
            self.position += 1
            if character == self.escape and self.position < len(self.text):
                following = self.text[self.position]
                self.position += 1
                if following in ('"', "$", self.escape):
                    result.append(following)
                else:
                    result.append(character + following)
                continue
            result.append(character)
        raise ExpansionError("unexpected end of statement while looking for matching double-quote")

    def _dollar(self) -> str:
        self.position += 1
        if self.position >= len(self.text):
            return "$"
        if self.text[self.position] != "{":
            name = self._name()
            return self.variables.get(name, "") if name else "$"
        self.position += 1
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ExpansionError(f"substitutions are nested deeper than {MAX_DEPTH}")
        piece = self._braced()
        self.depth -= 1
        return piece

    def _name(self) -> str:
        start = self.position
        text = self.text
        first = text[start] if start < len(text) else ""
        if first.isascii() and (first.isalpha() or first == "_"):
            end = start + 1
            while end < len(text) and text[end].isascii() and (text[end].isalnum() or text[end] == "_"):
                end += 1
        elif first.isascii() and first.isdigit():
            end = start + 1
            while end < len(text) and text[end].isascii() and text[end].isdigit():
                end += 1
        elif first and first in _SPECIAL:
            end = start + 1
        else:
            return ""
        self.position = end
        return text[start:end]

    def _braced(self) -> str:
        if self.position >= len(self.text):
            raise ExpansionError("syntax error: missing '}'")
        if self.text[self.position] in "{}:":
            raise ExpansionError("syntax error: bad substitution")
        name = self._name()
        if not name:
            raise ExpansionError("syntax error: bad substitution")
        if self.position >= len(self.text):
            raise ExpansionError("syntax error: missing '}'")
        value = self.variables.get(name)
        modifier = self.text[self.position]
        self.position += 1
        if modifier == "}":
            return value or ""
        colon = modifier == ":"
        if colon:
            if self.position >= len(self.text):
                raise ExpansionError("syntax error: missing '}'")
            modifier = self.text[self.position]
            self.position += 1
        if modifier not in (_MODIFIERS[:3] if colon else _MODIFIERS):
            written = f":{modifier}" if colon else modifier
            raise ExpansionError(f"unsupported modifier ({written}) in substitution")
        if modifier in "+-?":
            return self._default(name, value, modifier, colon)
        return self._pattern(value or "", modifier)

    def _default(self, name: str, value: str | None, modifier: str, colon: bool) -> str:
        alternative = self.until("}")
        present = bool(value) if colon else value is not None
        if modifier == "+":
            return alternative if present else ""
        if present:
            return value or ""
        if modifier == "-":
            return alternative
        missing = "is not allowed to be empty" if colon else "is not allowed to be unset"
        raise ExpansionError(f"{name}: {alternative or missing}")

    def _pattern(self, value: str, modifier: str) -> str:
        twice = self.position < len(self.text) and self.text[self.position] == modifier
        if twice:
            self.position += 1
        if modifier == "/":
            pattern = self._pattern_until("/")
            replacement = self.until("}")
            return substitute(value, pattern, replacement, everywhere=twice)
        pattern = self._pattern_until("}")
        if modifier == "#":
            return without_prefix(value, pattern, longest=twice)
        return without_suffix(value, pattern, longest=twice)

    def _pattern_until(self, stop: str) -> str:
        """The pattern up to `stop`: variables are replaced, but escapes stay for the matcher."""
        result: list[str] = []
        while self.position < len(self.text):
            character = self.text[self.position]
            if character == stop:
                self.position += 1
                return "".join(result)
            if character == "$":
                result.append(self._dollar())
                self._count(result[-1])
                continue
            if character == self.escape and self.position + 1 < len(self.text):
                result.append("\\" + self.text[self.position + 1])
                self.position += 2
                continue
            result.append("\\\\" if character == "\\" else character)
            self.position += 1
        raise ExpansionError("syntax error: missing '}'" if stop == "}" else "syntax error: missing '/' in ${}")


# ---- patterns: * any text, ? one character, \c that character ---------------------------------------


def _compile(pattern: str) -> list[str]:
    """A pattern as items: "*" and "?" for the two signs, "=c" for the character c."""
    if len(pattern) > MAX_PATTERN:
        raise ExpansionError(f"the pattern is longer than {MAX_PATTERN} characters")
    items: list[str] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if character == "\\" and position + 1 < len(pattern):
            position += 1
            items.append("=" + pattern[position])
        else:
            items.append(character if character in "*?" else "=" + character)
        position += 1
    return items


def _ends(items: list[str], text: Text, start: int) -> int:
    """Where a match that begins at `start` can end, as a set of positions (see ``api.glob``; here / is a letter)."""
    ends = 1 << start
    for item in items:
        if item == "*":
            ends = (text.everything << 1 | 1) & ~((ends & -ends) - 1)
        elif item == "?":
            ends = (ends & text.everything) << 1
        else:
            ends = (ends & text.masks.get(item[1], 0)) << 1
        if not ends:
            return 0
    return ends


def _searchable(value: str) -> Text:
    if len(value) > MAX_SEARCHED:
        raise ExpansionError(f"a value of more than {MAX_SEARCHED} characters cannot be searched by a pattern")
    return Text.of(value)


def without_prefix(value: str, pattern: str, longest: bool) -> str:
    """``${value#pattern}``, or ``##`` when `longest`."""
    ends = _ends(_compile(pattern), _searchable(value), 0)
    if not ends:
        return value
    return value[(ends.bit_length() if longest else (ends & -ends).bit_length()) - 1 :]


def without_suffix(value: str, pattern: str, longest: bool) -> str:
    """``${value%pattern}``, or ``%%`` when `longest`."""
    ends = _ends(_compile(pattern)[::-1], _searchable(value[::-1]), 0)
    if not ends:
        return value
    return value[: len(value) - ((ends.bit_length() if longest else (ends & -ends).bit_length()) - 1)]


def substitute(value: str, pattern: str, replacement: str, everywhere: bool) -> str:
    """``${value/pattern/replacement}``: the first longest match replaced, or every one; "" matches nothing."""
    items = _compile(pattern)
    if not items:
        return value
    text = _searchable(value)
    result: list[str] = []
    position = 0
    size = 0
    while position < len(value):
        end = _ends(items, text, position).bit_length() - 1
        if end <= position:
            result.append(value[position])
            position += 1
            continue
        result.append(replacement)
        size += len(replacement)
        if size > MAX_RESULT:
            raise ExpansionError(f"the expanded value is longer than {MAX_RESULT} characters")
        position = end
        if not everywhere:
            break
    return "".join(result) + value[position:]
