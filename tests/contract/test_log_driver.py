"""One suite for every log driver that keeps something: what is written is read back, in whatever way files end."""

import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scow.logs.driver import LogConfig, open_writer
from scow.logs.entry import PIECE
from scow.logs.reader import LogReader
from scow.logs.render import Format
from scow.logs.rotate import remove_files

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


@pytest.fixture(params=["local", "json-file"])
def config(request, tmp_path):
    return LogConfig(request.param, str(tmp_path / "log"))


def limited(config, size="10k", files="3", compress="false"):
    return LogConfig(config.driver, config.path, {"max-size": size, "max-file": files, "compress": compress})


def write(config, *chunks, close=True):
    """Write (stream, data) or (stream, data, time); times count up by a second."""
    writer = open_writer(config)
    for index, (stream, data, *when) in enumerate(chunks):
        writer.write(stream, data, when[0] if when else START + index * SECOND)
    if close:
        writer.close()
    return writer


def read(config, **how):
    with LogReader(config) as reader:
        return [(entry.stream, entry.data) for entry in reader.read(**how)]


def numbered(first, last):
    return [(1, b"line %06d\n" % number) for number in range(first, last)]


# ── lines ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_lines_come_back_with_their_stream_and_time(config):
    write(config, (1, b"one\ntwo\n"), (2, b"oops\n"), (1, b"three\n"))
    with LogReader(config) as reader:
        found = [(entry.time_ns - START, entry.stream, entry.data, entry.partial) for entry in reader.read()]
    assert found == [
        (0, 1, b"one\n", False),
        (0, 1, b"two\n", False),
        (SECOND, 2, b"oops\n", False),
        (2 * SECOND, 1, b"three\n", False),
    ]


def test_a_log_nobody_wrote_is_empty(config):
    assert read(config) == []
    assert read(config, tail=5) == []
    write(config)
    assert read(config) == []
    assert read(config, tail=5) == []


def test_lines_cut_into_chunks_are_whole_again_and_streams_do_not_mix(config):
    write(config, (1, b"a"), (2, b"x"), (1, b"b\nc"), (2, b"y\n"), (1, b"\n"))
    assert read(config) == [(1, b"ab\n"), (2, b"xy\n"), (1, b"c\n")]


def test_an_unfinished_last_line_is_kept_and_marked(config):
    write(config, (1, b"done\nnot yet"), (2, b"$ "))
    with LogReader(config) as reader:
        found = [(entry.data, entry.partial) for entry in reader.read()]
    assert found == [(b"done\n", False), (b"not yet", True), (b"$ ", True)]


def test_long_lines_come_in_pieces_of_16_kib(config):
    text = b"0123456789" * 5000
    write(config, (1, text[:30000]), (1, text[30000:] + b"\nnext\n"), (1, text + b"\n"))
    with LogReader(config) as reader:
        found = [(len(entry.data), entry.partial) for entry in reader.read()]
    one = [(PIECE, True)] * 3 + [(50000 - 3 * PIECE + 1, False)]
    assert found == [*one, (5, False), *one]


@pytest.mark.parametrize(
    "text",
    [
        b'quotes " and \\ backslashes \\n \\\\n \\" end',
        b"tab\t bell\x07 escape\x1b[31mred\x1b[0m null\x00 return\r end",
        "Grüße — 日本語 😀".encode(),
        b'{"log":"x\\n","stream":"stderr","time":"2020-01-01T00:00:00Z"}',
        b"SCOWLOG1" + bytes(24),
        b"",
        b"\\",
        b'"',
        b"\x7f\x80\xff"[:1],
    ],
)
def test_any_text_survives(config, text):
    write(config, (1, text + b"\n" + text + b"\n"), (2, text + b"\nplain\n" * 3))
    assert read(config)[:2] == [(1, text + b"\n")] * 2
    assert read(config, tail=1) == [(2, b"plain\n")]
    assert b"".join(data for _stream, data in read(config)) == (text + b"\n") * 2 + text + b"\nplain\n" * 3


def test_time_never_runs_backwards(config):
    write(config, (1, b"a\n", START + 5), (1, b"b\n", START))
    with LogReader(config) as reader:
        assert [entry.time_ns for entry in reader.read()] == [START + 5, START + 5]


# ── choosing ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("tail", [0, 1, 2, 3, 7, 19, 20, 21, 1000])
def test_the_last_lines(config, tail):
    chance = random.Random(tail)
    lines = [(chance.choice((1, 2)), b"%d %s\n" % (number, b"x" * chance.randrange(200))) for number in range(20)]
    write(config, *lines)
    assert read(config, tail=tail) == lines[len(lines) - min(tail, 20) :]


