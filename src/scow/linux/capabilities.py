"""Linux capabilities: names and bits, Docker's add/drop arithmetic, and putting a set in force on this thread.

Pure but for `last_cap`, `available`, `drop_bounding` and `set_all`. A set of capabilities is a frozenset of ``CAP_*``
names between rooms and an integer mask next to the kernel; bit numbers are those of ``linux/capability.h``.
"""

import struct
from collections.abc import Iterable

from scow.errors import InvalidArgument
from scow.linux.constants import PR_CAP_AMBIENT, PR_CAPBSET_DROP
from scow.linux.syscall import filled, syscall

_IN_ORDER = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
NAMES: tuple[str, ...] = tuple(f"CAP_{name}" for name in _IN_ORDER.split())
BITS: dict[str, int] = {name: bit for bit, name in enumerate(NAMES)}
ALL = "ALL"

_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522


def normalize(name: str) -> str:
    """``net_admin``, ``CAP_NET_ADMIN`` → ``CAP_NET_ADMIN``; ``all``, ``CAP_ALL`` → ``ALL``.

    Raises:
        InvalidArgument: no capability goes by that name.
    """
    upper = name.upper()
    if upper in (ALL, "CAP_ALL"):
        return ALL
    full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if full not in BITS or not name.isascii():
        raise InvalidArgument(f'unknown capability: "{full}"')
    return full


def mask(names: Iterable[str]) -> int:
    """The bits of `names`; "ALL" stands for every capability the running kernel knows.

    Raises:
        InvalidArgument: a name no kernel has.
    """
    bits = 0
    for name in names:
        full = normalize(name)
        bits |= (2 << last_cap()) - 1 if full == ALL else 1 << BITS[full]
    return bits


def names(bits: int) -> frozenset[str]:
    """The names of the bits set in `bits`; bits newer than `NAMES` are left out."""
    return frozenset(name for bit, name in enumerate(NAMES) if bits >> bit & 1)


_last_cap: int | None = None


def last_cap() -> int:
    """Number of the newest capability the running kernel knows, never beyond `NAMES`; read once a process."""
    global _last_cap
    if _last_cap is None:
        try:
            with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
                _last_cap = min(int(file.read(16)), len(NAMES) - 1)
        except FileNotFoundError:  # no /proc: the caller's masks are cut by the kernel anyway
            return len(NAMES) - 1
    return _last_cap


_available: frozenset[str] | None = None


def available() -> frozenset[str]:
    """What this process could hand to a container: its bounding set, looked up once: nobody here makes it less."""
    global _available
    if _available is None:
        _available = frozenset()
        with open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(b"CapBnd:"):
                    _available = names(int(line.split()[1], 16))
    return _available


def resolve(
    defaults: Iterable[str],
    add: Iterable[str],
    drop: Iterable[str],
    privileged: bool,
    allowed: frozenset[str] | None = None,
) -> frozenset[str]:
    """Docker's arithmetic of ``--cap-add``, ``--cap-drop`` and ``--privileged``.

    ``--cap-add ALL`` means everything but what is dropped; ``--cap-drop ALL`` means only what is added; otherwise
    drops are taken from the defaults first and adds win over drops.

    Args:
        allowed: what may be given at all (see `available`); None for every capability of the running kernel.

    Raises:
        InvalidArgument: an unknown name, or one that is not in `allowed`.
    """
    everything = names((2 << last_cap()) - 1) if allowed is None else allowed
    if privileged:
        return everything
    added = frozenset(normalize(name) for name in add)
    dropped = frozenset(normalize(name) for name in drop)
    for name in sorted((added | dropped) - {ALL} - everything):
        raise InvalidArgument(
            f'capability not supported by your kernel or not available in the current environment: "{name}"'
        )
    if ALL in added:
        return everything - dropped
    if ALL in dropped:
        return added
    return (frozenset(defaults) - dropped) | added


def drop_bounding(keep_mask: int, left: int = -1) -> None:
    """Drop every capability outside `keep_mask` from the bounding set of the calling thread, for good.

    Args:
        left: those still in the set, if the caller knows; the others are not dropped again.

    Raises:
        OSError: EPERM without CAP_SETPCAP.
    """
    for bit in range(last_cap() + 1):
        if left >> bit & 1 and not keep_mask >> bit & 1:
            syscall("prctl", PR_CAPBSET_DROP, bit, 0, 0, 0, what=NAMES[bit])


def set_all(bounding: int, effective: int, permitted: int, inheritable: int, ambient: int) -> None:
    """Put all five sets in force on the calling thread; what a set loses cannot be had back.

    Bounding goes first, while CAP_SETPCAP is still there; ambient last, because the kernel raises only what is
    permitted and inheritable. Call it after setuid with PR_SET_KEEPCAPS, or before for root.

    Raises:
        OSError: EPERM when a set asks for more than the caller has.
    """
    drop_bounding(bounding)
    set_sets(effective, permitted, inheritable)
    syscall("prctl", PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    wanted = ambient & permitted & inheritable
    for bit in range(len(NAMES)):
        if wanted >> bit & 1:
            syscall("prctl", PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, bit, 0, 0, what=NAMES[bit])


def set_sets(effective: int, permitted: int, inheritable: int) -> None:
    """Set the three classic sets of the calling thread (capset(2), version 3).

    Raises:
        OSError: EPERM when a set asks for more than the caller has.
    """
    low = (effective & 0xFFFFFFFF, permitted & 0xFFFFFFFF, inheritable & 0xFFFFFFFF)
    high = (effective >> 32, permitted >> 32, inheritable >> 32)
    header = filled(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    syscall("capset", header, filled(struct.pack("=6I", *low, *high)))
