"""The docker CLI on this engine: what `run` can be told about users, mounts, networks, limits and privileges."""

import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.world import DOCKER_CLI, World

pytestmark = [
    pytest.mark.root,
    pytest.mark.peer,
    pytest.mark.skipif(DOCKER_CLI is None, reason="the docker CLI is not installed here"),
]

Docker = Callable[..., str]


@pytest.fixture(scope="module")
def docker(world: World) -> Docker:
    run: Docker = world.docker_cli
    return run


@pytest.fixture(scope="module")
def box(docker: Docker) -> Iterator[str]:
    """A container others share namespaces with."""
    docker("run", "-d", "--name", "shared", "--ipc", "shareable", "busybox", "sleep", "1000")
    yield "shared"
    docker("rm", "-f", "-v", "shared")


@pytest.fixture
def made(docker: Docker) -> Iterator[str]:
    """A name for a container that is removed at the end."""
    yield "made"
    docker("rm", "-f", "-v", "made")


@pytest.mark.parametrize(
    ("options", "script", "expected"),
    [
        (["-u", "12:34"], "id", "uid=12 gid=34 groups=34"),
        (["-u", "12:34", "--group-add", "56"], "id -G", "34 56"),
        (["-u", "nobody"], "id -un", "nobody"),
        (["-w", "/new/folder"], "pwd", "/new/folder"),
        (["--hostname", "named", "--domainname", "example.org"], "hostname; hostname -f", "named\nnamed.example.org"),
        (["--entrypoint", "/bin/echo"], None, "-c"),
        (["--network", "none"], "ls /sys/class/net", "lo"),
        (["--memory", "32m"], "cat memory/memory.limit_in_bytes || cat memory.max", f"{32 << 20}"),
        (["--memory", "32m", "--memory-swap", "64m"], "stat -c %n .", "."),
        (["--cpus", "0.5"], "cat cpu/cpu.cfs_quota_us || cat cpu.max", r"50000( 100000)?"),
        (["--pids-limit", "33"], "cat pids/pids.max || cat pids.max", "33"),
        (["--cpuset-cpus", "0"], "grep -o 'list.*' /proc/self/status | head -1", r"list:\t0"),
        (["--cap-drop", "ALL"], "grep CapEff /proc/self/status", "CapEff:\t0000000000000000"),
        (["--cap-drop", "ALL", "--cap-add", "NET_RAW"], "grep CapEff /proc/self/status", "CapEff:\t0000000000002000"),
        (["--cap-add", "SYS_TIME"], "grep CapBnd /proc/self/status", "CapBnd:\t00000000aa0425fb"),
        ([], "grep -E 'CapEff|Seccomp:|NoNew|SigIgn' /proc/self/status | cut -f2", "SIGNALS\n00000000a80425fb\n0\n2"),
        (["--privileged"], "grep Seccomp: /proc/self/status; mount -t tmpfs t /tmp && echo mounted",
         "Seccomp:\t0\nmounted"),
        (["--security-opt", "seccomp=unconfined"], "grep Seccomp: /proc/self/status", "Seccomp:\t0"),
        (["--security-opt", "no-new-privileges"], "grep NoNew /proc/self/status", "NoNewPrivs:\t1"),
        (["--read-only"], "touch /x 2>&1 || echo no", "touch: /x: Read-only file system\nno"),
        (["--read-only", "--tmpfs", "/new:size=1m"], "touch /new/x && df /new | tail -1", r"tmpfs +1024 .*"),
        (["--tmpfs", "/new"], "stat -c %a /new", "1777"),
        (["--tmpfs", "/etc"], "stat -c %a /etc", "755"),
        (["--tmpfs", "/new:mode=700"], "stat -c %a /new", "700"),
        (["--init"], "cat /proc/1/cmdline | tr '\\0' ' ' | cut -c1-9", "scow-init"),
        (["--ulimit", "nofile=100:200"], "ulimit -n; ulimit -Hn", "100\n200"),
        (["--sysctl", "net.ipv4.ip_default_ttl=77"], "cat /proc/sys/net/ipv4/ip_default_ttl", "77"),
        (["--device", "/dev/zero:/dev/nought:r"], "head -c1 /dev/nought | wc -c", "1"),
        (["--shm-size", "3m"], "df /dev/shm | tail -1", r"shm +3072 .*"),
        (["--oom-score-adj", "100"], "cat /proc/self/oom_score_adj", "100"),
        (["--mac-address", "02:42:ac:11:00:77"], "cat /sys/class/net/eth0/address", "02:42:ac:11:00:77"),
        (["--add-host", "other:1.2.3.4"], "grep other /etc/hosts", "1.2.3.4\tother"),
        (["--add-host", "up:host-gateway"], "grep -c up$ /etc/hosts", "1"),
        (["--dns", "9.9.9.9", "--dns-search", "s.example", "--dns-option", "ndots:2"], "cat /etc/resolv.conf",
         "nameserver 9.9.9.9\nsearch s.example\noptions ndots:2"),
        (["-e", "A=1", "-e", "B=two words"], 'echo "$A $B"', "1 two words"),
        ([], "env | sort", r"HOME=/root\nHOSTNAME=[0-9a-f]{12}\nPATH=.*\nPWD=/\nSHLVL=1"),
        (["--stop-timeout", "3", "--annotation", "a=b", "--log-opt", "max-size=1m", "--isolation", "default",
          "--userns", "host", "--platform", "linux"], "echo fine", "fine"),
    ],
)  # fmt: skip
def test_options_of_run(docker: Docker, options: list[str], script: str | None, expected: str) -> None:
    command = (
        ["sh", "-c", f"cd /sys/fs/cgroup 2>/dev/null; {script}"] if "cat " in (script or "") else ["sh", "-c", script]
    )
    words = [*command] if script else ["-c"]
    answer = docker("run", "--rm", *options, "busybox", *[word for word in words if word])
    # Signals 32 and 33 are glibc's own; it ignores them in what it spawns.
    answer = re.sub(r"^0000000(18|00)0000000$", "SIGNALS", answer, flags=re.M)
    assert re.fullmatch(expected, answer.strip()), answer