@pytest.mark.parametrize("seed", range(10))
def test_the_last_lines_are_what_the_whole_ends_with_however_it_was_cut(config, seed):
    chance = random.Random(seed)
    chunks = []
    for _ in range(300):
        length = chance.choice((1, 1, 10, 200, 5000, 40000 if seed % 3 == 0 else 3))
        density = chance.choice((0, 0.01, 0.3))
        chunks.append((chance.choice((1, 1, 2)), bytes(10 if chance.random() < density else 97 for _ in range(length))))
    # Both streams end their lines: unfinished ones are told last, whenever they were begun.
    write(limited(config, "200k", "4") if seed % 2 else config, *chunks, (1, b"\n"), (2, b"\n"))
    everything = read(config)
    for tail in (1, 2, 5, 50, 500):
        wanted = everything[-tail:]
        found = read(config, tail=tail)
        # In the oldest file a line may have lost its beginning: then pieces count from another place.
        assert found == wanted or len(everything) <= tail + 8, tail


def test_streams_and_times(config):
    write(config, *[(1 + number % 2, b"%d\n" % number) for number in range(10)])
    assert [data for _stream, data in read(config, stderr=False)] == [b"0\n", b"2\n", b"4\n", b"6\n", b"8\n"]
    assert read(config, stdout=False, tail=3) == [(2, b"7\n"), (2, b"9\n")]
    between = read(config, since_ns=START + 3 * SECOND, until_ns=START + 5 * SECOND)
    assert [data for _stream, data in between] == [b"3\n", b"4\n", b"5\n"]
    assert read(config, since_ns=START + 100 * SECOND) == []


def test_reading_the_tail_does_not_read_the_rest(config, monkeypatch):
    write(config, *[(1, b"x" * 99 + b"\n" * 1)] * 50_000)
    size = os.path.getsize(config.path)
    seen = 0
    original = os.pread

    def counting(fd, length, offset):
        nonlocal seen
        data = original(fd, length, offset)
        seen += len(data)
        return data

    monkeypatch.setattr(os, "pread", counting)
    assert len(read(config, tail=10)) == 10
    assert size > 5_000_000
    assert seen < size * 0.7


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_second_writer_goes_on(config):
    write(config, (1, b"first\nhalf"))
    write(config, (1, b"other half\n", START + 60 * SECOND))
    assert read(config) == [(1, b"first\n"), (1, b"half"), (1, b"other half\n")]


def test_every_torn_end_is_survived(config):
    write(config, (1, b"one\n"), (2, b"two\n"))
    whole = Path(config.path).read_bytes()
    write(config, (1, b"three\n", START + 60 * SECOND))
    longer = Path(config.path).read_bytes()
    before = [(1, b"one\n"), (2, b"two\n")]
    for end in range(len(whole), len(longer)):
        Path(config.path).write_bytes(longer[:end])
        assert read(config) == before, end
        assert read(config, tail=1) == before[-1:], end
        write(config, (1, b"four\n", START + 90 * SECOND))
        assert read(config) == [*before, (1, b"four\n")], end
    for end in range(len(whole)):
        Path(config.path).write_bytes(whole[:end])
        write(config, (1, b"four\n", START + 90 * SECOND))
        assert read(config)[-1] == (1, b"four\n"), end
        assert len(read(config)) <= 2, end


def test_garbage_at_the_end_does_not_hide_what_was_before(config):
    write(config, (1, b"one\n"))
    with open(config.path, "ab") as file:
        file.write(bytes(range(256)) * 3)
    assert read(config)[0] == (1, b"one\n")


def test_rotation_keeps_the_newest_files_and_reads_as_one(config):
    few = limited(config, "10k", "3")
    write(few, *numbered(0, 5000))
    names = sorted(os.listdir(os.path.dirname(config.path)))
    assert names == ["log", "log.1", "log.2"]
    assert all(os.path.getsize(os.path.join(os.path.dirname(config.path), name)) <= 10_000 for name in names)
    found = read(few)
    assert found == numbered(5000 - len(found), 5000)
    assert len(found) > 200
    assert read(few, tail=250) == found[-250:]
    assert read(few, tail=len(found)) == found
    assert read(few, tail=1) == found[-1:]


def test_rotation_with_a_single_file(config):
    one = limited(config, "10k", "1")
    write(one, *numbered(0, 3000))
    assert os.listdir(os.path.dirname(config.path)) == ["log"]
    found = read(one)
    assert found == numbered(3000 - len(found), 3000)


def test_a_line_across_files_is_one_line(config):
    few = limited(config, "4k", "5")
    write(few, *[(1, b"0123456789" * 20) for _ in range(50)], (1, b"\n"))
    assert b"".join(data for _stream, data in read(few)) == b"0123456789" * 1000 + b"\n"
    assert read(few, tail=1)[0][1][-1:] == b"\n"


