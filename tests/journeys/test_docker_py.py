"""docker-py on this engine: containers, exec, streams, archives, networks, volumes, images, events, API versions."""

import contextlib
import gc
import io
import tarfile
import threading
from collections.abc import Iterator
from typing import Any

import docker
import pytest
from docker.types import Healthcheck, IPAMConfig, IPAMPool, LogConfig, Mount, Ulimit

from support.registries import start_scow_registry
from support.world import World

# docker-py leaves the sockets of hijacked streams to the garbage collector, which complains about them.
pytestmark = [pytest.mark.root, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture(scope="module")
def client(world: World) -> docker.DockerClient:
    return world.docker()


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """What a test's streams left behind goes before the next test."""
    yield
    gc.collect()


@contextlib.contextmanager
def running(client: docker.DockerClient, *command: str, **options: Any) -> Iterator[Any]:
    container = client.containers.run("busybox", [*(command or ("sleep", "1000"))], detach=True, **options)
    try:
        yield container
    finally:
        with contextlib.suppress(docker.errors.NotFound):
            container.remove(force=True, v=True)


def pack(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


# -- containers ------------------------------------------------------------------------------------------------------


def test_run_returns_what_was_printed(client: docker.DockerClient) -> None:
    assert client.containers.run("busybox", "echo hello", remove=True) == b"hello\n"
    both = client.containers.run("busybox", ["sh", "-c", "echo out; echo err >&2"], remove=True, stderr=True)
    assert sorted(both.splitlines()) == [b"err", b"out"]
    assert list(client.containers.run("busybox", ["printf", "a\\nb\\n"], remove=True, stream=True)) == [b"a\n", b"b\n"]


def test_run_tells_why_it_failed(client: docker.DockerClient) -> None:
    with pytest.raises(docker.errors.ContainerError) as failed:
        client.containers.run("busybox", ["sh", "-c", "echo why >&2; exit 3"], remove=True)
    assert (failed.value.exit_status, failed.value.stderr) == (3, b"why\n")
    with pytest.raises(docker.errors.APIError, match="executable file not found"):
        client.containers.run("busybox", "no-such-program", remove=True)
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("no-such-image")
    with pytest.raises(docker.errors.NotFound):
        client.containers.get("no-such-container")


def test_the_life_of_a_container(client: docker.DockerClient) -> None:
    script = "trap 'exit 5' TERM; while :; do sleep 0.05; done"
    container = client.containers.create("busybox", ["sh", "-c", "echo up; " + script], name="py", labels={"a": "b"})
    try:
        assert container.status == "created"
        container.start()
        assert next(container.logs(stream=True, follow=True)) == b"up\n"
        container.pause()
        container.reload()
        assert container.status == "paused"
        container.unpause()
        container.rename("py-renamed")
        container.reload()
        assert container.name == "py-renamed"
        assert container.top(ps_args="-o pid,comm")["Titles"] == ["PID", "COMMAND"]
        stats = container.stats(stream=False)
        assert stats["memory_stats"]["usage"] > 0
        assert stats["networks"]["eth0"]
        assert next(container.stats(stream=True, decode=True))["name"] == "/py-renamed"
        container.update(mem_limit="64m", memswap_limit=-1, restart_policy={"Name": "no"})
        container.restart(timeout=1)
        container.kill()
        assert container.wait()["StatusCode"] == 137
        assert [found.id for found in client.containers.list(all=True, filters={"label": "a=b"})] == [container.id]
    finally:
        container.remove(force=True)
    with pytest.raises(docker.errors.NotFound):
        container.reload()


def test_waiting_for_what_comes_next(client: docker.DockerClient) -> None:
    container = client.containers.create("busybox", "true")
    answers: list[Any] = []
    waiting = threading.Thread(target=lambda: answers.append(container.wait(condition="next-exit", timeout=20)))
    waiting.start()
    container.start()
    waiting.join(1)
    if waiting.is_alive():  # the start came first: there will be another exit
        container.start()
        waiting.join()
    assert answers == [{"StatusCode": 0}]
    container.remove()


def test_logs(client: docker.DockerClient) -> None:
    with running(client, "sh", "-c", "echo one; echo two >&2; sleep 0.3; echo three") as container:
        assert list(container.logs(stream=True, follow=True, stderr=False)) == [b"one\n", b"three\n"]
        assert container.logs(stdout=False) == b"two\n"
        assert container.logs(tail=1) == b"three\n"
        assert container.logs(timestamps=True, tail=1).endswith(b"Z three\n")


def test_options(client: docker.DockerClient) -> None:
    with running(
        client,
        environment={"A": "1"}, mem_limit="64m", nano_cpus=500_000_000, pids_limit=50, cap_drop=["ALL"],
        cap_add=["NET_RAW"], security_opt=["no-new-privileges"], read_only=True, tmpfs={"/tmp": "size=1m"}, init=True,
        ulimits=[Ulimit(name="nofile", soft=100, hard=200)], sysctls={"net.ipv4.ip_default_ttl": "70"},
        extra_hosts={"other": "1.2.3.4"}, dns=["9.9.9.9"], hostname="named", user="1:2", working_dir="/tmp",
        shm_size="3m", log_config=LogConfig(type="local"), stop_signal="SIGINT", labels=["plain"], domainname="d",
        healthcheck=Healthcheck(test=["CMD", "true"], interval=100_000_000), group_add=["7"], oom_score_adj=10,
        mounts=[Mount("/data", "py-volume"), Mount("/scratch", None, type="tmpfs", tmpfs_size=1 << 20)],
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 2},
        ports={"80/tcp": ("127.0.0.1", 7301), "81": None},
    ) as container:  # fmt: skip
        code, output = container.exec_run(["sh", "-c", "id; pwd; hostname; ulimit -n; grep other /etc/hosts"])
        assert (code, output.decode().splitlines()) == (
            0,
            ["uid=1 gid=2 groups=2,7", "/tmp", "named", "100", "1.2.3.4\tother"],
        )
        container.reload()
        host = container.attrs["HostConfig"]
        assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (64 << 20, 500_000_000, 50)
        assert container.ports["80/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "7301"}]
        assert container.ports["81/tcp"]
        assert container.attrs["Config"]["StopSignal"] == "SIGINT"
        assert container.logs() == b""
        assert {mount["Destination"] for mount in container.attrs["Mounts"]} >= {"/data"}
    client.volumes.get("py-volume").remove()


# -- exec and attach -------------------------------------------------------------------------------------------------


def test_exec(client: docker.DockerClient) -> None:
    with running(client) as container:
        assert container.exec_run("sh -c 'exit 7'").exit_code == 7
        done = container.exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True)
        assert done.output == (b"out\n", b"err\n")
        assert container.exec_run("id -u", user="5").output == b"5\n"
        assert container.exec_run("pwd", workdir="/tmp").output == b"/tmp\n"
        assert container.exec_run(["sh", "-c", "echo $A"], environment=["A=b"]).output == b"b\n"
        assert container.exec_run("tty", tty=True).output == b"/dev/pts/0\r\n"
        assert b"".join(container.exec_run(["printf", "a\\nb"], stream=True).output) == b"a\nb"
        assert container.exec_run("no-such-program").exit_code == 127
        assert container.exec_run("true", detach=True).exit_code in (None, 0)
        api = client.api
        made = api.exec_create(container.id, ["sh", "-c", "read line; echo got $line"], stdin=True)["Id"]
        stream = api.exec_start(made, socket=True)
        stream._sock.sendall(b"this\n")
        assert stream.read(8 + 9)[8:] == b"got this\n"
        assert stream.read(1) == b""
        stream.close()
        assert api.exec_inspect(made)["ExitCode"] == 0


def test_attach(client: docker.DockerClient) -> None:
    with running(client, "sh", "-c", "while read line; do echo got $line; done", stdin_open=True) as container:
        stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
        stream._sock.sendall(b"one\n")
        assert stream.read(8 + 8)[8:] == b"got one\n"
        stream._sock.sendall(b"two\n")
        assert stream.read(8 + 8)[8:] == b"got two\n"
        stream.close()
        assert container.attach(logs=True, stream=False, stdout=True) is not None
        container.reload()
        assert container.status == "running"


def test_resize_before_and_after_the_start(client: docker.DockerClient) -> None:
    container = client.containers.create("busybox", ["sh", "-c", "sleep 0.2; stty size"], tty=True, stdin_open=True)
    try:
        container.start()
        container.resize(30, 90)
        container.wait()
        assert container.logs() == b"30 90\r\n"
    finally:
        container.remove(force=True)


# -- files -----------------------------------------------------------------------------------------------------------


def test_archives(client: docker.DockerClient) -> None:
    with running(client) as container:
        assert container.put_archive("/tmp", pack(one=b"1", two=b"22"))
        stream, about = container.get_archive("/tmp")
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
            assert set(archive.getnames()) >= {"tmp", "tmp/one", "tmp/two"}
        assert (about["name"], about["mode"] >> 31) == ("tmp", 1)
        assert {"Path": "/tmp/one", "Kind": 1} in container.diff()
        with pytest.raises(docker.errors.NotFound):
            container.get_archive("/no/such/path")
        with tarfile.open(fileobj=io.BytesIO(b"".join(container.export()))) as archive:
            assert "tmp/two" in archive.getnames()
        image = container.commit("py-committed", tag="1", changes=["ENV X=y"], message="m", author="a")
        assert client.images.get("py-committed:1").id == image.id
        assert "X=y" in image.attrs["Config"]["Env"]
        client.images.remove("py-committed:1")


# -- networks and volumes --------------------------------------------------------------------------------------------


def test_networks(client: docker.DockerClient) -> None:
    pool = IPAMPool(subnet="10.212.0.0/24", gateway="10.212.0.1")
    network = client.networks.create("py-net", driver="bridge", ipam=IPAMConfig(pool_configs=[pool]), labels={"a": "b"})
    try:
        with running(client, name="py-one") as one, running(client, network="py-net", name="py-two") as two:
            network.connect(one, aliases=["alias"], ipv4_address="10.212.0.9")
            assert two.exec_run("ping -c1 -w2 alias").exit_code == 0
            assert one.exec_run("ping -c1 -w2 py-two").exit_code == 0
            network.reload()
            assert {item.name for item in network.containers} == {"py-one", "py-two"}
            with pytest.raises(docker.errors.APIError, match="active endpoints"):
                network.remove()
            network.disconnect(one)
            one.reload()
            assert list(one.attrs["NetworkSettings"]["Networks"]) == ["bridge"]
        assert [item.name for item in client.networks.list(filters={"label": "a=b"})] == ["py-net"]
    finally:
        network.remove()
    with pytest.raises(docker.errors.NotFound):
        network.reload()


def test_volumes(client: docker.DockerClient) -> None:
    volume = client.volumes.create("py-vol", labels={"a": "b"})
    try:
        client.containers.run(
            "busybox", ["touch", "/v/kept"], volumes={"py-vol": {"bind": "/v", "mode": "rw"}}, remove=True
        )
        shown = client.containers.run("busybox", ["ls", "/v"], volumes=["py-vol:/v:ro"], remove=True)
        assert shown == b"kept\n"
        assert [found.name for found in client.volumes.list(filters={"label": "a=b"})] == ["py-vol"]
    finally:
        volume.remove()
    assert client.volumes.prune()["SpaceReclaimed"] >= 0


# -- images ----------------------------------------------------------------------------------------------------------


def test_images(client: docker.DockerClient, world: World) -> None:
    text = io.BytesIO(b"FROM busybox\nARG A\nLABEL a=$A\nRUN echo $A > /a\n")
    image, _ = client.images.build(fileobj=text, tag="py-built", buildargs={"A": "7"}, rm=True)
    try:
        assert image.labels["a"] == "7"
        assert client.containers.run(image, ["cat", "/a"], remove=True) == b"7\n"
        assert image.history()[0]["Id"] == image.id
        assert image.tag("py-other", "2")
        image.reload()
        data = b"".join(image.save(named="py-other:2"))
        client.images.remove("py-other:2")
        (loaded,) = client.images.load(data)
        assert loaded.tags == ["py-built:latest", "py-other:2"]
        client.images.remove("py-other:2")
        assert client.images.list("py-built")[0].id == image.id
        with pytest.raises(docker.errors.BuildError, match="non-zero code: 4"):
            client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN exit 4\n"))
        with pytest.raises(docker.errors.APIError, match="unknown instruction"):
            client.images.build(fileobj=io.BytesIO(b"FROM busybox\nDANCE\n"))
        registry = "127.0.0.1:5056"
        start_scow_registry(world, registry, name="for-py")
        image.tag(f"{registry}/py", "1")
        pushed = list(client.images.push(f"{registry}/py", tag="1", stream=True, decode=True))
        assert any("aux" in line for line in pushed)
        data = client.images.get_registry_data(f"{registry}/py:1")
        assert f"{registry}/py@{data.id}" in client.images.get(image.id).attrs["RepoDigests"]
        client.images.remove(f"{registry}/py:1")
        assert client.images.pull(f"{registry}/py", tag="1").id == image.id
        client.images.remove(f"{registry}/py:1")
        with pytest.raises(docker.errors.NotFound):
            client.images.pull(f"{registry}/absent")
    finally:
        client.images.remove("py-built", force=True)


def test_the_engine(client: docker.DockerClient) -> None:
    assert client.ping()
    assert client.version()["ApiVersion"] == "1.55"
    assert client.info()["OSType"] == "linux"
    assert client.df()["ImageUsage"]["TotalCount"] >= 1
    assert client.containers.prune()["SpaceReclaimed"] >= 0
    assert client.images.prune()["SpaceReclaimed"] >= 0
    assert client.networks.prune().keys() == {"NetworksDeleted"}
    with pytest.raises(docker.errors.APIError, match="not a swarm manager"):
        client.services.list()


def test_events(client: docker.DockerClient) -> None:
    stream = client.events(decode=True, filters={"type": "container", "label": "py-watched"})
    client.containers.run("busybox", "true", labels=["py-watched"], remove=True)
    seen = []
    for event in stream:
        seen.append(event["Action"])
        if event["Action"] == "destroy":
            break
    stream.close()
    assert [action for action in seen if action != "attach"] == ["create", "start", "die", "destroy"]


@pytest.mark.parametrize("version", ["1.24", "1.41", "1.44", "1.51", "1.55", "auto"])
def test_versions_of_the_api(world: World, version: str) -> None:
    client = world.docker(version=version)
    assert client.containers.run("busybox", "echo hello", remove=True) == b"hello\n"
    with running(client, name="versioned", ports={"80/tcp": None}, volumes={"versioned": {"bind": "/v"}}) as container:
        assert container.exec_run("echo inside").output == b"inside\n"
        container.reload()
        assert container.attrs["State"]["Running"] is True
        assert "versioned" in [item.name for item in client.containers.list()]
        assert container.stats(stream=False)["pids_stats"]
        container.stop(timeout=0)
        assert container.wait()["StatusCode"] == 137
    assert client.images.get("busybox").tags == ["busybox:latest"]
    assert any(image.tags == ["busybox:latest"] for image in client.images.list())
    assert {"bridge", "host", "none"} <= {network.name for network in client.networks.list()}
    client.volumes.get("versioned").remove()
    if version in ("1.41", "1.44", "1.51"):
        assert client.df()["Images"]
    assert client.info()["ID"]
