"""A group of a container on the kernel's own hierarchies: v1 where the host has them, v2 on every unified mount."""

import contextlib
import os
import select
import signal
import time

import pytest

from scow.errors import InvalidArgument, System
from scow.linux import cgroup
from scow.linux.cgroup import Layout
from scow.runtime.cgroup import Cgroup

MEGABYTE = 1 << 20
RULES = [
    {"allow": False, "access": "rwm"},
    {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"},
]


def layouts():
    """The host's own layout, and its unified hierarchy taken for a v2 host."""
    try:
        host = cgroup.layout()
    except System:
        return {}
    found = {f"v{host.version}": host}
    if host.unified is not None:
        found["v2"] = Layout({}, {}, host.unified, host.unified_controllers)
    return found


LAYOUTS = layouts()


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return LAYOUTS[request.param]


class Member:
    """A process in the group that runs `work` when told to and answers what it returned."""

    def __init__(self, group, work=lambda: ""):
        reading, self.go = os.pipe()
        self.answers, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.go)
            try:
                group.join_self()
                os.write(writing, b"in\n")
                os.read(reading, 1)
                os.write(writing, str(work()).encode())
            finally:
                os._exit(0)
        os.close(reading)
        os.close(writing)
        assert os.read(self.answers, 3) == b"in\n"

    def run(self) -> str:
        os.close(self.go)
        text = os.read(self.answers, 4096).decode()
        self.status = os.waitpid(self.pid, 0)[1]
        os.close(self.answers)
        return text

    def end(self) -> int:
        """The signal that ended it; 0 for an orderly end."""
        os.close(self.answers)
        with contextlib.suppress(OSError):
            os.close(self.go)
        return os.WTERMSIG(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def make(layout):
    groups = []
    name = f"/scow-test-{os.getpid()}"

    def factory(resources=None):
        groups.append(Cgroup.create(f"{name}/{len(groups)}", resources, layout))
        return groups[-1]

    yield factory
    for group in groups:
        group.kill()
        assert group.remove(10)
        assert not any(os.path.exists(mount + group.path) for mount in layout.v1_mounts().values())
    assert Cgroup.open(name, layout).remove(5)


@pytest.mark.root
def test_members_are_listed_and_join_by_themselves(make, layout):
    group = make()
    member = Member(group)
    assert group.pids() == [member.pid]
    assert Cgroup.open(group.path, layout).pids() == [member.pid]
    assert group.stats()["cpu_stats"]["online_cpus"] >= 1
    member.run()
    assert group.pids() == []


@pytest.mark.root
def test_another_process_can_be_moved_in(make):
    first, second = make(), make()
    member = Member(first)
    second.enter(member.pid)
    assert (first.pids(), second.pids()) == ([], [member.pid])
    member.run()


@pytest.mark.root
def test_a_stopped_group_stands_still_until_it_goes_on(make):
    group = make()
    member = Member(group, lambda: "ran")
    group.freeze()
    assert group.frozen()
    os.close(member.go)
    assert not select.select([member.answers], [], [], 0.05)[0]
    group.thaw()
    assert not group.frozen()
    assert select.select([member.answers], [], [], 10)[0]
    assert os.read(member.answers, 10) == b"ran"
    assert member.end() == 0


@pytest.mark.root
def test_kill_reaches_everyone_even_the_stopped(make):
    group = make()
    members = [Member(group) for _ in range(3)]
    group.freeze()
    group.kill()
    assert [member.end() for member in members] == [signal.SIGKILL] * 3


@pytest.mark.root
def test_other_signals_reach_everyone_once(make):
    group = make()
    members = [Member(group) for _ in range(2)]
    group.kill(signal.SIGTERM)
    assert [member.end() for member in members] == [signal.SIGTERM] * 2


@pytest.mark.root
def test_devices_outside_the_rules_cannot_be_opened(make):
    group = make({"devices": RULES})

    def attempt():
        words = []
        for name in ("null", "zero"):
            try:
                os.close(os.open(f"/dev/{name}", os.O_RDONLY))
                words.append("yes")
            except PermissionError:
                words.append("no")
        return " ".join(words)

    assert Member(group, attempt).run() == "yes no"
    group.apply({"devices": [{"allow": True, "type": "a"}]})
    assert Member(group, attempt).run() == "yes yes"


@pytest.mark.root
def test_a_process_limit_holds(make, layout):
    if not layout.where("pids"):
        pytest.skip("no pids controller in this layout")

    def attempt():
        try:
            pid = os.fork()
        except BlockingIOError:
            return "refused"
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        return "allowed"

    group = make({"pids": {"limit": 1}})
    assert Member(group, attempt).run() == "refused"
    group.apply({"pids": {"limit": -1}})
    assert Member(group, attempt).run() == "allowed"


@pytest.mark.root
def test_memory_limits_move_up_and_down(make, layout):
    if layout.where("memory") != 1:
        pytest.skip("no v1 memory controller in this layout")
    group = make({"memory": {"limit": 64 * MEGABYTE, "swap": 64 * MEGABYTE}})
    for limit, swap in ((256, 512), (32, 48), (64, -1), (-1, 0), (16, 16)):
        scale = {-1: -1}
        group.apply({"memory": {"limit": scale.get(limit, limit * MEGABYTE), "swap": scale.get(swap, swap * MEGABYTE)}})
        expected = 1 << 62 if limit == -1 else limit * MEGABYTE
        found = cgroup.read_number(f"{group.folder('memory')}/memory.limit_in_bytes")
        assert found == expected or (limit == -1 and found > 1 << 60)


@pytest.mark.root
def test_running_out_of_memory_is_noticed(make, layout):
    if layout.where("memory") != 1:
        pytest.skip("no v1 memory controller in this layout")
    group = make({"memory": {"limit": 8 * MEGABYTE, "swap": 8 * MEGABYTE}})
    assert not group.oom_killed()
    fd, events = group.oom_watch()
    poll = select.poll()
    poll.register(fd, events)
    assert not poll.poll(0)
    member = Member(group, lambda: len(bytearray(os.urandom(1)) * (64 * MEGABYTE)))
    assert member.run() == ""
    assert os.WTERMSIG(member.status) == signal.SIGKILL
    assert poll.poll(10_000)
    assert group.oom_killed()
    assert group.oom_events() == 1
    os.close(fd)


@pytest.mark.root
def test_values_the_kernel_refuses_are_named_and_nothing_is_left(layout):
    if layout.where("cpuset") != 1:
        pytest.skip("no v1 cpuset controller in this layout")
    path = f"/scow-test-refused-{os.getpid()}"
    with pytest.raises(InvalidArgument, match=r"cpu\.cpus to 4000"):
        Cgroup.create(path, {"cpu": {"cpus": "4000"}}, layout)
    assert not Cgroup.open(path, layout).exists


@pytest.mark.root
def test_what_the_host_cannot_do_is_told_in_dockers_words(make, layout):
    group = make()
    wishes = {"rdma": {"mlx5_0": {"hcaHandles": 1}}, "network": {"classID": 1}, "pids": {"limit": 5}}
    sentences = group.unavailable(wishes)
    assert any("RDMA limit discarded" in sentence for sentence in sentences)
    group.apply(wishes)
    assert ("PIDs limit" in " ".join(sentences)) == (not layout.where("pids"))


@pytest.mark.root
def test_a_group_with_groups_inside_goes_whole_and_twice(make):
    group = make()
    for folder in {*group.v1.values(), group.v2} - {None}:
        os.makedirs(f"{folder}/inner/most")
    started = time.monotonic()
    assert group.remove()
    assert group.remove()
    assert time.monotonic() - started < 1
    assert not Cgroup.open(group.path, group.layout).exists
    assert Cgroup.open(group.path, group.layout).pids() == []


@pytest.mark.root
def test_the_inside_sees_its_own_folders(make, layout):
    group = make()
    mounts = group.mounts_for_container()
    assert all(os.path.isdir(mount.source) for mount in mounts)
    if layout.version == 2:
        assert [(mount.name, mount.kind) for mount in mounts] == [("", "cgroup2")]
    else:
        assert {mount.kind for mount in mounts} == {"cgroup"}
        assert "memory" in {name for mount in mounts for name in (mount.name, *mount.links)}


@pytest.mark.parametrize("path", ["relative", "/../x", "/"])
def test_paths_that_leave_the_tree_are_refused(path):
    with pytest.raises(InvalidArgument):
        Cgroup.create(path, None, Layout({}, {}, None))


def test_v1_mounts_inside_a_container():
    layout = Layout(
        {"cpu": "/c/cpu,cpuacct", "cpuacct": "/c/cpu,cpuacct", "pids": "/c/pids"}, {"systemd": "/c/systemd"}, None
    )
    group = Cgroup("/scow/x", layout, {mount: f"{mount}/scow/x" for mount in layout.v1_mounts().values()}, None)
    told = [(each.name, each.options, each.source, each.links) for each in group.mounts_for_container()]
    assert told == [
        ("cpu,cpuacct", "cpu,cpuacct", "/c/cpu,cpuacct/scow/x", ("cpu", "cpuacct")),
        ("pids", "pids", "/c/pids/scow/x", ()),
        ("systemd", "none,name=systemd", "/c/systemd/scow/x", ()),
    ]