def test_old_files_are_compressed_and_read_all_the_same(config):
    few = limited(config, "20k", "4", "true")
    writer = open_writer(few)
    for index, (stream, data) in enumerate(numbered(0, 2500)):
        writer.write(stream, data, START + index)
    wait_for_children()
    writer.close()
    folder = os.path.dirname(config.path)
    names = sorted(os.listdir(folder))
    assert [name for name in names if name.endswith(".gz")]
    assert not [name for name in names if name + ".gz" in names]
    found = read(few)
    assert found == numbered(2500 - len(found), 2500)
    assert len(found) > 400
    assert read(few, tail=600) == found[-600:]


def children():
    """The processes this one has to reap."""
    with open("/proc/thread-self/children") as file:
        return set(map(int, file.read().split()))


#: Those of other tests (an engine that serves the whole session): not for us to wait for.
foreign = set()


@pytest.fixture(autouse=True)
def _know_foreign_children():
    foreign.clear()
    foreign.update(children())


def wait_for_children():
    for pid in children() - foreign:
        os.waitpid(pid, 0)


def test_a_full_disk_costs_lines_but_not_the_container(config):
    full = LogConfig(config.driver, "/dev/full")
    if config.driver == "json-file":
        writer = open_writer(full)
        writer.write(1, b"lost\n", START)
        assert writer.dropped == 5
        writer.close()
    writer = open_writer(config)
    writer.write(1, b"kept\n", START)
    limit_file_size(writer, config.path)
    wait_for_children()
    assert read(config)[0] == (1, b"kept\n")
    assert any(b"bytes of output were lost here" in data for _stream, data in read(config))
    assert read(config)[-1] == (1, b"later\n")


def limit_file_size(writer, path):
    """In a child: let the file grow by 100 bytes, fail, then by more."""
    import resource

    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path) + 100, resource.RLIM_INFINITY))
            for _ in range(10):
                writer.write(1, b"x" * 50 + b"\n", START)
            assert writer.dropped > 0
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            writer.write(1, b"later\n", START)
            writer.close()
        finally:
            os._exit(0)
    writer.close()


KILLED = """
import sys, time
sys.path.insert(0, sys.argv[3])
from scow.logs.driver import LogConfig, open_writer
writer = open_writer(LogConfig(sys.argv[1], sys.argv[2], {"max-size": "1m", "max-file": "5", "compress": "false"}))
number = int(sys.argv[4])
while True:
    text = b"".join(b"line %d\\n" % (number + index) for index in range(500))
    writer.write(1, text, time.time_ns())
    number += 500
"""


def test_nothing_written_is_lost_when_the_writer_is_killed(config):
    few = limited(config, "1m", "5")
    sources = os.path.dirname(os.path.dirname(sys.modules["scow"].__file__))
    number = 0
    for _round in range(3):
        command = [sys.executable, "-I", "-S", "-c", KILLED, config.driver, config.path, sources, str(number)]
        with subprocess.Popen(command) as process:
            with_follower(few, number + 2000)
            process.kill()
        found = [int(data.split()[1]) for _stream, data in read(few)]
        assert found == list(range(found[0], found[-1] + 1))
        number = found[-1] + 1
    assert read(few, tail=3)[-1] == (1, b"line %d\n" % (number - 1))


def with_follower(config, until):
    """Return once a line with a number beyond `until` has been seen."""
    with LogReader(config) as reader:
        assert list(reader.blocks(tail=0, finished=False)) == []
        with reader.follow() as follower:
            while True:
                for entry in follower.entries():
                    if int(entry.data.split()[1]) > until:
                        return
                select.select([follower], [], [], 10)


# ── following ───────────────────────────────────────────────────────────────────────────────────────────────────────


def drain(follower):
    found = []
    while entries := follower.entries():
        found += [(entry.stream, entry.data) for entry in entries]
    return found


def readable(follower, seconds=0.0):
    return bool(select.select([follower], [], [], seconds)[0])


def test_following_goes_on_where_reading_ended(config):
    writer = write(config, (1, b"old\nhalf "), close=False)
    with LogReader(config) as reader:
        assert [entry.data for entry in reader.read(finished=False)] == [b"old\n"]
        follower = reader.follow()
    with follower:
        writer.write(1, b"done\n", START + 60 * SECOND)
        assert readable(follower, 5)
        assert drain(follower) == [(1, b"half done\n")]
        assert drain(follower) == []
        assert not readable(follower)
        writer.write(2, b"more\nrest", START + 61 * SECOND)
        writer.close()
        assert drain(follower) == ([(2, b"more\n")] if config.driver == "local" else [(2, b"more\n"), (2, b"rest")])
        follower.finish()
        assert drain(follower) == ([(2, b"rest")] if config.driver == "local" else [])


