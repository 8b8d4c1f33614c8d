"""What a group has used, in the shape of Docker's stats JSON, read in one pass over its files.

Absent files count as zero: a group that has just gone reads as an idle one, as Docker shows it.
Source: Engine API ContainerStats; kernel admin-guide/cgroup-v1 (cpuacct, memory, blkio), cgroup-v2.
"""

from __future__ import annotations

import os

from scow.linux.cgroup import read, read_number, read_pairs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Folder = Callable[[str], "str | None"]

#: What Docker shows for a limit that is not set (2^64 - 1).
UNLIMITED = (1 << 64) - 1
_NANOSECONDS_PER_TICK = 10_000_000  # USER_HZ is 100 on every architecture we run on
_BLKIO_KEYS = (
    "io_service_bytes_recursive",
    "io_serviced_recursive",
    "io_queue_recursive",
    "io_service_time_recursive",
    "io_wait_time_recursive",
    "io_merged_recursive",
    "io_time_recursive",
    "sectors_recursive",
)


def read_stats(folder: Folder, where: Callable[[str], int]) -> dict[str, Any]:
    """``{"cpu_stats": …, "memory_stats": …, "pids_stats": …, "blkio_stats": …}``; times in ns, sizes in bytes.

    Args:
        folder: controller → the group's folder, or None where the host or the group has none.
        where: controller → 1 or 2, the kind of its files.
    """
    cpu = _cpu_v2(folder("cpu")) if where("cpu") == 2 else _cpu_v1(folder("cpuacct"), folder("cpu"))
    memory = _memory_v2(folder("memory")) if where("memory") == 2 else _memory_v1(folder("memory"))
    blkio = _blkio_v2(folder("blkio")) if where("blkio") == 2 else _blkio_v1(folder("blkio"))
    return {
        "cpu_stats": {**cpu, "system_cpu_usage": system_cpu_usage(), "online_cpus": os.sysconf("SC_NPROCESSORS_ONLN")},
        "memory_stats": memory,
        "pids_stats": _pids(folder("pids")),
        "blkio_stats": blkio,
    }


def system_cpu_usage() -> int:
    """Nanoseconds all processors of the host have spent since boot, idle ones included."""
    try:
        ticks = read("/proc/stat").split(b"\n", 1)[0].split()[1:8]
    except OSError:
        return 0
    return sum(map(int, ticks)) * _NANOSECONDS_PER_TICK


def host_memory() -> int:
    """Bytes of memory of the host: the limit of a group that has none."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _cpu(total: int, kernel: int, user: int, stat: dict[str, int], throttled: int) -> dict[str, Any]:
    return {
        "cpu_usage": {"total_usage": total, "usage_in_kernelmode": kernel, "usage_in_usermode": user},
        "throttling_data": {
            "periods": stat.get("nr_periods", 0),
            "throttled_periods": stat.get("nr_throttled", 0),
            "throttled_time": throttled,
        },
    }


def _cpu_v1(accounting: str | None, scheduler: str | None) -> dict[str, Any]:
    stat = read_pairs(f"{scheduler}/cpu.stat") if scheduler else {}
    if accounting is None:
        return _cpu(0, 0, 0, stat, stat.get("throttled_time", 0))
    total = read_number(f"{accounting}/cpuacct.usage")
    kernel = read_number(f"{accounting}/cpuacct.usage_sys")
    found = _cpu(total, kernel, read_number(f"{accounting}/cpuacct.usage_user"), stat, stat.get("throttled_time", 0))
    try:
        found["cpu_usage"]["percpu_usage"] = [int(word) for word in read(f"{accounting}/cpuacct.usage_percpu").split()]
    except (OSError, ValueError):
        found["cpu_usage"]["percpu_usage"] = []
    return found


def _cpu_v2(folder: str | None) -> dict[str, Any]:
    stat = read_pairs(f"{folder}/cpu.stat") if folder else {}
    total, kernel, user, throttled = (
        stat.get(key, 0) * 1000 for key in ("usage_usec", "system_usec", "user_usec", "throttled_usec")
    )
    return _cpu(total, kernel, user, stat, throttled)


def _memory_v1(folder: str | None) -> dict[str, Any]:
    if folder is None:
        return {"usage": 0, "limit": host_memory(), "stats": {}}
    limit = read_number(f"{folder}/memory.limit_in_bytes", UNLIMITED)
    return {
        "usage": read_number(f"{folder}/memory.usage_in_bytes"),
        "max_usage": read_number(f"{folder}/memory.max_usage_in_bytes"),
        "failcnt": read_number(f"{folder}/memory.failcnt"),
        "limit": min(limit, host_memory()),
        "stats": read_pairs(f"{folder}/memory.stat"),
    }


def _memory_v2(folder: str | None) -> dict[str, Any]:
    if folder is None:
        return {"usage": 0, "limit": host_memory(), "stats": {}}
    limit = read_number(f"{folder}/memory.max", -1)
    return {
        "usage": read_number(f"{folder}/memory.current"),
        "limit": host_memory() if limit < 0 else min(limit, host_memory()),
        "stats": read_pairs(f"{folder}/memory.stat"),
    }


def _pids(folder: str | None) -> dict[str, int]:
    if folder is None:
        return {"current": 0, "limit": UNLIMITED}
    limit = read_number(f"{folder}/pids.max", -1)
    return {"current": read_number(f"{folder}/pids.current"), "limit": UNLIMITED if limit < 0 else limit}


def _blkio(transferred: list[dict[str, Any]], operations: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(_BLKIO_KEYS)
    found["io_service_bytes_recursive"] = transferred
    found["io_serviced_recursive"] = operations
    return found


def _blkio_v1(folder: str | None) -> dict[str, Any]:
    if folder is None:
        return _blkio([], [])
    return _blkio(_blkio_file(folder, "io_service_bytes"), _blkio_file(folder, "io_serviced"))


def _blkio_file(folder: str, name: str) -> list[dict[str, Any]]:
    """Lines "major:minor Operation value"; BFQ keeps its own when it schedules the disks, else the throttle layer."""
    found: list[dict[str, Any]] = []
    for prefix in ("blkio.bfq", "blkio.throttle"):
        try:
            lines = read(f"{folder}/{prefix}.{name}_recursive").decode().splitlines()
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if len(words) == 3:
                found.append(_blkio_entry(words[0], words[1].lower(), int(words[2])))
        if found:
            break
    return found


def _blkio_v2(folder: str | None) -> dict[str, Any]:
    """io.stat: "major:minor rbytes=1 wbytes=2 rios=3 wios=4 …"."""
    transferred: list[dict[str, Any]] = []
    operations: list[dict[str, Any]] = []
    try:
        lines = read(f"{folder}/io.stat").decode().splitlines() if folder else []
    except OSError:
        lines = []
    for line in lines:
        device, *words = line.split()
        numbers = dict(word.split("=", 1) for word in words if "=" in word)
        for into, suffix in ((transferred, "bytes"), (operations, "ios")):
            for letter, operation in (("r", "read"), ("w", "write")):
                if letter + suffix in numbers:
                    into.append(_blkio_entry(device, operation, int(numbers[letter + suffix])))
    return _blkio(transferred, operations)


def _blkio_entry(device: str, operation: str, value: int) -> dict[str, Any]:
    major, _colon, minor = device.partition(":")
    return {"major": int(major), "minor": int(minor), "op": operation, "value": value}
