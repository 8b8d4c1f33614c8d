"""Facts about the machine that ``/info`` and ``/version`` report, read from the kernel when asked."""

import os
import platform
from pathlib import Path

from scow.linux.cgroup import layout, offers
from scow.oci.platform import host_platform


def operating_system() -> str:
    """PRETTY_NAME of os-release, such as "Debian GNU/Linux 12 (bookworm)"."""
    return _os_release().get("PRETTY_NAME", "Linux")


def os_version() -> str:
    """VERSION_ID of os-release."""
    return _os_release().get("VERSION_ID", "")


def kernel_version() -> str:
    """The running kernel's release."""
    return os.uname().release


def memory_total() -> int:
    """Bytes of memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def processors() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0))


def architecture() -> str:
    """The kernel's word for the architecture (``/info``): x86_64, not amd64."""
    return os.uname().machine


def go_architecture() -> str:
    """Docker's word for it (``/version``): amd64."""
    return host_platform().architecture


def python_version() -> str:
    """The interpreter, where Docker says which Go it was built with."""
    return f"python{platform.python_version()}"


def security_options() -> list[str]:
    """What isolates containers here, in Docker's notation."""
    options = []
    if Path("/sys/kernel/security/apparmor").is_dir():
        options.append("name=apparmor")
    if "Seccomp:" in Path("/proc/self/status").read_text():
        options.append("name=seccomp,profile=builtin")
    options.append("name=cgroupns")
    return options


def _os_release() -> dict[str, str]:
    for path in (Path("/etc/os-release"), Path("/usr/lib/os-release")):
        if path.is_file():
            pairs = (line.partition("=") for line in path.read_text(errors="replace").splitlines())
            return {key: value.strip().strip('"') for key, equals, value in pairs if equals}
    return {}


def cgroup_version() -> str:
    """ "1" or "2"; hybrid hosts count as 1, as they do for Docker."""
    return str(layout().version)


#: Word of ``docker info``'s warnings → controller, its file on v1, its file on v2 (none: v2 has no such thing).
LIMITS = (
    ("memory limit", "memory", "memory.limit_in_bytes", "memory.max"),
    ("swap limit", "memory", "memory.memsw.limit_in_bytes", "memory.swap.max"),
    ("oom kill disable", "memory", "memory.oom_control", ""),
    ("cpu cfs quota", "cpu", "cpu.cfs_quota_us", "cpu.max"),
    ("cpu cfs period", "cpu", "cpu.cfs_period_us", "cpu.max"),
    ("cpu shares", "cpu", "cpu.shares", "cpu.weight"),
    ("cpuset", "cpuset", "cpuset.cpus", "cpuset.cpus"),
    ("pids limit", "pids", "pids.max", "pids.max"),
)
#: The same for input and output, with the word for each version.
IO_LIMITS = (
    ("blkio weight", "blkio.weight blkio.bfq.weight", "io.weight", "io.weight io.bfq.weight"),
    ("blkio weight_device", "blkio.weight_device blkio.bfq.weight_device", "io.weight (per device)",
     "io.weight io.bfq.weight"),
    ("blkio throttle.read_bps_device", "blkio.throttle.read_bps_device", "io.max (rbps)", "io.max"),
    ("blkio throttle.write_bps_device", "blkio.throttle.write_bps_device", "io.max (wbps)", "io.max"),
    ("blkio throttle.read_iops_device", "blkio.throttle.read_iops_device", "io.max (riops)", "io.max"),
    ("blkio throttle.write_iops_device", "blkio.throttle.write_iops_device", "io.max (wiops)", "io.max"),
)  # fmt: skip


def resources() -> dict[str, bool]:
    """Which limits this machine can set, by the words of ``docker info``'s warnings."""
    found = {}
    for word, controller, v1, v2 in LIMITS:
        name = v2 if layout().where(controller) == 2 else v1
        found[word] = bool(name) and offers(layout(), controller, [name]) is not False
    return found


def missing_limits() -> list[str]:
    """What this machine cannot limit, in Docker's words; v2 has no way to switch the OOM killer off."""
    gone = {"oom kill disable"} if layout().version == 2 else set()
    missing = [name for name, there in resources().items() if not there and name not in gone]
    v2 = layout().where("blkio") == 2
    for v1_word, v1_files, v2_word, v2_files in IO_LIMITS:
        if offers(layout(), "blkio", (v2_files if v2 else v1_files).split()) is False:
            missing.append(v2_word if v2 else v1_word)
    return missing


def ipv4_forwarding() -> bool:
    """Whether this network namespace routes between links."""
    return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"
