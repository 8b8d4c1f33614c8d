import pytest
from hypothesis import given
from hypothesis import strategies as st

from scow.containers.detach import DEFAULT, Watch, parse
from scow.errors import InvalidArgument


def test_parse():
    assert parse("") == DEFAULT == parse("ctrl-p,ctrl-q")
    assert parse("a,ctrl-[,ctrl-@") == b"a\x1b\x00"


@pytest.mark.parametrize("text", ["ab", "ctrl-", "ctrl-A", "ctrl-1", "a,,b", "é", "shift-x", "\n"])
def test_parse_refuses(text):
    with pytest.raises(InvalidArgument, match="Unknown character"):
        parse(text)


def test_sequence_across_reads():
    watch = Watch(DEFAULT)
    assert watch.feed(b"ls\x10") == (b"ls", False)
    assert watch.feed(b"\x11rest") == (b"", True)


def test_a_beginning_that_goes_on_otherwise_is_passed_on():
    watch = Watch(DEFAULT)
    assert watch.feed(b"\x10") == (b"", False)
    assert watch.feed(b"x\x10\x10\x11") == (b"\x10x\x10", True)
    assert Watch(b"aab").feed(b"aaab") == (b"a", True)


@given(st.binary(max_size=60), st.binary(min_size=1, max_size=4), st.integers(1, 7))
def test_like_a_search_in_the_whole(data, keys, step):
    watch, out, found = Watch(keys), b"", False
    for start in range(0, len(data), step):
        piece, found = watch.feed(data[start : start + step])
        out += piece
        if found:
            break
    where = data.find(keys)
    assert found is (where >= 0)
    assert out + (b"" if found else watch.rest()) == (data[:where] if found else data)
