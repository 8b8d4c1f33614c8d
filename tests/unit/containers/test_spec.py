"""Records as runtime specs: what Docker's options become."""

import pytest

from scow.api.containers import ContainerConfig, DeviceMapping, ExecConfig, HostConfig, Ulimit
from scow.containers.container import Record
from scow.containers.spec import Facts, build, exec_process
from scow.containers.users import Identity
from scow.tasks.spec import DEFAULT_CAPABILITIES, MASKED_PATHS, READONLY_PATHS

ROOT = Identity(0, 0, (0,), "/root")
APP = Identity(10, 20, (20, 5), "")
ALLOWED = frozenset(DEFAULT_CAPABILITIES | {"CAP_NET_ADMIN", "CAP_SYS_ADMIN"})


def record(host=None, **config):
    defaults = {"masked_paths": list(MASKED_PATHS), "readonly_paths": list(READONLY_PATHS), "shm_size": 64 << 20}
    return Record(
        id="a" * 64, name="web", created=1, image_ref="i", image_id="sha256:1", path="sh", args=["-c", "true"],
        config=ContainerConfig(hostname="box", **config), host=HostConfig(**(defaults | (host or {}))),
    )  # fmt: skip


def facts(**more):
    return Facts(**({"identity": ROOT, "cgroup": "/scow/a", "hostname": "box", "allowed": ALLOWED} | more))


def kinds(spec):
    return {entry["type"]: entry.get("path", "") for entry in spec["linux"]["namespaces"]}


def mount_at(spec, place):
    return next((mount for mount in spec["mounts"] if mount["destination"] == place), None)


def test_defaults():
    spec = build(record(), facts(etc="/c/a"))
    process = spec["process"]
    assert process["args"] == ["sh", "-c", "true"]
    assert process["env"] == [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=box", "HOME=/root",
    ]  # fmt: skip
    assert process["cwd"] == "/"
    assert set(process["capabilities"]["effective"]) == DEFAULT_CAPABILITIES
    assert set(kinds(spec)) == {"mount", "network", "uts", "pid", "ipc", "cgroup"}
    assert spec["linux"]["maskedPaths"] == list(MASKED_PATHS)
    assert spec["linux"]["sysctl"] == {}
    assert mount_at(spec, "/etc/hosts")["source"] == "/c/a/hosts"
    assert mount_at(spec, "/dev/shm")["options"][-1] == f"size={64 << 20}"
    assert spec["hostname"] == "box"
    assert "rootfsPropagation" not in spec["linux"]


def test_environment():
    spec = build(record(tty=True, env=["A=1", "PATH=/x", "TERM", "HOME=/h", "B=a=b"], domainname="example"), facts())
    assert spec["process"]["env"] == ["PATH=/x", "HOSTNAME=box.example", "A=1", "HOME=/h", "B=a=b"]
    assert spec["domainname"] == "example"
    assert "TERM=xterm" in build(record(tty=True), facts())["process"]["env"]


def test_who_is_not_root_has_no_capabilities():
    process = build(record(), facts(identity=APP))["process"]
    assert process["user"] == {"uid": 10, "gid": 20, "additionalGids": [20, 5]}
    assert process["capabilities"]["effective"] == []
    assert set(process["capabilities"]["bounding"]) == DEFAULT_CAPABILITIES
    assert "HOME=/" in process["env"]


@pytest.mark.parametrize(
    ("host", "has", "lacks"),
    [
        ({"cap_add": ["NET_ADMIN"]}, {"CAP_NET_ADMIN", "CAP_CHOWN"}, {"CAP_SYS_ADMIN"}),
        ({"cap_drop": ["all"], "cap_add": ["chown"]}, {"CAP_CHOWN"}, {"CAP_KILL"}),
        ({"cap_add": ["ALL"], "cap_drop": ["CAP_KILL"]}, {"CAP_SYS_ADMIN"}, {"CAP_KILL"}),
        ({"privileged": True}, {"CAP_SYS_ADMIN"}, set()),
    ],
)
def test_capabilities(host, has, lacks):
    found = set(build(record(host), facts())["process"]["capabilities"]["bounding"])
    assert has <= found
    assert not found & lacks


