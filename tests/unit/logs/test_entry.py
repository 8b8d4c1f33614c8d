"""Lines out of chunks, entries out of lines."""

import pytest

from scow.logs.entry import PIECE, Block, Stitcher, pieces


def feed(*chunks):
    stitcher = Stitcher()
    found = []
    for index, (stream, data, continues) in enumerate(chunks):
        found += [(block.time_ns, block.stream, block.data) for block in stitcher.feed(index, stream, data, continues)]
    rest = [(block.time_ns, block.stream, block.data) for block in stitcher.flush()]
    assert stitcher.flush() == []
    return found, rest


def test_whole_lines_pass_through_in_one_block():
    assert feed((1, b"a\nb\n", False)) == ([(0, 1, b"a\nb\n")], [])


def test_a_line_has_the_time_of_its_end():
    assert feed((1, b"a", False), (2, b"x\n", False), (1, b"b\n", True)) == ([(1, 2, b"x\n"), (2, 1, b"ab\n")], [])


def test_what_is_not_gone_on_with_stands_alone():
    assert feed((1, b"a", False), (1, b"b\n", False)) == ([(0, 1, b"a"), (1, 1, b"b\n")], [])


def test_unfinished_lines_are_told_at_the_end_in_order_of_time():
    assert feed((2, b"x\ny", False), (1, b"z", False)) == ([(0, 2, b"x\n")], [(0, 2, b"y"), (1, 1, b"z")])


def test_a_line_without_end_does_not_pile_up():
    found, rest = feed(*[(1, b"a" * 10_000, True)] * 10)
    assert [len(data) for _time, _stream, data in found] == [PIECE] * 6
    assert [len(data) for _time, _stream, data in rest] == [100_000 - 6 * PIECE]


@pytest.mark.parametrize("length", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
def test_pieces(length):
    data = b"a" * length + b"\n" + b"b\n"
    found = list(pieces(data))
    assert b"".join(found) == data
    assert max(map(len, found)) <= PIECE
    assert found[-1] == b"b\n"
    assert len(found) == 2 + length // PIECE


def test_counting_and_cutting_blocks():
    block = Block(7, 1, b"a\n\nc\n")
    assert block.lines() == 3
    assert [block.last(count).data for count in (1, 2, 3, 4)] == [b"c\n", b"\nc\n", b"a\n\nc\n", b"a\n\nc\n"]
    assert Block(7, 1, b"half").lines() == 1
    assert [(entry.data, entry.partial) for entry in Block(7, 2, b"a\nb").entries()] == [(b"a\n", False), (b"b", True)]
