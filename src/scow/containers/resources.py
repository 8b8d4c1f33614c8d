"""Limits of a container: what may be asked, in Docker's words, and what it means in the runtime's. Pure."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scow.api.containers import Resources, ThrottleDevice
from scow.errors import InvalidArgument
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


def check(limits: Resources, cpus: int) -> None:
    """Raise `InvalidArgument` in Docker's words for limits that make no sense on a machine with `cpus` processors."""
    _check_memory(limits)
    _check_cpu(limits, cpus)
    if limits.blkio_weight and not 10 <= limits.blkio_weight <= 1000:
        raise InvalidArgument("Range of blkio weight is from 10 to 1000")
    for limit in limits.ulimits:
        if limit.name not in ULIMITS:
            raise InvalidArgument(f"invalid ulimit type: {limit.name}")
        if limit.hard != -1 and (limit.soft == -1 or limit.soft > limit.hard):
            raise InvalidArgument(
                f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}"
            )
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


def _check_cpu(limits: Resources, cpus: int) -> None:
    if limits.nano_cpus and limits.cpu_period:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if limits.nano_cpus and limits.cpu_quota:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if limits.nano_cpus < 0 or limits.nano_cpus > cpus * 1_000_000_000:
        raise InvalidArgument(f"range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available")
    if limits.cpu_shares < 0:
        raise InvalidArgument(f"invalid CPU shares ({limits.cpu_shares}): value must be a positive integer")
    if limits.cpu_period and not 1000 <= limits.cpu_period <= 1_000_000:
        raise InvalidArgument("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < limits.cpu_quota < 1000:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if limits.cpu_realtime_period or limits.cpu_realtime_runtime:
        raise InvalidArgument("Your kernel does not support CPU real-time scheduler limits per container")
    for what, text in (("cpus", limits.cpuset_cpus), ("mems", limits.cpuset_mems)):
        if text and not _LIST.fullmatch(text):
            raise InvalidArgument(f"Invalid value {text} for cpuset {what}")
    wanted = numbers(limits.cpuset_cpus)
    if wanted and max(wanted) >= cpus:
        raise InvalidArgument(
            f"Requested CPUs are not available - requested {limits.cpuset_cpus}, available: 0-{cpus - 1}"
        )


def numbers(text: str) -> set[int]:
    """ "0-2,5" → {0, 1, 2, 5}.

    Raises:
        InvalidArgument: a range that runs backwards or past any machine's processors.
    """
    found: set[int] = set()
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if low > high or high >= MAX_CPU:
            raise InvalidArgument(f"Invalid value {text} for cpuset cpus")
        found.update(range(low, high + 1))
    return found


def warnings(limits: Resources, where: Callable[[str], int]) -> list[str]:
    """What Docker warns about these limits.

    Args:
        where: controller → how this machine drives it, 0 for not at all: `scow.linux.cgroup.Layout.where`.
    """
    pids = {"limit": limits.pids_limit} if limits.pids_limit else {}
    found = wishes.lost({"memory": _memory(limits), "cpu": _cpu(limits), "pids": pids}, where)
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
    io = _block_io(limits)
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
    if limits.cpuset_cpus:
        cpu["cpus"] = limits.cpuset_cpus
    if limits.cpuset_mems:
        cpu["mems"] = limits.cpuset_mems
    return cpu


def _block_io(limits: Resources) -> dict[str, Any]:
    io: dict[str, Any] = {}
    if limits.blkio_weight:
        io["weight"] = limits.blkio_weight
    if limits.blkio_weight_device:
        io["weightDevice"] = [
            {**_numbers_of(device.path), "weight": device.weight} for device in limits.blkio_weight_device
        ]
    for name, throttles in (
        ("throttleReadBpsDevice", limits.blkio_device_read_bps),
        ("throttleWriteBpsDevice", limits.blkio_device_write_bps),
        ("throttleReadIOPSDevice", limits.blkio_device_read_iops),
        ("throttleWriteIOPSDevice", limits.blkio_device_write_iops),
    ):
        if throttles:
            io[name] = _throttles(throttles)
    return io


def _throttles(throttles: Sequence[ThrottleDevice]) -> list[dict[str, int]]:
    return [{**_numbers_of(throttle.path), "rate": throttle.rate} for throttle in throttles]


def _numbers_of(path: str) -> dict[str, int]:
    """Major and minor of the device at `path` on the host.

    Raises:
        InvalidArgument: there is none.
    """
    try:
        number = Path(path).stat().st_rdev
    except OSError as error:
        raise InvalidArgument(f"no such device: {path}: {error.strerror}") from None
    return {"major": os.major(number), "minor": os.minor(number)}


def rlimits(limits: Resources) -> list[dict[str, Any]]:
    """The runtime-spec's ``process.rlimits`` for the ulimits asked for; -1 is unlimited."""
    return [
        {"type": f"RLIMIT_{limit.name.upper()}", "soft": limit.soft % (1 << 64), "hard": limit.hard % (1 << 64)}
        for limit in limits.ulimits
    ]
