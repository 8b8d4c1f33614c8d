"""What a container says: kept, read back, and streamed."""

import subprocess
import time
from functools import partial

from peers import Peers
from report import Report, timed
from starts import cli
from wire import Wire

from support.world import World

#: 200 MB of 100-byte lines, by busybox's own yes and head; streams are the same number of zeros.
SIZE = 200_000_000
LINES = ["sh", "-c", f"yes {'x' * 99} | head -c {SIZE}"]
ZEROS = ["sh", "-c", f"dd if=/dev/zero bs=256k count={SIZE // (256 << 10)} 2>/dev/null"]
MEGA = 1_000_000


def output(world: World, report: Report, peers: Peers, rounds: int) -> None:
    """Each driver's writing and reading, then the streams."""
    api = Wire(str(world.socket))
    for driver in ("", "local"):
        tail = f", {driver}" if driver else ""
        names = [f"200 MB of 100-byte lines {what}{tail}" for what in ("until exit", "read back")]
        names[1] = names[1].replace("lines read", "lines, read")
        if not report.wants(*names):
            continue
        written, read = [], []
        for _ in range(rounds):
            made = _create(api, LINES, driver)
            written.append(timed(partial(_run, api, made)) / 1000)
            read.append(timed(partial(_read_back, api, made)) / 1000)
            api.ask("DELETE", f"/containers/{made}")
        report.take(names[0], "s", written)
        report.take(names[1], "s", read)
    if peers.podman is not None and report.wants("200 MB"):
        podman = peers.podman
        spent = timed(lambda: podman.do("run", "--name", "flood", *podman.LIMITS, "busybox", *LINES)) / 1000
        report.put("peer: podman, 200 MB of 100-byte lines until exit", "s", spent)
        report.put("peer: podman, read back", "s", timed(lambda: podman.do("logs", "flood")) / 1000)
        podman.do("rm", "flood")
    streams(world, report, peers, api, rounds)


def _create(api: Wire, command: list[str], driver: str = "") -> str:
    # A driver that would begin a new file in between keeps all of it here.
    options = {"max-size": "1g"} if driver == "local" else {}
    host = {"LogConfig": {"Type": driver, "Config": options}} if driver else {}
    return str(api.ask("POST", "/containers/create", {"Image": "busybox", "Cmd": command, "HostConfig": host})["Id"])


def _run(api: Wire, made: str) -> None:
    api.ask("POST", f"/containers/{made}/start")
    assert api.ask("POST", f"/containers/{made}/wait")["StatusCode"] == 0


def _read_back(api: Wire, made: str) -> None:
    reader = Wire(api.path)
    reader.begin("GET", f"/containers/{made}/logs?stdout=1&stderr=1", more="Connection: close\r\n")
    total = reader.count()
    reader.close()
    assert total >= SIZE, total


def streams(world: World, report: Report, peers: Peers, api: Wire, rounds: int) -> None:
    """Bytes a second through exec and attach."""
    if not report.wants("exec stream", "attach stream", "scow exec"):
        return
    made = _create(api, ["sleep", "infinity"])
    api.ask("POST", f"/containers/{made}/start")
    rates: dict[str, list[float]] = {"exec stream": [], "attach stream": [], "scow exec, its output piped": []}
    for _ in range(rounds):
        job = api.ask("POST", f"/containers/{made}/exec", {"Cmd": ZEROS, "AttachStdout": True})["Id"]
        rates["exec stream"].append(_stream(api.path, f"/exec/{job}/start", {"Detach": False}))
        other = _create(api, ZEROS, "none")
        reader = Wire(api.path)
        reader.hijack(f"/containers/{other}/attach?stream=1&stdout=1&stderr=1")
        began = time.perf_counter()
        api.ask("POST", f"/containers/{other}/start")
        rates["attach stream"].append(reader.count() / MEGA / (time.perf_counter() - began))
        reader.close()
        api.ask("DELETE", f"/containers/{other}?force=1")
        rates["scow exec, its output piped"].append(_piped(cli(world, "exec", made, *ZEROS)))
    for name, values in rates.items():
        report.take(name, "MB/s", values)
    api.ask("DELETE", f"/containers/{made}?force=1")
    if peers.podman is not None:
        kept = peers.podman.begin("sleep", "1000")
        report.put("peer: podman exec, its output piped", "MB/s", _piped([*peers.podman.words, "exec", kept, *ZEROS]))


def _stream(path: str, target: str, body: object) -> float:
    reader = Wire(path)
    began = time.perf_counter()
    reader.hijack(target, body)
    total = reader.count()
    reader.close()
    assert total >= SIZE * 0.99, total
    return total / MEGA / (time.perf_counter() - began)


def _piped(command: list[str]) -> float:
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    total = 0
    while data := process.stdout.read(1 << 20):
        total += len(data)
    process.stdout.close()
    assert process.wait() == 0
    return total / MEGA / (time.perf_counter() - began)