def test_the_hosts_namespaces(docker: Docker) -> None:
    assert "scow0" in docker("run", "--rm", "--network", "host", "busybox", "ls", "/sys/class/net")
    options = ("--pid", "host", "--uts", "host", "--ipc", "host")
    shown = docker("run", "--rm", *options, "busybox", "sh", "-c", "hostname; ps | wc -l").split()
    assert shown[0] == socket.gethostname()
    assert int(shown[1]) > 5


def test_namespaces_of_another_container(docker: Docker, world: World, box: str) -> None:
    address = docker("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", box).strip()
    assert address in docker("run", "--rm", "--network", f"container:{box}", "busybox", "ip", "addr")
    assert "sleep 1000" in docker("run", "--rm", "--pid", f"container:{box}", "busybox", "ps")
    docker("exec", box, "touch", "/dev/shm/mark")
    assert docker("run", "--rm", "--ipc", f"container:{box}", "busybox", "ls", "/dev/shm") == "mark\n"
    docker("run", "--rm", "--network", "container:nobody", "busybox", status=125)
    assert "No such container: nobody" in world.errors


def test_env_file_and_labels(docker: Docker, made: str, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# comment\nONE=1\nTWO=a b\n")
    (tmp_path / "labels").write_text("x=y\n")
    words = ("--env-file", str(tmp_path / "env"), "--label-file", str(tmp_path / "labels"), "-l", "z")
    assert docker("run", "--name", made, *words, "busybox", "sh", "-c", 'echo "$ONE $TWO"') == "1 a b\n"
    labels = json.loads(docker("inspect", "-f", "{{json .Config.Labels}}", made))
    assert {name: labels[name] for name in ("x", "z")} == {"x": "y", "z": ""}


# -- mounts ----------------------------------------------------------------------------------------------------------


def test_bind_mounts(docker: Docker, world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host\n")
    words = ("-v", f"{tmp_path}:/all", "-v", f"{tmp_path}:/ro:ro", "-v", f"{tmp_path}/file:/etc/one:ro")
    script = "cat /all/file /etc/one; touch /all/new; touch /ro/no 2>&1"
    assert docker("run", "--rm", *words, "busybox", "sh", "-c", script, status=1) == (
        "from the host\nfrom the host\ntouch: /ro/no: Read-only file system\n"
    )
    assert (tmp_path / "new").exists()
    docker("run", "--rm", "-v", f"{tmp_path}/made/by/it:/x", "busybox", "touch", "/x/y")
    assert (tmp_path / "made/by/it/y").exists()
    docker("run", "--rm", "--mount", f"type=bind,src={tmp_path}/nothing,dst=/x", "busybox", status=125)
    assert "bind source path does not exist" in world.errors
    mount = f"type=bind,src={tmp_path},dst=/x,readonly"
    assert "file" in docker("run", "--rm", "--mount", mount, "busybox", "ls", "/x")


def test_volumes(docker: Docker, world: World, made: str) -> None:
    script = "echo kept > /named/file; cat /again/file > /anonymous/copy"
    words = ("-v", "named:/named", "-v", "/anonymous", "-v", "named:/again:ro")
    docker("run", "--name", made, *words, "busybox", "sh", "-c", script)
    try:
        assert docker("run", "--rm", "-v", "named:/x", "busybox", "cat", "/x/file") == "kept\n"
        assert docker("run", "--rm", "--volumes-from", f"{made}:ro", "busybox", "sh", "-c",
                      "cat /anonymous/copy; touch /named/x || echo refused") == "kept\nrefused\n"  # fmt: skip
        listed = docker("volume", "ls", "-q").split()
        assert "named" in listed
        anonymous = next(name for name in listed if re.fullmatch("[0-9a-f]{64}", name))
        docker("volume", "rm", "named", status=1)
        assert "volume is in use" in world.errors
        assert json.loads(docker("volume", "inspect", "named"))[0]["Driver"] == "local"
        docker("rm", "-v", made)
        assert docker("volume", "ls", "-q").split() == [name for name in listed if name != anonymous]
    finally:
        docker("rm", "-f", made)
        docker("volume", "rm", "named")


def test_an_empty_volume_gets_what_the_image_has(docker: Docker) -> None:
    plain = docker("run", "--rm", "busybox", "ls", "/etc")
    try:
        assert plain.split() <= docker("run", "--rm", "-v", "filled:/etc", "busybox", "ls", "/etc").split()
        assert docker("run", "--rm", "-v", "filled:/x", "busybox", "cat", "/x/passwd").startswith("root:")
        mount = "type=volume,src=bare,dst=/etc,volume-nocopy"
        assert "passwd" not in docker("run", "--rm", "--mount", mount, "busybox", "ls", "/etc")
    finally:
        docker("volume", "rm", "-f", "filled", "bare")


def test_a_volume_of_a_file_system(docker: Docker) -> None:
    docker("volume", "create", "--label", "a=b", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m", "small")
    try:
        assert "1024" in docker("run", "--rm", "-v", "small:/x", "busybox", "df", "/x")
        assert docker("volume", "ls", "-q", "--filter", "label=a=b") == "small\n"
    finally:
        docker("volume", "rm", "small")


# -- networks --------------------------------------------------------------------------------------------------------


@pytest.fixture
def network(docker: Docker) -> Iterator[str]:
    docker("network", "create", "--subnet", "10.211.0.0/24", "--gateway", "10.211.0.254", "--label", "of=tests", "net")
    yield "net"
    docker("network", "rm", "net")


def test_published_ports(docker: Docker, world: World, made: str) -> None:
    docker("run", "-d", "--name", made, "-p", "127.0.0.1:7101:80", "-p", "7102:80", "-p", "7103-7104:90-91/udp", "-P",
           "--expose", "99", "busybox", "httpd", "-f", "-p", "80", "-h", "/etc")  # fmt: skip
    ask = b"GET /passwd HTTP/1.0\r\n\r\n"
    assert b"root:" in world.talk("127.0.0.1", 7101, ask)
    address = docker("inspect", "-f", "{{.NetworkSettings.Networks.bridge.Gateway}}", made).strip()
    assert b"root:" in world.talk(address, 7102, ask)
    with pytest.raises(OSError):
        world.talk(address, 7101, ask)
    assert re.search(r"0\.0\.0\.0:(3[2-9]|[45]\d|6[01])\d{3}", docker("port", made, "99"))
    docker("exec", "-d", made, "sh", "-c", "nc -u -l -p 90 -e cat")
    docker("run", "--rm", "-p", "7101:80", "busybox", status=125)
    assert "port is already allocated" in world.errors


def test_user_networks(docker: Docker, world: World, network: str, made: str) -> None:
    docker("run", "-d", "--name", made, "--network", network, "--network-alias", "other-name", "--ip", "10.211.0.77",
           "busybox", "sleep", "1000")  # fmt: skip
    ping = ("ping", "-c1", "-w2")
    for name in (made, "other-name"):
        shown = docker("run", "--rm", "--network", network, "busybox", *ping, name)
        assert "10.211.0.77" in shown
    quickly = ("--dns-option", "timeout:1", "--dns-option", "attempts:1")
    docker("run", "--rm", *quickly, "busybox", *ping, made, status=1)
    assert docker("run", "--rm", "--network", network, "busybox", "cat", "/etc/resolv.conf").startswith(
        "nameserver 127.0.0.11\n"
    )
    docker("network", "create", "second")
    try:
        docker("network", "connect", "--alias", "here", "second", made)
        docker("run", "--rm", "--network", "second", "busybox", *ping, "here")
        docker("network", "rm", "second", status=1)
        assert "has active endpoints" in world.errors
        docker("network", "disconnect", "second", made)
        docker("run", "--rm", "--network", "second", *quickly, "busybox", *ping, "here", status=1)
        docker("network", "disconnect", "second", made, status=1)
    finally:
        docker("network", "rm", "second")
    shown = json.loads(docker("network", "inspect", network))[0]
    assert [item["IPv4Address"] for item in shown["Containers"].values()] == ["10.211.0.77/24"]
    assert docker("ps", "-q", "--filter", f"network={network}")
    assert docker("network", "ls", "-q", "--filter", "label=of=tests")
    docker("rm", "-f", made)


def test_a_bridge_of_the_users_stays(docker: Docker, world: World) -> None:
    def links() -> set[str]:
        shown = subprocess.run(world.inside("ip", "-o", "link"), capture_output=True, text=True, check=True).stdout
        return {line.split(": ")[1].partition("@")[0] for line in shown.splitlines()}

    option = "com.docker.network.bridge.name"
    subprocess.run(world.inside("ip", "link", "add", "mine", "type", "bridge"), check=True)
    subprocess.run(world.inside("ip", "link", "add", "dull", "type", "veth"), check=True)
    try:
        docker("network", "create", "-o", f"{option}=mine", "on-mine")
        world.kill()
        world.start()
        docker("network", "rm", "on-mine")
        docker("network", "create", "-o", f"{option}=dull", "on-dull", status=1)
        docker("network", "create", "-o", f"{option}=ours", "on-ours")
        docker("network", "rm", "on-ours")
        assert {"mine", "dull", "ours"} & links() == {"mine", "dull"}
    finally:
        for name in ("mine", "dull"):
            subprocess.run(world.inside("ip", "link", "del", name), check=False)


def test_links_on_the_default_network(docker: Docker, box: str) -> None:
    shown = docker("run", "--rm", "--link", f"{box}:alias", "busybox", "ping", "-c1", "-w2", "alias")
    assert "1 packets received" in shown


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["network", "create", "bridge"], "operation is not permitted on predefined bridge network"),
        (["network", "create", "--subnet", "10.211.0.128/25", "overlapping"], "Pool overlaps"),
        (["network", "create", "--subnet", "nonsense", "x"], "nonsense"),
        (["network", "rm", "bridge"], "bridge is a pre-defined network and cannot be removed"),
        (["network", "rm", "nowhere"], "network nowhere not found"),
        (["network", "connect", "nowhere", "shared"], "network nowhere not found"),
        (
            ["run", "--ip", "172.17.0.99", "busybox"],
            "user specified IP address is supported on user defined networks only",
        ),
        (["volume", "rm", "nowhere"], "no such volume"),
        (["volume", "create", "-d", "nowhere", "name"], "nowhere"),
        (["run", "--gpus", "all", "busybox"], 'could not select device driver "" with capabilities: [[gpu]]'),
        (["run", "--log-driver", "nowhere", "busybox"], "no log driver named 'nowhere' is registered"),
        (["run", "--runtime", "nowhere", "busybox"], "unknown or invalid runtime name: nowhere"),
        (["run", "-u", "stranger", "busybox"], "unable to find user stranger: no matching entries in passwd file"),
        (["run", "--volumes-from", "nobody", "--pull", "never", "busybox"], "No such container: nobody"),
        (["run", "--platform", "linux/arm64", "--pull", "never", "busybox"], "linux/arm64"),
    ],
)
def test_refusals(docker: Docker, world: World, network: str, box: str, words: list[str], sentence: str) -> None:
    before = docker("ps", "-aq")
    if words[0] == "run":
        docker("run", "--rm", *words[1:], status=125)
    else:
        docker(*words, status=1)
    assert sentence in world.errors
    assert docker("ps", "-aq", "--filter", "status=created") == ""
    assert docker("ps", "-aq") == before
