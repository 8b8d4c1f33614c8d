"""Finding the last lines of a local log file from its end."""

import os

import pytest

from scow.logs.entry import Stitcher
from scow.logs.local import FILE_HEADER, LocalWriter
from scow.logs.localfile import LocalFile


@pytest.fixture
def opened(tmp_path):
    fds = []

    def write(*chunks):
        path = str(tmp_path / "log")
        writer = LocalWriter(path, {"compress": "false"})
        for stream, data in chunks:
            writer.write(stream, data, 1)
        writer.close()
        fds.append(os.open(path, os.O_RDWR))
        return LocalFile(fds[-1]), fds[-1]

    yield write
    for fd in fds:
        os.close(fd)


def text(file):
    stitcher = Stitcher()
    found = [block for batch in file.batches(stitcher) for block in batch] + stitcher.flush()
    return b"|".join(block.data for block in found)


def test_it_stops_at_the_first_record_that_is_enough(opened):
    file, _fd = opened(*[(1, b"%d\n" % number) for number in range(10)])
    assert file.seek_last(3, {}) == 3
    assert text(file) == b"7\n|8\n|9\n"


def test_it_goes_on_to_where_the_lines_of_both_streams_begin(opened):
    file, _fd = opened((1, b"early\n"), (2, b"be"), (1, b"one\n"), (2, b"gun\n"), (1, b"two\n"))
    assert file.seek_last(1, {}) == 1
    assert text(file) == b"two\n"
    streams = {}
    assert file.seek_last(2, streams) == 3
    assert text(file) == b"one\n|begun\n|two\n"
    assert streams == {1: False, 2: False}


def test_what_was_begun_in_an_older_file_is_told(opened):
    file, _fd = opened((1, b"a\n"))
    streams = {2: True}
    assert file.seek_last(0, streams) == 1
    assert streams == {1: False, 2: True}
    assert file.offset == FILE_HEADER


def test_a_torn_end_means_reading_everything(opened):
    file, fd = opened((1, b"a\n"), (1, b"b\n"))
    os.ftruncate(fd, os.fstat(fd).st_size - 1)
    assert file.seek_last(1, {}) == 0
    assert text(file) == b"a\n"


def test_an_empty_file_holds_nothing_until_it_does(tmp_path):
    path = str(tmp_path / "log")
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    file = LocalFile(fd)
    assert text(file) == b""
    assert file.seek_last(5, {}) == 0
    writer = LocalWriter(path, {"compress": "false"})
    writer.write(1, b"late\n", 1)
    writer.close()
    assert text(file) == b"late\n"
    os.close(fd)
