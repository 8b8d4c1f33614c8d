"""JSON from outside, and JSON that becomes a digest."""

import pytest

from scow.errors import InvalidArgument
from scow.oci import document


def test_equal_documents_have_equal_bytes() -> None:
    assert document.dump({"b": 1, "a": "é"}) == '{"b":1,"a":"é"}'.encode()


def test_errors_name_the_document_and_the_field() -> None:
    with pytest.raises(InvalidArgument, match="the thing is not valid JSON"):
        document.load(b"{", "the thing")
    with pytest.raises(InvalidArgument, match="the thing: size must be a whole number"):
        document.integer({"size": 1.5}, "size", "the thing")
    with pytest.raises(InvalidArgument, match="more than the 3 allowed"):
        document.load(b"{   }", "the thing", 3)


def test_lists_are_bounded() -> None:
    with pytest.raises(InvalidArgument, match="at most"):
        document.items({"x": [0] * 20_000}, "x", "the thing")
