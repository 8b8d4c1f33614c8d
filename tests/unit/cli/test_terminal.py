"""Detach keys, raw mode, signals as numbers in a pipe."""

import os
import pty
import select
import signal
import termios

import pytest

from scow.cli import terminal
from scow.errors import InvalidArgument


def test_the_keys_are_held_back_until_they_are_sure() -> None:
    keys = terminal.DetachKeys("")
    assert keys.feed(b"ab\x10") == (b"ab", False)
    assert keys.feed(b"c") == (b"\x10c", False)
    assert keys.feed(b"\x10\x10") == (b"\x10", False)
    assert keys.feed(b"\x11rest") == (b"", True)


def test_other_keys() -> None:
    assert terminal.DetachKeys("a").feed(b"xa") == (b"x", True)
    assert terminal.DetachKeys("ctrl-@,ctrl-[,z").feed(b"\x00\x1bz") == (b"", True)
    assert terminal.DetachKeys("ctrl-A").feed(b"\x01") == (b"", True)
    for text in ("ctrl-", "ctrl-1", "ab", "é", "a,,b"):
        with pytest.raises(InvalidArgument, match="Unknown character"):
            terminal.DetachKeys(text)


def fail_in(terminal_fd: int) -> None:
    assert not termios.tcgetattr(terminal_fd)[3] & termios.ICANON
    raise KeyError


def test_raw_mode_is_left_however_the_block_ends() -> None:
    leader, follower = pty.openpty()
    try:
        before = termios.tcgetattr(follower)
        with pytest.raises(KeyError), terminal.Raw(follower):
            fail_in(follower)
        assert termios.tcgetattr(follower) == before
    finally:
        os.close(leader)
        os.close(follower)


def test_a_pipe_has_no_size() -> None:
    reader, writer = os.pipe()
    assert terminal.size(reader) == (0, 0)
    os.close(reader)
    os.close(writer)


def test_signals_come_as_bytes_and_handlers_return() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with terminal.Signals({signal.SIGUSR1}) as fd:
        assert terminal.caught(fd) == []
        os.kill(os.getpid(), signal.SIGUSR1)
        assert select.select([fd], [], [], 5)[0] == [fd]
        assert terminal.caught(fd) == [signal.SIGUSR1]
    assert signal.getsignal(signal.SIGUSR1) is before


def test_what_is_not_passed_on() -> None:
    proxied = terminal.proxied()
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, 34} <= proxied
    assert not {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGURG} & proxied
