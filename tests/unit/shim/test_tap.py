"""From pipes into the log under kill -9: the shim's part is played by a forked child that is killed again and again."""

import contextlib
import errno
import os
import random
import select
import signal
import time

import pytest

from scow.logs import filewriter
from scow.logs.driver import LogConfig
from scow.logs.entry import PIECE
from scow.logs.reader import LogReader
from scow.shim.loop import Loop
from scow.shim.streams import Stdio
from scow.shim.tap import Tap

LINES = 60_000
KILLS = 40
START = 1_700_000_000_000_000_000


@pytest.fixture(params=["local", "json-file"])
def config(request, tmp_path):
    (tmp_path / "log").mkdir()
    return LogConfig(request.param, str(tmp_path / "log" / "log"))


@pytest.fixture
def task(tmp_path):
    folder = tmp_path / "task"
    folder.mkdir()
    return folder


def read(config):
    with LogReader(config) as reader:
        return [(entry.stream, entry.data) for entry in reader.read()]


def serve(config, task, names):
    """A shim's life: whatever comes out of the FIFOs goes to the log, until there is nothing more."""
    loop = Loop()
    log = Tap(config, str(task))
    sources = [(os.open(name, os.O_RDONLY | os.O_NONBLOCK), stream) for stream, name in names.items()]
    stdio = Stdio(loop, sources, None, False, log, loop.stop)
    while stdio._sources:
        for fd in list(stdio._sources):
            stdio._read(fd)  # a FIFO whose writers were gone before it was opened tells of that only when read
        loop.at("turn", 0.05, loop.stop)
        loop._running = True
        loop.run()
    log.close()


def in_a_child(function, *arguments):
    pid = os.fork()
    if pid == 0:
        try:
            function(*arguments)
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(1)
    return pid


