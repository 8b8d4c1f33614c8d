"""Finding the hierarchies, and folders and files of groups, on a fake tree and on the kernel's."""

import os
import time

import pytest

from scow.errors import InvalidArgument
from scow.linux import cgroup
from scow.linux.cgroup import check_path, parse_mountinfo

V1 = """\
23 1 254:0 / / rw,relatime - ext4 /dev/root rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/agent,name=systemd
77 31 0:32 / /mnt/again rw,relatime - cgroup cgroup rw,memory
"""
HYBRID = V1 + "41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime - cgroup2 cgroup2 rw\n"
V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\nbroken line\n"


def test_v1_hierarchies():
    found = parse_mountinfo(V1)
    assert found.version == 1
    assert found.controllers == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "memory": "/sys/fs/cgroup/memory",
    }
    assert found.named == {"systemd": "/sys/fs/cgroup/systemd"}
    assert found.unified is None
    assert list(found.v1_mounts()) == ["cpu,cpuacct", "memory", "systemd"]
    assert (found.where("cpu"), found.where("blkio"), found.where("devices")) == (1, 0, 0)


def test_hybrid_is_version_1_with_a_unified_tree():
    found = parse_mountinfo(HYBRID)
    found.unified_controllers = frozenset({"hugetlb", "io"})
    assert found.version == 1
    assert found.unified == "/sys/fs/cgroup/uni fied"
    assert (found.where("memory"), found.where("hugetlb"), found.where("blkio"), found.where("freezer")) == (1, 2, 2, 0)


def test_v2_has_devices_and_freezer_built_in():
    found = parse_mountinfo(V2)
    found.unified_controllers = frozenset({"memory", "io", "cpu"})
    assert found.version == 2
    assert [found.where(name) for name in ("memory", "blkio", "cpuacct", "devices", "freezer", "pids")] == [2] * 5 + [0]


@pytest.mark.parametrize("path", ["", "/", "//", "a/b", "/a/../b", "/./a", "/a\0b", "/a\nb", "/" + "x" * 256, ".."])
def test_paths_that_leave_the_tree_are_refused(path):
    with pytest.raises(InvalidArgument, match="invalid cgroup path"):
        check_path(path)


def test_paths_are_cleaned():
    assert check_path("//scow//abc/") == "/scow/abc"


def test_numbers_and_pairs(tmp_path):
    for name, text in (("max", "max\n"), ("number", "42\n"), ("odd", "x\n"), ("pairs", "a 1\nb 2\n"), ("bad", "a\n")):
        (tmp_path / name).write_text(text)
    assert cgroup.read_number(f"{tmp_path}/max") == -1
    assert cgroup.read_number(f"{tmp_path}/number") == 42
    assert cgroup.read_number(f"{tmp_path}/odd", 7) == 7
    assert cgroup.read_number(f"{tmp_path}/absent", 9) == 9
    assert cgroup.read_pairs(f"{tmp_path}/pairs") == {"a": 1, "b": 2}
    assert cgroup.read_pairs(f"{tmp_path}/bad") == {}


def test_read_takes_files_longer_than_a_buffer(tmp_path):
    (tmp_path / "long").write_bytes(b"x" * 200_000)
    assert len(cgroup.read(f"{tmp_path}/long")) == 200_000


def test_cpuset_groups_start_with_their_parents_processors(tmp_path):
    (tmp_path / "cpuset.cpus").write_text("0-3\n")
    (tmp_path / "cpuset.mems").write_text("0\n")
    for folder in ("scow", "scow/one"):
        (tmp_path / folder).mkdir()
        for name in ("cpuset.cpus", "cpuset.mems"):
            (tmp_path / folder / name).write_text("\n")
    cgroup.make_v1(str(tmp_path), "/scow/one", cpuset=True)
    assert (tmp_path / "scow/one/cpuset.cpus").read_text() == "0-3\n"
    assert (tmp_path / "scow/cpuset.mems").read_text() == "0\n"


def test_v2_parents_pass_controllers_on(tmp_path):
    (tmp_path / "scow").mkdir()
    (tmp_path / "cgroup.subtree_control").write_text("pids memory\n")
    (tmp_path / "cgroup.controllers").write_text("pids memory\n")
    (tmp_path / "scow" / "cgroup.subtree_control").write_text("\n")
    (tmp_path / "scow" / "cgroup.controllers").write_text("cpu memory pids\n")
    folder = cgroup.make_v2(str(tmp_path), "/scow/one", frozenset({"memory", "io"}))
    assert folder == f"{tmp_path}/scow/one"
    assert (tmp_path / "cgroup.subtree_control").read_text() == "pids memory\n"
    assert (tmp_path / "scow" / "cgroup.subtree_control").read_text() == "+memory"


def test_the_group_that_keeps_a_v2_controller_to_itself_is_found(tmp_path):
    (tmp_path / "scow").mkdir()
    (tmp_path / "cgroup.procs").write_text("1\n")
    (tmp_path / "cgroup.subtree_control").write_text("memory io\n")
    (tmp_path / "scow" / "cgroup.type").write_text("domain\n")
    (tmp_path / "scow" / "cgroup.procs").write_text("17\n")
    (tmp_path / "scow" / "cgroup.subtree_control").write_text("io\n")
    mount = str(tmp_path)
    assert cgroup.refuser(mount, "/scow/one", "blkio") is None
    assert cgroup.refuser(mount, "/scow/one", "memory") == (f"{mount}/scow", True)
    assert cgroup.refuser(mount, "/scow/one", "pids") == (mount, False)  # the true root may have processes


def test_members_of_a_group_and_those_below(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "cgroup.procs").write_text("10\n0\n")
    (tmp_path / "below" / "cgroup.procs").write_text("20\n")
    assert cgroup.pids(str(tmp_path)) == [10, 20]
    assert cgroup.pids(f"{tmp_path}/gone") == []


@pytest.mark.root
def test_removal_waits_for_a_process_to_end_and_takes_groups_below_along():
    mount = next(iter(cgroup.layout().v1_mounts().values()), None) or cgroup.layout().unified
    folder = f"{mount}/scow-test-{os.getpid()}"
    os.makedirs(f"{folder}/below/deeper")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        cgroup.write(f"{folder}/below/cgroup.procs", "0")
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    while pid not in cgroup.pids(folder):
        os.sched_yield()
    assert not cgroup.remove(folder, time.monotonic() + 0.05)
    assert cgroup.pids(folder) == [pid]
    os.close(writing)
    gone = cgroup.remove(folder, time.monotonic() + 10)
    os.waitpid(pid, 0)
    assert gone or cgroup.remove(folder, time.monotonic() + 10)
    assert not os.path.exists(folder)
