"""Stdio without a container: pipes in, sockets out, and the policy towards slow readers."""

import os
import socket

import pytest

from scow.api.streams import Decoder
from scow.shim import streams
from scow.shim.loop import Loop
from scow.shim.protocol import Streams
from scow.shim.streams import HIGH, Stdio


class Log:
    """Remembers what it is given."""

    def __init__(self) -> None:
        self.said: list[tuple[int, bytes]] = []
        self.dropped = 0

    def write(self, stream: int, data: bytes, when_ns: int) -> None:
        self.said.append((stream, data))

    def close(self) -> None:
        """Nothing to do."""


class Stage:
    """A process's pipes, of which the test is the process."""

    def __init__(self, log: Log | None, stdin: bool = False, terminal: bool = False) -> None:
        self.loop = Loop()
        self.log = log
        out, self.out = os.pipe()
        err, self.err = os.pipe()
        self.input, inner = os.pipe() if stdin else (-1, None)
        self.done = False
        self.stdio = Stdio(self.loop, [(out, 1), (err, 2)], inner, terminal, log, self._done)

    def _done(self) -> None:
        self.done = True
        self.loop.stop()

    def attach(self, **wants: bool) -> socket.socket:
        ours, theirs = socket.socketpair()
        told = {"stdin": False, "stdout": True, "stderr": True, "ends_stdin": True, **wants}
        self.stdio.attach(theirs, Streams.from_json(told))
        ours.settimeout(10)
        return ours

    def turn(self, times: int = 1) -> None:
        """Let the loop run a little."""
        for _ in range(times):
            self.loop.at("turn", 0.01, self.loop.stop)
            self.loop._running = True
            self.loop.run()

    def end(self) -> None:
        """The process ends."""
        for fd in (self.out, self.err):
            os.close(fd)
        self.stdio.read_rest()
        self.stdio.finish()


def everything(end: socket.socket) -> bytes:
    found = b""
    while data := end.recv(1 << 20):
        found += data
    end.close()
    return found


def test_output_is_framed_for_everybody_and_logged():
    stage = Stage(Log())
    both, only_err = stage.attach(), stage.attach(stdout=False)
    os.write(stage.out, b"one")
    stage.turn()
    os.write(stage.err, b"two")
    stage.turn()
    stage.end()
    stage.turn()
    assert Decoder().feed(everything(both)) == [(1, b"one"), (2, b"two")]
    assert Decoder().feed(everything(only_err)) == [(2, b"two")]
    assert stage.log is not None
    assert stage.log.said == [(1, b"one"), (2, b"two")]
    assert stage.done


def test_a_terminal_is_not_framed():
    stage = Stage(None, terminal=True)
    end = stage.attach()
    os.write(stage.out, b"raw")
    stage.turn()
    stage.end()
    stage.turn()
    assert everything(end) == b"raw"


def test_a_reader_who_does_not_read_makes_the_process_wait():
    stage = Stage(Log())
    end = stage.attach()
    os.set_blocking(stage.out, False)
    written = 0
    for _ in range(200):
        try:
            written += os.write(stage.out, bytes(1 << 16))
        except BlockingIOError:
            stage.turn()
    assert HIGH < written < 4 * HIGH  # what waits for it, the socket's own buffer and the pipe
    rest = bytearray()
    end.setblocking(False)
    while len(Decoder().feed(bytes(rest))) == 0 or sum(len(data) for _, data in Decoder().feed(bytes(rest))) < written:
        stage.turn()
        try:
            rest += end.recv(1 << 20)
        except BlockingIOError:
            continue
    end.close()
    stage.end()
    stage.turn()
    assert stage.done


def test_a_reader_who_stalls_is_dropped_where_there_is_a_log(monkeypatch):
    monkeypatch.setattr(streams, "STALL", 0.05)
    stage = Stage(Log())
    end = stage.attach()
    os.set_blocking(stage.out, False)
    written = 0
    for _ in range(400):
        try:
            written += os.write(stage.out, bytes(1 << 16))
        except BlockingIOError:
            stage.turn()
    assert written > 8 * HIGH
    stage.end()
    stage.turn()
    assert stage.done
    end.close()


def test_without_a_log_the_process_waits_for_its_only_reader(monkeypatch):
    monkeypatch.setattr(streams, "STALL", 0.02)
    stage = Stage(None)
    end = stage.attach()
    os.set_blocking(stage.out, False)
    for _ in range(100):
        try:
            os.write(stage.out, bytes(1 << 16))
        except BlockingIOError:
            stage.turn()
    with pytest.raises(BlockingIOError):
        os.write(stage.out, b"x")
    end.close()
    stage.end()
    stage.turn(2)
    assert stage.done


def test_the_last_words_reach_a_slow_reader_after_the_end():
    stage = Stage(Log())
    end = stage.attach()
    os.set_blocking(stage.out, False)
    written = 0
    for _ in range(60):
        try:
            written += os.write(stage.out, bytes(1 << 16))
        except BlockingIOError:
            stage.turn()
    stage.end()
    assert not stage.done
    got = bytearray()
    end.setblocking(False)
    while True:
        try:
            data = end.recv(1 << 20)
        except BlockingIOError:
            stage.turn()
            continue
        if not data:
            break
        got += data
    assert sum(len(data) for _, data in Decoder().feed(bytes(got))) == written
    assert stage.done
    end.close()


def test_input_of_a_client_that_closed_at_once_arrives_whole():
    stage = Stage(None, stdin=True)
    end = stage.attach(stdin=True)
    sent = 0
    end.setblocking(False)
    while True:
        try:
            sent += end.send(bytes(1 << 16))
        except BlockingIOError:
            break
    end.close()
    got = 0
    os.set_blocking(stage.input, False)
    while True:
        stage.turn()
        try:
            data = os.read(stage.input, 1 << 20)
        except BlockingIOError:
            continue
        if not data:
            break
        got += len(data)
    assert got == sent


def test_input_nobody_reads_does_not_stop_the_client():
    stage = Stage(None, stdin=True)
    end = stage.attach(stdin=True)
    os.close(stage.input)
    for _ in range(40):
        end.send(bytes(1 << 15))
        stage.turn()
    end.close()
    stage.end()
    stage.turn()
    assert stage.done


def test_a_log_that_cannot_be_written_does_not_stop_the_streams(capsys):
    class Full(Log):
        def write(self, stream: int, data: bytes, when_ns: int) -> None:
            raise OSError(28, "No space left on device")

    stage = Stage(Full())
    end = stage.attach()
    os.write(stage.out, b"x")
    stage.turn()
    stage.end()
    stage.turn()
    assert Decoder().feed(everything(end)) == [(1, b"x")]
    assert "No space" in capsys.readouterr().err
