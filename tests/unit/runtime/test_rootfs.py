"""The plan of a root file system, without making it."""

import stat

import pytest

from scow.errors import InvalidArgument
from scow.linux.mount import MOUNT_ATTR_NODEV, MOUNT_ATTR_RDONLY, MS_SHARED, MS_SLAVE
from scow.runtime.cgroup import ContainerMount
from scow.runtime.rootfs import Bind, FileSystem, Nodes, Options, cgroup_steps, plan
from scow.tasks.spec import default_spec


def described(spec, cgroups=()):
    return [step.describe() for step in plan(spec, list(cgroups))]


def test_the_default_plan():
    spec = default_spec(args=["sh"], cgroup="/scow/x")
    spec["linux"]["maskedPaths"] = ["/proc/kcore"]
    spec["linux"]["readonlyPaths"] = ["/proc/sys"]
    assert described(spec) == [
        "mount proc on /proc (nosuid,noexec,nodev)",
        "mount tmpfs on /dev (nosuid,strictatime,mode=755,size=65536k)",
        "mount devpts on /dev/pts (nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5)",
        "mount sysfs on /sys (nosuid,noexec,nodev,ro)",
        "mount mqueue on /dev/mqueue (nosuid,noexec,nodev)",
        "mount tmpfs on /dev/shm (nosuid,noexec,nodev,mode=1777,size=67108864)",
        "nodes in /dev: null, zero, full, random, urandom, tty, ptmx -> pts/ptmx, fd -> /proc/self/fd, "
        "stdin -> /proc/self/fd/0, stdout -> /proc/self/fd/1, stderr -> /proc/self/fd/2, core -> /proc/kcore",
        "mask /proc/kcore",
        "read-only /proc/sys",
    ]


def test_a_bound_dev_is_left_alone():
    spec = {"mounts": [{"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]}]}
    assert described(spec) == ["bind /dev on /dev (rbind)"]


def test_devices_go_to_their_folders_and_replace_defaults():
    devices = [
        {"path": "/dev/null", "type": "c", "major": 9, "minor": 9},
        {"path": "/dev/snd/seq", "type": "c", "major": 116, "minor": 1, "fileMode": 0o660, "uid": 3, "gid": 4},
        {"path": "/dev/sda", "type": "b", "major": 8, "minor": 0},
    ]
    steps = [step for step in plan({"linux": {"devices": devices}}, []) if isinstance(step, Nodes)]
    assert [step.directory for step in steps] == ["/dev", "/dev/snd"]
    assert ("null", stat.S_IFCHR | 0o666, 9, 9, 0, 0) in steps[0].devices
    assert [name for name, *_ in steps[0].devices].count("null") == 1
    assert ("sda", stat.S_IFBLK | 0o666, 8, 0, 0, 0) in steps[0].devices
    assert steps[1].devices == [("seq", stat.S_IFCHR | 0o660, 116, 1, 3, 4)]


@pytest.mark.parametrize(
    "device", [{"path": "/dev/..", "type": "c"}, {"path": "/", "type": "c"}, {"path": "/dev/x", "type": "z"}]
)
def test_impossible_devices_are_refused(device):
    with pytest.raises(InvalidArgument):
        plan({"linux": {"devices": [device]}}, [])


def test_options_are_sorted_by_what_they_act_on():
    options = Options(["ro", "rnodev", "rshared", "size=1m", "inode64", "rbind"])
    assert (options.add, options.recursive_add) == (MOUNT_ATTR_RDONLY, MOUNT_ATTR_NODEV)
    assert (options.propagation, options.propagation_recursive) == (MS_SHARED, True)
    assert options.data == [("size", "1m"), ("inode64", None)]
    assert Options(["slave"]).propagation == MS_SLAVE
    assert Options(["ro", "rw"]).add == 0
    assert Options(["ro", "rw"]).remove == MOUNT_ATTR_RDONLY


def test_mapped_mounts_are_refused_not_ignored():
    with pytest.raises(InvalidArgument, match="user namespaces"):
        Options(["idmap"])


def test_a_bind_without_the_word_is_a_bind_by_its_type():
    (step, *_) = plan({"mounts": [{"destination": "//a/./b", "type": "bind", "source": "/s"}]}, [])
    assert isinstance(step, Bind)
    assert (step.target, step.recursive) == ("/a/b", True)


MOUNT = {"destination": "/sys/fs/cgroup", "options": ["ro", "nosuid"]}


def test_cgroups_of_v1_are_bound_into_a_tmpfs():
    groups = [
        ContainerMount("cpu,cpuacct", "cgroup", "", "/sys/fs/cgroup/cpu,cpuacct/scow/x", ("cpu", "cpuacct")),
        ContainerMount("memory", "cgroup", "", "/sys/fs/cgroup/memory/scow/x", ()),
    ]
    assert [step.describe() for step in cgroup_steps(MOUNT, groups, None, private=True)] == [
        "mount tmpfs on /sys/fs/cgroup (nosuid,mode=755,size=64k)",
        "bind /sys/fs/cgroup/cpu,cpuacct/scow/x on /sys/fs/cgroup/cpu,cpuacct (bind,ro,nosuid)",
        "bind /sys/fs/cgroup/memory/scow/x on /sys/fs/cgroup/memory (bind,ro,nosuid)",
        "nodes in /sys/fs/cgroup: cpu -> cpu,cpuacct, cpuacct -> cpu,cpuacct",
        "seal /sys/fs/cgroup",
    ]


def test_cgroups_of_v2_are_one_file_system_or_the_hosts():
    (own,) = cgroup_steps(MOUNT, [], "/sys/fs/cgroup", private=True)
    assert isinstance(own, FileSystem)
    assert own.kind == "cgroup2"
    (hosts,) = cgroup_steps(MOUNT, [], "/sys/fs/cgroup", private=False)
    assert hosts.describe() == "bind /sys/fs/cgroup on /sys/fs/cgroup (rbind,ro,nosuid)"


def test_without_a_hierarchy_there_is_nothing_to_mount():
    assert cgroup_steps(MOUNT, [], None, private=True) == []


def test_privileged_masks_nothing():
    spec = default_spec(args=["sh"], cgroup="/scow/x", privileged=True)
    assert not [line for line in described(spec) if line.startswith(("mask", "read-only"))]
    assert "mount sysfs on /sys (nosuid,noexec,nodev)" in described(spec)


def test_what_is_inside_a_source_is_looked_up_when_it_is_mounted():
    """A path below a folder that others may write to never becomes part of the source's own path."""
    mount = {"destination": "/m", "type": "bind", "source": "/volume", "options": ["rbind"], "inside": "a/b"}
    (step,) = [step for step in plan({"mounts": [mount]}, []) if isinstance(step, Bind)]
    assert (step.source, step.inside) == ("/volume", "a/b")
    assert step.describe() == "bind /volume/a/b on /m (rbind)"
