"""Files moving up, being compressed, and being told apart."""

import fcntl
import gzip
import os

import pytest

from scow.logs.options import Limits
from scow.logs.rotate import Rotation, compress_old, folder_lock, open_parts


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "log")


def put(path, **files):
    for name, text in files.items():
        suffix = name[1:].replace("_", ".")
        data = gzip.compress(text) if suffix.endswith("gz") else text
        with open(f"{path}.{suffix}" if suffix else path, "wb") as file:
            file.write(data)


def names(path):
    return sorted(os.listdir(os.path.dirname(path)))


def compress(path, count):
    token = os.open("/dev/null", os.O_RDONLY)
    compress_old(path, count, token)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.close(token)


def contents(parts):
    try:
        return [os.pread(part.plain(), 1 << 16, 0) for part in parts]
    finally:
        for part in parts:
            part.close()


def test_files_move_up_and_the_oldest_goes(path):
    put(path, n=b"new", n1=b"one", n2_gz=b"two", n3_gz=b"three")
    Rotation(path, Limits(1, 4, False)).rotate()
    assert names(path) == ["log.1", "log.2", "log.3.gz"]
    assert contents(open_parts(path)) == [b"two", b"one", b"new"]


def test_a_rotation_killed_on_its_way_costs_nothing(path):
    put(path, n=b"new", n1=b"one", n3_gz=b"three", n4=b"four")
    assert contents(open_parts(path)) == [b"four", b"three", b"one", b"new"]
    Rotation(path, Limits(1, 9, False)).rotate()
    assert names(path) == ["log.1", "log.2", "log.3.gz", "log.4"]
    assert contents(open_parts(path)) == [b"four", b"three", b"one", b"new"]


def test_a_single_file_is_dropped(path):
    put(path, n=b"new")
    Rotation(path, Limits(1, 1, False)).rotate()
    assert names(path) == []
    Rotation(path, Limits(1, 1, False)).rotate()


def test_compressing_keeps_content_and_time(path):
    put(path, n=b"new", n1=b"one" * 1000, n2=b"two")
    os.utime(f"{path}.1", ns=(1, 123_456_789_000_000_000))
    compress(path, 4)
    assert names(path) == ["log", "log.1.gz", "log.2.gz"]
    assert os.stat(f"{path}.1.gz").st_mtime_ns == 123_456_789_000_000_000
    assert contents(open_parts(path)) == [b"two", b"one" * 1000, b"new"]


def test_half_done_compressions_are_finished(path):
    put(path, n=b"new", n1=b"one", n1_gz=b"one")
    assert contents(open_parts(path)) == [b"one", b"new"]
    compress(path, 4)
    assert names(path) == ["log", "log.1.gz"]


def test_only_newer_files_also_when_the_known_one_was_compressed(path):
    put(path, n=b"new", n1=b"one", n2=b"two", n3=b"three")
    known = os.open(f"{path}.2", os.O_RDONLY)
    assert contents(open_parts(path, known)) == [b"one", b"new"]
    compress(path, 5)
    assert contents(open_parts(path, known)) == [b"one", b"new"]
    os.close(known)
    newest = os.open(path, os.O_RDONLY)
    assert open_parts(path, newest) == []
    os.close(newest)


def test_the_moment_without_a_newest_file_is_no_end(path):
    put(path, n1=b"one", n2=b"two")
    assert contents(open_parts(path)) == [b"two", b"one"]


def test_a_damaged_compressed_file_is_read_as_far_as_it_goes(path):
    text = os.urandom(100_000)
    put(path, n=b"new", n1_gz=text)
    os.truncate(f"{path}.1.gz", 50_000)
    first, last = contents(open_parts(path))
    assert last == b"new"
    assert text.startswith(first)
    assert first


def test_readers_do_not_keep_each_other_out_but_a_writer_does(path):
    with folder_lock(path, exclusive=False), folder_lock(path, exclusive=False):
        pass
    with folder_lock(path, exclusive=True):
        fd = os.open(os.path.dirname(path), os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.close(fd)
