import pytest

from scow.api.containers import HostConfig, ThrottleDevice, Ulimit
from scow.containers import resources
from scow.errors import InvalidArgument


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
        resources.check(HostConfig(**limits), cpus=4)
    assert sentence in str(caught.value)


def test_what_is_not_asked_is_not_in_the_spec():
    limits = HostConfig()
    resources.check(limits, cpus=4)
    assert resources.to_oci(limits) == {}


def test_to_oci():
    limits = HostConfig(
        memory=64 << 20, memory_swap=-1, nano_cpus=1_500_000_000, pids_limit=0, cpuset_cpus="0-1", cpu_shares=512
    )
    resources.check(limits, cpus=4)
    assert resources.to_oci(limits) == {
        "memory": {"limit": 64 << 20, "swap": -1},
        "cpu": {"shares": 512, "period": 100_000, "quota": 150_000, "cpus": "0-1"},
        "pids": {"limit": -1},
    }


def test_unlimited_ulimits():
    limits = HostConfig(ulimits=[Ulimit(name="core", soft=-1, hard=-1)])
    resources.check(limits, cpus=1)
    assert resources.rlimits(limits) == [{"type": "RLIMIT_CORE", "soft": 2**64 - 1, "hard": 2**64 - 1}]


def test_oom_warning():
    assert "OOM killer is disabled" in resources.warnings(HostConfig(oom_kill_disable=True), v1)[0]
    assert not resources.warnings(HostConfig(oom_kill_disable=True, memory=64 << 20), v1)


def test_what_v2_lacks_is_told():
    limits = HostConfig(oom_kill_disable=True, memory=64 << 20, memory_swappiness=10, cpu_shares=5)
    assert resources.warnings(limits, v1) == []
    assert resources.warnings(limits, lambda controller: 2 if controller == "memory" else 0) == [
        "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. "
        "Memory swappiness discarded.",
        "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
        "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.",
    ]


def v1(_controller: str) -> int:
    return 1


def test_unknown_device():
    with pytest.raises(InvalidArgument, match="no such device"):
        resources.to_oci(HostConfig(blkio_device_read_bps=[ThrottleDevice(path="/dev/nope", rate=1)]))
