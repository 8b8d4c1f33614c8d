"""OCI resources → writes, on v1 and on v2; device rules → v1 lines and v2 exceptions."""

import pytest

from scow.errors import InvalidArgument
from scow.linux.bpf import ANY, BLOCK, CHAR, MKNOD, READ, WRITE
from scow.runtime.resources import cpu_weight, device_exceptions, device_rules, io_weight, plan

MEGABYTE = 1 << 20


def v1(resources):
    return [write.describe() for write in plan(resources, lambda _controller: 1)]


def v2(resources):
    return [write.describe() for write in plan(resources, lambda _controller: 2)]


@pytest.mark.parametrize(
    ("resources", "first", "second"),
    [
        (
            {"memory": {"limit": 64 * MEGABYTE, "swap": 96 * MEGABYTE, "reservation": 32 * MEGABYTE}},
            [
                "memory: memory.limit_in_bytes = 67108864",
                "memory: memory.memsw.limit_in_bytes = 100663296",
                "memory: memory.soft_limit_in_bytes = 33554432",
            ],
            ["memory: memory.max = 67108864", "memory: memory.swap.max = 33554432", "memory: memory.low = 33554432"],
        ),
        (
            {"memory": {"limit": MEGABYTE, "swap": MEGABYTE}},
            ["memory: memory.limit_in_bytes = 1048576", "memory: memory.memsw.limit_in_bytes = 1048576"],
            ["memory: memory.max = 1048576", "memory: memory.swap.max = 0"],
        ),
        (
            {"memory": {"limit": MEGABYTE, "swap": -1}},
            ["memory: memory.limit_in_bytes = 1048576", "memory: memory.memsw.limit_in_bytes = -1"],
            ["memory: memory.max = 1048576", "memory: memory.swap.max = max"],
        ),
        (
            {"memory": {"limit": -1}},
            ["memory: memory.limit_in_bytes = -1", "memory: memory.memsw.limit_in_bytes = -1"],
            ["memory: memory.max = max", "memory: memory.swap.max = max"],
        ),
        (
            {"memory": {"swappiness": 0, "disableOOMKiller": True}},
            ["memory: memory.swappiness = 0", "memory: memory.oom_control = 1"],
            ["memory: ", "memory: "],
        ),
        ({"memory": {"limit": 0, "swap": 0, "disableOOMKiller": False}}, [], []),
        ({"cpu": {"shares": 1024}}, ["cpu: cpu.shares = 1024"], ["cpu: cpu.weight = 100"]),
        (
            {"cpu": {"quota": 50000, "period": 100000}},
            ["cpu: cpu.cfs_period_us = 100000", "cpu: cpu.cfs_quota_us = 50000"],
            ["cpu: cpu.max = 50000 100000"],
        ),
        ({"cpu": {"quota": -1}}, ["cpu: cpu.cfs_quota_us = -1"], ["cpu: cpu.max = max"]),
        ({"cpu": {"period": 20000}}, ["cpu: cpu.cfs_period_us = 20000"], ["cpu: cpu.max = max 20000"]),
        (
            {"cpu": {"cpus": "0-1,3", "mems": "0"}},
            ["cpuset: cpuset.cpus = 0-1,3", "cpuset: cpuset.mems = 0"],
            ["cpuset: cpuset.cpus = 0-1,3", "cpuset: cpuset.mems = 0"],
        ),
        ({"pids": {"limit": 7}}, ["pids: pids.max = 7"], ["pids: pids.max = 7"]),
        ({"pids": {"limit": -1}}, ["pids: pids.max = max"], ["pids: pids.max = max"]),
        (
            {"blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}]}},
            [
                "blkio: blkio.weight = 500 or blkio.bfq.weight = 500",
                "blkio: blkio.weight_device = 8:0 10 or blkio.bfq.weight_device = 8:0 10",
            ],
            [
                "blkio: io.bfq.weight = 500 or io.weight = default 4950",
                "blkio: io.bfq.weight = 8:0 10 or io.weight = 8:0 1",
            ],
        ),
        (
            {
                "blockIO": {
                    "throttleReadBpsDevice": [{"major": 8, "minor": 16, "rate": 1000}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}],
                }
            },
            ["blkio: blkio.throttle.read_bps_device = 8:16 1000", "blkio: blkio.throttle.write_iops_device = 8:16 0"],
            ["blkio: io.max = 8:16 rbps=1000", "blkio: io.max = 8:16 wiops=max"],
        ),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]},
            ["hugetlb: hugetlb.2MB.limit_in_bytes = 4194304"],
            ["hugetlb: hugetlb.2MB.max = 4194304"],
        ),
        (
            {"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10}}},
            ["rdma: rdma.max = mlx5_1 hca_handle=3 hca_object=10"],
            ["rdma: rdma.max = mlx5_1 hca_handle=3 hca_object=10"],
        ),
        (
            {"network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 5}]}},
            ["net_cls: net_cls.classid = 1048577", "net_prio: net_prio.ifpriomap = eth0 5"],
            ["net_cls: ", "net_prio: "],
        ),
        ({"unified": {"memory.high": "100M"}}, ["memory: "], ["memory: memory.high = 100M"]),
        ({}, [], []),
    ],
)
def test_wishes_on_both_versions(resources, first, second):
    assert v1(resources) == first
    assert v2(resources) == second


