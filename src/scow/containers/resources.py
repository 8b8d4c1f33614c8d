"""Limits of a container: what may be asked, in Docker's words, and what it means in the runtime's. Pure."""

import functools
import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scow.api.containers import Resources
from scow.errors import InvalidArgument
from scow.linux import cgroup
from scow.runtime import resources as wishes

MINIMUM_MEMORY = 6 << 20
#: CFS period the kernel starts with, in µs (sched-bwc).
DEFAULT_PERIOD = 100_000
#: Most cpus or memory nodes a list may name (the kernel's NR_CPUS is at most this).
MAX_CPU = 8192

_LIST = re.compile(r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*")

#: Resource limits of setrlimit(2) by Docker's names.
ULIMITS = frozenset(
    {"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio"}
    | {"rttime", "sigpending", "stack"}
)


@dataclass(frozen=True, slots=True)
class Machine:
    """What limits are checked against.

    Attributes:
        cpus: processors; they are numbered from 0.
        where: controller → how this machine drives it, 0 for not at all: `scow.linux.cgroup.Layout.where`.
        nodes: numbers of the memory nodes; empty where they are not known.
        offers: (controller, names of its files) → False where no group has any of them.
    """

    cpus: int
    where: Callable[[str], int]
    nodes: frozenset[int] = frozenset()
    offers: Callable[[str, Iterable[str]], bool | None] | None = None

    def lacks(self, controller: str, *names: str) -> bool:
        """Whether this machine certainly has none of the files `names` (in the spelling of its own version)."""
        if not self.where(controller):
            return True
        return self.offers is not None and self.offers(controller, names) is False


def this_machine() -> Machine:
    """The machine this runs on."""
    layout = cgroup.layout()
    return Machine(os.cpu_count() or 1, layout.where, _memory_nodes(), functools.partial(cgroup.offers, layout))


@functools.cache
def _memory_nodes() -> frozenset[int]:
    """Those of this machine; empty where the kernel does not tell."""
    try:
        return frozenset(numbers(Path("/sys/devices/system/node/online").read_text().strip(), "mems"))
    except (OSError, InvalidArgument, ValueError):
        return frozenset()


def check(limits: Resources, machine: Machine) -> None:
    """Raise `InvalidArgument` in Docker's words for limits that make no sense on `machine`."""
    _check_memory(limits)
    _check_cpu(limits, machine)
    _check_realtime(limits, machine)
    _check_cpuset(limits, machine)
    _check_io(limits)
    for limit in limits.ulimits:
        if limit.name not in ULIMITS:
            raise InvalidArgument(f"invalid ulimit type: {limit.name}")
        if limit.hard != -1 and (limit.soft == -1 or limit.soft > limit.hard):
            raise InvalidArgument(
                f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}"
            )


def _check_io(limits: Resources) -> None:
    if limits.io_maximum_bandwidth:
        raise InvalidArgument("Invalid QoS settings: linux does not support configuration of maximum bandwidth")
    if limits.io_maximum_iops:
        raise InvalidArgument("Invalid QoS settings: linux does not support configuration of maximum IOPs")
    if limits.blkio_weight and not 10 <= limits.blkio_weight <= 1000:
        raise InvalidArgument("Range of blkio weight is from 10 to 1000")
    for device in limits.blkio_weight_device:
        if not (device.weight == 0 or 10 <= device.weight <= 1000) or not device.path.startswith("/"):
            raise InvalidArgument(f"invalid weight for device: {device.path}:{device.weight}")
    for throttle in (
        *limits.blkio_device_read_bps,
        *limits.blkio_device_write_bps,
        *limits.blkio_device_read_iops,
        *limits.blkio_device_write_iops,
    ):
        if throttle.rate < 0 or not throttle.path.startswith("/"):
            raise InvalidArgument(f"invalid rate for device: {throttle.path}:{throttle.rate}")


