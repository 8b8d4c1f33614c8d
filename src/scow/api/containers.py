"""The Engine API's container objects as types: what a create request holds and what inspect gives back.

Wire names follow from the Python names (``cap_add`` → ``CapAdd``); exceptions are in `WIRE_NAMES`. A field that is None
was not given. `inspect` prints these structs with `to_wire`, which leaves out what Docker leaves out when empty.
"""

from typing import Any

import msgspec

from scow.api.decode import convert, parse_json, spelled
from scow.errors import InvalidArgument

WIRE_NAMES = {
    "container_id_file": "ContainerIDFile",
    "io_maximum_iops": "IOMaximumIOps",
    "io_maximum_bandwidth": "IOMaximumBandwidth",
    "blkio_device_read_iops": "BlkioDeviceReadIOps",
    "blkio_device_write_iops": "BlkioDeviceWriteIOps",
    "uts_mode": "UTSMode",
    "host_ip": "HostIp",
    "ipam_config": "IPAMConfig",
    "ipv4_address": "IPv4Address",
    "ipv6_address": "IPv6Address",
    "link_local_ips": "LinkLocalIPs",
    "device_ids": "DeviceIDs",
}


def wire_name(name: str) -> str:
    """ "cap_add" → "CapAdd"."""
    return WIRE_NAMES.get(name) or "".join(part[:1].upper() + part[1:] for part in name.split("_"))


class Wire(msgspec.Struct, kw_only=True, rename=wire_name):
    """Base of the API's objects."""


class HealthConfig(Wire):
    """How to probe a container; durations in nanoseconds, 0 = the default."""

    test: list[str] = []
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ContainerConfig(Wire):
    """What is portable between hosts: the image's settings and what the user puts over them."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, Any] | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: str | list[str] | None = None
    healthcheck: HealthConfig | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: dict[str, Any] | None = None
    working_dir: str = ""
    entrypoint: str | list[str] | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    stop_timeout: int | None = None
    shell: list[str] | None = None


class RestartPolicy(Wire):
    name: str = ""
    maximum_retry_count: int = 0


class LogSettings(Wire):
    type: str = ""
    config: dict[str, str] = {}


class PortBinding(Wire):
    host_ip: str = ""
    host_port: str = ""


class DeviceMapping(Wire):
    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class Ulimit(Wire):
    name: str = ""
    soft: int = 0
    hard: int = 0


class WeightDevice(Wire):
    path: str = ""
    weight: int = 0


class ThrottleDevice(Wire):
    path: str = ""
    rate: int = 0


class DeviceRequest(Wire):
    driver: str = ""
    count: int = 0
    device_ids: list[str] | None = None
    capabilities: list[list[str]] | None = None
    options: dict[str, str] | None = None


class Resources(Wire):
    """Limits; sizes in bytes, 0 = no limit of its own."""

    cpu_shares: int = 0
    memory: int = 0
    nano_cpus: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: list[WeightDevice] = []
    blkio_device_read_bps: list[ThrottleDevice] = []
    blkio_device_write_bps: list[ThrottleDevice] = []
    blkio_device_read_iops: list[ThrottleDevice] = []
    blkio_device_write_iops: list[ThrottleDevice] = []
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[DeviceMapping] = []
    device_cgroup_rules: list[str] | None = None
    device_requests: list[DeviceRequest] | None = None
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    pids_limit: int | None = None
    ulimits: list[Ulimit] = []
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: int = 0
    io_maximum_bandwidth: int = 0


class HostConfig(Resources):
    """What depends on the host the container runs on."""

    binds: list[str] | None = None
    container_id_file: str = ""
    log_config: LogSettings = msgspec.field(default_factory=LogSettings)
    network_mode: str = ""
    port_bindings: dict[str, list[PortBinding]] = {}
    restart_policy: RestartPolicy = msgspec.field(default_factory=RestartPolicy)
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] | None = None
    mounts: list[dict[str, Any]] | None = None
    console_size: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    annotations: dict[str, str] | None = None
    cap_add: list[str] | None = None
    cap_drop: list[str] | None = None
    cgroupns_mode: str = ""
    dns: list[str] = []
    dns_options: list[str] = []
    dns_search: list[str] = []
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] | None = None
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    storage_opt: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    uts_mode: str = ""
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: dict[str, str] | None = None
    runtime: str = ""
    isolation: str = ""
    init: bool | None = None
    masked_paths: list[str] | None = None
    #: Scow's own: what is done when the health check fails: none, restart, stop or kill.
    health_on_failure: str = ""
    readonly_paths: list[str] | None = None


class EndpointIpam(Wire):
    ipv4_address: str = ""
    ipv6_address: str = ""
    link_local_ips: list[str] = []


class EndpointConfig(Wire):
    """What the user asks of one network connection."""

    ipam_config: EndpointIpam | None = None
    links: list[str] | None = None
    mac_address: str = ""
    aliases: list[str] | None = None
    driver_opts: dict[str, str] | None = None
    gw_priority: int = 0


class NetworkingConfig(Wire):
    endpoints_config: dict[str, EndpointConfig] = {}


class CreateBody(ContainerConfig):
    """The body of ``POST /containers/create``."""

    host_config: HostConfig = msgspec.field(default_factory=HostConfig)
    networking_config: NetworkingConfig = msgspec.field(default_factory=NetworkingConfig)


class UpdateBody(Resources):
    """The body of ``POST /containers/{id}/update``."""

    restart_policy: RestartPolicy | None = None
    health_on_failure: str = ""


class ExecConfig(Wire):
    """The body of ``POST /containers/{id}/exec``."""

    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    console_size: list[int] | None = None
    detach_keys: str = ""
    tty: bool = False
    env: list[str] | None = None
    cmd: str | list[str] | None = None
    privileged: bool = False
    user: str = ""
    working_dir: str = ""
    detach: bool = False


class ExecStart(Wire):
    """The body of ``POST /exec/{id}/start``."""

    detach: bool = False
    tty: bool = False
    console_size: list[int] | None = None


#: Fields Docker leaves out while they hold nothing (Go's ``omitempty``).
LEFT_OUT_WHEN_EMPTY = frozenset(
    {"ExposedPorts", "Healthcheck", "ArgsEscaped", "NetworkDisabled", "MacAddress", "OnBuild", "StopSignal"}
    | {"StopTimeout", "Shell", "Annotations", "StorageOpt", "Tmpfs", "Mounts", "Sysctls", "Init", "StartInterval"}
    | {"StartPeriod", "Interval", "Timeout", "Retries", "HealthOnFailure"}
)


def to_wire(value: Wire) -> dict[str, Any]:
    """The struct as the API's JSON object, empty optional fields left out as Docker does."""
    plain: dict[str, Any] = msgspec.to_builtins(value)
    return _pruned(plain)


