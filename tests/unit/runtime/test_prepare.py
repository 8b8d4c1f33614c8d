"""What can be done of a container before anything is known of it, and who may take what was done."""

import copy

import pytest

from scow.linux.cgroup import Layout
from scow.runtime.prepare import fits, split
from scow.runtime.rootfs import TREE, plan
from scow.tasks.spec import default_spec

V1 = Layout({"memory": "/sys/fs/cgroup/memory"}, {}, "/sys/fs/cgroup/unified")
V2 = Layout({}, {}, "/sys/fs/cgroup", frozenset({"memory"}))


def spec(**options):
    found = default_spec(args=["sh"], cgroup="/scow/x", **options)
    for name in ("hosts", "resolv.conf"):
        bind = {"destination": f"/etc/{name}", "type": "bind", "source": f"/x/{name}", "options": ["rbind", "rprivate"]}
        found["mounts"].append(bind)
    return found


def ahead(found, layout=V1):
    return [mount["destination"] for mount in split(found, layout)[0]["mounts"]]


def later(found, layout=V1):
    return [(mount["destination"], mount["type"] is TREE) for mount in split(found, layout)[1]["mounts"]]


def test_the_kernels_own_is_done_ahead_but_for_what_knows_the_network():
    assert ahead(spec()) == ["/proc", "/dev", "/dev/pts", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"]
    assert later(spec()) == [
        ("/proc", True),
        ("/dev", True),
        ("/sys", False),
        ("/sys/fs/cgroup", True),
        ("/etc/hosts", False),
        ("/etc/resolv.conf", False),
    ]


def test_paths_go_with_the_tree_they_are_in():
    first, second = split(spec(), V1)
    assert all(path.startswith("/proc/") for path in first["linux"]["maskedPaths"])
    assert second["linux"]["maskedPaths"] == ["/sys/devices/virtual/powercap", "/sys/firmware"]
    assert second["linux"]["readonlyPaths"] == []


def test_both_parts_together_are_the_whole_plan():
    whole = [step.describe() for step in plan(spec(), [])]
    first, second = split(spec(), V1)
    trees = dict.fromkeys(("/proc", "/dev", "/sys/fs/cgroup"), 0)
    parts = plan(first, [], dev=first["linux"]["nodes"]) + plan(second, [], trees, dev=not first["linux"]["nodes"])
    described = [step.describe() for step in parts]
    assert sorted(line for line in described if not line.startswith("move ")) == sorted(whole)


@pytest.mark.parametrize(
    ("mount", "kept"),
    [
        ({"destination": "/dev/shm/x", "type": "bind", "source": "/x"}, "/dev"),
        ({"destination": "/proc/uptime", "type": "bind", "source": "/x"}, "/proc"),
        ({"destination": "/dev/x", "type": "tmpfs", "options": ["bind"]}, "/dev"),
        ({"destination": "/dev/x", "type": "ext4", "source": "/dev/sdb"}, "/dev"),
        ({"destination": "/dev", "type": "tmpfs", "options": ["mode=755"]}, "/dev"),
    ],
)
def test_what_comes_after_something_foreign_in_a_tree_keeps_its_order(mount, kept):
    found = spec()
    found["mounts"].append(mount)
    found["mounts"].append({"destination": f"{kept}/after", "type": "tmpfs", "options": []})
    first, second = split(found, V1)
    assert f"{kept}/after" not in ahead(found)
    assert [entry["destination"] for entry in second["mounts"]][-2:] == [mount["destination"], f"{kept}/after"]
    assert not [path for path in first["linux"]["maskedPaths"] if path.startswith(f"{kept}/")]
    assert first["linux"]["nodes"] is (kept != "/dev")


@pytest.mark.parametrize("destination", ["/", "/data/../dev/x"])
def test_a_mount_that_could_be_anywhere_leaves_everything_in_its_order(destination):
    found = spec()
    found["mounts"].append({"destination": destination, "type": "tmpfs", "options": []})
    assert ahead(found) == []
    assert [mount["destination"] for mount in split(found, V1)[1]["mounts"]] == [
        mount["destination"] for mount in found["mounts"]
    ]


def test_a_dev_that_takes_its_mode_from_the_image_waits_for_the_image():
    found = spec()
    found["mounts"][1]["options"] = ["nosuid"]
    assert "/dev" not in ahead(found)


def test_a_path_that_climbs_out_of_a_tree_is_masked_where_it_leads():
    found = spec()
    found["linux"]["maskedPaths"] = ["/proc/../etc/secret"]
    assert split(found, V1)[1]["linux"]["maskedPaths"] == ["/proc/../etc/secret"]


def test_a_config_cannot_name_a_tree():
    found = spec()
    found["mounts"].append({"destination": "/proc", "type": "tree", "source": "x"})
    assert later(found)[-1] == ("/proc", False)


def test_cgroups_wait_where_a_group_cannot_be_renamed():
    first, second = split(spec(), V2)
    assert "/sys/fs/cgroup" not in ahead(spec(), V2)
    assert "cgroupsPath" not in first["linux"]
    assert second["linux"]["resources"] == spec()["linux"]["resources"]


def first(**options):
    return split(spec(**options), V1)[0]


def test_whoever_differs_only_later_fits():
    done = first()
    assert fits(first(), done)
    assert fits(first(readonly=True, tty=True, init=True, hostname="h", user={"uid": 7, "gid": 7}), done)
    assert fits(first(capabilities=frozenset({"CAP_KILL"})), done)
    other = spec()
    other["linux"]["resources"]["memory"] = {"limit": 1 << 26}
    other["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    other["mounts"].append({"destination": "/data", "type": "bind", "source": "/d", "options": ["rbind"]})
    assert fits(split(other, V1)[0], done)


@pytest.mark.parametrize(
    "options",
    [
        {"privileged": True},
        {"shm_size": 1 << 20},
        {"capabilities": frozenset({"CAP_SYS_ADMIN"})},
        {"namespaces": {"pid": None}},
        {"namespaces": {"ipc": "/proc/7/ns/ipc"}},
        {"namespaces": {"uts": None}},
        {"namespaces": {"cgroup": None}},
    ],
)
def test_whoever_differs_in_the_first_phase_does_not(options):
    assert not fits(first(**options), first())


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["linux"].update(cgroupsPath="/other/x"),
        lambda found: found["linux"]["maskedPaths"].pop(0),
        lambda found: found["linux"]["devices"].append({"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}),
        lambda found: found["linux"]["resources"]["devices"].append({"allow": True, "access": "rwm"}),
        lambda found: found["process"].update(oomScoreAdj=500),
        lambda found: found["mounts"].append({"destination": "/dev/x", "type": "tmpfs", "options": []}),
    ],
)
def test_nor_does_one_with_other_devices_paths_or_parents(change):
    found = copy.deepcopy(spec())
    change(found)
    assert not fits(split(found, V1)[0], first())