def _check_memory(limits: Resources) -> None:
    if limits.memory < 0 or 0 < limits.memory < MINIMUM_MEMORY:
        raise InvalidArgument("Minimum memory limit allowed is 6MB")
    if limits.memory > 0 and 0 < limits.memory_swap < limits.memory:
        raise InvalidArgument("Minimum memoryswap limit should be larger than memory limit, see usage")
    if limits.memory == 0 and limits.memory_swap > 0:
        raise InvalidArgument("You should always set the Memory limit when using Memoryswap limit, see usage")
    if limits.memory_swap < -1:
        raise InvalidArgument(f"invalid value for memory-swap: {limits.memory_swap}: use -1 for unlimited swap")
    if limits.memory_swappiness is not None and not -1 <= limits.memory_swappiness <= 100:
        raise InvalidArgument(f"Invalid value: {limits.memory_swappiness}, valid memory swappiness range is 0-100")
    if limits.memory_reservation < 0 or 0 < limits.memory_reservation < MINIMUM_MEMORY:
        raise InvalidArgument("Minimum memory reservation allowed is 6MB")
    if 0 < limits.memory < limits.memory_reservation:
        raise InvalidArgument("Minimum memory limit can not be less than memory reservation limit, see usage")


def _check_cpu(limits: Resources, machine: Machine) -> None:
    cpus = machine.cpus
    if limits.nano_cpus and limits.cpu_period:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if limits.nano_cpus and limits.cpu_quota:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if limits.nano_cpus and machine.lacks("cpu", "cpu.cfs_quota_us", "cpu.max"):
        raise InvalidArgument(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted"
        )
    if limits.nano_cpus < 0 or limits.nano_cpus > cpus * 1_000_000_000:
        raise InvalidArgument(f"range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available")
    if limits.cpu_shares < 0:
        raise InvalidArgument(f"invalid CPU shares ({limits.cpu_shares}): value must be a positive integer")
    if limits.cpu_period and not 1000 <= limits.cpu_period <= 1_000_000:
        raise InvalidArgument("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < limits.cpu_quota < 1000:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")


def _check_realtime(limits: Resources, machine: Machine) -> None:
    period, runtime = limits.cpu_realtime_period, limits.cpu_realtime_runtime
    if not period and not runtime:
        return
    if machine.where("cpu") != 1 or machine.lacks("cpu", "cpu.rt_runtime_us"):
        raise InvalidArgument("Your kernel does not support CPU real-time scheduler")
    if period < 0 or runtime < 0:
        raise InvalidArgument("cpu real-time period and runtime cannot be negative")
    if period and runtime > period:
        raise InvalidArgument("cpu real-time runtime cannot be higher than cpu real-time period")


def _check_cpuset(limits: Resources, machine: Machine) -> None:
    for what, text in (("cpus", limits.cpuset_cpus), ("mems", limits.cpuset_mems)):
        if text and not _LIST.fullmatch(text):
            raise InvalidArgument(f"Invalid value {text} for cpuset {what}")
    wanted = numbers(limits.cpuset_cpus)
    if wanted and max(wanted) >= machine.cpus:
        raise InvalidArgument(
            f"Requested CPUs are not available - requested {limits.cpuset_cpus}, available: 0-{machine.cpus - 1}"
        )
    if machine.nodes and not numbers(limits.cpuset_mems, "mems") <= machine.nodes:
        raise InvalidArgument(
            f"Requested memory nodes are not available - requested {limits.cpuset_mems}, "
            f"available: {','.join(map(str, sorted(machine.nodes)))}"
        )


def numbers(text: str, what: str = "cpus") -> set[int]:
    """ "0-2,5" → {0, 1, 2, 5}.

    Raises:
        InvalidArgument: a range that runs backwards or past any machine's processors.
    """
    found: set[int] = set()
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if low > high or high >= MAX_CPU:
            raise InvalidArgument(f"Invalid value {text} for cpuset {what}")
        found.update(range(low, high + 1))
    return found


def warnings(limits: Resources, machine: Machine) -> list[str]:
    """What Docker warns about these limits on `machine`."""
    pids = {"limit": limits.pids_limit} if limits.pids_limit else {}
    asked = {"memory": _memory(limits), "cpu": _cpu(limits), "pids": pids, "blockIO": _block_io(limits, _any_device)}
    found = wishes.lost(asked, machine.where, machine.offers)
    if limits.cpu_percent or limits.cpu_count:
        what = "percent" if limits.cpu_percent else "count"
        found.append(f"linux does not support CPU {what}. {what.capitalize()} discarded.")
    if limits.oom_kill_disable and not limits.memory:
        found.append(
            "OOM killer is disabled for the container, but no memory limit is set, "
            "this can result in the system running out of resources."
        )
    return found


