"""Template text → literal pieces and lists of tokens, one list for each ``{{action}}``. Pure."""

from __future__ import annotations

from scow.cli.template_functions import TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LONGEST = 1 << 20
_SPACE = " \t\r\n"
_PUNCTUATION = {"|": "pipe", "(": "open", ")": "close", ",": "comma"}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


class Token:
    """One token. `joined` when nothing separates it from the one before (``$x.Name``)."""

    __slots__ = ("joined", "kind", "source", "text", "value")

    def __init__(self, kind: str, text: str, source: str, joined: bool, value: Any = None) -> None:
        self.kind = kind
        self.text = text
        self.source = source
        self.joined = joined
        self.value = value


def actions(text: str) -> list[str | list[Token]]:
    """The parts of a template, literal text already trimmed by ``{{-`` and ``-}}``; comments are gone.

    Raises:
        TemplateError: an action that does not end, or a character that cannot begin a token.
    """
    if len(text) > LONGEST:
        raise TemplateError("template: :1: the template is longer than a megabyte")
    parts: list[str | list[Token]] = []
    at = 0
    trim_next = False
    while True:
        start = text.find("{{", at)
        literal = text[at:] if start < 0 else text[at:start]
        if trim_next:
            literal = literal.lstrip(_SPACE)
        if start < 0:
            if literal:
                parts.append(literal)
            return parts
        at = start + 2
        if text[at : at + 1] == "-" and text[at + 1 : at + 2] in tuple(_SPACE):
            literal = literal.rstrip(_SPACE)
            at += 2
        if literal:
            parts.append(literal)
        tokens, at, trim_next = _action(text, at)
        if tokens is not None:
            parts.append(tokens)


def _action(text: str, at: int) -> tuple[list[Token] | None, int, bool]:
    """Tokens (None for a comment), where the text goes on, and whether blanks there are dropped."""
    if text.startswith("/*", at):
        end = text.find("*/", at)
        if end < 0:
            raise TemplateError("template: :1: unclosed comment")
        rest = end + 2
        trim = text[rest : rest + 2] == " -"
        rest += 2 * trim
        if not text.startswith("}}", rest):
            raise TemplateError("template: :1: comment ends before closing delimiter")
        return None, rest + 2, trim
    tokens: list[Token] = []
    blank = True
    while True:
        if at >= len(text):
            raise TemplateError("template: :1: unclosed action")
        if text.startswith("}}", at):
            return tokens, at + 2, False
        if text[at] in _SPACE:
            if text.startswith("-}}", at + 1):
                return tokens, at + 4, True
            at += 1
            blank = True
            continue
        token, at = _token(text, at, not blank)
        tokens.append(token)
        blank = False


def _token(text: str, at: int, joined: bool) -> tuple[Token, int]:
    char = text[at]
    if char in _PUNCTUATION:
        return Token(_PUNCTUATION[char], char, char, joined), at + 1
    if char in "\"`'":
        return _quoted(text, at, joined)
    if text.startswith(":=", at) or char == "=":
        sign = ":=" if char == ":" else "="
        return Token("assign", sign, sign, joined), at + len(sign)
    if char == "." and not (text[at + 1 : at + 2].isdigit()):
        end = _word_end(text, at + 1)
        if end == at + 1:
            return Token("dot", ".", ".", joined), end
        return Token("field", text[at + 1 : end], text[at:end], joined), end
    if char == "$":
        end = _word_end(text, at + 1)
        return Token("variable", text[at:end], text[at:end], joined), end
    if char.isdigit() or (char in "+-." and text[at + 1 : at + 2].isdigit()):
        return _number(text, at, joined)
    end = _word_end(text, at)
    if end == at:
        raise TemplateError(f"template: :1: unexpected {char!r} in command")
    return Token("word", text[at:end], text[at:end], joined), end


def _word_end(text: str, at: int) -> int:
    while at < len(text) and (text[at].isalnum() or text[at] == "_"):
        at += 1
    return at


def _number(text: str, at: int, joined: bool) -> tuple[Token, int]:
    end = at + 1
    while end < len(text) and (
        text[end].isalnum() or text[end] in "._" or (text[end] in "+-" and text[end - 1] in "eE")
    ):
        end += 1
    source = text[at:end]
    try:
        value: int | float = int(source, 0)
    except ValueError:
        try:
            value = float(source)
        except ValueError:
            raise TemplateError(f"template: :1: bad number syntax: {source!r}") from None
    return Token("number", source, source, joined, value), end


def _quoted(text: str, at: int, joined: bool) -> tuple[Token, int]:
    quote = text[at]
    end = at + 1
    out: list[str] = []
    while True:
        if end >= len(text) or (text[end] == "\n" and quote != "`"):
            name = {"'": "character constant", "`": "raw quoted string"}.get(quote, "quoted string")
            raise TemplateError(f"template: :1: unterminated {name}")
        char = text[end]
        if char == quote:
            break
        if char == "\\" and quote != "`":
            piece, end = _escape(text, end + 1)
            out.append(piece)
            continue
        out.append(char)
        end += 1
    value = "".join(out)
    source = text[at : end + 1]
    if quote == "'":
        if len(value) != 1:
            raise TemplateError(f"template: :1: malformed character constant: {source}")
        return Token("number", source, source, joined, ord(value)), end + 1
    return Token("string", value, source, joined, value), end + 1


def _escape(text: str, at: int) -> tuple[str, int]:
    char = text[at : at + 1]
    if char in _ESCAPES and char:
        return _ESCAPES[char], at + 1
    digits = {"x": 2, "u": 4, "U": 8}.get(char, 0)
    if digits:
        try:
            return chr(int(text[at + 1 : at + 1 + digits], 16)), at + 1 + digits
        except (ValueError, OverflowError):
            pass
    raise TemplateError("template: :1: invalid syntax in a quoted string")
