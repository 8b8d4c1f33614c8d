"""JSON ⇄ values for the command line's hot path.

The scanner inside CPython's ``json`` is used without the package around it: importing ``json`` costs 6 ms of a start
of 20 (it pulls in ``re`` and ``enum``). Where that inner module is missing or different, the package is used instead.

Invariants: object keys keep the order they were sent in; text is UTF-8, written as it is (no ``\\u`` escapes, no HTML
escapes).
"""

from __future__ import annotations

from scow.errors import System

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class _Rules:
    """What the C scanner asks its context for; the plain behaviour of ``json.loads``."""

    strict = False
    object_hook = None
    object_pairs_hook = None
    array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float

    def __init__(self) -> None:
        self.memo: dict[str, str] = {}


def _scanner() -> Callable[[str, int], tuple[Any, int]]:
    try:
        from _json import make_scanner

        return make_scanner(_Rules())  # type: ignore[arg-type]  # typeshed wants a whole JSONDecoder
    except (ImportError, AttributeError, TypeError):
        import json

        return json.JSONDecoder(strict=False).raw_decode


_scan = _scanner()


def loads(data: bytes | str) -> Any:
    """The value in `data`, which must hold exactly one.

    Raises:
        System: it is not JSON; a peer sent something else.
    """
    value, rest = scan_one(data.decode("utf-8", "replace") if isinstance(data, bytes) else data)
    if rest:
        raise System(f"the daemon sent text after a JSON value: {rest[:80]!r}")
    return value


def scan_one(text: str) -> tuple[Any, str]:
    """The first value in `text` and what follows it, white space removed.

    Raises:
        System: the text does not begin with a whole JSON value.
    """
    text = text.strip()
    try:
        value, end = _scan(text, 0)
    except (ValueError, StopIteration, RecursionError):
        raise System(f"the daemon sent no valid JSON: {text[:80]!r}") from None
    return value, text[end:].strip()


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
_TABLE = {code: f"\\u{code:04x}" for code in [*range(0x20), 0x2028, 0x2029]} | {ord(k): v for k, v in _ESCAPES.items()}


def _string(text: str) -> str:
    return f'"{text.translate(_TABLE)}"'


def number(value: int | float) -> str:
    """A number as Go writes it: 1.0 as ``1``, others in the shortest form that reads back equal."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return repr(value)


def dumps(value: Any, indent: str = "", level: str = "", sort: bool = False) -> str:
    """`value` as JSON text.

    Args:
        indent: one step of indentation; "" writes everything on one line without blanks, as Go does.
        sort: write the keys of objects in order.
    """
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int | float):
        return number(value)
    inner = level + indent
    if isinstance(value, dict):
        keys = sorted(value) if sort else list(value)
        colon = ": " if indent else ":"
        parts = [f"{_string(str(key))}{colon}{dumps(value[key], indent, inner, sort)}" for key in keys]
        return _wrap("{", "}", parts, indent, level)
    return _wrap("[", "]", [dumps(item, indent, inner, sort) for item in value], indent, level)


def _wrap(opening: str, closing: str, parts: list[str], indent: str, level: str) -> str:
    if not parts or not indent:
        return opening + ",".join(parts) + closing
    inner = f"\n{level}{indent}"
    return opening + inner + f",{inner}".join(parts) + f"\n{level}" + closing