def to_oci(limits: Resources) -> dict[str, Any]:
    """The runtime-spec's ``linux.resources`` (without devices) for these limits; only what was asked is in it.

    Source: runtime-spec 1.2 config-linux.md "Control groups".
    """
    found: dict[str, Any] = {}
    memory = _memory(limits)
    if memory:
        found["memory"] = memory
    cpu = _cpu(limits)
    if cpu:
        found["cpu"] = cpu
    if limits.pids_limit is not None:
        found["pids"] = {"limit": limits.pids_limit if limits.pids_limit > 0 else -1}
    io = _block_io(limits, _numbers_of)
    if io:
        found["blockIO"] = io
    return found


def _memory(limits: Resources) -> dict[str, Any]:
    memory: dict[str, Any] = {}
    if limits.memory:
        memory["limit"] = limits.memory
    if limits.memory_reservation:
        memory["reservation"] = limits.memory_reservation
    if limits.memory_swap:
        memory["swap"] = limits.memory_swap
    if limits.memory_swappiness is not None and limits.memory_swappiness >= 0:
        memory["swappiness"] = limits.memory_swappiness
    if limits.oom_kill_disable:
        memory["disableOOMKiller"] = True
    return memory


def _cpu(limits: Resources) -> dict[str, Any]:
    cpu: dict[str, Any] = {}
    if limits.cpu_shares:
        cpu["shares"] = limits.cpu_shares
    if limits.nano_cpus:
        cpu["period"] = DEFAULT_PERIOD
        cpu["quota"] = max(limits.nano_cpus * DEFAULT_PERIOD // 1_000_000_000, 1000)
    if limits.cpu_period:
        cpu["period"] = limits.cpu_period
    if limits.cpu_quota:
        cpu["quota"] = limits.cpu_quota
    if limits.cpu_realtime_period:
        cpu["realtimePeriod"] = limits.cpu_realtime_period
    if limits.cpu_realtime_runtime:
        cpu["realtimeRuntime"] = limits.cpu_realtime_runtime
    if limits.cpuset_cpus:
        cpu["cpus"] = limits.cpuset_cpus
    if limits.cpuset_mems:
        cpu["mems"] = limits.cpuset_mems
    return cpu


def _block_io(limits: Resources, number: Callable[[str], dict[str, int]]) -> dict[str, Any]:
    io: dict[str, Any] = {}
    if limits.blkio_weight:
        io["weight"] = limits.blkio_weight
    if limits.blkio_weight_device:
        io["weightDevice"] = [{**number(device.path), "weight": device.weight} for device in limits.blkio_weight_device]
    for name, throttles in (
        ("throttleReadBpsDevice", limits.blkio_device_read_bps),
        ("throttleWriteBpsDevice", limits.blkio_device_write_bps),
        ("throttleReadIOPSDevice", limits.blkio_device_read_iops),
        ("throttleWriteIOPSDevice", limits.blkio_device_write_iops),
    ):
        if throttles:
            io[name] = [{**number(throttle.path), "rate": throttle.rate} for throttle in throttles]
    return io


def _any_device(_path: str) -> dict[str, int]:
    """Numbers for a plan that is only looked at."""
    return {"major": 0, "minor": 0}


def _numbers_of(path: str) -> dict[str, int]:
    """Major and minor of the device at `path` on the host.

    Raises:
        InvalidArgument: there is none.
    """
    try:
        found = Path(path).stat()
    except OSError as error:
        raise InvalidArgument(f"no such device: {path}: {error.strerror}") from None
    if not stat.S_ISBLK(found.st_mode):
        raise InvalidArgument(f"{path} is not a block device")
    number = found.st_rdev
    return {"major": os.major(number), "minor": os.minor(number)}


def rlimits(limits: Resources) -> list[dict[str, Any]]:
    """The runtime-spec's ``process.rlimits`` for the ulimits asked for; -1 is unlimited."""
    return [
        {"type": f"RLIMIT_{limit.name.upper()}", "soft": limit.soft % (1 << 64), "hard": limit.hard % (1 << 64)}
        for limit in limits.ulimits
    ]
