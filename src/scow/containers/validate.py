"""What a create request may ask for: every check that needs no other room, in Docker's words. Pure.

`check` changes nothing and is called before anything is changed.
"""

import ipaddress

from scow.api import signal
from scow.api.containers import ContainerConfig, CreateBody, HealthConfig, HostConfig, RestartPolicy
from scow.containers import health, ports, resources, security
from scow.containers.paths import clean
from scow.errors import InvalidArgument
from scow.linux import capabilities
from scow.networks.hosts import parse_extra_host
from scow.runtime import seccomp

POLICIES = ("", "no", "always", "on-failure", "unless-stopped")
#: The kernel's limit for sethostname(2).
MAX_HOSTNAME = 64
MILLISECOND = 1_000_000
#: Runtimes a client may name: there is one, under the names clients use for the default.
RUNTIMES = ("", "scow", "runc", "io.containerd.runc.v2")
#: Kernel parameters that are per namespace (runtime-spec config-linux.md "Sysctl"; namespaces(7)).
SYSCTLS = frozenset(
    {"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax"}
    | {"kernel.shmmni", "kernel.shm_rmid_forced", "kernel.domainname"}
)
#: Bound on everything that comes as a list of words.
MAX_WORDS = 100_000


def check(body: CreateBody) -> list[str]:
    """Raise `InvalidArgument` for a request that makes no sense; the warnings for one that does."""
    host = body.host_config
    _check_config(body)
    check_restart(host.restart_policy, auto_remove=host.auto_remove)
    check_on_failure(host.health_on_failure)
    machine = resources.this_machine()
    resources.check(host, machine)
    _check_modes(host)
    _check_network_mode(body, host)
    _check_security(host)
    _check_devices(host)
    _check_names(host)
    _check_storage(host)
    return resources.warnings(host, machine) + _warnings(host)


def check_merged(config: ContainerConfig, host: HostConfig) -> None:
    """Raise for what the image's settings make impossible once they are joined with the request's."""
    _check_config(config)
    if host.health_on_failure not in ("", "none") and not health.command(config.healthcheck or HealthConfig(), None):
        raise InvalidArgument(
            f"cannot set the health-on-failure action to {host.health_on_failure} without a health check: "
            "give one with --health-cmd"
        )


def _check_config(config: ContainerConfig) -> None:
    if not config.image:
        raise InvalidArgument("invalid reference format: no image was given")
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidArgument(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
        )
    check_env(config.env or [])
    if config.stop_signal:
        signal.parse(config.stop_signal)
    if len(config.hostname) > MAX_HOSTNAME or _has_space(config.hostname) or _has_space(config.domainname):
        raise InvalidArgument(f"invalid hostname format: {config.hostname[:100]}")
    ports.exposed(config.exposed_ports)
    for path in config.volumes or {}:
        if not path.startswith("/") or clean(path) == "/":
            raise InvalidArgument(f"invalid volume specification: '{path}': destination can't be '/' or relative")
    check_health(config.healthcheck)
    for word in (config.user, config.working_dir, *(config.cmd or []), *(config.entrypoint or [])):
        if "\0" in word:
            raise InvalidArgument("invalid argument: a NUL byte cannot be part of a command")


def _has_space(text: str) -> bool:
    return any(char.isspace() or not char.isprintable() or char == "/" for char in text)


def check_env(env: list[str]) -> None:
    """Raise for a variable without a name."""
    for entry in env:
        if not entry or entry.startswith("=") or "\0" in entry:
            raise InvalidArgument(f"invalid environment variable: {entry[:100]}")


def check_health(probe: HealthConfig | None) -> None:
    """Raise for a health check that could not run."""
    if probe is None:
        return
    for what, value in (
        ("Interval", probe.interval),
        ("Timeout", probe.timeout),
        ("StartPeriod", probe.start_period),
        ("StartInterval", probe.start_interval),
    ):
        if value and value < MILLISECOND:
            raise InvalidArgument(f"{what} in Healthcheck cannot be less than 1ms")
    if probe.retries < 0:
        raise InvalidArgument("Retries in Healthcheck cannot be negative")
    if probe.test and probe.test[0] not in ("NONE", "CMD", "CMD-SHELL"):
        raise InvalidArgument(f"Unknown healthcheck type '{probe.test[0][:40]}': use NONE, CMD or CMD-SHELL")
    if probe.test and probe.test[0] != "NONE" and len(probe.test) < 2:
        raise InvalidArgument(f"the healthcheck {probe.test[0]} names no command")


def check_on_failure(action: str) -> None:
    """Raise for something that cannot be done about an unhealthy container."""
    if action not in health.ACTIONS:
        raise InvalidArgument(
            f"invalid health-on-failure action '{action[:40]}': use one of 'none', 'restart', 'stop' or 'kill'"
        )