def _pruned(plain: dict[str, Any]) -> dict[str, Any]:
    kept = {
        k: v for k, v in plain.items() if k not in LEFT_OUT_WHEN_EMPTY or (v is not None and v not in ("", [], {}, 0))
    }
    if plain.get("MemorySwappiness", 0) is None:
        del kept["MemorySwappiness"]
    if plain.get("Init") is False:
        kept["Init"] = False
    if plain.get("StopTimeout") == 0 and plain["StopTimeout"] is not None:
        kept["StopTimeout"] = 0
    if isinstance(kept.get("Healthcheck"), dict):
        kept["Healthcheck"] = _pruned(kept["Healthcheck"])
    return kept


def parse_create(data: bytes) -> CreateBody:
    """The body of a create request.

    A network named with null (``{"EndpointsConfig": {"web": null}}``, as docker-py sends) is asked for without wishes.

    Raises:
        InvalidArgument: not JSON, of the wrong shape, or empty.
    """
    if not data.strip():
        raise InvalidArgument("invalid JSON: got EOF while reading request body")
    value = spelled(parse_json(data), CreateBody)
    if isinstance(value, dict) and "HostConfig" in value:
        value["HostConfig"] = spelled(value["HostConfig"], HostConfig)
    networking = value.get("NetworkingConfig") if isinstance(value, dict) else None
    endpoints = networking.get("EndpointsConfig") if isinstance(networking, dict) else None
    if isinstance(networking, dict) and isinstance(endpoints, dict):
        named = {name: {} if wish is None else wish for name, wish in endpoints.items()}
        value = value | {"NetworkingConfig": networking | {"EndpointsConfig": named}}
    return convert(value, CreateBody)


def words(value: str | list[str] | None) -> list[str] | None:
    """A command given as one word or a list, as a list."""
    return [value] if isinstance(value, str) else value
