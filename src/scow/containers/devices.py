"""Devices of a container: what ``--device``, ``--device-cgroup-rule`` and ``--privileged`` give it."""

from typing import Any

from scow.api.containers import HostConfig
from scow.containers.validate import parse_device_rule
from scow.tasks.spec import device_rules, devices_at, host_devices


def nodes(host: HostConfig) -> list[dict[str, Any]]:
    """The runtime-spec's ``linux.devices``: those asked for, and all of the host's for a privileged container.

    Raises:
        InvalidArgument: no such device.
    """
    found = host_devices() if host.privileged else []
    for device in host.devices:
        found += devices_at(device.path_on_host, device.path_in_container or None)
    return found


def rules(host: HostConfig) -> list[dict[str, Any]]:
    """The runtime-spec's ``linux.resources.devices``."""
    found = device_rules(host.privileged)
    if host.privileged:
        return found
    for device in host.devices:
        for node in devices_at(device.path_on_host, device.path_in_container or None):
            numbers = {"type": node["type"], "major": node["major"], "minor": node["minor"]}
            found.append({"allow": True, **numbers, "access": device.cgroup_permissions or "rwm"})
    for text in host.device_cgroup_rules or ():
        kind, major, minor, access = parse_device_rule(text)
        rule: dict[str, Any] = {"allow": True, "type": kind, "access": access}
        if major is not None:
            rule["major"] = major
        if minor is not None:
            rule["minor"] = minor
        found.append(rule)
    return found
