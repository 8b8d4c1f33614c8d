"""The pipes of a process: what they survive."""

import os

import pytest

from scow.shim import child as pipes


@pytest.fixture
def made(tmp_path):
    made = pipes.Pipes()
    inner = made.make(True, str(tmp_path))
    yield made, inner
    made.close()


def test_output_waits_for_the_next_reader(made, tmp_path):
    own, (_, out, _err) = made
    os.write(out, b"one")
    for fd in own.ours:
        os.close(fd)
    own.ours.clear()
    os.write(out, b" two")  # nobody reads, nobody is killed for it
    sources, stdin = pipes.reopen(str(tmp_path))
    assert [stream for _, stream in sources] == [1, 2]
    assert os.read(sources[0][0], 99) == b"one two"
    assert stdin is not None
    for fd in (stdin, *(fd for fd, _ in sources)):
        os.close(fd)


def test_an_input_that_has_ended_is_not_opened_again(made, tmp_path):
    pipes.end_input(str(tmp_path))
    sources, stdin = pipes.reopen(str(tmp_path))
    assert stdin is None
    for fd, _ in sources:
        os.close(fd)


def test_what_nobody_writes_to_any_more_ends_after_its_rest(made, tmp_path):
    own, (_, out, _err) = made
    held = pipes.hold_output(str(tmp_path))
    os.write(out, b"rest")
    own.close()
    sources, stdin = pipes.reopen(str(tmp_path))
    assert stdin is None
    assert os.read(sources[0][0], 99) == b"rest"
    assert os.read(sources[0][0], 99) == b""
    for fd in (*held, *(fd for fd, _ in sources)):
        os.close(fd)


def test_an_exec_is_found_by_its_pipes_and_by_nothing_else():
    own = pipes.Pipes()
    ready, tell = os.pipe()
    try:
        null, out, _err = own.make(False)
        inodes = [os.fstat(fd).st_ino for fd in own.ours]
        pid = os.fork()
        if pid == 0:
            os.dup2(out, 1)
            os.dup2(null, 2)  # it has put something else in the place of its stderr
            os.write(tell, b".")
            os.read(os.pipe()[0], 1)
        os.read(ready, 1)
        os.write(out, b"x")
        found = pipes.reopen_of(pid, inodes)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        assert [stream for _, stream in found] == [1]
        assert os.read(found[0][0], 9) == b"x"
        os.close(found[0][0])
    finally:
        os.close(ready)
        os.close(tell)
        own.close()
