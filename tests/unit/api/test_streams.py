"""Frames survive being cut anywhere, and rubbish is told from frames."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scow.api.streams import MAX_FRAME, Decoder, encode, header
from scow.errors import InvalidArgument

pieces = st.lists(st.tuples(st.sampled_from([1, 2, 3]), st.binary(min_size=1, max_size=40)), max_size=8)


@given(pieces, st.integers(min_value=1, max_value=17))
def test_frames_cut_anywhere_come_out_whole(frames, step):
    wire = b"".join(encode(stream, data) for stream, data in frames)
    decoder = Decoder()
    out: list[tuple[int, bytes]] = []
    for start in range(0, len(wire), step):
        out += decoder.feed(wire[start : start + step])
    joined = [(stream, data) for stream, data in out]
    assert b"".join(bytes([stream]) * len(data) for stream, data in joined) == b"".join(
        bytes([stream]) * len(data) for stream, data in frames
    )
    assert b"".join(data for _, data in joined) == b"".join(data for _, data in frames)
    assert decoder.complete


def test_a_large_frame_is_handed_on_as_it_comes():
    decoder = Decoder()
    assert decoder.feed(header(1, 10) + b"abc") == [(1, b"abc")]
    assert not decoder.complete
    assert decoder.feed(b"defghij") == [(1, b"defghij")]
    assert decoder.complete


def test_empty_frames_say_nothing():
    assert Decoder().feed(encode(1, b"") + encode(2, b"x")) == [(2, b"x")]


@pytest.mark.parametrize("wire", [b"hello world", b"\x01\x00\x01\x00\x00\x00\x00\x01x", header(1, MAX_FRAME + 1)])
def test_what_is_no_frame_is_refused(wire):
    with pytest.raises(InvalidArgument, match="unrecognized stream"):
        Decoder().feed(wire)
