"""JSON documents from outside: bounded parsing and typed fields.

Manifests, indexes, configs and layouts come from registries and archives; whatever is wrong with them ends as
`InvalidArgument` with a sentence that names the document and the field, never as a KeyError. Unknown fields are
ignored, as image-spec asks.
"""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from scow.errors import InvalidArgument

MAX_DOCUMENT = 4 << 20
"""Bytes of a manifest or index; distribution-spec 1.1 lets a registry refuse more."""

MAX_ITEMS = 10_000
"""Entries of any list or mapping inside a document."""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def load(data: bytes, what: str, limit: int = MAX_DOCUMENT) -> dict[str, Any]:
    """The JSON object in `data`, called `what` in error texts.

    Raises:
        InvalidArgument: longer than `limit` bytes, not UTF-8 JSON, nested too deep, or not an object.
    """
    found = load_any(data, what, limit)
    if not isinstance(found, dict):
        raise InvalidArgument(f"{what} is not a JSON object")
    return found


def load_any(data: bytes, what: str, limit: int = MAX_DOCUMENT) -> Any:
    """The JSON value in `data`, of any kind; errors as `load`."""
    if len(data) > limit:
        raise InvalidArgument(f"{what} is {len(data)} bytes, more than the {limit} allowed")
    try:
        return json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{what} is not valid JSON: {error}") from None


def dump(document: Mapping[str, Any] | list[Any]) -> bytes:
    """`document` as compact JSON, keys in the order given: equal documents give equal bytes, hence equal digests."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def text(document: Mapping[str, Any], key: str, what: str, default: str | None = None) -> str:
    """The string at `key`; `default` when it is missing or null (None: it is required)."""
    value = document.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise InvalidArgument(f"{what}: {key} must be a string")
    return value


def integer(document: Mapping[str, Any], key: str, what: str) -> int:
    """The whole number, zero or more and under 2⁶³, at `key`."""
    value = document.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise InvalidArgument(f"{what}: {key} must be a whole number of at least 0")
    return value


def mapping(document: Mapping[str, Any], key: str, what: str) -> dict[str, Any]:
    """The object at `key`; empty when missing or null."""
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > MAX_ITEMS:
        raise InvalidArgument(f"{what}: {key} must be an object of at most {MAX_ITEMS} entries")
    return value


def items(document: Mapping[str, Any], key: str, what: str) -> list[Any]:
    """The list at `key`; empty when missing or null."""
    value = document.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MAX_ITEMS:
        raise InvalidArgument(f"{what}: {key} must be a list of at most {MAX_ITEMS} entries")
    return value


def objects(document: Mapping[str, Any], key: str, what: str) -> list[dict[str, Any]]:
    """The list of objects at `key`; empty when missing or null."""
    found = items(document, key, what)
    if not all(isinstance(item, dict) for item in found):
        raise InvalidArgument(f"{what}: {key} must be a list of objects")
    return found


def strings(document: Mapping[str, Any], key: str, what: str) -> tuple[str, ...]:
    """The list of strings at `key`; empty when missing or null."""
    found = items(document, key, what)
    if not all(isinstance(item, str) for item in found):
        raise InvalidArgument(f"{what}: {key} must be a list of strings")
    return tuple(found)


def text_mapping(document: Mapping[str, Any], key: str, what: str) -> dict[str, str]:
    """The object of strings at `key`; empty when missing or null."""
    found = mapping(document, key, what)
    if not all(isinstance(value, str) for value in found.values()):
        raise InvalidArgument(f"{what}: {key} must be an object of strings")
    return found
