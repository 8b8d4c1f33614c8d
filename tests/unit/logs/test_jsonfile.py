"""The bytes of Docker's log files."""

import json
from pathlib import Path

import pytest

from scow.logs.jsonfile import PIECE, JsonWriter

WHEN = 1_700_000_000_123_456_000


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


def lines(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_one_object_a_line_as_docker_writes_it(log):
    writer = JsonWriter(str(log), {}, {})
    writer.write(1, b'say "hi"\t\\n\n', WHEN)
    writer.write(2, b"oops\n", 1_700_000_001_000_000_000)
    writer.close()
    assert log.read_text() == (
        '{"log":"say \\"hi\\"\\u0009\\\\n\\n","stream":"stdout","time":"2023-11-14T22:13:20.123456Z"}\n'
        '{"log":"oops\\n","stream":"stderr","time":"2023-11-14T22:13:21Z"}\n'
    )


def test_attributes_stand_on_each_line(log):
    writer = JsonWriter(str(log), {}, {"tag": 'a"b', "app": "x\ny"})
    writer.write(1, b"one\ntwo\n", WHEN)
    writer.close()
    assert [each["attrs"] for each in lines(log)] == [{"app": "x\ny", "tag": 'a"b'}] * 2


def test_every_byte_becomes_valid_json(log):
    writer = JsonWriter(str(log), {}, {})
    text = bytes(range(256)).replace(b"\n", b"")
    writer.write(1, text + b"\n" + "日本".encode() + b"\n", WHEN)
    writer.close()
    assert [each["log"] for each in lines(log)] == [text.decode("utf-8", "replace") + "\n", "日本\n"]


@pytest.mark.parametrize("length", [PIECE - 1, PIECE, PIECE + 1, 100_000])
def test_long_lines_are_cut_whatever_their_surroundings(log, length):
    writer = JsonWriter(str(log), {}, {})
    writer.write(1, b"short\n" * 3000 + b"x" * length + b"\n" + b"short\n" * 3000, WHEN)
    writer.close()
    texts = [each["log"] for each in lines(log)]
    assert max(map(len, texts)) <= PIECE
    assert "".join(texts) == "short\n" * 3000 + "x" * length + "\n" + "short\n" * 3000


def test_a_line_waits_for_its_end_but_not_for_ever(log):
    writer = JsonWriter(str(log), {}, {})
    writer.write(1, b"to be ", WHEN)
    assert log.read_bytes() == b""
    writer.write(1, b"continued\n", WHEN)
    assert [each["log"] for each in lines(log)] == ["to be continued\n"]
    writer.write(1, b"y" * (PIECE + 5), WHEN)
    assert [len(each["log"]) for each in lines(log)] == [16, PIECE]
    writer.close()
    assert [len(each["log"]) for each in lines(log)] == [16, PIECE, 5]


def test_files_stay_within_their_size(tmp_path, log):
    writer = JsonWriter(str(log), {"max-size": "1k", "max-file": "3"}, {})
    writer.write(1, b"0123456789\n" * 200, WHEN)
    writer.write(1, b"z" * 3000 + b"\n", WHEN)
    writer.close()
    sizes = {path.name: path.stat().st_size for path in Path(tmp_path).iterdir()}
    assert sizes.keys() == {"log", "log.1", "log.2"}
    assert sizes["log"] > 3000, "a line longer than a file has one for itself"
    assert sizes["log.1"] <= 1000
