"""The json-file driver against json.dumps, line by line: any bytes, cut anywhere, in files of any size."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator

from hypothesis import example, given, settings
from hypothesis import strategies as st

from scow.logs.driver import LogConfig, open_writer
from scow.logs.entry import PIECE
from scow.logs.reader import LogReader

WHEN = 1_700_000_000_123_456_789

TEXT = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from([b"\n", b"\n\n", b'"\\', b"\\n", b"\xe2\x82", b"\xf0\x9f\x98", b"\x00\x1f\x7f", b"x" * PIECE]),
    st.integers(PIECE - 2, 2 * PIECE + 2).map(lambda length: b"y" * length),
)


def go_text(data: bytes) -> str:
    """UTF-8 as Go reads it: a byte that begins no whole character is U+FFFD, and only that byte."""
    found = []
    at = 0
    while at < len(data):
        for length in (1, 2, 3, 4):
            try:
                found.append(data[at : at + length].decode())
            except UnicodeDecodeError:
                continue
            at += length
            break
        else:
            found.append("\ufffd")
            at += 1
    return "".join(found)


def pieces(data: bytes) -> Iterator[bytes]:
    """What Docker makes an entry of: lines with their newline, long ones in parts."""
    for line in data.split(b"\n"):
        rest = line + b"\n"
        while len(rest) > PIECE:
            yield rest[:PIECE]
            rest = rest[PIECE:]
        yield rest


@settings(max_examples=150, deadline=None)
@given(
    st.lists(TEXT, max_size=12), st.sampled_from([0, 700, 40_000]), st.dictionaries(st.text(), st.text(), max_size=2)
)
@example([b"a" * PIECE, b"\n"], 0, {})
@example([b"\xe2\x82", b"\xac\n"], 0, {"a\nb": '"'})
def test_entries_are_what_json_dumps_makes(chunks: list[bytes], size: int, attributes: dict[str, str]) -> None:
    attributes = {name.encode("utf-8", "replace").decode(): value for name, value in attributes.items()}
    folder = tempfile.mkdtemp()
    try:
        options = {"max-size": str(size), "max-file": "999"} if size else {}
        config = LogConfig("json-file", os.path.join(folder, "log"), options, attributes)
        writer = open_writer(config)
        for chunk in chunks:
            writer.write(1, chunk, WHEN)
        writer.close()
        names = sorted(os.listdir(folder), key=lambda name: int(name.partition(".")[2] or 0), reverse=True)
        lines = []
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                lines += [json.loads(line) for line in file]
        data = b"".join(chunks)
        wanted = [go_text(piece) for piece in pieces(data)]
        wanted[-1] = wanted[-1][:-1]  # the last line has no newline
        wanted = [text for text in wanted if text]
        assert [line["log"] for line in lines] == wanted
        more = {"attrs": attributes} if attributes else {}
        assert all(
            {name: value for name, value in line.items() if name != "log"}
            == {"stream": "stdout", "time": "2023-11-14T22:13:20.123456789Z", **more}
            for line in lines
        )
        with LogReader(config) as reader:
            assert b"".join(entry.data for entry in reader.read()) == "".join(wanted).encode()
    finally:
        shutil.rmtree(folder)