def produce(names, go, seed):
    """Numbered lines of any length on both streams, now and then cut in the middle; a byte of `go` for each share."""
    chance = random.Random(seed)
    fds = {stream: os.open(name, os.O_WRONLY) for stream, name in names.items()}
    waiting = {1: b"", 2: b""}
    for number in range(LINES):
        if number % (LINES // KILLS) == 0:
            os.read(go, 1)
        length = 50_000 if number % 5000 == 0 else chance.choice((0, 3, 60, 60, 300))
        stream = 1 + number % 2
        waiting[stream] += b"%d %s\n" % (number, b"x" * length)
        if chance.random() < 0.1 or number >= LINES - 2:
            cut = chance.randrange(len(waiting[stream])) if number < LINES - 2 else len(waiting[stream])
            part, waiting[stream] = waiting[stream][:cut], waiting[stream][cut:]
            while part:
                part = part[os.write(fds[stream], part) :]


def test_a_successor_loses_nothing_and_repeats_nothing(config, task):
    config.options.update({"max-size": "300k", "max-file": "100", "compress": "false"})
    names = {stream: str(task / f"fifo{stream}") for stream in (1, 2)}
    for name in names.values():
        os.mkfifo(name)
    # Somebody holds the read ends while there is no shim, or the writer would be killed by a signal.
    held = [os.open(name, os.O_RDONLY | os.O_NONBLOCK) for name in names.values()]
    go, say_go = os.pipe()
    writer = in_a_child(produce, names, go, 7)
    os.write(say_go, b"x")
    for fd in held:
        select.select([fd], [], [], 30)  # before there is a writer a FIFO looks ended
    chance = random.Random(3)
    for _ in range(KILLS - 1):
        pid = in_a_child(serve, config, task, names)
        os.write(say_go, b"x")
        time.sleep(chance.uniform(0.005, 0.05))
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    last = in_a_child(serve, config, task, names)
    assert os.waitpid(writer, 0)[1] == 0
    assert os.waitpid(last, 0)[1] == 0
    for fd in (*held, go, say_go):
        os.close(fd)
    found = read(config)
    texts = [b"".join([data for stream, data in found if stream == wanted]) for wanted in (1, 2)]
    numbers = [[int(line.split()[0]) for line in text.splitlines()] for text in texts]
    assert numbers == [list(range(0, LINES, 2)), list(range(1, LINES, 2))]
    assert not (task / "log.cursor").exists()
    assert not (task / "stdout.spool").exists()


class Killed(BaseException):
    """The process ends here."""


def crash_at(monkeypatch, steps, how):
    """Let the process end at the n-th write to the log: before it, in the middle of it, or after it."""
    original = os.writev
    left = [steps]

    def writev(fd, parts):
        left[0] -= 1
        if left[0]:
            return original(fd, parts)
        data = b"".join(parts)
        original(fd, [data[: {"before": 0, "middle": len(data) * 2 // 3, "after": len(data)}[how]]])
        raise Killed

    monkeypatch.setattr(filewriter.os, "writev", writev)


@pytest.mark.parametrize("how", ["before", "middle", "after"])
@pytest.mark.parametrize("step", range(1, 12))
@pytest.mark.parametrize("size", ["", "1k"])
def test_a_kill_at_any_write(config, task, monkeypatch, how, step, size):
    if size or config.driver == "local":
        config.options.update({"max-size": size or "1g", "max-file": "90", "compress": "false"})
    out, end = os.pipe()
    os.set_blocking(out, False)
    chunks = [b"%d same\nsame\nsame\n" % number + b"open " * (number % 3) for number in range(12)]
    chunks[5] = b"z" * (PIECE + 30) + b"\nsame\n"
    before = set(os.listdir("/proc/self/fd"))
    tap = Tap(config, str(task))
    with monkeypatch.context() as patch:
        crash_at(patch, step, how)
        try:
            for chunk in chunks:
                os.write(end, chunk)
                tap.take(out, 1)
        except Killed:
            at = chunks.index(chunk) + 1
        else:
            at = len(chunks)
    for fd in set(os.listdir("/proc/self/fd")) - before:  # as the end of a process does
        with contextlib.suppress(OSError):
            os.close(int(fd))
    successor = Tap(config, str(task))
    for chunk in chunks[at:]:
        os.write(end, chunk)
        successor.take(out, 1)
    os.close(end)
    assert successor.take(out, 1) == b""
    os.close(out)
    successor.close()
    assert b"".join(data for _stream, data in read(config)) == b"".join(chunks)


def test_the_spool_holds_only_what_is_not_logged_yet(config, task):
    if config.driver == "local":
        config.options["max-size"] = "1g"
    out, end = os.pipe()
    tap = Tap(config, str(task))
    for _ in range(300):
        os.write(end, b"x" * 9999 + b"\n")
        tap.take(out, 1)
    spool = os.stat(task / "stdout.spool")
    assert spool.st_size == 3_000_000
    assert spool.st_blocks * 512 <= 64 << 10
    os.close(end)
    os.close(out)
    tap.close()


def test_a_full_task_folder_costs_the_safety_not_the_log(config, task, monkeypatch, capsys):
    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    out, end = os.pipe()
    tap = Tap(config, str(task))
    os.write(end, b"one\nhalf ")
    tap.take(out, 1)
    monkeypatch.setattr(os, "splice", full)
    for text in (b"a line\n", b"three\n"):
        os.write(end, text)
        assert tap.take(out, 1) == text
    tap.close()
    assert b"".join(data for _stream, data in read(config)) == b"one\nhalf a line\nthree\n"
    assert "without a spool" in capsys.readouterr().err
    os.close(out)
    os.close(end)


def test_a_terminal_is_read_plainly_and_logged(config, task):
    loop = Loop()
    tap = Tap(config, str(task))
    out, end = os.pipe()
    stdio = Stdio(loop, [(out, 1)], None, True, tap, loop.stop)
    os.write(end, b"screen\n")
    os.close(end)
    stdio.read_rest()
    tap.close()
    stdio.finish()
    assert read(config) == [(1, b"screen\n")]
    assert list(task.iterdir()) == []
