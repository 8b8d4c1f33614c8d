"""A container's life on a real kernel, by docker-py and the docker CLI: what people and tools do all day."""

import contextlib
import fcntl
import io
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import tarfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from support.world import World, docker_program

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

SLEEP = ["sleep", "1000"]


@pytest.fixture
def client(world: World) -> Iterator[docker.DockerClient]:
    """docker-py; whatever containers a test leaves are removed."""
    made = world.docker()
    yield made
    for container in made.containers.list(all=True):
        with contextlib.suppress(docker.errors.NotFound):
            container.remove(force=True, v=True)
    made.volumes.prune(filters={"all": True})


def logs_of(container) -> bytes:
    container.wait()
    return container.logs()


def run(client, *command, **options) -> bytes:
    """Run to the end; everything it wrote."""
    container = client.containers.run("busybox", list(command), detach=True, **options)
    try:
        return logs_of(container)
    finally:
        container.remove(force=True, v=True)


def until(holds, seconds: float = 20) -> None:
    """Ask again and again; for facts of the kernel nobody sends events about."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_streams_and_exit_codes(client) -> None:
    container = client.containers.run("busybox", ["sh", "-c", "echo out; echo err >&2; exit 3"], detach=True)
    assert container.wait() == {"StatusCode": 3}
    assert container.logs(stderr=False) == b"out\n"
    assert container.logs(stdout=False) == b"err\n"
    stamped = container.logs(stderr=False, timestamps=True).decode()
    assert stamped.endswith("Z out\n")
    assert container.logs(tail=0) == b""


def test_stdin_reaches_the_program(world: World) -> None:
    data = os.urandom(1 << 20)
    command = [docker_program(), "-H", f"unix://{world.socket}", "run", "-i", "--rm", "busybox", "cat"]
    done = subprocess.run(world.inside(*command), input=data, capture_output=True, timeout=60)
    assert done.stdout == data


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["busybox", "nope"], 127, "executable file not found in $PATH"),
        (["busybox", "/nope/nope"], 127, "no such file or directory"),
        (["busybox", "/etc/passwd"], 126, "permission denied"),
        (["busybox", "sh", "-c", "exit 42"], 42, ""),
        (["--user", "nobody-here", "busybox", "true"], 125, "unable to find user nobody-here"),
        (["--network", "container:nobody-here", "busybox", "true"], 125, "No such container: nobody-here"),
        (["-v", "/nope:/nope:maybe", "busybox", "true"], 125, "invalid mode"),
        (["--pull=never", "no-such-image", "true"], 125, "No such image: no-such-image:latest"),
    ],
)
def test_the_docker_cli_gives_its_own_exit_codes(world: World, arguments, status, sentence) -> None:
    world.docker_cli("run", "--rm", *arguments, status=status)
    assert sentence in world.errors
    assert world.docker_cli("ps", "-aq") == ""


class Terminal:
    """A program of the docker CLI on a terminal of its own."""

    def __init__(self, world: World, *arguments: str) -> None:
        self.fd, slave = pty.openpty()
        self.size(24, 80)
        command = world.inside(docker_program(), "-H", f"unix://{world.socket}", *arguments)
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        self.seen = b""

    def size(self, rows: int, cols: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, data: bytes) -> None:
        os.write(self.fd, data)

    def until(self, text: bytes, meanwhile=lambda: None) -> None:
        end = time.monotonic() + 20
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            meanwhile()
            if select.select([self.fd], [], [], 0.1)[0]:
                self.seen += os.read(self.fd, 65536)

    def close(self) -> int:
        code = self.process.wait(20)
        os.close(self.fd)
        return code


def test_a_terminal(world: World, client) -> None:
    terminal = Terminal(world, "run", "--rm", "-it", "busybox", "sh")
    terminal.until(b"# ")
    terminal.size(33, 111)
    terminal.type(b"while ! stty size | grep 33; do :; done; echo d''one; exit 7\n")
    # The CLI begins to listen for this signal some time after the shell's first prompt.
    terminal.until(b"33 111", lambda: terminal.process.send_signal(signal.SIGWINCH))
    terminal.until(b"done")
    assert terminal.close() == 7


def test_detach_and_attach_again(world: World, client) -> None:
    client.containers.run("busybox", ["sh"], detach=True, tty=True, stdin_open=True, name="shell")
    terminal = Terminal(world, "attach", "--detach-keys", "ctrl-a,d", "shell")
    terminal.type(b"echo o''ne\n")
    terminal.until(b"one")
    terminal.type(b"\x01d")
    terminal.close()
    shell = client.containers.get("shell")
    assert shell.status == "running"
    terminal = Terminal(world, "attach", "shell")
    terminal.type(b"echo t''wo; exit 5\n")
    terminal.until(b"two")
    assert terminal.close() == 5
    assert shell.logs().count(b"one") == 1


def test_exec(world: World, client) -> None:
    client.containers.run("busybox", SLEEP, detach=True, name="box", environment={"A": "1"}, working_dir="/tmp")
    box = client.containers.get("box")
    assert box.exec_run(["sh", "-c", "echo $A; pwd; exit 9"]) == (9, b"1\n/tmp\n")
    demuxed = box.exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True)
    assert demuxed.output == (b"out\n", b"err\n")
    assert box.exec_run("id -u", user="1234").output == b"1234\n"
    assert box.exec_run("pwd", workdir="/etc").output == b"/etc\n"
    assert world.docker_cli("exec", "-i", "box", "cat", data=b"given") == "given"
    world.docker_cli("exec", "box", "nope", status=127)
    world.docker_cli("exec", "box", "/etc/passwd", status=126)
    assert box.exec_run("tty", tty=True).output == b"/dev/pts/0\r\n"
    made = client.api.exec_create("box", ["cat"], stdin=True)
    sock = client.api.exec_start(made["Id"], socket=True)
    sock._sock.sendall(b"hello")
    sock._sock.shutdown(socket.SHUT_WR)
    assert sock.read()[8:] == b"hello"
    sock._sock.close()
    sock.close()
    assert client.api.exec_inspect(made["Id"])["ExitCode"] == 0
    client.api.exec_start(client.api.exec_create("box", ["touch", "/made"])["Id"], detach=True)
    until(lambda: box.exec_run("ls /made").exit_code == 0)
    box.remove(force=True)
    with pytest.raises(docker.errors.NotFound, match="No such exec instance"):
        client.api.exec_inspect(made["Id"])


def test_stop_kill_pause_restart(client) -> None:
    trap = "trap 'echo bye; exit 4' TERM; echo up; while :; do sleep 0.05; done"
    box = client.containers.run("busybox", ["sh", "-c", trap], detach=True)
    until(lambda: b"up" in box.logs())
    box.pause()
    box.reload()
    assert (box.status, box.attrs["State"]["Running"]) == ("paused", True)
    box.unpause()
    box.stop(timeout=20)
    assert box.wait()["StatusCode"] == 4
    assert b"bye" in box.logs()
    box.stop()
    box.start()
    box.start()
    box.kill()
    assert box.wait()["StatusCode"] == 137
    box.restart(timeout=0)
    box.reload()
    assert box.status == "running"
    with pytest.raises(docker.errors.APIError, match="container is running: stop the container"):
        box.remove()


def test_restart_policies(client) -> None:
    policy = {"Name": "on-failure", "MaximumRetryCount": 2}
    failing = client.containers.run("busybox", ["false"], detach=True, restart_policy=policy)
    until(lambda: failing.reload() or (failing.status == "exited" and failing.attrs["RestartCount"] == 2))
    always = client.containers.run("busybox", ["true"], detach=True, restart_policy={"Name": "always"})
    until(lambda: always.reload() or always.attrs["RestartCount"] >= 2)
    always.stop()
    always.reload()
    assert always.status == "exited"


def test_auto_remove_and_wait(client) -> None:
    box = client.containers.run("busybox", ["sh", "-c", "sleep 0.2; exit 6"], detach=True, auto_remove=True)
    assert box.wait(condition="removed") == {"StatusCode": 6}
    with pytest.raises(docker.errors.NotFound, match="No such container"):
        box.reload()


def test_follow_logs_until_the_end(world: World, client) -> None:
    box = client.containers.run("busybox", ["sh", "-c", "for i in 1 2 3 4; do echo $i; sleep 0.1; done"], detach=True)
    assert b"".join(box.logs(stream=True, follow=True)) == b"1\n2\n3\n4\n"
    assert world.docker_cli("logs", "--tail", "2", "-f", box.id) == "3\n4\n"


def test_health(client) -> None:
    probe = {"Test": ["CMD-SHELL", "test -f /ok"], "Interval": 50_000_000, "Retries": 1}
    box = client.containers.run("busybox", SLEEP, detach=True, healthcheck=probe)
    events = client.events(decode=True, filters={"container": box.id, "event": "health_status"})
    until(lambda: box.reload() or box.health == "unhealthy")
    box.exec_run("touch /ok")
    until(lambda: box.reload() or box.health == "healthy")
    assert next(events)["Action"].startswith("health_status: ")
    events.close()
    assert box.attrs["State"]["Health"]["Log"][-1]["ExitCode"] == 0


def test_mounts(client, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("host")
    volumes = {"data": {"bind": "/data", "mode": "rw"}, str(tmp_path): {"bind": "/host", "mode": "ro"}}
    script = "cat /host/file; echo kept > /data/f; touch /host/no 2>&1; touch /scratch/x; df /scratch | tail -1"
    out = run(client, "sh", "-c", script, volumes=volumes, tmpfs={"/scratch": "size=1m"})
    assert out.startswith(b"host")
    assert b"Read-only file system" in out
    assert b"tmpfs" in out
    assert run(client, "cat", "/data/f", volumes=["data:/data:ro"]) == b"kept\n"
    assert client.volumes.get("data").attrs["Mountpoint"]
    run(client, "true", volumes=["/anonymous"])
    assert [volume.name for volume in client.volumes.list()] == ["data"]
    image = {"Type": "image", "Source": "busybox", "Target": "/image"}
    out = run(client, "sh", "-c", "ls /image/bin; touch /image/x 2>&1", mounts=[image])
    assert b"busybox" in out
    assert b"Read-only" in out


def test_volumes_are_filled_from_the_image_and_shared(client) -> None:
    first = client.containers.run("busybox", SLEEP, detach=True, volumes=["filled:/etc"], name="first")
    assert first.exec_run("cat /etc/passwd").output.startswith(b"root:")
    out = run(client, "sh", "-c", "head -c4 /etc/passwd; touch /etc/x 2>&1", volumes_from=["first:ro"])
    assert out.startswith(b"root")
    assert b"Read-only" in out


def test_isolation_and_limits(client) -> None:
    script = "id -u; grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; touch /x 2>&1; ls /proc/kcore -l | cut -c1"
    options = {"cap_drop": ["ALL"], "user": "1000", "read_only": True, "security_opt": ["no-new-privileges"]}
    out = run(client, "sh", "-c", script, **options).decode()
    assert out.startswith("1000\n")
    assert "CapBnd:\t0000000000000000" in out
    assert "NoNewPrivs:\t1" in out
    assert "Seccomp:\t2" in out
    assert "Read-only file system" in out
    limited = {"mem_limit": "64m", "nano_cpus": 500_000_000, "pids_limit": 33}
    box = client.containers.run("busybox", SLEEP, detach=True, **limited)
    stats = box.stats(stream=False)
    assert stats["memory_stats"]["limit"] == 64 << 20
    assert stats["pids_stats"]["limit"] == 33
    box.update(mem_limit="128m", memswap_limit="256m")
    assert box.stats(stream=False, one_shot=True)["memory_stats"]["limit"] == 128 << 20
    ulimits = [docker.types.Ulimit(name="nofile", soft=77, hard=88)]
    assert run(client, "sh", "-c", "ulimit -n; ulimit -Hn", ulimits=ulimits) == b"77\n88\n"
    assert run(client, "cat", "/proc/sys/net/ipv4/ip_forward", sysctls={"net.ipv4.ip_forward": "1"}) == b"1\n"
    assert b"scow-init" in run(client, "ps", init=True)
    assert run(client, "sh", "-c", "echo >/dev/mine && echo ok", devices=["/dev/null:/dev/mine:w"]) == b"ok\n"


def test_out_of_memory(client) -> None:
    fill = "cat /dev/zero | tail"
    box = client.containers.run("busybox", ["sh", "-c", fill], detach=True, mem_limit="16m", memswap_limit="16m")
    box.wait()
    box.reload()
    assert box.attrs["State"]["OOMKilled"]


def test_shared_namespaces(client) -> None:
    first = client.containers.run("busybox", SLEEP, detach=True, name="first", ipc_mode="shareable", hostname="one")
    first.exec_run(["sh", "-c", "echo shared > /dev/shm/f"])
    shared = {"network_mode": "container:first", "pid_mode": "container:first", "ipc_mode": "container:first"}
    out = run(client, "sh", "-c", "hostname; ps -o args | grep -cx 'sleep 1000'; cat /dev/shm/f", **shared)
    assert out == b"one\n1\nshared\n"
    assert run(client, "hostname", uts_mode="host").strip().decode() == os.uname().nodename
    private = client.containers.run("busybox", SLEEP, detach=True, name="private")
    with pytest.raises(docker.errors.APIError, match="non-shareable IPC"):
        client.containers.run("busybox", ["true"], ipc_mode="container:private")
    private.stop(timeout=0)
    with pytest.raises(docker.errors.APIError, match="cannot join network of a non running container"):
        client.containers.run("busybox", ["true"], network_mode="container:private")


def test_networks_names_and_ports(world: World, client) -> None:
    network = client.networks.create("blue")
    serve = ["sh", "-c", "echo pong > /index.html; exec httpd -f -p 80 -h /"]
    server = client.containers.run("busybox", serve, detach=True, name="server", network="blue", ports={"80/tcp": None})
    out = run(client, "sh", "-c", "until wget -qO- http://server/; do :; done; cat /etc/resolv.conf", network="blue")
    assert b"pong\nnameserver 127.0.0.11" in out
    server.reload()
    port = int(server.ports["80/tcp"][0]["HostPort"])
    assert world.talk("127.0.0.1", port, b"GET /index.html HTTP/1.0\r\n\r\n").endswith(b"pong\n")
    other = client.containers.run("busybox", SLEEP, detach=True, name="other")
    network.connect(other, aliases=["else"])
    assert other.exec_run("ping -c1 -W2 server").exit_code == 0
    assert server.exec_run("ping -c1 -W2 else").exit_code == 0
    other.rename("renamed")
    assert server.exec_run("ping -c1 -W2 renamed").exit_code == 0
    network.disconnect(other)
    assert other.exec_run("ping -c1 -W1 server").exit_code != 0
    server.remove(force=True)
    network.remove()
    host = run(client, "cat", "/etc/hosts", extra_hosts={"db": "10.1.2.3"}, dns=["9.9.9.9"], hostname="me")
    assert b"10.1.2.3\tdb" in host
    assert b"\tme\n" in host
    assert b"lo" in run(client, "ip", "-o", "link", network_mode="none")
    shown = "/proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_unprivileged_port_start"
    for mode in ("bridge", "none"):
        assert run(client, "sh", "-c", f"cat {shown}", network_mode=mode).split() == [b"0", b"2147483647", b"0"]


def test_copy_in_and_out(world: World, client, tmp_path: Path) -> None:
    (tmp_path / "tree/below").mkdir(parents=True)
    (tmp_path / "tree/below/file").write_text("content")
    (tmp_path / "tree/link").symlink_to("below/file")
    for state in ("created", "running"):
        box = client.containers.create("busybox", SLEEP, name=state, volumes=["vol:/vol"])
        if state == "running":
            box.start()
        world.docker_cli("cp", str(tmp_path / "tree"), f"{state}:/")
        world.docker_cli("cp", str(tmp_path / "tree/below/file"), f"{state}:/vol/renamed")
        world.docker_cli("cp", f"{state}:/tree/.", str(tmp_path / state))
        assert (tmp_path / state / "below/file").read_text() == "content"
        assert (tmp_path / state / "link").is_symlink()
        world.docker_cli("cp", f"{state}:/vol/renamed", str(tmp_path / f"{state}-file"))
        assert (tmp_path / f"{state}-file").read_text() == "content"
        world.docker_cli("cp", f"{state}:/nope", str(tmp_path), status=1)
        assert "Could not find the file /nope in container" in world.errors
        world.docker_cli("cp", str(tmp_path / "tree/below/file"), f"{state}:/tree/below", status=0)
        assert {"Path": "/tree", "Kind": 1} in box.diff()
        assert not {"/etc/hosts", "/dev", "/proc"} & {change["Path"] for change in box.diff()}
    exported = b"".join(client.containers.get("running").export())
    with tarfile.open(fileobj=io.BytesIO(exported)) as archive:
        names = set(archive.getnames())
    assert "tree/below/file" in names
    assert "vol/renamed" not in names
    assert not any(name.startswith("proc/") for name in names)


def test_commit(client) -> None:
    box = client.containers.run("busybox", ["sh", "-c", "echo made > /made"], detach=True, environment=["A=1"])
    box.wait()
    image = box.commit("made", "v1", author="me", message="why", changes=['CMD ["cat", "/made"]', "ENV B=2"])
    try:
        assert set(image.attrs["Config"]["Env"]) >= {"A=1", "B=2"}
        assert image.history()[0]["Comment"] == "why"
        again = client.containers.run("made:v1", detach=True)
        assert logs_of(again) == b"made\n"
        again.remove()
        box.remove()
    finally:
        client.images.remove("made:v1", force=True)


def test_top_and_lists(world: World, client) -> None:
    box = client.containers.run("busybox", SLEEP, detach=True, name="listed", labels={"team": "blue"})
    top = box.top()
    assert top["Titles"] == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert top["Processes"][0][-1] == "sleep 1000"
    assert box.top(ps_args="-o pid,comm")["Titles"] == ["PID", "COMMAND"]
    assert client.containers.list(filters={"label": "team=blue", "ancestor": "busybox"}) == [box]
    assert client.containers.list(filters={"name": "nope"}) == []
    row = json.loads(world.docker_cli("ps", "--size", "--format", "json"))
    assert (row["Names"], row["State"]) == ("listed", "running")
    assert "virtual" in row["Size"]


def test_websocket(world: World, client) -> None:
    client.containers.create("busybox", ["cat"], stdin_open=True, name="echo").start()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(world.socket))
        sock.settimeout(20)
        sock.sendall(
            b"GET /v1.44/containers/echo/attach/ws?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\n"
            b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(4096)
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        sock.sendall(b"\x82\x83\0\0\0\0hi\n")
        assert sock.recv(100) == b"\x82\x03hi\n"


def test_events_tell_the_story(client) -> None:
    since = time.time()
    box = client.containers.run("busybox", ["true"], detach=True, name="told")
    box.wait()
    box.remove()
    stories = client.events(since=since, until=time.time() + 1, decode=True, filters={"type": "container"})
    assert [event["Action"] for event in stories] == ["create", "start", "die", "destroy"]


def test_daemon_restart_and_crash(own_world: World) -> None:
    own_world.start()
    own_world.scow("image", "bootstrap", "busybox")
    client = own_world.docker()
    count = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"
    counter = client.containers.run("busybox", ["sh", "-c", count], detach=True, name="counter")
    short = client.containers.run("busybox", ["sh", "-c", "sleep 0.5; exit 9"], detach=True)
    sticky = client.containers.run("busybox", ["true"], detach=True, restart_policy={"Name": "unless-stopped"})
    own_world.kill()
    time.sleep(1)
    own_world.start()
    counter.reload()
    assert counter.status == "running"
    assert short.wait() == {"StatusCode": 9}
    numbers = [int(line) for line in counter.logs().split()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert counter.exec_run("true").exit_code == 0
    assert counter.attach(stream=False, logs=True).startswith(b"1\n2\n")
    assert own_world.stop() == 0
    own_world.start()
    counter.reload()
    assert counter.status == "exited"
    until(lambda: sticky.reload() or sticky.attrs["RestartCount"] > 0)
    sticky.remove(force=True)


def test_nothing_is_left_behind(own_world: World) -> None:
    own_world.start()
    own_world.scow("image", "bootstrap", "busybox")
    client = own_world.docker()
    pid = own_world.process.pid
    for _ in range(8):  # what is kept ready (prepared shims, connections) is made at first
        run(client, "true")

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{pid}/fd"))

    mounts = Path("/proc/self/mountinfo").read_text()
    before = descriptors()
    for _ in range(5):
        run(client, "sh", "-c", "echo x", ports={"80/tcp": None}, volumes=["/anonymous"])
        with pytest.raises(docker.errors.APIError):
            client.containers.run("busybox", ["nope"], remove=True)
    for container in client.containers.list(all=True):
        container.remove()
    until(lambda: descriptors() <= before + 2)
    assert Path("/proc/self/mountinfo").read_text() == mounts
    for place in ("containers", "snapshots", "volumes"):
        left = [entry for entry in (own_world.root / "data" / place).rglob("*") if len(entry.name) == 64]
        assert not left, left
