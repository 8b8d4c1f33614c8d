import pytest

from scow.api.filters import Filters
from scow.errors import InvalidArgument


def test_both_forms_mean_the_same():
    assert dict(Filters.parse('{"label": ["a=b"]}')) == {"label": ("a=b",)}
    assert dict(Filters.parse('{"label": {"a=b": true, "c": false}}')) == {"label": ("a=b",)}
    assert not Filters.parse("")


@pytest.mark.parametrize("text", ["{", "[]", '"x"', '{"a": 1}', '{"a": [1]}', "[" * 100_000])
def test_nonsense_is_refused(text):
    with pytest.raises(InvalidArgument, match="invalid filter"):
        Filters.parse(text)


def test_unknown_key_is_named():
    with pytest.raises(InvalidArgument, match="invalid filter 'colour'"):
        Filters.parse('{"colour": ["red"]}', allowed={"label"})


def test_truth_values():
    assert Filters({"dangling": ["1"]}).boolean("dangling", False) is True
    assert Filters({"dangling": ["false"]}).boolean("dangling", True) is False
    assert Filters().boolean("dangling", True) is True
    with pytest.raises(InvalidArgument, match="dangling"):
        Filters({"dangling": ["maybe"]}).boolean("dangling", True)
    with pytest.raises(InvalidArgument):
        Filters({"dangling": ["1", "0"]}).boolean("dangling", True)


def test_matching():
    filters = Filters({"name": ["^web", "("], "label": ["a", "b=1"], "id": ["abc"]})
    assert filters.pattern("name", "web1")
    assert not filters.pattern("name", "my-web")
    assert filters.pattern("name", "(")
    assert filters.labels({"a": "", "b": "1"})
    assert not filters.labels({"a": "", "b": "2"})
    assert filters.beginning("id", "abcdef")
    assert not filters.exact("id", "abcdef")
    assert filters.exact("absent", "anything")
    assert not Filters({"label!": ["keep"]}).labels({"keep": "yes"})


def test_json_round_trip():
    filters = Filters({"a": ["b", "c"]})
    assert Filters.parse(filters.to_json()) == filters
