"""JSON from outside becomes values or one sentence."""

import msgspec
import pytest

from scow.api.decode import decode, parse_json
from scow.errors import InvalidArgument


class Thing(msgspec.Struct):
    name: str = ""
    more: dict[str, object] = {}


def test_nulls_are_what_was_not_given() -> None:
    assert decode(b'{"name": null, "more": {"a": null, "b": [null]}}', Thing) == Thing("", {"b": [None]})
    assert decode(b"  ", Thing) == Thing()


@pytest.mark.parametrize("depth", [500, 990, 5000])
def test_deep_nesting_is_the_callers_mistake(depth: int) -> None:
    for data in (b'{"a":' * depth + b"1" + b"}" * depth, b'{"more":' + b"[" * depth + b"]" * depth + b"}"):
        try:
            assert isinstance(decode(data, Thing), Thing)
        except InvalidArgument as error:
            assert "nested too deeply" in str(error) or "more" in str(error)  # noqa: PT017


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(InvalidArgument, match=r"at `\$.name`"):
        decode(b'{"name": 5}', Thing)
    with pytest.raises(InvalidArgument, match="invalid JSON in request body"):
        parse_json(b"{")
