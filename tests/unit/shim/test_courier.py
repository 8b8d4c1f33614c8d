"""Logs written by a process of their own: another program's (a small server of the test), and ``mode=non-blocking``."""

import contextlib
import os
import re
import signal
import socket
import ssl
import struct
import threading
import time
from pathlib import Path

import pytest

from scow.errors import System
from scow.logs import journald, remote
from scow.logs.driver import LogConfig
from scow.logs.reader import LogReader
from scow.shim import courier
from scow.shim.loop import Loop
from scow.shim.streams import Stdio
from scow.shim.tap import Tap
from support.certificates import Certificates

FIELDS = {"id": "ab" * 32, "name": "web", "image": "nginx:1", "tag": "shop"}
WHEN = 1_700_000_000_123_456_789


@pytest.fixture
def task(tmp_path):
    folder = tmp_path / "task"
    folder.mkdir()
    (tmp_path / "log").mkdir()
    return folder


def config(driver, task, attributes=None, **options):
    told = {name.replace("_", "-"): value for name, value in options.items()}
    return LogConfig(driver, str(task.parent / "log" / "log"), told, attributes or {}, FIELDS)


def read(kept):
    with LogReader(kept) as reader:
        return [(entry.stream, entry.data) for entry in reader.read()]


class Server:
    """Takes what is sent to a stream socket; `lines` are whole ones."""

    def __init__(self, listener, context=None):
        self.listener = listener
        self.context = context
        self.data = b""
        self.connections = []
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                end, _ = self.listener.accept()
                if self.context is not None:
                    end = self.context.wrap_socket(end, server_side=True)
                self.connections.append(end)
                threading.Thread(target=self._take, args=(end,), daemon=True).start()

    def _take(self, end):
        with contextlib.suppress(OSError):
            while data := end.recv(65536):
                with self.changed:
                    self.data += data
                    self.changed.notify_all()

    def wait(self, text):
        with self.changed:
            assert self.changed.wait_for(lambda: text in self.data, 20), self.data[-500:]

    def drop(self):
        """Close every connection and stop listening."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for end in self.connections:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    @property
    def lines(self):
        return self.data.splitlines()


def listening(port=0):
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    made.listen()
    return made


# ── syslog ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ("", rb"<30>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d shop\[\d+\]: hello"),
        ("rfc3164", rb"<30>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ shop\[\d+\]: hello"),
        ("rfc5424", rb"<30>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d) \S+ shop \d+ shop - hello"),
        ("rfc5424micro", rb"<30>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d) \S+ shop \d+ shop - hello"),
    ],
)
def test_syslog_over_tcp_and_a_copy_for_readers(task, form, pattern):
    server = Server(listening())
    port = server.listener.getsockname()[1]
    log = Tap(config("syslog", task, syslog_address=f"tcp://127.0.0.1:{port}", syslog_format=form), str(task), Loop())
    log.write(1, b"hello\nhalf ", WHEN)
    log.write(2, b"oops\n", WHEN)
    log.write(1, b"a line\n", WHEN)
    log.close()
    server.wait(b"a line\n")
    assert re.fullmatch(pattern, server.lines[0])
    assert server.lines[1].startswith(b"<27>")
    assert server.lines[2].endswith(b"half a line")
    assert read(config("syslog", task)) == [(1, b"hello\n"), (2, b"oops\n"), (1, b"half a line\n")]
    server.drop()


def test_syslog_over_udp_and_a_facility(task):
    server = socket.socket(type=socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    server.settimeout(20)
    where = f"udp://127.0.0.1:{server.getsockname()[1]}"
    log = Tap(config("syslog", task, syslog_address=where, syslog_facility="local3"), str(task), Loop())
    log.write(1, b"one\ntwo\n", WHEN)
    assert server.recv(4096).startswith(b"<158>")
    assert server.recv(4096).endswith(b": two\n")
    log.close()
    server.close()


@pytest.mark.parametrize(("scheme", "kind"), [("unix", "STREAM"), ("unix", "DGRAM"), ("unixgram", "DGRAM")])
def test_syslog_to_a_local_socket(task, scheme, kind):
    path = str(task / "dev-log")
    server = socket.socket(socket.AF_UNIX, getattr(socket, f"SOCK_{kind}"))
    server.bind(path)
    if kind == "STREAM":
        server.listen()
    log = Tap(config("syslog", task, syslog_address=f"{scheme}://{path}"), str(task), Loop())
    log.write(2, b"hello\n", WHEN)
    log.close()
    end = server.accept()[0] if kind == "STREAM" else server
    assert re.fullmatch(rb"<27>.* shop\[\d+\]: hello\n", end.recv(4096))
    end.close()
    server.close()


def test_syslog_over_tls_counts_its_messages(task, tmp_path):
    made = Certificates(tmp_path / "certificates", "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.folder / "server-cert.pem", made.folder / "server-key.pem")
    server = Server(listening(), context)
    where = f"tcp+tls://localhost:{server.listener.getsockname()[1]}"
    asked = config("syslog", task, syslog_address=where, syslog_tls_ca_cert=str(made.ca), syslog_format="rfc5424")
    log = Tap(asked, str(task), Loop())
    log.write(1, b"secret\n", WHEN)
    log.close()
    server.wait(b"secret\n")
    length, message = server.data.split(b" ", 1)
    assert int(length) == len(message)
    server.drop()
    with pytest.raises(System, match="failed to initialize logging driver"):
        Tap(config("syslog", task, syslog_address=where), str(task), Loop())


def test_a_syslog_server_that_is_not_there_refuses_the_start(task):
    listener = listening()
    port = listener.getsockname()[1]
    listener.close()
    with pytest.raises(
        System, match=f"failed to initialize logging driver: dial tcp 127.0.0.1:{port}: connect: connection refused"
    ):
        Tap(config("syslog", task, syslog_address=f"tcp://127.0.0.1:{port}"), str(task), Loop())


def test_a_syslog_server_that_comes_back_is_told_what_is_missing(task, monkeypatch):
    monkeypatch.setattr(remote, "PATIENCE", 0.3)
    monkeypatch.setattr(remote, "RETRY", 0.1)
    server = Server(listening())
    port = server.listener.getsockname()[1]
    log = Tap(config("syslog", task, syslog_address=f"tcp://127.0.0.1:{port}"), str(task), Loop())
    log.write(1, b"before\n", WHEN)
    server.wait(b"before")
    server.drop()
    for number in range(5):
        log.write(1, b"lost %d\n" % number, WHEN)
    time.sleep(1)
    again = Server(listening(port))
    log.write(1, b"after\n", WHEN)
    again.wait(b"after")
    assert re.search(rb"\[scow: 5 lines of output were lost here: the log server was away\]\n", again.data)
    log.close()
    again.drop()
    assert len(read(config("syslog", task))) == 7, "what readers are shown is whole"


def test_a_syslog_server_that_restarts_costs_nothing(task):
    server = Server(listening())
    port = server.listener.getsockname()[1]
    log = Tap(config("syslog", task, syslog_address=f"tcp://127.0.0.1:{port}"), str(task), Loop())
    log.write(1, b"before\n", WHEN)
    server.wait(b"before")
    server.drop()
    log.write(1, b"meanwhile\n", WHEN)
    again = Server(listening(port))
    log.write(1, b"after\n", WHEN)
    again.wait(b"after")
    assert b"meanwhile" in again.data
    log.close()
    again.drop()


def flood(task, listener, stop_after, **options):
    """A process that writes to a server that does not read; how many bytes the process got rid of."""
    port = listener.getsockname()[1]
    loop = Loop()
    log = Tap(
        config("syslog", task, syslog_address=f"tcp://127.0.0.1:{port}", cache_disabled="true", **options),
        str(task), loop,
    )  # fmt: skip
    out, end = os.pipe()
    stdio = Stdio(loop, [(out, 1)], None, False, log, loop.stop)
    os.set_blocking(end, False)
    written = 0
    idle = 0
    while written < stop_after and idle < 20:
        try:
            written += os.write(end, (b"x" * 99 + b"\n") * 500)
            idle = 0
        except BlockingIOError:
            idle += 1
            loop.at("turn", 0.001 if idle < 10 else 0.05, loop.stop)
            loop._running = True
            loop.run()
    os.close(end)
    return written, log, stdio


def test_a_server_that_does_not_read_makes_a_blocking_container_wait(task, monkeypatch):
    monkeypatch.setattr(courier, "CLOSING", 0.1)
    listener = listening()
    written, log, stdio = flood(task, listener, 40_000_000)
    assert written < 40_000_000
    stdio.log = None
    log.close()
    stdio.close()
    listener.close()


def test_a_server_that_does_not_read_costs_a_non_blocking_container_lines(task, monkeypatch):
    monkeypatch.setattr(courier, "CLOSING", 0.1)
    listener = listening()
    written, log, stdio = flood(task, listener, 40_000_000, mode="non-blocking", max_buffer_size="2m")
    assert written >= 40_000_000
    assert log.courier.dropped > 10_000_000
    assert log.courier._size <= 2_010_000  # headers and the note come on top
    stdio.log = None
    log.close()
    stdio.close()
    listener.close()


# ── journald ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def journal(tmp_path, monkeypatch):
    path = str(tmp_path / "journal")
    end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    end.bind(path)
    end.settimeout(20)
    monkeypatch.setattr(journald, "SOCKET", path)
    yield end
    end.close()


def entry(end):
    """One entry as the journal reads it."""
    data, fds, _flags, _address = socket.recv_fds(end, 1 << 20, 1)
    if fds:
        data = os.pread(fds[0], os.fstat(fds[0]).st_size, 0)
        os.close(fds[0])
    found = {}
    while data:
        line, _, data = data.partition(b"\n")
        key, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack_from("<Q", data)
            value, data = data[8 : 8 + length], data[9 + length :]
        found[key.decode()] = value
    return found


def test_journald_gets_the_fields_docker_sends(task, journal):
    attributes = {"com.example/app": "a\nb", "tag": "shop"}
    log = Tap(config("journald", task, attributes), str(task), Loop())
    log.write(1, b"hello\n", WHEN)
    log.write(2, b"oops\n", WHEN)
    found, second = entry(journal), entry(journal)
    del found["CONTAINER_LOG_EPOCH"]
    assert found == {
        "MESSAGE": b"hello",
        "PRIORITY": b"6",
        "SYSLOG_TIMESTAMP": b"2023-11-14T22:13:20.123456789Z",
        "CONTAINER_ID": b"abababababab",
        "CONTAINER_ID_FULL": b"ab" * 32,
        "CONTAINER_NAME": b"web",
        "CONTAINER_TAG": b"shop",
        "IMAGE_NAME": b"nginx:1",
        "SYSLOG_IDENTIFIER": b"shop",
        "COM_EXAMPLE_APP": b"a\nb",
    }
    assert (second["MESSAGE"], second["PRIORITY"]) == (b"oops", b"3")
    log.close()
    assert read(config("journald", task)) == [(1, b"hello\n"), (2, b"oops\n")]


def test_journald_parts_of_a_long_line_and_large_entries(task, journal):
    journal.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    log = Tap(config("journald", task, {"LARGE": "v" * 500_000}), str(task), Loop())
    log.write(1, b"x" * 20_000 + b"\nshort\n", WHEN)
    first, second, third = entry(journal), entry(journal), entry(journal)
    assert [len(each["MESSAGE"]) for each in (first, second, third)] == [16384, 3616, 5]
    assert len(first["LARGE"]) == 500_000
    assert first["CONTAINER_PARTIAL_MESSAGE"] == b"true"
    assert "CONTAINER_PARTIAL_MESSAGE" not in second
    assert first["CONTAINER_PARTIAL_ID"] == second["CONTAINER_PARTIAL_ID"]
    assert [each["CONTAINER_PARTIAL_ORDINAL"] for each in (first, second)] == [b"1", b"2"]
    assert [each["CONTAINER_PARTIAL_LAST"] for each in (first, second)] == [b"false", b"true"]
    assert "CONTAINER_PARTIAL_ID" not in third
    log.close()


def test_without_a_journal_there_is_no_start(task, tmp_path, monkeypatch):
    monkeypatch.setattr(journald, "SOCKET", str(tmp_path / "none"))
    with pytest.raises(System, match="failed to initialize logging driver: journald is not enabled on this host"):
        Tap(config("journald", task), str(task), Loop())


# ── non-blocking files ──────────────────────────────────────────────────────────────────────────────────────────────


def process():
    """The courier begun last."""
    children = Path("/proc/thread-self/children").read_text().split()
    return [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text() == "scow-log\n"][-1]


@pytest.mark.parametrize("driver", ["local", "json-file"])
def test_a_non_blocking_file_is_whole_when_the_container_has_ended(task, driver):
    log = Tap(config(driver, task, mode="non-blocking", max_buffer_size="50m"), str(task), Loop())
    lines = [b"line %d\n" % number for number in range(100_000)]
    for at in range(0, len(lines), 1000):
        log.write(1, b"".join(lines[at : at + 1000]), WHEN)
    log.close()
    assert [data for _stream, data in read(config(driver, task))] == lines


@pytest.mark.parametrize("driver", ["local", "json-file"])
def test_a_non_blocking_file_that_cannot_keep_up_loses_whole_lines_and_says_so(task, driver):
    log = Tap(config(driver, task, mode="non-blocking", max_buffer_size="100k"), str(task), Loop())
    lines = [b"line %d\n" % number for number in range(200_000)]
    os.kill(process(), signal.SIGSTOP)
    for at in range(0, len(lines), 1000):
        log.write(1, b"".join(lines[at : at + 1000]), WHEN)
    os.kill(process(), signal.SIGCONT)
    log.courier._flush()
    while log.courier._queue:
        log.courier._flush()
    log.write(1, b"last\n", WHEN)
    log.close()
    found = [data for stream, data in read(config(driver, task)) if stream == 1]
    assert set(found) <= {*lines, b"last\n"}
    assert found[-1] == b"last\n"
    lost = sum(map(len, lines)) + 5 - sum(map(len, found))
    assert log.courier.dropped == lost > 0
    notes = [data for stream, data in read(config(driver, task)) if stream == 2]
    assert sum(int(re.search(rb"(\d+) bytes", note)[1]) for note in notes) == lost


def test_clearing_comes_after_what_was_said_before(task):
    log = Tap(config("json-file", task, mode="non-blocking"), str(task), Loop())
    log.write(1, b"before\n", WHEN)
    log.clear()
    log.write(1, b"after\n", WHEN)
    log.close()
    assert read(config("json-file", task)) == [(1, b"after\n")]


def test_a_courier_that_dies_is_replaced(task, monkeypatch, capfd):
    monkeypatch.setattr(courier, "_AGAIN", 0.2)
    log = Tap(config("json-file", task, mode="non-blocking"), str(task), Loop())
    log.write(1, b"one\n", WHEN)
    child = process()
    os.kill(child, 9)
    os.waitpid(child, 0)
    log.write(1, b"two\n", WHEN)
    log.write(1, b"three\n", WHEN)
    time.sleep(0.3)
    log.write(1, b"four\n", WHEN)
    log.close()
    found = [data for _stream, data in read(config("json-file", task))]
    assert found[-1] == b"four\n"
    assert any(b"bytes of output were lost here" in data for data in found)
    assert "the process that writes json-file died" in capfd.readouterr().err
