"""Readers: several at once, and files they leave open (the rest is the drivers' contract)."""

import os
import select
import shutil

import pytest

from scow.logs.driver import LogConfig, open_writer
from scow.logs.reader import LogReader
from scow.logs.render import Format


@pytest.fixture
def config(tmp_path):
    return LogConfig("local", str(tmp_path / "log"), {"max-size": "4k", "max-file": "5", "compress": "false"})


def fill(config, count=500):
    writer = open_writer(config)
    for number in range(count):
        writer.write(1, b"line %d\n" % number, number)
    return writer


def test_readers_leave_no_descriptors(config):
    fill(config).close()
    before = len(os.listdir("/proc/self/fd"))
    for tail in (None, 0, 3, 10_000):
        with LogReader(config) as reader:
            list(reader.read(tail=tail))
            reader.follow().close()
    with LogReader(config) as reader:
        iterator = reader.blocks()
        next(iterator)
        iterator.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_two_followers_each_see_everything(config):
    writer = fill(config, 5)
    with LogReader(config) as first, LogReader(config) as second:
        list(second.blocks(tail=0, finished=False))
        with first.follow() as one, second.follow() as two:
            writer.write(2, b"new\n", 99)
            assert [entry.data for entry in one.entries()][-1] == b"new\n"
            assert [entry.data for entry in two.entries()] == [b"new\n"]
    writer.close()


def test_rendering_stops_at_until(config):
    fill(config, 20).close()
    with LogReader(config) as reader:
        text = b"".join(reader.render(Format(raw=True, since_ns=3, until_ns=5)))
    assert text == b"line 3\nline 4\nline 5\n"


def test_a_follower_says_when_to_ask_again(config):
    writer = fill(config, 3)
    with LogReader(config) as reader, reader.follow() as follower:
        assert follower.render(Format(stdout=False)) == (b"", True)
        assert follower.render(Format(stdout=False)) == (b"", False)
        assert not select.select([follower], [], [], 0)[0]
    writer.close()


def test_a_folder_that_is_gone_reads_as_empty(tmp_path):
    with LogReader(LogConfig("local", str(tmp_path / "gone" / "log"))) as reader:
        assert list(reader.read()) == []
        with pytest.raises(FileNotFoundError):
            reader.follow()


@pytest.mark.parametrize("tail", [None, 0, 10])
@pytest.mark.parametrize("driver", ["local", "json-file"])
def test_a_writer_that_is_faster_does_not_keep_a_reader_for_ever(tmp_path, driver, tail):
    config = LogConfig(driver, str(tmp_path / "log"), {"max-size": "1g"})
    writer = fill(config, 10)

    class Chased(LogReader):
        """Whenever it has taken something, there is more."""

        def _up_to_now(self, file):
            for batch in super()._up_to_now(file):
                for _ in range(20):
                    writer.write(1, b"x" * 100_000 + b"\n", 99)
                yield batch

    with Chased(config) as reader:
        assert len(list(reader.read(tail=tail))) <= 30
    writer.close()


def test_a_log_that_is_removed_while_it_is_read_ends_whole(config, tmp_path):
    writer = fill(config, 3)
    with LogReader(config) as reader:
        list(reader.blocks(finished=False))
        writer.write(1, b"last words", 99)
        writer.close()
        shutil.rmtree(tmp_path)
        with pytest.raises(FileNotFoundError):
            reader.follow()
        assert b"".join(block.data for block in reader.rest()) == b"last words"
