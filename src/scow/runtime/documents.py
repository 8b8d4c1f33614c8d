"""JSON beside the container: the standard library's own C coder without the module around it.

``json`` imports ``re`` and with it a dozen modules, which every shim would carry for as long as its container runs. The
coder underneath (``_json``) needs none of them. Text is UTF-8; numbers, nesting and errors are as in ``json``.
"""

from __future__ import annotations

import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Any


class _Rules:
    """What the scanner wants to know; see ``json.decoder.JSONDecoder``."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


def _refuse(value: object) -> object:
    raise TypeError(f"not JSON: {value!r}")


_rules: Any = _Rules()
_scan = _json.make_scanner(_rules)
_iterencode = _json.make_encoder(None, _refuse, _json.encode_basestring_ascii, None, ": ", ", ", False, False, True)


def parse(data: bytes) -> Any:
    """The value written in `data`.

    Raises:
        ValueError: not JSON, or more than one value.
    """
    text = data.decode().strip()
    try:
        value, end = _scan(text, 0)
    except StopIteration as error:
        raise ValueError(f"not JSON at character {error.value}") from None
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None
    if end != len(text):
        raise ValueError(f"more than one JSON value: the second begins at character {end}")
    return value


def dump(value: Any) -> bytes:
    """`value` (dicts with string keys, lists, text, numbers, booleans, None) as JSON."""
    return "".join(_iterencode(value, 0)).encode()


def load(path: str | os.PathLike[str]) -> Any:
    """The value in the file at `path`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: not JSON.
    """
    with open(path, "rb") as file:
        return parse(file.read())
