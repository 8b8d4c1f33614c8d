"""Update: new limits and a new restart policy, for a container that runs too."""

from typing import Any

import msgspec

from scow.api.containers import HostConfig, UpdateBody
from scow.containers import names, resources, validate
from scow.containers.context import Context
from scow.containers.state import RENAME, UPDATE, require
from scow.errors import Conflict, InvalidArgument

#: Fields of an update that stand for "no change" while they are at their defaults.
LIMITS = (
    "cpu_shares", "memory", "nano_cpus", "blkio_weight", "cpu_period", "cpu_quota", "cpuset_cpus", "cpuset_mems",
    "memory_reservation", "memory_swap", "pids_limit", "cpu_realtime_period", "cpu_realtime_runtime",
    "blkio_weight_device", "blkio_device_read_bps", "blkio_device_write_bps", "blkio_device_read_iops",
    "blkio_device_write_iops",
)  # fmt: skip
#: Lists of limits by device: an update names those that change, 0 takes one back.
BY_DEVICE = frozenset(name for name in LIMITS if name.startswith("blkio_") and name != "blkio_weight")


async def update(context: Context, ref: str, body: UpdateBody) -> list[str]:
    """Change what `body` names; the warnings.

    Raises:
        NoSuchContainer.
        InvalidArgument: limits that make no sense; nothing was changed.
        Conflict: they contradict those in force, or the container uses more than the new limit.
    """
    container = context.get(ref)
    machine = resources.this_machine()
    async with container.lock:
        require(UPDATE, container.state, container.name, container.id)
        try:
            host = merged(container.record.host, body)
            resources.check(host, machine)
            if container.running and container.task is not None:
                changed = {name: getattr(body, name) for name in LIMITS if is_given(body, name)}
                wishes = resources.to_oci(HostConfig(**_together(host, changed)))
                if wishes:
                    await container.task.update(wishes)
        except Conflict as error:
            raise Conflict(f"Cannot update container {container.id}: {error}") from error
        container.record.host = host
        await context.save(container)
    context.tell(container, "update")
    return resources.warnings(host, machine)


def is_given(body: UpdateBody, name: str) -> bool:
    """Whether the update says anything about the limit `name`."""
    value = getattr(body, name)
    return value is not None and (name == "pids_limit" or value not in (0, "", []))


def _together(host: HostConfig, changed: dict[str, Any]) -> dict[str, Any]:
    """`changed` with the limits that the kernel checks against it: memory with swap, quota with period."""
    found = dict(changed)
    if found.keys() & {"memory", "memory_swap"}:
        found |= {"memory": host.memory, "memory_swap": host.memory_swap}
    if found.keys() & {"cpu_period", "cpu_quota"}:
        found |= {"cpu_period": host.cpu_period, "cpu_quota": host.cpu_quota}
    return found


def merged(old: HostConfig, body: UpdateBody) -> HostConfig:
    """The host config after the update.

    Raises:
        Conflict: in Docker's words, what cannot be changed while other limits are set.
    """
    given: dict[str, Any] = {name: getattr(body, name) for name in LIMITS if is_given(body, name)}
    for name in given.keys() & BY_DEVICE:
        by_path = {each.path: each for each in [*getattr(old, name), *given[name]]}
        given[name] = [each for each in by_path.values() if getattr(each, "rate", 0) or getattr(each, "weight", 0)]
    if given.get("nano_cpus") and (old.cpu_period or old.cpu_quota):
        which = "CPU Period" if old.cpu_period else "CPU Quota"
        raise Conflict(f"Conflicting options: Nano CPUs cannot be updated as {which} has already been set")
    for name, which in (("cpu_period", "CPU Period"), ("cpu_quota", "CPU Quota")):
        if given.get(name) and old.nano_cpus:
            raise Conflict(f"Conflicting options: {which} cannot be updated as NanoCPUs has already been set")
    memory = given.get("memory", 0)
    if memory and "memory_swap" not in given and 0 < old.memory_swap < memory:
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    policy = body.restart_policy
    if policy is not None and policy.name:
        if old.auto_remove and policy.name != "no":
            raise Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
        validate.check_restart(policy, auto_remove=False)
        given["restart_policy"] = policy
    if body.health_on_failure:
        validate.check_on_failure(body.health_on_failure)
        given["health_on_failure"] = body.health_on_failure
    return msgspec.structs.replace(old, **given)


async def rename(context: Context, ref: str, name: str) -> None:
    """Give a container another name.

    Raises:
        NoSuchContainer, InvalidArgument: the name is not one, or its own.
        Conflict: the name is taken.
    """
    container = context.get(ref)
    if not name:
        raise InvalidArgument("Neither old nor new names may be empty")
    new = names.check(name)
    async with container.lock:
        require(RENAME, container.state, container.name, container.id)
        old = container.name
        if new == old:
            raise InvalidArgument("Renaming a container with the same name as its current name")
        context.reserve(new, container.id)
        container.record.name = new
        try:
            await context.save(container)
        except BaseException:
            container.record.name = old
            context.release_name(new, container.id)
            raise
        context.release_name(old, container.id)
        context.networks.rename(container.id, new)
    context.tell(container, "rename", oldName=f"/{old}")
