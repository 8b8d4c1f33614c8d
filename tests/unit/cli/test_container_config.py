"""The flags of run and create → the body of the create call."""

from typing import Any

import pytest

from scow.cli.container_config import body
from scow.cli.flags import parse
from scow.cli.run_flags import FLAGS, TABLE
from scow.errors import EngineError

#: One of nearly everything.
MANY = """
-e A=1 -l a=b -u 5:6 -w /w -h box --domainname d --stop-signal TERM --stop-timeout 3 -t --entrypoint /e
-m 1g --memory-swap -1 --cpus 1.5 --pids-limit 9 --cap-add NET_ADMIN --cap-drop ALL --privileged
--read-only --tmpfs /t:size=1m --init --rm --ulimit nofile=1:2 --sysctl a.b=1 --device /dev/x:r
--dns 1.1.1.1 --dns-option ndots:1 --dns-search s --add-host h:1.2.3.4 --security-opt no-new-privileges
--log-driver local --log-opt max-size=1m --shm-size 1m --ipc host --pid host --uts host --cgroupns private
--group-add g --oom-score-adj 5 --oom-kill-disable --memory-swappiness 0 --blkio-weight 10 --link other
-v /anon -v v:/d:ro -v /h:/i --expose 5 -p 8080:80 -P --runtime r --cpuset-cpus 0 --cpu-shares 7
--health-cmd true --health-interval 5s --health-retries 2 --annotation k=v --volumes-from o
image cmd -x
"""


def made(*words: str, detach: bool = False) -> dict[str, Any]:
    parsed = parse(FLAGS, words, interspersed=False)
    return body(parsed.options, parsed.arguments, detach)


def test_the_least() -> None:
    assert made("busybox") == {
        "Image": "busybox",
        "Env": [],
        "Labels": {},
        "AttachStdin": False,
        "AttachStdout": True,
        "AttachStderr": True,
        "OpenStdin": False,
        "StdinOnce": False,
        "HostConfig": {
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "LogConfig": {"Type": "", "Config": {}},
            "NetworkMode": "default",
        },
    }


def test_streams() -> None:
    names = ("AttachStdin", "AttachStdout", "AttachStderr", "OpenStdin", "StdinOnce")

    def streams(*words: str, detach: bool = False) -> list[bool]:
        request = made(*words, "x", detach=detach)
        return [request[name] for name in names]

    assert streams("-i") == [True, True, True, True, True]
    assert streams("-i", detach=True) == [False, False, False, True, False]
    assert streams("-a", "stdin", "-i") == [True, False, False, True, True]
    assert streams("-a", "STDERR") == [False, False, True, False, False]


def test_many_flags_reach_their_fields() -> None:
    request = made(*MANY.split())
    host = request["HostConfig"]
    assert {
        name: request[name] for name in ("Image", "Cmd", "Entrypoint", "User", "WorkingDir", "Hostname", "Tty")
    } == {
        "Image": "image",
        "Cmd": ["cmd", "-x"],
        "Entrypoint": ["/e"],
        "User": "5:6",
        "WorkingDir": "/w",
        "Hostname": "box",
        "Tty": True,
    }
    assert (request["Env"], request["Labels"], request["StopTimeout"]) == (["A=1"], {"a": "b"}, 3)
    assert request["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Interval": 5 * 10**9, "Retries": 2}
    assert request["ExposedPorts"] == {"5/tcp": {}, "80/tcp": {}}
    assert request["Volumes"] == {"/anon": {}}
    assert host["Binds"] == ["v:/d:ro", "/h:/i"]
    assert host["PortBindings"] == {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"], host["PidsLimit"]) == (1 << 30, -1, 1_500_000_000, 9)
    assert (host["Tmpfs"], host["Init"], host["AutoRemove"]) == ({"/t": "size=1m"}, True, True)
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 1, "Hard": 2}]
    assert (host["Sysctls"], host["Annotations"], host["Links"]) == ({"a.b": "1"}, {"k": "v"}, ["other:other"])
    assert (host["ExtraHosts"], host["Dns"], host["DnsOptions"]) == (["h:1.2.3.4"], ["1.1.1.1"], ["ndots:1"])
    assert (host["MemorySwappiness"], host["BlkioWeight"], host["ShmSize"]) == (0, 10, 1 << 20)
    assert host["LogConfig"] == {"Type": "local", "Config": {"max-size": "1m"}}


def test_networks() -> None:
    request = made("--network", "net", "--network-alias", "a", "--ip", "10.0.0.2", "x")
    assert request["HostConfig"]["NetworkMode"] == "net"
    assert request["NetworkingConfig"]["EndpointsConfig"] == {
        "net": {"Aliases": ["a"], "IPAMConfig": {"IPv4Address": "10.0.0.2"}}
    }
    two = made("--network", "a", "--network", "name=b,alias=c", "x")
    assert two["NetworkingConfig"]["EndpointsConfig"] == {"a": {}, "b": {"Aliases": ["c"]}}
    assert made("--net", "host", "x")["HostConfig"]["NetworkMode"] == "host"
    assert "NetworkingConfig" not in made("--net", "container:other", "x")


def test_an_empty_entrypoint_clears_the_images() -> None:
    assert made("--entrypoint", "", "x")["Entrypoint"] == [""]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--rm --restart always", "cannot specify both --restart and --rm"),
        ("--no-healthcheck --health-cmd x", "--no-healthcheck conflicts with --health-"),
        ("--health-interval -1s", "--health-interval cannot be negative"),
        ("--memory-swappiness 101", "Valid memory swappiness range is 0-100"),
        ("--link-local-ip 169.254.0.1", "--link-local-ip is not supported"),
        ("--cpu-count 2", "--cpu-count is for Windows"),
        ("--network a --network a", "specified multiple times"),
        ("--network a --network host", "cannot attach both user-defined and non-user-defined"),
        ("--network name=a,ip=10.0.0.1 --ip 10.0.0.2", "cannot specify both --ip and per-network ip"),
        ("--log-driver none --log-opt a=b", "invalid logging opts for driver none"),
        ("--log-opt a", "invalid log-opt 'a'"),
        ("--storage-opt a", "invalid storage option: a"),
    ],
)
def test_contradictions_are_refused(words: str, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        made(*words.split(), "x")


def test_attach_and_detach_exclude_each_other() -> None:
    with pytest.raises(EngineError, match="--attach and --detach"):
        made("-a", "stdout", "x", detach=True)


def test_no_flag_is_there_twice() -> None:
    names = [flag.name for flag, _ in TABLE]
    letters = [flag.short for flag, _ in TABLE if flag.short]
    assert len(names) == len(set(names))
    assert len(letters) == len(set(letters))