def test_absent_controllers_leave_writes_without_files_but_with_a_sentence():
    (write,) = plan({"pids": {"limit": 5}}, lambda _controller: 0)
    assert write.files == ()
    assert write.warning == (
        "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded."
    )


@pytest.mark.parametrize(
    ("resources", "field"),
    [
        ({"memory": {"limit": "64m"}}, "memory.limit"),
        ({"memory": {"limit": True}}, "memory.limit"),
        ({"memory": {"swappiness": 101}}, "swappiness"),
        ({"memory": {"swap": MEGABYTE}}, "memory.swap"),
        ({"memory": {"limit": 2 * MEGABYTE, "swap": MEGABYTE}}, "memory.swap"),
        ({"cpu": {"shares": -5}}, "cpu.shares"),
        ({"cpu": {"quota": 1.5}}, "cpu.quota"),
        ({"cpu": {"cpus": "0\n1"}}, "cpu.cpus"),
        ({"cpu": {"cpus": "../x"}}, "cpu.cpus"),
        ({"pids": {"limit": "x"}}, "pids.limit"),
        ({"blockIO": {"weight": 5}}, "weight"),
        ({"blockIO": {"throttleReadBpsDevice": {"major": 1}}}, "throttleReadBpsDevice"),
        ({"blockIO": {"throttleReadBpsDevice": [{"major": 1, "rate": 3}]}}, "major and minor"),
        ({"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}, "hugepageLimits"),
        ({"hugepageLimits": [{"pageSize": "2MB"}]}, "hugepageLimits"),
        ({"rdma": {"a b": {"hcaHandles": 1}}}, "rdma"),
        ({"network": {"priorities": [{"name": "e th", "priority": 1}]}}, "priorities"),
        ({"unified": {"../x": "1"}}, "unified"),
        ({"unified": {"memory.max": 5}}, "unified"),
    ],
)
def test_bad_values_are_refused_and_named(resources, field):
    with pytest.raises(InvalidArgument, match=field):
        v2(resources)


def test_weights_meet_at_the_ends_and_at_the_default():
    assert [cpu_weight(shares) for shares in (1, 2, 1024, 262144, 10**9)] == [1, 1, 100, 10000, 10000]
    weights = [cpu_weight(shares) for shares in range(2, 262145, 97)]
    assert weights == sorted(weights)
    assert (io_weight(10), io_weight(1000)) == (1, 10000)


DOCKER = [
    {"allow": False, "access": "rwm"},
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
    {"allow": True, "type": "c", "major": 136, "minor": -1, "access": "rwm"},
    {"allow": True, "type": "b", "major": 8, "access": "r"},
]


def test_device_rules_for_v1_keep_their_order():
    assert device_rules(DOCKER) == [
        ("devices.deny", "a"),
        ("devices.allow", "c *:* m"),
        ("devices.allow", "c 1:3 rwm"),
        ("devices.allow", "c 136:* rwm"),
        ("devices.allow", "b 8:* r"),
    ]


def facts(rules):
    allow, exceptions = device_exceptions(rules)
    return allow, [(each.kind, each.major, each.minor, each.access) for each in exceptions]


def test_device_rules_for_v2_are_the_state_v1_would_be_in():
    everything = READ | WRITE | MKNOD
    assert facts(DOCKER) == (
        False,
        [(CHAR, ANY, ANY, MKNOD), (CHAR, 1, 3, everything), (CHAR, 136, ANY, everything), (BLOCK, 8, ANY, READ)],
    )


def test_a_later_rule_takes_an_exception_back_and_equal_ones_merge():
    one = {"type": "c", "major": 1, "minor": 3}
    rules = [
        {"allow": False},
        {"allow": True, **one, "access": "r"},
        {"allow": True, **one, "access": "w"},
        {"allow": False, **one, "access": "r"},
        {"allow": False, "type": "b", "major": 9, "minor": 9},
    ]
    assert facts(rules) == (False, [(CHAR, 1, 3, WRITE)])
    assert facts([*rules, {"allow": True, "type": "a"}]) == (True, [])
    assert facts([{"allow": False, **one}]) == (True, [(CHAR, 1, 3, READ | WRITE | MKNOD)])


@pytest.mark.parametrize(
    "rule",
    [
        {"allow": True, "type": "x"},
        {"allow": True, "type": "c", "access": "rwx"},
        {"allow": True, "type": "c", "major": "1"},
        {"allow": True, "type": "c", "major": 1 << 31},
        {"allow": True, "type": "a", "major": 1},
    ],
)
def test_unreadable_device_rules_are_refused(rule):
    with pytest.raises(InvalidArgument, match="devices"):
        device_rules([rule])
    with pytest.raises(InvalidArgument, match="devices"):
        device_exceptions([rule])
