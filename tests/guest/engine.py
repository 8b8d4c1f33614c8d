"""A daemon in the guest and a client of it that knows nothing but HTTP."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

SOCKET = "/run/scow.sock"
IMAGE = "busybox"
#: Seconds for what an emulated processor does at leisure.
PATIENCE = 30


def expect(fact: object, *details: object) -> None:
    if not fact:
        raise AssertionError(" ".join(map(str, details)) or "not so")


def same(found: object, wanted: object, what: str = "value") -> None:
    expect(found == wanted, f"{what}: {found!r}, not {wanted!r}")


def text(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def until(condition: Callable[[], object], sentence: str) -> None:
    """Wait for something the kernel or a program in a container tells nobody about; `sentence` is the failure."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        expect(time.monotonic() < deadline, sentence)
        time.sleep(0.05)


class Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """A daemon and a client of it that knows nothing but HTTP."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.log = "/run/scowd.log"

    def start(self, *before: str) -> None:
        """Start scowd (behind the command `before`, which ends by running its arguments)."""
        reader, writer = os.pipe()
        program = "import sys; from scow.daemon.main import main; sys.exit(main())"
        command = [*before, sys.executable, "-c", program, "--ready-fd", str(writer), "-H", f"unix://{SOCKET}"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, pass_fds=(writer,), stdout=log, stderr=log)
        os.close(writer)
        with open(reader, "rb") as ready:
            expect(ready.read(1), "scowd does not start:", text(self.log)[-2000:])

    def end(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(60)

    def call(self, method: str, path: str, body: object = None, status: tuple[int, ...] = (), **query: object) -> bytes:
        connection = Connection(SOCKET)
        try:
            if query:
                path += "?" + urllib.parse.urlencode(query)
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        good = answer.status in status if status else answer.status < 400
        expect(good, method, path, answer.status, content.decode("utf-8", "replace"))
        return content

    def json(self, method: str, path: str, body: object = None, **options: Any) -> Any:
        return json.loads(self.call(method, path, body, **options))

    def create(self, *command: str, name: str = "", host: dict[str, Any] | None = None, **config: object) -> str:
        body = {"Image": IMAGE, "Cmd": list(command), "HostConfig": host or {}, **config}
        made = self.json("POST", "/containers/create", body, **({"name": name} if name else {}))
        same(made["Warnings"] or [], [], "warnings")
        return str(made["Id"])

    def wait(self, identity: str) -> int:
        return int(self.json("POST", f"/containers/{identity}/wait")["StatusCode"])

    def output(self, identity: str) -> str:
        return frames(self.call("GET", f"/containers/{identity}/logs", stdout=1, stderr=1))

    def run(self, *command: str, **options: Any) -> tuple[int, str]:
        """Run a container to its end and remove it: exit status and output."""
        identity = self.create(*command, **options)
        try:
            self.call("POST", f"/containers/{identity}/start")
            return self.wait(identity), self.output(identity)
        finally:
            self.remove(identity)

    def remove(self, identity: str) -> None:
        self.call("DELETE", f"/containers/{identity}", force=1, v=1)

    @contextlib.contextmanager
    def running(self, *command: str, **options: Any) -> Iterator[str]:
        identity = self.create(*(command or ("sleep", "600")), **options)
        try:
            self.call("POST", f"/containers/{identity}/start")
            yield identity
        finally:
            self.remove(identity)

    def inspect(self, identity: str) -> Any:
        return self.json("GET", f"/containers/{identity}/json")

    def execute(self, identity: str, *command: str, **options: object) -> tuple[int, str]:
        """Run a command in a container: exit status and output."""
        body = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True, **options}
        made = self.json("POST", f"/containers/{identity}/exec", body)["Id"]
        told = frames(self.call("POST", f"/exec/{made}/start", {"Detach": False, "Tty": False}))
        return int(self.json("GET", f"/exec/{made}/json")["ExitCode"]), told

    def scow(self, *arguments: str, status: int = 0) -> str:
        """Run our command line program; its output."""
        program = "import sys; from scow.cli.main import main; sys.exit(main())"
        command = [sys.executable, "-c", program, "-H", f"unix://{SOCKET}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        same(done.returncode, status, f"scow {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout


def frames(data: bytes) -> str:
    """The text in a stream of Docker's frames: stream, three zero bytes, length, payload."""
    found = b""
    while len(data) >= 8:
        length = int.from_bytes(data[4:8], "big")
        found += data[8 : 8 + length]
        data = data[8 + length :]
    return found.decode("utf-8", "replace")
