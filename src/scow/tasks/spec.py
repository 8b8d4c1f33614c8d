"""Docker's defaults as an OCI spec: what containers and build steps start from, and then change.

Pure, but for `host_devices` and `devices_at`, which look at /dev. The pieces are constants so that a caller may compare
with them ("has the user changed the masked paths?"); `default_spec` returns fresh, mutable JSON each time.
"""

import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any

from scow.errors import InvalidArgument
from scow.linux import descriptors
from scow.runtime.init import INIT_ANNOTATION

OCI_VERSION = "1.2.0"
NOFILE = "RLIMIT_NOFILE"

#: Capabilities of a container unless it asks for others.
DEFAULT_CAPABILITIES: frozenset[str] = frozenset(
    {
        "CAP_AUDIT_WRITE",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_MKNOD",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_RAW",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    }
)

MASKED_PATHS: tuple[str, ...] = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS: tuple[str, ...] = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

#: Devices a container may use, besides making any node: (type, major, minor), None for every minor.
DEFAULT_DEVICE_RULES: tuple[tuple[str, int, int | None], ...] = (
    ("c", 1, 3),
    ("c", 1, 5),
    ("c", 1, 7),
    ("c", 1, 8),
    ("c", 1, 9),
    ("c", 5, 0),
    ("c", 5, 1),
    ("c", 5, 2),
    ("c", 136, None),
)

DEFAULT_NAMESPACES: tuple[str, ...] = ("mount", "network", "uts", "pid", "ipc", "cgroup")
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHM_SIZE = 64 << 20

#: Parts of /dev that every container has its own of; `host_devices` leaves them out.
_OWN = frozenset({"pts", "shm", "fd", "mqueue", "console", "ptmx", ".lxc", ".lxd-mounts", ".udev", "core"})


def default_spec(
    *,
    args: Sequence[str],
    cgroup: str,
    env: Sequence[str] = (DEFAULT_PATH,),
    cwd: str = "/",
    user: Mapping[str, Any] | None = None,
    hostname: str = "",
    tty: bool = False,
    privileged: bool = False,
    capabilities: frozenset[str] | None = None,
    namespaces: Mapping[str, str | None] | None = None,
    shm_size: int = DEFAULT_SHM_SIZE,
    readonly: bool = False,
    init: bool = False,
) -> dict[str, Any]:
    """An OCI spec as Docker would make it for a container without options.

    Args:
        cgroup: path of its control group, "/scow/<id>".
        user: {"uid", "gid", "additionalGids", "umask"}; root if None.
        privileged: every capability and device, nothing masked or read-only; pass `capabilities` to say which exist.
        capabilities: None for the defaults.
        namespaces: kind → path to join, "" for one of its own, None to share the host's; kinds not named are its own.
        init: a small init reaps and passes signals on as process 1.
    """
    granted = sorted(DEFAULT_CAPABILITIES if capabilities is None else capabilities)
    spec: dict[str, Any] = {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": tty,
            "user": dict(user) if user is not None else {"uid": 0, "gid": 0},
            "args": list(args),
            "env": list(env),
            "cwd": cwd,
            "capabilities": {kind: list(granted) for kind in ("bounding", "effective", "permitted")},
            "noNewPrivileges": False,
            "oomScoreAdj": 0,
            "rlimits": with_given([]),
        },
        "root": {"path": "rootfs", "readonly": readonly},
        "hostname": hostname,
        "mounts": default_mounts(privileged, shm_size),
        "annotations": {INIT_ANNOTATION: "true"} if init else {},
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": _namespaces(namespaces or {}),
            "resources": {"devices": device_rules(privileged)},
            "devices": [],
            "maskedPaths": [] if privileged else list(MASKED_PATHS),
            "readonlyPaths": [] if privileged else list(READONLY_PATHS),
        },
    }
    return spec


def with_given(rlimits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``process.rlimits`` with the number of open files that the engine was started with, unless it is among them."""
    limits = descriptors.given()
    if limits is None or any(item["type"] == NOFILE for item in rlimits):
        return rlimits
    return [*rlimits, {"type": NOFILE, "soft": limits[0], "hard": limits[1]}]


def default_mounts(privileged: bool = False, shm_size: int = DEFAULT_SHM_SIZE) -> list[dict[str, Any]]:
    """/proc, /dev and what is in it, /sys and its cgroups; /sys is read-only unless `privileged`."""
    locked = [] if privileged else ["ro"]
    quiet = ["nosuid", "noexec", "nodev"]
    shm = [*quiet, "mode=1777", f"size={shm_size}"]
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
    dev = ["nosuid", "strictatime", "mode=755", "size=65536k"]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": list(quiet)},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": dev},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": pts},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*quiet, *locked]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*quiet, *locked]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": list(quiet)},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": shm},
    ]


def device_rules(privileged: bool = False) -> list[dict[str, Any]]:
    """OCI device cgroup rules: all, or none but the harmless ones."""
    if privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "access": "m"},
        {"allow": True, "type": "b", "access": "m"},
    ]
    for kind, major, minor in DEFAULT_DEVICE_RULES:
        rule = {"allow": True, "type": kind, "major": major, "access": "rwm"}
        rules.append(rule if minor is None else {**rule, "minor": minor})
    return rules


def _namespaces(wanted: Mapping[str, str | None]) -> list[dict[str, str]]:
    listed = []
    for kind in DEFAULT_NAMESPACES:
        path = wanted.get(kind, "")
        if path is not None:
            listed.append({"type": kind, "path": path} if path else {"type": kind})
    return listed


def host_devices() -> list[dict[str, Any]]:
    """Every device node of the host, as OCI linux.devices: what a privileged container gets."""
    found: list[dict[str, Any]] = []
    for entry in sorted(os.scandir("/dev"), key=lambda entry: entry.name):
        if entry.name not in _OWN and not entry.is_symlink():
            found += devices_at(entry.path)
    return found


def devices_at(source: str, target: str | None = None) -> list[dict[str, Any]]:
    """The device node at `source`, or every one in that folder, as OCI linux.devices shown below `target`.

    Raises:
        InvalidArgument: nothing there, or not a device.
    """
    target = target or source
    try:
        status = os.stat(source)
    except FileNotFoundError:
        raise InvalidArgument(
            f'error gathering device information while adding custom device "{source}": no such file or directory'
        ) from None
    if stat.S_ISDIR(status.st_mode):
        found: list[dict[str, Any]] = []
        for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                found += devices_at(entry.path, f"{target}/{entry.name}")
        return found
    if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        if target != source:
            return []
        raise InvalidArgument(
            f'error gathering device information while adding custom device "{source}": not a device node'
        )
    return [
        {
            "path": target,
            "type": "c" if stat.S_ISCHR(status.st_mode) else "b",
            "major": os.major(status.st_rdev),
            "minor": os.minor(status.st_rdev),
            "fileMode": stat.S_IMODE(status.st_mode),
            "uid": status.st_uid,
            "gid": status.st_gid,
        }
    ]
