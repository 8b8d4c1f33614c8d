"""The API's views of a container: inspect and the row of a list. Pure: from record and endpoints to JSON objects."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scow.api.containers import EndpointConfig, to_wire
from scow.api.units import human_duration, rfc3339
from scow.containers import ports
from scow.containers.container import Container, Health
from scow.containers.state import State

if TYPE_CHECKING:
    from scow.networks.endpoint import Endpoint

#: From this version on NetworkSettings has no fields of its own for the default bridge, and lists show Health.
WITHOUT_LEGACY_NETWORK = (1, 52)
#: From this version on MacAddress belongs to the endpoint only.
WITHOUT_CONFIG_MAC = (1, 44)


def state(container: Container) -> dict[str, Any]:
    """The API's ContainerState."""
    record = container.record
    found: dict[str, Any] = {
        "Status": str(record.state),
        "Running": record.state in (State.RUNNING, State.PAUSED, State.RESTARTING),
        "Paused": record.state is State.PAUSED,
        "Restarting": record.state is State.RESTARTING,
        "OOMKilled": record.oom_killed,
        "Dead": record.state is State.DEAD,
        "Pid": record.pid,
        "ExitCode": record.exit_code,
        "Error": record.error,
        "StartedAt": rfc3339(record.started),
        "FinishedAt": rfc3339(record.finished),
    }
    if record.health is not None:
        found["Health"] = health(record.health)
    return found


def health(found: Health) -> dict[str, Any]:
    """The API's Health."""
    return {
        "Status": found.status,
        "FailingStreak": found.failing_streak,
        "Log": [
            {
                "Start": rfc3339(result.start),
                "End": rfc3339(result.end),
                "ExitCode": result.exit_code,
                "Output": result.output,
            }
            for result in found.log
        ],
    }


def inspect(
    container: Container,
    *,
    folder: Path,
    log_path: str,
    storage: Mapping[str, Any],
    endpoints: Mapping[str, "Endpoint"],
    version: tuple[int, int],
) -> dict[str, Any]:
    """The API's ContainerInspectResponse without sizes.

    Args:
        folder: where the container's own files are.
        log_path: of the log file, "" if the driver has none.
        storage: what is said about the root file system: ``{"GraphDriver": …}``.
        endpoints: the live connections by network name.
    """
    record = container.record
    found: dict[str, Any] = {
        "Id": record.id,
        "Created": rfc3339(record.created),
        "Path": record.path,
        "Args": record.args,
        "State": state(container),
        "Image": record.image_id,
        "ResolvConfPath": str(folder / "resolv.conf"),
        "HostnamePath": str(folder / "hostname"),
        "HostsPath": str(folder / "hosts"),
        "LogPath": log_path,
        "Name": f"/{record.name}",
        "RestartCount": record.restart_count,
        "Driver": storage["GraphDriver"]["Name"],
        "Platform": record.platform,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": [exec_.id for exec_ in container.execs.values() if exec_.running] or None,
        "HostConfig": to_wire(record.host),
        **storage,
        "Mounts": [mount.inspect() for mount in record.mounts if mount.type != "tmpfs" or mount.spec is not None],
        "Config": config(container, version),
        "NetworkSettings": network_settings(container, endpoints, version),
    }
    if record.manifest is not None:
        found["ImageManifestDescriptor"] = record.manifest
    return found


def config(container: Container, version: tuple[int, int]) -> dict[str, Any]:
    """The API's ContainerConfig; the MAC address is shown to those who still look for it here."""
    found = container.config_json()
    if version >= WITHOUT_CONFIG_MAC:
        found.pop("MacAddress", None)
    return found


def network_settings(
    container: Container, endpoints: Mapping[str, "Endpoint"], version: tuple[int, int]
) -> dict[str, Any]:
    """The API's NetworkSettings: what is while it runs, what was asked for while it does not."""
    running = container.running
    key = container.id if running else ""
    found: dict[str, Any] = {
        "SandboxID": key,
        "SandboxKey": f"/proc/{container.record.pid}/ns/net" if running else "",
        "Ports": port_map(container, endpoints.values()) if running else {},
        "Networks": networks(container, endpoints),
    }
    if version < WITHOUT_LEGACY_NETWORK:
        found = _legacy(endpoints.get("bridge")) | found
    return found


def _legacy(endpoint: "Endpoint | None") -> dict[str, Any]:
    """The default bridge's settings, flat, as they were before 1.52."""
    settings = endpoint.settings() if endpoint is not None else {}
    return {
        "Bridge": "",
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": settings.get("EndpointID", ""),
        "Gateway": settings.get("Gateway", ""),
        "GlobalIPv6Address": settings.get("GlobalIPv6Address", ""),
        "GlobalIPv6PrefixLen": settings.get("GlobalIPv6PrefixLen", 0),
        "IPAddress": settings.get("IPAddress", ""),
        "IPPrefixLen": settings.get("IPPrefixLen", 0),
        "IPv6Gateway": settings.get("IPv6Gateway", ""),
        "MacAddress": settings.get("MacAddress", ""),
    }


