import pytest

from scow.containers import names
from scow.errors import InvalidArgument


def test_grammar():
    assert names.check("/web-1.a_b") == "web-1.a_b"
    for bad in ("", "a", "-a", "a b", "a/b", "//ab", "é1", "a" * 300, "ab\n"):
        with pytest.raises(InvalidArgument, match="Invalid container name"):
            names.check(bad)


def test_invented_names_are_valid_and_free():
    assert names.check(names.invent(lambda name: False))
    tries = []
    name = names.invent(lambda name: tries.append(name) or len(tries) < 8, choose=lambda words: words[0])
    assert name == "amber_albatross7"


def test_lists_have_no_doubles():
    assert len(set(names.ADJECTIVES)) == len(names.ADJECTIVES)
    assert len(set(names.NOUNS)) == len(names.NOUNS)
