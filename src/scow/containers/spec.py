"""From a container's record to the runtime-spec: what its first process and its execs look like. Pure.

Everything that has to be looked up (ids, other containers' processes, devices) comes in through `Facts`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scow.api.containers import ExecConfig, words
from scow.containers import resources, security
from scow.containers.container import Record
from scow.containers.users import Identity
from scow.linux import capabilities
from scow.tasks import spec as defaults

#: Files of the engine's that are mounted over the image's.
ETC_FILES = {"/etc/resolv.conf": "resolv.conf", "/etc/hostname": "hostname", "/etc/hosts": "hosts"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the record does not say.

    Attributes:
        identity: who the first process is.
        cgroup: path of the control group.
        etc: folder with hostname, hosts and resolv.conf ("" to keep the image's).
        hostname: of the namespace ("" to leave it).
        network, ipc, pid: namespace paths of other containers to join, "" for an own one, None for the host's.
        shm: folder to mount on /dev/shm instead of an own tmpfs.
        devices, device_rules: ``linux.devices`` and ``linux.resources.devices``.
        allowed: capabilities that exist here; None for all the kernel knows.
    """

    identity: Identity
    cgroup: str
    etc: str = ""
    hostname: str = ""
    network: str | None = ""
    ipc: str | None = ""
    pid: str | None = ""
    shm: str = ""
    devices: Sequence[dict[str, Any]] = ()
    device_rules: Sequence[dict[str, Any]] = ()
    allowed: frozenset[str] | None = None
    binds: Sequence[dict[str, Any]] = field(default_factory=tuple)


def granted(record: Record, allowed: frozenset[str] | None, *, privileged: bool) -> frozenset[str]:
    """The container's capabilities after add and drop."""
    host = record.host
    return capabilities.resolve(
        defaults.DEFAULT_CAPABILITIES, host.cap_add or (), host.cap_drop or (), privileged, allowed
    )


def build(record: Record, facts: Facts, *, no_new_privileges: bool = False) -> dict[str, Any]:
    """The OCI config of the container's first process.

    Args:
        facts: see `Facts`; `facts.binds` are the user's mounts, resolved.
        no_new_privileges: the daemon's default.
    """
    host, config = record.host, record.config
    options = security.parse(host.security_opt or [], no_new_privileges=no_new_privileges)
    spec = defaults.default_spec(
        args=[record.path, *record.args],
        cgroup=facts.cgroup,
        env=environment(record, facts.identity, tty=config.tty),
        cwd=config.working_dir or "/",
        user=user_of(facts.identity),
        hostname=facts.hostname,
        tty=config.tty,
        privileged=host.privileged,
        namespaces=_namespaces(record, facts),
        shm_size=host.shm_size or defaults.DEFAULT_SHM_SIZE,
        readonly=host.readonly_rootfs,
        init=bool(host.init),
    )
    process = spec["process"]
    process["capabilities"] = capability_sets(
        granted(record, facts.allowed, privileged=host.privileged), facts.identity
    )
    process["noNewPrivileges"] = options.no_new_privileges
    process["oomScoreAdj"] = host.oom_score_adj
    process["rlimits"] = defaults.with_given(resources.rlimits(host))
    if config.tty and all(host.console_size):
        process["consoleSize"] = {"height": host.console_size[0], "width": host.console_size[1]}
    if config.domainname:
        spec["domainname"] = config.domainname
    spec["annotations"] = {**(host.annotations or {}), **spec["annotations"]}
    spec["mounts"] = _mounts(record, facts, spec["mounts"], writable_cgroups=options.writable_cgroups)
    linux = spec["linux"]
    linux["resources"] = {**resources.to_oci(host), "devices": list(facts.device_rules)}
    linux["devices"] = list(facts.devices)
    linux["sysctl"] = dict(host.sysctls or {})  # Docker's own for a network are in force there already
    if not host.privileged:
        shown = options.system_paths
        linux["maskedPaths"] = list(host.masked_paths or ()) if shown else []
        linux["readonlyPaths"] = list(host.readonly_paths or ()) if shown else []
    if any("shared" in mount["options"] or "rshared" in mount["options"] for mount in facts.binds):
        linux["rootfsPropagation"] = "rshared"
    return spec


