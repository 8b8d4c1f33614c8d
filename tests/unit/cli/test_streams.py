"""The terminal of `run -it`: detach keys, window size, signals; a stub engine on the other side."""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.stub_data import A
from support.stub_engine import Call, StubEngine, frame

from .conftest import SOURCES

Stub = Callable[..., StubEngine]
SECONDS = 20


class Terminal:
    """Our program on a terminal of 30 rows and 100 columns."""

    def __init__(self, words: list[str]) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            self.set_size(0, 30, 100)
            environment = {**os.environ, "PYTHONPATH": SOURCES}
            os.execve(sys.executable, [sys.executable, "-m", "scow.cli.main", *words], environment)
        self.seen = b""

    @staticmethod
    def set_size(fd: int, rows: int, columns: int) -> None:
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, text: bytes) -> None:
        while text not in self.seen:
            assert select.select([self.fd], [], [], SECONDS)[0], f"{text!r} did not come: {self.seen!r}"
            self.seen += os.read(self.fd, 65536)

    def end(self) -> int:
        """Read to the end; the exit code."""
        while select.select([self.fd], [], [], SECONDS)[0]:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                break
            if not data:
                break
            self.seen += data
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextmanager
def terminal(*words: str) -> Iterator[Terminal]:
    made = Terminal(list(words))
    try:
        yield made
    finally:
        os.close(made.fd)


def engine(stub: Stub, attach: Callable[[Call], Any], ended: threading.Event, code: int = 0) -> StubEngine:
    def wait(call: Call) -> None:
        body = b'{"StatusCode":%d}' % code
        call.head(200, {"Content-Length": str(len(body))})  # at once, as daemons do: then the container is awaited
        assert ended.wait(SECONDS)
        call.sock.sendall(body)

    return stub(
        {
            "POST /containers/create": (201, {"Id": A}),
            f"POST /containers/{A}/attach": attach,
            f"POST /containers/{A}/wait": wait,
            f"POST /containers/{A}/start": (204, None),
            f"POST /containers/{A}/resize": (200, None),
            f"POST /containers/{A}/kill": (204, None),
        }
    )


def test_keys_go_through_raw_and_the_detach_keys_do_not(stub: Stub) -> None:
    typed: list[bytes] = []
    ended = threading.Event()

    def attach(call: Call) -> None:
        sock = call.upgrade(multiplexed=False)
        sock.sendall(b"ready\r\n")
        while data := sock.recv(65536):
            typed.append(data)
            sock.sendall(b"<" + data.hex().encode() + b">")

    made = engine(stub, attach, ended)
    with terminal(f"--host={made.url}", "run", "-it", "busybox") as user:
        user.until(b"ready")
        os.write(user.fd, b"\x03a")  # ctrl-c is the container's
        user.until(b"<0361>")
        os.write(user.fd, b"\x10\x11")
        assert user.end() == 0
    ended.set()
    assert b"".join(typed) == b"\x03a"
    assert made.asked(f"POST /containers/{A}/attach")[0].text("stdin") == "1"


def test_the_window_is_told_at_the_start_and_when_it_changes(stub: Stub) -> None:
    ended, resized = threading.Event(), threading.Event()

    def attach(call: Call) -> None:
        sock = call.upgrade(multiplexed=False)
        sock.sendall(b"ready\r\n")
        assert resized.wait(SECONDS)
        sock.close()

    made = engine(stub, attach, ended, code=9)

    def resize(call: Call) -> Any:
        if call.text("h") == "40":
            resized.set()
        return (200, None)

    made.routes[f"POST /containers/{A}/resize"] = resize
    with terminal(f"--host={made.url}", "run", "-it", "busybox") as user:
        user.until(b"ready")
        Terminal.set_size(user.fd, 40, 120)
        assert resized.wait(SECONDS)
        ended.set()
        assert user.end() == 9
    sizes = [(call.text("h"), call.text("w")) for call in made.asked(f"POST /containers/{A}/resize")]
    assert sizes[0] == ("30", "100")
    assert sizes[-1] == ("40", "120")
    assert made.asked("POST /containers/create")[0].json()["HostConfig"]["ConsoleSize"] == [30, 100]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_signals_are_passed_on(stub: Stub, number: signal.Signals) -> None:
    ended, killed = threading.Event(), threading.Event()

    def attach(call: Call) -> None:
        sock = call.upgrade()
        sock.sendall(frame(1, b"ready\n"))
        assert killed.wait(SECONDS)
        sock.close()

    made = engine(stub, attach, ended, code=3)

    def kill(call: Call) -> Any:
        killed.set()
        ended.set()
        return (204, None)

    made.routes[f"POST /containers/{A}/kill"] = kill
    with terminal(f"--host={made.url}", "run", "busybox") as user:
        user.until(b"ready")
        os.kill(user.pid, number)
        assert user.end() == 3
    assert made.asked(f"POST /containers/{A}/kill")[0].text("signal") == number.name.removeprefix("SIG")


def test_a_stream_that_is_none_is_an_error(stub: Stub, scow: Callable[..., Any]) -> None:
    ended = threading.Event()
    ended.set()

    def attach(call: Call) -> None:
        sock = call.upgrade()
        sock.sendall(b"this is no frame at all")
        sock.close()

    done = scow(engine(stub, attach, ended), "run", "busybox")
    assert done.code == 125
    assert "unrecognized stream" in done.err
