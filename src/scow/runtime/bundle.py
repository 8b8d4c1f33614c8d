"""An OCI bundle: a folder with config.json and, usually, the root file system beside it.

`load` is the only way a config from outside comes in; what it returns has the fields the runtime relies on. What
nobody here can honour is refused rather than ignored where ignoring it would take isolation away.
"""

from __future__ import annotations

import os

from scow.errors import InvalidArgument, NotFound, Unsupported
from scow.runtime import documents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CONFIG = "config.json"
MAX_CONFIG = 16 << 20

#: (major, minor) of null, zero, full, random, urandom, tty, console, ptmx and the terminals.
_DEFAULT_DEVICES = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, None))


def load(bundle: str) -> dict[str, Any]:
    """The config of the bundle at `bundle`, checked.

    Raises:
        NotFound: there is no config.json.
        InvalidArgument: it is not a config, or lacks what every container needs.
        Unsupported: it asks for a user namespace or another system.
    """
    path = f"{bundle}/{CONFIG}"
    try:
        if os.stat(path).st_size > MAX_CONFIG:
            raise InvalidArgument(f"{path} is larger than {MAX_CONFIG} bytes")
        spec = documents.load(path)
    except FileNotFoundError:
        raise NotFound(f"JSON specification file {path} not found") from None
    except ValueError as error:
        raise InvalidArgument(f"{path}: {error}") from None
    if not isinstance(spec, dict):
        raise InvalidArgument(f"{path} does not hold a JSON object")
    check(spec)
    _allow_default_devices(spec["linux"])
    return spec


def _allow_default_devices(linux: dict[str, Any]) -> None:
    """Rules of the config come first; the devices every container has stay usable, and nodes may be made."""
    rules = (linux.get("resources") or {}).get("devices")
    if rules:
        for kind in ("c", "b"):
            rules.append({"allow": True, "type": kind, "access": "m"})
        for major, minor in _DEFAULT_DEVICES:
            rule = {"allow": True, "type": "c", "major": major, "access": "rwm"}
            rules.append(rule if minor is None else {**rule, "minor": minor})


def check(spec: dict[str, Any]) -> None:
    """Refuse a config that cannot be run.

    Raises:
        InvalidArgument, Unsupported: see `load`.
    """
    version = spec.get("ociVersion")
    if not isinstance(version, str) or not version.startswith("1."):
        raise InvalidArgument(f"unsupported ociVersion {version!r}: 1.x is understood")
    if not isinstance(spec.get("root"), dict) or not isinstance(spec["root"].get("path"), str):
        raise InvalidArgument("root.path is missing in the config")
    if "linux" not in spec:
        raise Unsupported("only Linux containers can be run: the config has no linux section")
    process = spec.get("process")
    if process is not None:
        check_process(process)
    namespaces = [entry.get("type") for entry in spec["linux"].get("namespaces") or []]
    if "user" in namespaces:
        raise Unsupported("user namespaces are not supported: remove the namespace of type user from the config")
    if "mount" not in namespaces:
        raise InvalidArgument("a container needs a mount namespace: add one to linux.namespaces")
    if len(set(namespaces)) != len(namespaces):
        raise InvalidArgument("a namespace is listed twice in linux.namespaces")
    for mount in spec.get("mounts") or []:
        if not isinstance(mount.get("destination"), str):
            raise InvalidArgument("a mount without destination")


def check_process(process: dict[str, Any]) -> None:
    """Refuse an OCI "process" that cannot be run.

    Raises:
        InvalidArgument: no arguments, or a relative working folder.
    """
    args = process.get("args")
    if not isinstance(args, list) or not args or not all(isinstance(arg, str) for arg in args):
        raise InvalidArgument("process.args is missing or empty in the config")
    if not str(process.get("cwd", "")).startswith("/"):
        raise InvalidArgument(f"process.cwd must be absolute, not {process.get('cwd')!r}")


def root_path(bundle: str, spec: dict[str, Any]) -> str:
    """The root file system's folder, absolute.

    Raises:
        InvalidArgument: it is not a folder.
    """
    path = os.path.realpath(os.path.join(bundle, spec["root"]["path"]))
    if not os.path.isdir(path):
        raise InvalidArgument(f"the root file system {path} is not a folder")
    return path


def example() -> dict[str, Any]:
    """A config to begin with: a shell with few capabilities on a read-only root."""
    quiet = ["nosuid", "noexec", "nodev"]
    kept = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
    mounts = [
        ("/proc", "proc", "proc", []),
        ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", "devpts", pts),
        ("/dev/shm", "tmpfs", "shm", [*quiet, "mode=1777", "size=65536k"]),
        ("/dev/mqueue", "mqueue", "mqueue", quiet),
        ("/sys", "sysfs", "sysfs", [*quiet, "ro"]),
        ("/sys/fs/cgroup", "cgroup", "cgroup", [*quiet, "relatime", "ro"]),
    ]
    return {
        "ociVersion": "1.2.0",
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), kept),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "scow",
        "mounts": [
            {"destination": target, "type": kind, "source": source, "options": options}
            for target, kind, source, options in mounts
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "maskedPaths": [
                "/proc/acpi",
                "/proc/kcore",
                "/proc/keys",
                "/proc/timer_list",
                "/proc/scsi",
                "/sys/firmware",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }
