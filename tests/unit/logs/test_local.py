"""The local driver's files: framing, tearing, and containers that write frames themselves."""

import os

import pytest

from scow.errors import InvalidArgument
from scow.logs.entry import Stitcher
from scow.logs.local import FILE_HEADER, HEADER, LARGEST, OVERHEAD, Key, LocalWriter, previous, read_key, whole_length
from scow.logs.localfile import LocalFile

PLAIN = {"compress": "false"}


@pytest.fixture
def log(tmp_path):
    return str(tmp_path / "log")


def records(path):
    """(stream, flags, payload length) of every record, walking backward by the footers."""
    fd = os.open(path, os.O_RDONLY)
    try:
        key, at, found = read_key(fd), os.fstat(fd).st_size, []
        assert key is not None
        while at > FILE_HEADER:
            at = previous(fd, key, at)
            assert at >= FILE_HEADER
            length, stream, flags, _guard, _when = HEADER.unpack(os.pread(fd, HEADER.size, at))
            found.append((stream, flags, length))
        return found[::-1]
    finally:
        os.close(fd)


def test_one_record_a_chunk_with_a_mark_on_those_that_go_on(log):
    writer = LocalWriter(log, PLAIN)
    for stream, data in ((1, b"a\n"), (1, b"b"), (2, b"x\n"), (1, b"c\n"), (1, b"")):
        writer.write(stream, data, 5)
    writer.close()
    assert records(log) == [(1, 0, 2), (1, 0, 1), (2, 0, 2), (1, 1, 2)]
    assert os.path.getsize(log) == FILE_HEADER + 4 * OVERHEAD + 7


def test_chunks_are_cut_to_what_a_reader_will_hold(log):
    writer = LocalWriter(log, PLAIN)
    writer.write(1, b"x" * (2 * LARGEST + 1), 5)
    writer.close()
    assert records(log) == [(1, 0, LARGEST), (1, 1, LARGEST), (1, 1, 1)]


def test_a_container_cannot_forge_records(log):
    """Its bytes look like records with the right lengths, and the file is torn right behind them."""
    writer = LocalWriter(log, PLAIN)
    writer.write(1, b"before\n", 5)
    good = os.path.getsize(log)
    forged = HEADER.pack(4, 2, 0, 0, 99) + b"fake" + (4).to_bytes(4, "little")
    writer.write(1, forged * 100 + b"\n", 6)
    writer.close()
    for cut in range(good + HEADER.size, os.path.getsize(log), len(forged)):
        os.truncate(log, cut)
        fd = os.open(log, os.O_RDONLY)
        key = read_key(fd)
        assert whole_length(fd, key, cut) == good
        found = [block.data for batch in LocalFile(fd).batches(Stitcher()) for block in batch]
        assert found == [b"before\n"]
        os.close(fd)
        break
    LocalWriter(log, PLAIN).close()
    assert os.path.getsize(log) == good


def test_keys_differ_from_file_to_file(tmp_path):
    keys = set()
    for number in range(5):
        LocalWriter(str(tmp_path / str(number)), PLAIN).close()
        fd = os.open(tmp_path / str(number), os.O_RDONLY)
        key = read_key(fd)
        keys.add((key.length, key.guard))
        os.close(fd)
    assert len(keys) == 5


def test_files_of_another_kind_are_not_overwritten(log):
    with open(log, "wb") as file:
        file.write(b'{"log":"from another driver"}\n')
    with pytest.raises(InvalidArgument, match="not a log of the local driver"):
        LocalWriter(log, PLAIN)
    with open(log, "rb") as file:
        assert file.read() == b'{"log":"from another driver"}\n'


def test_a_symlink_is_not_followed(tmp_path, log):
    (tmp_path / "precious").write_text("data")
    os.symlink(tmp_path / "precious", log)
    with pytest.raises(OSError, match="symbolic"):
        LocalWriter(log, PLAIN)
    assert (tmp_path / "precious").read_text() == "data"


def test_lengths_beyond_reason_are_not_believed(log):
    writer = LocalWriter(log, PLAIN)
    writer.write(1, b"ok\n", 5)
    writer.close()
    fd = os.open(log, os.O_RDWR)
    key = read_key(fd)
    size = os.fstat(fd).st_size
    os.pwrite(fd, HEADER.pack(LARGEST + 1, 1, 0, key.guard, 7) + bytes(64), size)
    assert whole_length(fd, key, os.fstat(fd).st_size) == size
    assert previous(fd, Key(bytes(8)), size) == -1
    os.close(fd)
