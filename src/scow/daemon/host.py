"""Facts about the machine that ``/info`` and ``/version`` report, read from the kernel when asked."""

import os
import platform
from pathlib import Path

from scow.linux.cgroup import layout
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


def resources() -> dict[str, bool]:
    """Which limits this machine can set, by the words of ``docker info``'s warnings."""
    where = layout().where
    memory, cpu = where("memory"), where("cpu")
    return {
        "memory limit": memory > 0,
        "swap limit": memory == 2 or _v1_file("memory", "memory.memsw.limit_in_bytes"),
        "cpu cfs quota": cpu == 2 or _v1_file("cpu", "cpu.cfs_quota_us"),
        "cpu cfs period": cpu == 2 or _v1_file("cpu", "cpu.cfs_period_us"),
        "cpu shares": cpu > 0,
        "cpuset": where("cpuset") > 0,
        "pids limit": where("pids") > 0,
        "oom kill disable": memory == 1,
    }


def missing_limits() -> list[str]:
    """The words of `resources` this machine should offer and does not; v2 has no way to switch the OOM killer off."""
    gone = {"oom kill disable"} if layout().version == 2 else set()
    return [name for name, there in resources().items() if not there and name not in gone]


def ipv4_forwarding() -> bool:
    """Whether this network namespace routes between links."""
    return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"


def _v1_file(controller: str, name: str) -> bool:
    mount = layout().controllers.get(controller)
    return mount is not None and Path(mount, name).exists()
