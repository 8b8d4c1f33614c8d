"""Facts about the machine that ``/info`` and ``/version`` report, read from the kernel when asked."""

import os
import platform
from pathlib import Path

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
