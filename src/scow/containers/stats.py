"""What a container uses, in the shape of ``docker stats``: control group and interfaces, read once a second."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from scow.api.units import ZERO_TIME, rfc3339
from scow.containers.container import Container
from scow.containers.context import Context
from scow.runtime.cgroup import Cgroup

#: Seconds between samples of a stream; Docker's collector has the same.
PERIOD = 1.0
#: From this version on fields that mean nothing on Linux are left out.
WITHOUT_WINDOWS_FIELDS = (1, 48)

_NETWORK_FIELDS = {"rx": (0, 1, 2, 3), "tx": (8, 9, 10, 11)}


def sample(container: Container) -> dict[str, Any]:
    """One reading, without what depends on the one before; a container that does not run has empty parts. Blocking."""
    found: dict[str, Any] = {"id": container.id, "name": f"/{container.name}", "os_type": "linux"}
    if not container.running:
        empty: dict[str, Any] = {"cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0}}
        empty["throttling_data"] = {"periods": 0, "throttled_periods": 0, "throttled_time": 0}
        return found | {
            "read": ZERO_TIME,
            "cpu_stats": empty,
            "memory_stats": {},
            "pids_stats": {},
            "blkio_stats": {},
            "networks": None,
        }
    found["read"] = rfc3339(time.time_ns())
    found |= Cgroup.open(container.cgroup).stats()
    # The host's interfaces are not the container's: Docker shows none of them either.
    found["networks"] = None if container.record.host.network_mode == "host" else interfaces(container.record.pid)
    return found


def interfaces(pid: int) -> dict[str, dict[str, int]] | None:
    """Counters by interface of the network namespace process `pid` is in, loopback left out; None if it is gone."""
    try:
        text = Path(f"/proc/{pid}/net/dev").read_text()
    except OSError:
        return None
    found: dict[str, dict[str, int]] = {}
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        numbers = [int(word) for word in rest.split()]
        if name.strip() == "lo" or len(numbers) < 12:
            continue
        counters: dict[str, int] = {}
        for way, columns in _NETWORK_FIELDS.items():
            for what, column in zip(("bytes", "packets", "errors", "dropped"), columns, strict=True):
                counters[f"{way}_{what}"] = numbers[column]
        found[name.strip()] = counters
    return found


def finish(reading: dict[str, Any], before: dict[str, Any] | None, version: tuple[int, int]) -> dict[str, Any]:
    """The API's ContainerStatsResponse from a reading and the one before it."""
    empty = {"cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0}}
    answer = {
        **reading,
        "preread": before["read"] if before else ZERO_TIME,
        "precpu_stats": before["cpu_stats"] if before else empty | {"throttling_data": _NO_THROTTLING},
    }
    if answer.get("networks") is None:
        answer.pop("networks", None)
    if version < WITHOUT_WINDOWS_FIELDS:
        answer |= {"num_procs": 0, "storage_stats": {}}
    return answer


_NO_THROTTLING = {"periods": 0, "throttled_periods": 0, "throttled_time": 0}


async def once(context: Context, ref: str, version: tuple[int, int], *, one_shot: bool) -> dict[str, Any]:
    """One answer; unless `one_shot`, a second reading a period later, so that usage per time can be computed."""
    container = context.get(ref)
    first = await asyncio.to_thread(sample, container)
    if one_shot or not container.running:
        return finish(first, None, version)
    await asyncio.sleep(PERIOD)
    return finish(await asyncio.to_thread(sample, container), first, version)


def stream(context: Context, ref: str, version: tuple[int, int]) -> AsyncIterator[dict[str, Any]]:
    """An answer every period until the container is removed.

    Raises:
        NoSuchContainer: at once, not with the first answer.
    """
    return _stream(context.get(ref), version)


async def _stream(container: Container, version: tuple[int, int]) -> AsyncIterator[dict[str, Any]]:
    before: dict[str, Any] | None = None
    while not container.removed:
        reading = await asyncio.to_thread(sample, container)
        yield finish(reading, before, version)
        before = reading if container.running else None
        await asyncio.sleep(PERIOD)