def _namespaces(record: Record, facts: Facts) -> dict[str, str | None]:
    host = record.host
    return {
        "network": facts.network,
        "ipc": facts.ipc,
        "pid": facts.pid,
        "uts": None if host.uts_mode == "host" else "",
        "cgroup": None if host.cgroupns_mode == "host" else "",
    }


def environment(record: Record, identity: Identity, *, tty: bool, more: Sequence[str] = ()) -> list[str]:
    """The process's variables: defaults, the container's over them, `more` over those; HOME as passwd has it.

    An entry without ``=`` takes the variable away.
    """
    config = record.config
    name = f"{config.hostname}.{config.domainname}" if config.domainname else config.hostname
    found = dict(entry.split("=", 1) for entry in (defaults.DEFAULT_PATH, f"HOSTNAME={name}"))
    if tty:
        found["TERM"] = "xterm"
    for entry in (*(config.env or ()), *more):
        key, equals, value = entry.partition("=")
        if equals:
            found[key] = value
        else:
            found.pop(key, None)
    found.setdefault("HOME", identity.home or "/")
    return [f"{key}={value}" for key, value in found.items()]


def user_of(identity: Identity) -> dict[str, Any]:
    """The runtime-spec's ``process.user``."""
    return {"uid": identity.uid, "gid": identity.gid, "additionalGids": list(identity.groups)}


def capability_sets(names: frozenset[str], identity: Identity) -> dict[str, list[str]]:
    """The runtime-spec's ``process.capabilities``: who is not root can get them only through files."""
    listed = sorted(names)
    root = identity.uid == 0
    return {"bounding": listed, "effective": listed if root else [], "permitted": listed if root else []}


def _mounts(record: Record, facts: Facts, own: list[dict[str, Any]], *, writable_cgroups: bool) -> list[dict[str, Any]]:
    """The defaults as the modes change them, the engine's files, then the user's by depth; the user's win."""
    host = record.host
    taken = {mount["destination"] for mount in facts.binds}
    found = []
    for mount in own:
        place = mount["destination"]
        if place in taken or (place == "/dev/shm" and host.ipc_mode == "none"):
            continue
        if place == "/dev/shm" and (facts.shm or facts.ipc is None):
            mount = _bind(facts.shm or "/dev/shm", place)
        elif place == "/sys/fs/cgroup" and writable_cgroups:
            mount = {**mount, "options": [option for option in mount["options"] if option != "ro"]}
        found.append(mount)
    if facts.etc:
        readonly = ["ro"] if host.readonly_rootfs else []
        for place, name in ETC_FILES.items():
            if place not in taken:
                found.append(_bind(f"{facts.etc}/{name}", place, *readonly))
    return found + sorted(facts.binds, key=lambda mount: (mount["destination"].count("/"), mount["destination"]))


def _bind(source: str, place: str, *options: str) -> dict[str, Any]:
    return {"destination": place, "type": "bind", "source": source, "options": ["rbind", "rprivate", *options]}


def exec_process(
    record: Record,
    config: ExecConfig,
    identity: Identity,
    *,
    allowed: frozenset[str] | None,
    size: tuple[int, int] | None,
    no_new_privileges: bool = False,
) -> dict[str, Any]:
    """The runtime-spec's process for an exec.

    Args:
        identity: of the exec's own user.
        size: (rows, columns) of its terminal, if known.
    """
    host = record.host
    privileged = config.privileged or host.privileged
    options = security.parse(host.security_opt or [], no_new_privileges=no_new_privileges)
    process: dict[str, Any] = {
        "terminal": config.tty,
        "user": user_of(identity),
        "args": words(config.cmd) or [],
        "env": environment(record, identity, tty=config.tty, more=config.env or ()),
        "cwd": config.working_dir or record.config.working_dir or "/",
        "capabilities": capability_sets(granted(record, allowed, privileged=privileged), identity),
        "noNewPrivileges": options.no_new_privileges,
        "oomScoreAdj": host.oom_score_adj,
        "rlimits": defaults.with_given(resources.rlimits(host)),
    }
    if config.tty and size is not None:
        process["consoleSize"] = {"height": size[0], "width": size[1]}
    return process
