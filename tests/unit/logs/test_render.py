"""Bytes for the wire."""

import pytest

from scow.logs.entry import PIECE, Block
from scow.logs.render import Format

WHEN = 1_700_000_000_000_000_007
STAMP = b"2023-11-14T22:13:20.000000007Z "


def frame(stream, text):
    return bytes((stream, 0, 0, 0)) + len(text).to_bytes(4, "big") + text


def test_a_frame_a_line():
    assert Format().render(Block(WHEN, 1, b"a\n\nccc\n")) == frame(1, b"a\n") + frame(1, b"\n") + frame(1, b"ccc\n")
    assert Format().render(Block(WHEN, 2, b"half")) == frame(2, b"half")


def test_times_and_details_stand_before_each_line():
    form = Format(timestamps=True, details={"tag": "a b", "env": "x,y=z"})
    start = STAMP + b"env=x%2Cy%3Dz,tag=a+b "
    assert form.render(Block(WHEN, 2, b"a\nb\n")) == frame(2, start + b"a\n") + frame(2, start + b"b\n")


def test_a_terminal_has_no_frames():
    assert Format(raw=True).render(Block(WHEN, 1, b"a\nb\n")) == b"a\nb\n"
    assert Format(raw=True, timestamps=True).render(Block(WHEN, 1, b"a\nb\n")) == STAMP + b"a\n" + STAMP + b"b\n"
    assert Format(raw=True, timestamps=True).render(Block(WHEN, 1, b"half")) == STAMP + b"half"


@pytest.mark.parametrize("length", [PIECE - 1, PIECE, 5 * PIECE])
def test_long_lines_are_cut(length):
    data = b"x" * length + b"\n"
    found = Format().render(Block(WHEN, 1, b"a\n" + data))
    cut = [data[at : at + PIECE] for at in range(0, len(data), PIECE)]
    assert found == frame(1, b"a\n") + b"".join(frame(1, piece) for piece in cut)


def test_what_is_not_asked_for_renders_to_nothing():
    block = Block(WHEN, 1, b"a\n")
    assert Format(stdout=False).render(block) == b""
    assert Format(since_ns=WHEN + 1).render(block) == b""
    assert Format(until_ns=WHEN - 1).render(block) == b""
    assert Format(since_ns=WHEN, until_ns=WHEN).render(block) != b""
    assert Format(until_ns=WHEN - 1).over(block)
    assert not Format(until_ns=WHEN).over(block)
    assert Format(since_ns=0).shows(block)