def test_privileged():
    spec = build(record({"privileged": True}), facts(device_rules=[{"allow": True, "access": "rwm"}]))
    assert spec["linux"]["maskedPaths"] == spec["linux"]["readonlyPaths"] == []
    assert "ro" not in mount_at(spec, "/sys")["options"]
    assert spec["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]


def test_unmasked_system_paths():
    spec = build(record({"security_opt": ["systempaths=unconfined"]}), facts())
    assert spec["linux"]["maskedPaths"] == []
    assert "ro" in mount_at(spec, "/sys")["options"]


def test_shared_namespaces():
    host = {"uts_mode": "host", "cgroupns_mode": "host"}
    spec = build(record(host), facts(network=None, ipc=None, pid="/proc/7/ns/pid", hostname=""))
    assert kinds(spec) == {"mount": "", "pid": "/proc/7/ns/pid"}
    assert spec["linux"]["sysctl"] == {}
    assert mount_at(spec, "/dev/shm")["type"] == "bind"


def test_ipc_none_has_no_shm():
    assert mount_at(build(record({"ipc_mode": "none"}), facts()), "/dev/shm") is None


def test_user_mounts_win_and_are_sorted():
    binds = [
        {"destination": "/data/deep", "type": "bind", "source": "/x", "options": ["rbind"]},
        {"destination": "/data", "type": "bind", "source": "/y", "options": ["rbind", "rshared"]},
        {"destination": "/etc/hosts", "type": "bind", "source": "/h", "options": ["rbind"]},
    ]
    spec = build(record({"readonly_rootfs": True}), facts(binds=binds, etc="/c/a"))
    places = [mount["destination"] for mount in spec["mounts"]]
    assert places.count("/etc/hosts") == 1
    assert places.index("/data") < places.index("/data/deep")
    assert "ro" in mount_at(spec, "/etc/resolv.conf")["options"]
    assert spec["root"]["readonly"] is True
    assert spec["linux"]["rootfsPropagation"] == "rshared"


def test_limits_and_the_rest():
    host = {
        "memory": 64 << 20, "oom_score_adj": 5, "ulimits": [Ulimit(name="nofile", soft=1, hard=2)], "init": True,
        "annotations": {"a": "b"}, "sysctls": {"net.core.somaxconn": "9"}, "security_opt": ["no-new-privileges"],
        "console_size": [10, 20], "devices": [DeviceMapping(path_on_host="/dev/null")],
    }  # fmt: skip
    spec = build(record(host, tty=True, working_dir="/w"), facts())
    process = spec["process"]
    assert spec["linux"]["resources"]["memory"]["limit"] == 64 << 20
    assert process["oomScoreAdj"] == 5
    assert process["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}]
    assert process["noNewPrivileges"] is True
    assert process["consoleSize"] == {"height": 10, "width": 20}
    assert process["cwd"] == "/w"
    assert spec["annotations"] == {"a": "b", "scow.init": "true"}
    assert spec["linux"]["sysctl"]["net.core.somaxconn"] == "9"


def test_exec():
    config = ExecConfig(cmd=["id"], env=["A=2"], tty=True, working_dir="/w", privileged=True)
    process = exec_process(record(env=["A=1", "B=1"]), config, APP, allowed=ALLOWED, size=(3, 4))
    assert process["args"] == ["id"]
    assert {"A=2", "B=1", "TERM=xterm"} <= set(process["env"])
    assert "A=1" not in process["env"]
    assert "CAP_SYS_ADMIN" in process["capabilities"]["bounding"]
    assert (process["cwd"], process["consoleSize"]) == ("/w", {"height": 3, "width": 4})