def networks(container: Container, endpoints: Mapping[str, "Endpoint"]) -> dict[str, Any]:
    """EndpointSettings by network name: the live ones, and the wishes for those that are not connected now."""
    wishes = {name: wish_settings(wish) for name, wish in container.record.endpoints.items()}
    return wishes | {name: endpoint.settings() for name, endpoint in endpoints.items()}


def wish_settings(wish: EndpointConfig) -> dict[str, Any]:
    """The API's EndpointSettings of a connection that is not made."""
    ipam = wish.ipam_config
    asked: dict[str, Any] = {}
    if ipam is not None:
        asked = {"IPv4Address": ipam.ipv4_address, "IPv6Address": ipam.ipv6_address}
        asked = {key: value for key, value in asked.items() if value}
        if ipam.link_local_ips:
            asked["LinkLocalIPs"] = ipam.link_local_ips
    return {
        "IPAMConfig": asked or None,
        "Links": wish.links,
        "Aliases": wish.aliases,
        "DriverOpts": wish.driver_opts,
        "GwPriority": wish.gw_priority,
        "MacAddress": wish.mac_address,
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": None,
    }


def port_map(container: Container, endpoints: Iterable["Endpoint"]) -> dict[str, Any]:
    """The API's PortMap: every exposed port, with its bindings or null."""
    found: dict[str, Any] = {str(port): None for port in ports.exposed(container.record.config.exposed_ports)}
    for endpoint in endpoints:
        for mapping in endpoint.ports:
            key = f"{mapping.container_port}/{mapping.proto}"
            item = {"HostIp": mapping.host_ip, "HostPort": str(mapping.host_port)}
            found[key] = [*(found.get(key) or []), item]
    return found


def port_summaries(container: Container, endpoints: Iterable["Endpoint"]) -> list[dict[str, Any]]:
    """The API's list of PortSummary for a list row."""
    rows: list[dict[str, Any]] = []
    for key, bindings in port_map(container, endpoints).items():
        port = ports.parse(key)
        row = {"PrivatePort": port.number, "Type": port.protocol}
        if not bindings:
            rows.append(row)
        rows += [{"IP": binding["HostIp"], "PublicPort": int(binding["HostPort"]), **row} for binding in bindings or ()]
    return rows


def status_text(container: Container, now: int) -> str:
    """What a list's STATUS column says: "Up 5 minutes (healthy)", "Exited (0) 3 hours ago"."""
    record = container.record
    if record.state is State.RESTARTING:
        return f"Restarting ({record.exit_code}) {human_duration(now - record.finished)} ago"
    if record.state is State.PAUSED:
        return f"Up {human_duration(now - record.started)} (Paused)"
    if record.state is State.RUNNING:
        text = f"Up {human_duration(now - record.started)}"
        if record.health is None:
            return text
        word = "health: starting" if record.health.status == "starting" else record.health.status
        return f"{text} ({word})"
    fixed = {State.REMOVING: "Removal In Progress", State.DEAD: "Dead", State.CREATED: "Created"}
    if record.state in fixed:
        return fixed[record.state]
    return f"Exited ({record.exit_code}) {human_duration(now - record.finished)} ago"


def command_text(path: str, args: list[str]) -> str:
    """The COMMAND column: arguments with spaces are quoted."""
    return " ".join([path, *(f"'{arg}'" if " " in arg else arg for arg in args)])


def summary(
    container: Container,
    *,
    image: str,
    endpoints: Mapping[str, "Endpoint"],
    now: int,
    version: tuple[int, int],
) -> dict[str, Any]:
    """The API's ContainerSummary without sizes; `image` is how the list names the image."""
    record = container.record
    row: dict[str, Any] = {
        "Id": record.id,
        "Names": [f"/{record.name}"],
        "Image": image,
        "ImageID": record.image_id,
        "Command": command_text(record.path, record.args),
        "Created": record.created // 1_000_000_000,
        "Ports": port_summaries(container, endpoints.values()) if container.running else [],
        "Labels": record.config.labels or {},
        "State": str(record.state),
        "Status": status_text(container, now),
        "HostConfig": {"NetworkMode": record.host.network_mode},
        "NetworkSettings": {"Networks": networks(container, endpoints)},
        "Mounts": [mount.inspect() for mount in record.mounts if mount.type != "tmpfs"],
    }
    if record.host.annotations:
        row["HostConfig"]["Annotations"] = record.host.annotations
    if record.manifest is not None:
        row["ImageManifestDescriptor"] = record.manifest
    if version >= WITHOUT_LEGACY_NETWORK:
        found = record.health
        row["Health"] = {
            "Status": found.status if found else "none",
            "FailingStreak": found.failing_streak if found else 0,
        }
    return row
