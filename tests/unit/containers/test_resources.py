import pytest

from scow.api.containers import HostConfig, ThrottleDevice, Ulimit, WeightDevice
from scow.containers import resources
from scow.containers.resources import Machine
from scow.errors import InvalidArgument

#: A v1 machine that has every file.
FOUR = Machine(4, lambda _controller: 1, frozenset({0}), lambda _controller, _names: True)


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"memory": 1 << 20}, "Minimum memory limit allowed is 6MB"),
        ({"memory": -1}, "Minimum memory limit"),
        ({"memory": 64 << 20, "memory_swap": 32 << 20}, "Minimum memoryswap limit should be larger"),
        ({"memory_swap": 32 << 20}, "You should always set the Memory limit"),
        ({"memory_swappiness": 101}, "valid memory swappiness range is 0-100"),
        ({"memory": 16 << 20, "memory_reservation": 32 << 20}, "less than memory reservation"),
        ({"nano_cpus": 10**9, "cpu_quota": 5000}, "Nano CPUs and CPU Quota cannot both be set"),
        ({"nano_cpus": 10**9, "cpu_period": 5000}, "Nano CPUs and CPU Period cannot both be set"),
        ({"nano_cpus": 99 * 10**9}, "as there are only 4 CPUs available"),
        ({"cpu_period": 10}, "CPU cfs period"),
        ({"cpu_quota": 10}, "CPU cfs quota"),
        ({"cpu_shares": -3}, "invalid CPU shares"),
        ({"cpuset_cpus": "0-"}, "Invalid value 0- for cpuset cpus"),
        ({"cpuset_cpus": "9"}, "Requested CPUs are not available - requested 9, available: 0-3"),
        ({"cpuset_mems": "1"}, "Requested memory nodes are not available - requested 1, available: 0"),
        ({"cpu_realtime_period": 1000, "cpu_realtime_runtime": 2000}, "runtime cannot be higher than cpu real-time"),
        ({"cpu_realtime_runtime": -5}, "cannot be negative"),
        ({"io_maximum_iops": 1}, "Invalid QoS settings: linux does not support configuration of maximum IOPs"),
        ({"io_maximum_bandwidth": 1}, "Invalid QoS settings"),
        ({"blkio_weight_device": [WeightDevice(path="/dev/sda", weight=5)]}, "invalid weight for device: /dev/sda:5"),
        ({"cpuset_cpus": "3-1"}, "Invalid value"),
        ({"cpuset_cpus": "0-99999"}, "Invalid value"),
        ({"blkio_weight": 5}, "Range of blkio weight is from 10 to 1000"),
        ({"ulimits": [Ulimit(name="food", soft=1, hard=1)]}, "invalid ulimit type: food"),
        ({"ulimits": [Ulimit(name="nofile", soft=9, hard=1)]}, "must be less than or equal to hard limit"),
        ({"blkio_device_read_bps": [ThrottleDevice(path="sda", rate=1)]}, "invalid rate"),
    ],
)
def test_nonsense_in_dockers_words(limits, sentence):
    with pytest.raises(InvalidArgument) as caught:
        resources.check(HostConfig(**limits), FOUR)
    assert sentence in str(caught.value)


def test_what_is_not_asked_is_not_in_the_spec():
    limits = HostConfig()
    resources.check(limits, FOUR)
    assert resources.to_oci(limits) == {}


def test_to_oci():
    limits = HostConfig(
        memory=64 << 20, memory_swap=-1, nano_cpus=1_500_000_000, pids_limit=0, cpuset_cpus="0-1", cpu_shares=512
    )
    resources.check(limits, FOUR)
    assert resources.to_oci(limits) == {
        "memory": {"limit": 64 << 20, "swap": -1},
        "cpu": {"shares": 512, "period": 100_000, "quota": 150_000, "cpus": "0-1"},
        "pids": {"limit": -1},
    }


def test_unlimited_ulimits():
    limits = HostConfig(ulimits=[Ulimit(name="core", soft=-1, hard=-1)])
    resources.check(limits, FOUR)
    assert resources.rlimits(limits) == [{"type": "RLIMIT_CORE", "soft": 2**64 - 1, "hard": 2**64 - 1}]


def test_oom_warning():
    assert "OOM killer is disabled" in resources.warnings(HostConfig(oom_kill_disable=True), FOUR)[0]
    assert not resources.warnings(HostConfig(oom_kill_disable=True, memory=64 << 20), FOUR)


def test_what_v2_lacks_is_told():
    limits = HostConfig(oom_kill_disable=True, memory=64 << 20, memory_swappiness=10, cpu_shares=5)
    assert resources.warnings(limits, FOUR) == []
    assert resources.warnings(limits, Machine(4, lambda controller: 2 if controller == "memory" else 0)) == [
        "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. "
        "Memory swappiness discarded.",
        "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
        "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.",
    ]


def test_files_a_kernel_was_built_without_are_told():
    """swapaccount=0, no BFQ, no realtime groups: the controllers are there, some of their files are not."""

    def offers(_controller, names):
        return not any(word in name for name in names for word in ("memsw", "weight", "rt_", "cfs"))

    machine = Machine(4, lambda _controller: 1, frozenset(), offers)
    limits = HostConfig(
        memory=64 << 20, memory_swap=128 << 20, blkio_weight=300, cpu_quota=5000, cpu_percent=5,
        blkio_device_read_bps=[ThrottleDevice(path="/dev/nope", rate=1)],
    )  # fmt: skip
    resources.check(limits, machine)
    assert resources.warnings(limits, machine) == [
        "Your kernel does not support swap limit capabilities or the cgroup is not mounted. "
        "Memory limited without swap.",
        "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.",
        "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
        "linux does not support CPU percent. Percent discarded.",
    ]
    with pytest.raises(InvalidArgument, match="Your kernel does not support CPU real-time scheduler"):
        resources.check(HostConfig(cpu_realtime_runtime=1000), machine)
    with pytest.raises(InvalidArgument, match="NanoCPUs can not be set, as your kernel does not support CPU CFS"):
        resources.check(HostConfig(nano_cpus=10**9), machine)


def test_not_a_disk():
    with pytest.raises(InvalidArgument, match="/dev/null is not a block device"):
        resources.to_oci(HostConfig(blkio_device_read_bps=[ThrottleDevice(path="/dev/null", rate=1)]))


def test_unknown_device():
    with pytest.raises(InvalidArgument, match="no such device"):
        resources.to_oci(HostConfig(blkio_device_read_bps=[ThrottleDevice(path="/dev/nope", rate=1)]))