def check_restart(policy: RestartPolicy, *, auto_remove: bool) -> None:
    """Raise for a restart policy that does not exist or contradicts `auto_remove`."""
    if policy.name not in POLICIES:
        raise InvalidArgument(
            f"invalid restart policy: unknown policy '{policy.name}'; "
            "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise InvalidArgument("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    if policy.maximum_retry_count < 0:
        raise InvalidArgument("invalid restart policy: maximum retry count cannot be negative")
    if auto_remove and policy.name not in ("", "no"):
        raise InvalidArgument("can't create 'AutoRemove' container with restart policy")


def _check_modes(host: HostConfig) -> None:
    if host.ipc_mode not in ("", "none", "private", "shareable", "host") and not _joined(host.ipc_mode):
        raise InvalidArgument(f"invalid IPC mode: {host.ipc_mode}")
    if host.pid_mode not in ("", "host") and not _joined(host.pid_mode):
        raise InvalidArgument(f"invalid PID mode: {host.pid_mode}")
    if host.uts_mode not in ("", "host"):
        raise InvalidArgument(f"invalid UTS mode: {host.uts_mode}")
    if host.userns_mode not in ("", "host"):
        raise InvalidArgument(f"invalid USER mode: {host.userns_mode}")
    if host.cgroupns_mode not in ("", "private", "host"):
        raise InvalidArgument(f"invalid cgroup namespace mode: {host.cgroupns_mode}")
    if host.isolation not in ("", "default"):
        raise InvalidArgument(f"invalid isolation '{host.isolation}': this daemon runs Linux containers only")
    if host.runtime not in RUNTIMES:
        raise InvalidArgument(f"unknown or invalid runtime name: {host.runtime}")
    if host.cgroup:
        raise InvalidArgument(f"invalid cgroup: {host.cgroup}: leave it out, every container gets one of its own")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidArgument(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")


def _joined(mode: str) -> bool:
    """Whether `mode` is container:<something>."""
    return mode.startswith("container:") and len(mode) > len("container:")


def _check_network_mode(config: ContainerConfig, host: HostConfig) -> None:
    mode = host.network_mode
    if mode.startswith("container:"):
        if not _joined(mode):
            raise InvalidArgument("Invalid network mode: invalid container format container:<name|id>")
        for unwanted, what in (
            (config.hostname, "hostname and the network mode"),
            (host.links, "container type network can't be used with links. This would result in undefined behavior"),
            (host.dns, "dns and the network mode"),
            (host.extra_hosts, "custom host-to-IP mapping and the network mode"),
            (config.mac_address, "mac-address and the network mode"),
            (host.port_bindings or host.publish_all_ports, "port publishing and the container type network mode"),
            (config.exposed_ports, "port exposing and the container type network mode"),
        ):
            if unwanted:
                raise InvalidArgument(f"conflicting options: {what}")
    if host.uts_mode == "host" and config.hostname:
        raise InvalidArgument("conflicting options: hostname and the UTS mode")
    if mode == "host" and host.links:
        raise InvalidArgument("conflicting options: host type networking can't be used with links")
    ports.bindings(host.port_bindings)
    for name in host.sysctls or {}:
        if name not in SYSCTLS and not name.startswith(("net.", "fs.mqueue.")):
            raise InvalidArgument(f'sysctl "{name}" is not in a separate kernel namespace')
        if name.startswith("net.") and mode == "host":
            raise InvalidArgument(f'sysctl "{name}" not allowed in host network namespace')


def _check_security(host: HostConfig) -> None:
    options = security.parse(host.security_opt or [])
    if isinstance(options.seccomp, dict):
        seccomp.parse_profile(options.seccomp, frozenset())  # what cannot be compiled is refused now
    apparmor = options.apparmor
    if apparmor not in ("", "unconfined", "docker-default"):
        raise InvalidArgument(f"AppArmor profile {apparmor[:60]!r} cannot be used: only unconfined is supported")
    for what, names in (("CapAdd", host.cap_add), ("CapDrop", host.cap_drop)):
        for name in names or ():
            try:
                capabilities.normalize(name)
            except InvalidArgument as error:
                raise InvalidArgument(f"invalid {what}: {error}") from None


def _check_devices(host: HostConfig) -> None:
    for request in host.device_requests or ():
        wanted = " ".join(f"[{' '.join(names)}]" for names in request.capabilities or ())
        raise InvalidArgument(f'could not select device driver "{request.driver}" with capabilities: [{wanted}]')
    for device in host.devices:
        if not device.path_on_host.startswith("/"):
            raise InvalidArgument(f"invalid device: {device.path_on_host!r} is not an absolute path")
        if any(char not in "rwm" for char in device.cgroup_permissions):
            raise InvalidArgument(f"invalid device mode: {device.cgroup_permissions}")
    for rule in host.device_cgroup_rules or ():
        parse_device_rule(rule)


def parse_device_rule(rule: str) -> tuple[str, int | None, int | None, str]:
    """ "c 13:* rwm" → ("c", 13, None, "rwm").

    Raises:
        InvalidArgument: in Docker's words.
    """
    words = rule.split(" ")
    numbers = words[1].split(":") if len(words) == 3 else []
    right = len(numbers) == 2 and all(n == "*" or (n.isascii() and n.isdigit() and len(n) < 9) for n in numbers)
    if not right or words[0] not in ("a", "b", "c") or not words[2] or any(char not in "rwm" for char in words[2]):
        raise InvalidArgument(f"invalid device cgroup rule format: '{rule[:60]}'")
    major, minor = (None if number == "*" else int(number) for number in numbers)
    return words[0], major, minor, words[2]


def _check_names(host: HostConfig) -> None:
    for item in host.extra_hosts or ():
        parse_extra_host(item)
    for server in host.dns:
        try:
            ipaddress.ip_address(server)
        except ValueError:
            raise InvalidArgument(f"bad DNS address: {server[:60]}: it is not an IP address") from None
    for word in (*host.dns_search, *host.dns_options):
        if not word or _has_space(word):
            raise InvalidArgument(f"invalid DNS search domain or option: {word[:60]!r}")


def _check_storage(host: HostConfig) -> None:
    if host.shm_size < 0:
        raise InvalidArgument("SHM size can not be less than 0")
    for option in host.storage_opt or {}:
        raise InvalidArgument(
            f"--storage-opt {option} is supported only for overlay over xfs with 'pquota' mount option"
        )
    for size in host.console_size:
        if size < 0:
            raise InvalidArgument("invalid console size: it cannot be negative")


def _warnings(host: HostConfig) -> list[str]:
    if host.network_mode == "host" and (host.port_bindings or host.publish_all_ports):
        return ["Published ports are discarded when using host network mode"]
    return []