def test_following_from_the_end_only(config):
    writer = write(config, (1, b"old\n"), close=False)
    with LogReader(config) as reader:
        assert list(reader.blocks(tail=0, finished=False)) == []
        follower = reader.follow()
    with follower:
        assert drain(follower) == []
        writer.write(1, b"new\n", START + SECOND)
        assert drain(follower) == [(1, b"new\n")]
    writer.close()


def test_following_begins_before_the_first_file(config):
    with LogReader(config) as reader:
        assert list(reader.blocks()) == []
        follower = reader.follow()
    with follower:
        write(config, (1, b"hello\n"))
        assert readable(follower, 5)
        assert drain(follower) == [(1, b"hello\n")]


@pytest.mark.parametrize("compress", ["false", "true"])
@pytest.mark.parametrize("between", [1, 100, 1500])
def test_following_across_rotations_misses_nothing(config, between, compress):
    few = limited(config, "20k", "9", compress)
    writer = open_writer(few)
    writer.write(1, b"line 000000\n", START)
    found = []
    with LogReader(few) as reader, reader.follow() as follower:
        for number in range(1, 4000):
            writer.write(1, b"line %06d\n" % number, START + number)
            if number % between == 0:
                found += drain(follower)
        writer.close()
        follower.finish()
        found += drain(follower)
    wait_for_children()
    assert found == numbered(0, 4000)


def test_following_hands_out_a_little_at_a_time(config):
    writer = open_writer(config)
    with LogReader(config) as reader, reader.follow() as follower:
        for number in range(100):
            writer.write(1, b"x" * 99_999 + b"\n", START + number)
        turns = []
        while blocks := follower.blocks():
            turns.append(sum(len(block.data) for block in blocks))
        assert sum(turns) == 10_000_000
        assert max(turns) < 4_000_000
    writer.close()


def test_following_costs_no_descriptors(config):
    few = limited(config, "5k", "3")
    writer = open_writer(few)
    with LogReader(few) as reader, reader.follow() as follower:
        before = len(os.listdir("/proc/self/fd"))
        for number in range(2000):
            writer.write(1, b"line %06d\n" % number, START)
            drain(follower)
        assert len(os.listdir("/proc/self/fd")) <= before + 1
    writer.close()


def test_frames_for_the_wire_say_the_same_as_entries(config):
    write(config, (1, b"one\ntwo\n"), (2, b"three"), (1, b"y" * 40_000 + b"\n"))
    for timestamps in (False, True):
        with LogReader(config) as reader:
            framed = b"".join(reader.render(Format(timestamps=timestamps)))
        with LogReader(config) as reader:
            form = Format(timestamps=timestamps)
            wanted = b""
            for entry in reader.read():
                text = form.prefix(entry.time_ns) + entry.data
                wanted += bytes((entry.stream, 0, 0, 0)) + len(text).to_bytes(4, "big") + text
        assert framed == wanted


# ── clearing ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_clearing_removes_everything_so_far_and_writing_goes_on(config):
    few = limited(config, "10k", "3")
    writer = open_writer(few)
    for number, (stream, data) in enumerate(numbered(0, 2000)):
        writer.write(stream, data, START + number)
    writer.clear()
    assert os.listdir(os.path.dirname(config.path)) == ["log"]
    assert read(few) == []
    writer.write(1, b"after\n", START + 3000)
    writer.close()
    assert read(few) == [(1, b"after\n")]


def test_a_follower_goes_on_after_clearing_and_misses_nothing(config):
    writer = write(config, (1, b"old\n"), close=False)
    with LogReader(config) as reader, reader.follow() as follower:
        assert drain(follower) == [(1, b"old\n")]
        writer.write(1, b"before\n", START + SECOND)
        writer.clear()
        writer.write(1, b"after\n", START + SECOND)
        assert drain(follower) == [(1, b"before\n"), (1, b"after\n")]
        remove_files(config.path)  # as the daemon does where nobody writes
        assert drain(follower) == []
        writer.close()
        write(config, (1, b"a new start\n"))
        assert drain(follower) == [(1, b"a new start\n")]


def test_clearing_leaves_other_files_alone(config):
    folder = Path(config.path).parent
    for name in ("config.json", "log.txt", "log.1.gz.tmp", "logs", "log.1", "log.2.gz"):
        (folder / name).write_text("")
    writer = write(config, (1, b"x\n"), close=False)
    writer.clear()
    writer.close()
    assert sorted(os.listdir(folder)) == ["config.json", "log", "log.1.gz.tmp", "log.txt", "logs"]
