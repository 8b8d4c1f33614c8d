"""Reading json-file logs that others wrote, too."""

import os

import pytest

from scow.logs.entry import Stitcher
from scow.logs.jsonlines import JsonFile

SECOND = 1_000_000_000


def blocks(tmp_path, text, **attributes):
    (tmp_path / "log").write_bytes(text)
    fd = os.open(tmp_path / "log", os.O_RDONLY)
    try:
        file = JsonFile(fd)
        found = [(block.time_ns, block.stream, block.data) for batch in file.batches(Stitcher()) for block in batch]
        assert file.offset == text.rfind(b"\n") + 1
        return found
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("line", "data"),
    [
        (rb'{"log":"a\n","stream":"stdout","time":"2023-11-14T22:13:20Z"}', b"a\n"),
        (rb'{"log":"a\u003cb\u003e\u0026\n","stream":"stdout","time":"2023-11-14T22:13:20Z"}', b"a<b>&\n"),
        (rb'{"log":"tab\there\r\n","stream":"stdout","time":"2023-11-14T22:13:20.000000000Z"}', b"tab\there\r\n"),
        (rb'{"log":"x\n","stream":"stdout","attrs":{"tag":"t"},"time":"2023-11-14T22:13:20Z"}', b"x\n"),
        (rb'{"stream":"stdout","time":"2023-11-14T22:13:20Z","log":"order\n"}', b"order\n"),
        (rb'{"log":"\\n","stream":"stdout","time":"2023-11-14T22:13:20Z"}', b"\\n"),
        (rb'{"log":"half","stream":"stdout","time":"2023-11-14T22:13:20Z"}', b"half"),
        (rb'{ "log" : "spaced\n" , "stream" : "stdout", "time" : "2023-11-14T22:13:20Z" }', b"spaced\n"),
    ],
)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_spellings(tmp_path, line, data, count):
    found = blocks(tmp_path, (line + b"\n") * count)
    assert b"".join(text for _time, _stream, text in found) == data * count
    assert {(time, stream) for time, stream, _text in found} == {(1_700_000_000 * SECOND, 1)}


def test_runs_end_where_stream_or_time_change(tmp_path):
    def line(text, stream, second):
        return b'{"log":"%s\\n","stream":"%s","time":"2023-11-14T22:13:%02d.5Z"}\n' % (text, stream, second)

    text = b"".join(
        line(b"%d" % number, b"stdout" if number % 7 < 5 else b"stderr", 20 + number // 3) for number in range(60)
    )
    found = [
        (time, stream, each) for time, stream, data in blocks(tmp_path, text) for each in data.splitlines(keepends=True)
    ]
    base = 1_700_000_000 * SECOND + SECOND // 2
    wanted = [(base + number // 3 * SECOND, 1 + (number % 7 >= 5), b"%d\n" % number) for number in range(60)]
    assert found == wanted


def test_lines_that_are_no_entries_are_left_out(tmp_path):
    good = b'{"log":"a\\n","stream":"stdout","time":"2023-11-14T22:13:20Z"}\n'
    bad = [
        b"",
        b"{}",
        b"null",
        b"[1]",
        b'{"log":5,"stream":"stdout","time":"x"}',
        b"\xff\xfe",
        b'{"log":"a',
        b"\0" * 90,
    ]
    found = blocks(tmp_path, good.join(each + b"\n" for each in bad) + good)
    assert b"".join(text for _time, _stream, text in found) == b"a\n" * len(bad)


def test_a_torn_line_is_left_for_later(tmp_path):
    good = b'{"log":"a\\n","stream":"stderr","time":"2023-11-14T22:13:20Z"}\n'
    assert len(blocks(tmp_path, good + good[:30])) == 1


def test_times_that_cannot_be_read_take_the_last_one(tmp_path):
    text = b""
    for time in (b"2023-11-14T22:13:20.000000001Z", b"yesterday", b"20x3-11-14T22:13:20Z"):
        text += b'{"log":"a\\n","stream":"stdout","time":"%s"}\n' % time
    base = 1_700_000_000 * SECOND
    assert [time for time, _stream, _text in blocks(tmp_path, text)] == [base + 1, base, base]


@pytest.mark.parametrize("lines", [0, 1, 2, 9, 10, 11])
@pytest.mark.parametrize("torn", [b"", b'{"log":"torn'])
def test_seeking_the_last_lines(tmp_path, lines, torn):
    whole = b"".join(b'{"log":"%d\\n","stream":"stdout","time":"2023-11-14T22:13:20Z"}\n' % n for n in range(10))
    (tmp_path / "log").write_bytes(whole + torn)
    fd = os.open(tmp_path / "log", os.O_RDONLY)
    file = JsonFile(fd)
    assert file.seek_last(lines, {}) == min(lines, 10)
    assert whole[file.offset :].count(b"\n") == min(lines, 10)
    os.close(fd)
