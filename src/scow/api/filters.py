"""The ``filters`` parameter of list, prune and events: JSON text ⇄ a mapping of keys to values.

Two forms are on the wire: ``{"key": ["value"]}`` and, from clients before API 1.22, ``{"key": {"value": true}}``.
Standard library only: the CLI imports this.
"""

import json
from collections.abc import Collection, Iterator, Mapping

from scow.errors import InvalidArgument

#: Longest filter text taken (a bound, not a limit anyone meets).
MAX_TEXT = 1 << 20

TRUE = ("1", "true", "True", "t", "T", "TRUE")
FALSE = ("0", "false", "False", "f", "F", "FALSE")


class Filters(Mapping[str, tuple[str, ...]]):
    """Filter key → values, in the order given. Values of one key are alternatives; keys must all be met."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Collection[str]] | None = None) -> None:
        self._values = {key: tuple(items) for key, items in (values or {}).items()}

    @classmethod
    def parse(cls, text: str, allowed: Collection[str] | None = None) -> "Filters":
        """Read the parameter; empty text is no filters.

        Raises:
            InvalidArgument: not JSON of one of the two forms, or a key that is not in `allowed`.
        """
        if not text:
            return cls()
        if len(text) > MAX_TEXT:
            raise InvalidArgument("invalid filter: the text is longer than a megabyte")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise InvalidArgument(f"invalid filter: not JSON: {text[:100]!r}") from None
        if not isinstance(value, dict):
            raise InvalidArgument('invalid filter: expected an object like {"key": ["value"]}')
        filters = cls({key: _values(key, items) for key, items in value.items()})
        if allowed is not None:
            filters.require(allowed)
        return filters

    def require(self, allowed: Collection[str]) -> None:
        """Raise `InvalidArgument` for the first key that is not in `allowed`."""
        for key in self._values:
            if key not in allowed:
                raise InvalidArgument(f"invalid filter '{key}'")

    def __getitem__(self, key: str) -> tuple[str, ...]:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def to_json(self) -> str:
        """The parameter as text, in the present form."""
        return json.dumps({key: list(values) for key, values in self._values.items()})

    def boolean(self, key: str, default: bool) -> bool:
        """The one truth value of `key`.

        Raises:
            InvalidArgument: several that contradict each other, or a word that is neither.
        """
        values = self._values.get(key, ())
        if not values:
            return default
        if all(value in TRUE for value in values):
            return True
        if all(value in FALSE for value in values):
            return False
        raise InvalidArgument(f"invalid filter '{key}={list(values)}'")

    def exact(self, key: str, value: str) -> bool:
        """Whether `key` is absent or one of its values is `value`."""
        values = self._values.get(key, ())
        return not values or value in values

    def beginning(self, key: str, value: str) -> bool:
        """Whether `key` is absent or `value` begins with one of its values."""
        values = self._values.get(key, ())
        return not values or any(value.startswith(item) for item in values)

    def pattern(self, key: str, value: str) -> bool:
        """Whether `key` is absent or one of its values, as a regular expression, is found in `value`.

        A value that is not a regular expression must equal `value`.
        """
        values = self._values.get(key, ())
        return not values or any(_found(item, value) for item in values)

    def labels(self, labels: Mapping[str, str], key: str = "label") -> bool:
        """Whether `labels` has every ``name`` or ``name=value`` wanted by `key` and none unwanted by ``key!``."""
        wanted = self._values.get(key, ())
        unwanted = self._values.get(f"{key}!", ())
        return all(_has(labels, item) for item in wanted) and not any(_has(labels, item) for item in unwanted)


def _values(key: str, items: object) -> tuple[str, ...]:
    if isinstance(items, dict):
        return tuple(str(name) for name, on in items.items() if on)
    if isinstance(items, list) and all(isinstance(item, str) for item in items):
        return tuple(items)
    if items is None:
        return ()
    raise InvalidArgument(f"invalid filter '{key}': expected a list of words")


def _has(labels: Mapping[str, str], wanted: str) -> bool:
    name, has_value, value = wanted.partition("=")
    return name in labels and (not has_value or labels[name] == value)


def _found(pattern: str, value: str) -> bool:
    if pattern == value:
        return True
    import re  # costs the CLI 14 ms when it does not filter

    if len(pattern) > 256:  # patterns come from outside; long ones only serve to burn time
        return False
    try:
        return re.search(pattern, value) is not None
    except (re.error, RecursionError):
        return False
