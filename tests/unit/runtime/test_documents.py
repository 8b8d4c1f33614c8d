"""The small JSON coder agrees with the standard library's."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scow.runtime import documents

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_what_is_dumped_is_json_and_comes_back(value):
    assert json.loads(documents.dump(value)) == value
    assert documents.parse(documents.dump(value)) == value
    assert documents.parse(json.dumps(value, indent=2, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize("data", [b"", b"{", b"[1,]", b"nul", b"{} {}", b"[" * 100_000, b"\xff", b'"a\nb"', b"{1: 2}"])
def test_what_is_not_json_is_a_value_error(data):
    with pytest.raises(ValueError):
        documents.parse(data)


def test_what_json_cannot_say_is_refused():
    with pytest.raises(TypeError):
        documents.dump({"x": b"bytes"})


def test_surrogates_survive():
    assert documents.parse(documents.dump({"x": "\udc80"})) == {"x": "\udc80"}
