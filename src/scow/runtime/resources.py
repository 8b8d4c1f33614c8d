"""What a container may use, as data: OCI ``linux.resources`` → the cgroup files to write, in order.

Pure. The same wish has other files and other numbers on v1 and v2; both are told here, side by side. Each `Write`
names the field it comes from (for errors) and Docker's sentence for a host that cannot do it (for warnings).
Source: runtime-spec 1.2 config-linux.md "Control groups"; kernel admin-guide/cgroup-v1, cgroup-v2.
"""

from __future__ import annotations

import math

from scow.errors import InvalidArgument
from scow.linux.bpf import ANY, BLOCK, CHAR, MKNOD, READ, WRITE, Device

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    Resources = Mapping[str, Any]
    Where = Callable[[str], int]
    Offers = Callable[[str, Iterable[str]], "bool | None"]

_DISCARDED = "Your kernel does not support {what} or the cgroup is not mounted. {lost} discarded."
_PAGE_UNITS = ("KB", "MB", "GB")
_ACCESS = {"m": MKNOD, "r": READ, "w": WRITE}
_KINDS = {"b": (BLOCK,), "c": (CHAR,), "u": (CHAR,), "a": (BLOCK, CHAR)}


class Write:
    """One value for one controller; `files` are its possible names with the text each takes, the first present wins."""

    __slots__ = ("controller", "field", "files", "warning")

    def __init__(self, controller: str, field: str, warning: str, *files: tuple[str, str]) -> None:
        self.controller = controller
        self.field = field
        self.warning = warning
        self.files = files

    def describe(self) -> str:
        """``memory: memory.max = 1048576`` for plans shown to people."""
        return f"{self.controller}: " + " or ".join(f"{name} = {text}" for name, text in self.files)


def plan(resources: Resources, where: Where) -> list[Write]:
    """The writes that put `resources` in force, device rules aside (see `device_rules`).

    Args:
        where: controller → 1 (v1 files), 2 (v2 files) or 0 (absent), as `scow.linux.cgroup.Layout.where`. A wish for
            an absent controller, or one without a counterpart there, becomes a `Write` without files.

    Raises:
        InvalidArgument: a value of the wrong type, or one that contradicts another; the text names the field.
    """
    writes: list[Write] = []
    for controller, section, steps in (
        ("memory", "memory", _memory),
        ("cpu", "cpu", _cpu),
        ("cpuset", "cpu", _cpuset),
        ("pids", "pids", _pids),
        ("blkio", "blockIO", _block_io),
        ("hugetlb", "hugepageLimits", _huge_pages),
        ("rdma", "rdma", _rdma),
    ):
        wishes = resources.get(section)
        if wishes:
            version = where(controller)
            found = steps(wishes, version)
            if not version:
                found = [Write(step.controller, step.field, step.warning) for step in found]
            writes += found
    writes += _network(resources.get("network") or {}, where)
    writes += _unified(resources.get("unified") or {}, where)
    return writes


def lost(resources: Resources, where: Where, offers: Offers | None = None) -> list[str]:
    """Docker's sentence for every wish that has no controller or no counterpart on this host, each once.

    Args:
        offers: (controller, file names) → False where no group of this host has any of the files.
    """

    def vain(write: Write) -> bool:
        if not write.files:
            return True
        return offers is not None and offers(write.controller, [name for name, _text in write.files]) is False

    return list(dict.fromkeys(write.warning for write in plan(resources, where) if vain(write)))


def _number(section: Mapping[str, Any], key: str, field: str) -> int | None:
    """The integer at `key`, or None where it is absent; anything else is refused by name."""
    value = section.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidArgument(f"linux.resources.{field} must be an integer, not {value!r}")
    return value


def _warning(what: str, lost: str) -> str:
    return _DISCARDED.format(what=what, lost=lost)


# ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _memory(wishes: Mapping[str, Any], version: int) -> list[Write]:
    limit = _number(wishes, "limit", "memory.limit") or 0
    swap = _number(wishes, "swap", "memory.swap") or 0
    reservation = _number(wishes, "reservation", "memory.reservation") or 0
    swappiness = _number(wishes, "swappiness", "memory.swappiness")
    tcp = _number(wishes, "kernelTCP", "memory.kernelTCP") or 0
    if limit == -1 and swap == 0:
        swap = -1  # a group without a memory limit cannot have one on memory and swap
    writes = []

    def add(field: str, warning: str, v1: tuple[str, int] | None, v2: tuple[str, int] | None) -> None:
        choice = v2 if version == 2 else v1
        files = [(choice[0], _limit(choice[1], version))] if choice else []
        writes.append(Write("memory", f"memory.{field}", warning, *files))

    if limit:
        text = _warning("memory limit capabilities", "Limitation")
        add("limit", text, ("memory.limit_in_bytes", limit), ("memory.max", limit))
    if swap:
        beyond = _swap_beyond(limit, swap) if version == 2 else swap
        text = (
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted."
            " Memory limited without swap."
        )
        add("swap", text, ("memory.memsw.limit_in_bytes", swap), ("memory.swap.max", beyond))
    if reservation:
        text = _warning("memory soft limit capabilities", "Limitation")
        add("reservation", text, ("memory.soft_limit_in_bytes", reservation), ("memory.low", reservation))
    if swappiness is not None:
        if not 0 <= swappiness <= 100:
            raise InvalidArgument(f"invalid value: {swappiness}, valid memory swappiness range is 0-100")
        text = _warning("memory swappiness capabilities", "Memory swappiness")
        add("swappiness", text, ("memory.swappiness", swappiness), None)
    if wishes.get("disableOOMKiller"):
        text = "Your kernel does not support OomKillDisable. OomKillDisable discarded."
        add("disableOOMKiller", text, ("memory.oom_control", 1), None)
    if wishes.get("kernel"):
        add("kernel", "Kernel memory limits are obsolete. Kernel memory limit discarded.", None, None)
    if tcp:
        text = _warning("kernel memory TCP limit", "Kernel memory TCP limit")
        add("kernelTCP", text, ("memory.kmem.tcp.limit_in_bytes", tcp), None)
    return writes


def _limit(value: int, version: int) -> str:
    """-1 means none: "max" on v2."""
    return "max" if value < 0 and version == 2 else str(value)


def _swap_beyond(limit: int, swap: int) -> int:
    """v2 counts swap alone where v1 and the spec count memory and swap together."""
    if swap < 0:
        return -1
    if limit <= 0:
        raise InvalidArgument("linux.resources.memory.swap needs linux.resources.memory.limit: set both")
    if swap < limit:
        raise InvalidArgument("linux.resources.memory.swap counts memory and swap: it must not be below memory.limit")
    return swap - limit


# ── processors ──────────────────────────────────────────────────────────────────────────────────────────────────────


def cpu_weight(shares: int) -> int:
    """v1 shares (2…262144, default 1024) as a v2 weight (1…10000, default 100), defaults meeting.

    The curve is the one container runtimes agreed on: a quadratic through the three pairs in logarithms.
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    power = math.log2(shares)
    return math.ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))


def _cpu(wishes: Mapping[str, Any], version: int) -> list[Write]:
    shares = _number(wishes, "shares", "cpu.shares") or 0
    period = _number(wishes, "period", "cpu.period") or 0
    quota = _number(wishes, "quota", "cpu.quota") or 0
    burst = _number(wishes, "burst", "cpu.burst")
    idle = _number(wishes, "idle", "cpu.idle")
    writes = []
    if shares:
        if shares < 0:
            raise InvalidArgument("linux.resources.cpu.shares must not be negative")
        file = ("cpu.weight", str(cpu_weight(shares))) if version == 2 else ("cpu.shares", str(shares))
        writes.append(Write("cpu", "cpu.shares", _warning("CPU shares", "Shares"), file))
    if idle is not None:
        writes.append(Write("cpu", "cpu.idle", _warning("CPU idle", "CPU idle"), ("cpu.idle", str(idle))))
    text = "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded."
    if (period or quota) and version == 2:
        both = ("max" if quota <= 0 else str(quota)) + (f" {period}" if period else "")
        writes.append(Write("cpu", "cpu.quota", text, ("cpu.max", both)))
    else:
        if period:
            writes.append(Write("cpu", "cpu.period", text, ("cpu.cfs_period_us", str(period))))
        if quota:
            writes.append(Write("cpu", "cpu.quota", text, ("cpu.cfs_quota_us", str(quota))))
    if burst is not None:
        name = "cpu.max.burst" if version == 2 else "cpu.cfs_burst_us"
        writes.append(Write("cpu", "cpu.burst", _warning("CPU burst", "CPU burst"), (name, str(burst))))
    for key, name in (("realtimePeriod", "cpu.rt_period_us"), ("realtimeRuntime", "cpu.rt_runtime_us")):
        value = _number(wishes, key, f"cpu.{key}")
        if value:
            files = [(name, str(value))] if version == 1 else []
            writes.append(Write("cpu", f"cpu.{key}", _warning("CPU real-time scheduler", "CPU real-time"), *files))
    return writes


def _cpuset(wishes: Mapping[str, Any], _version: int) -> list[Write]:
    writes = []
    for key in ("cpus", "mems"):
        value = wishes.get(key)
        if not value:
            continue
        if not isinstance(value, str) or not set(value) <= set("0123456789,- "):
            raise InvalidArgument(f"linux.resources.cpu.{key} must be a list like 0-3,7, not {value!r}")
        writes.append(Write("cpuset", f"cpu.{key}", _warning("cpuset", "Cpuset"), (f"cpuset.{key}", value)))
    return writes


def _pids(wishes: Mapping[str, Any], _version: int) -> list[Write]:
    limit = _number(wishes, "limit", "pids.limit")
    if limit is None:
        return []
    text = _warning("PIDs limit capabilities", "PIDs limit")
    return [Write("pids", "pids.limit", text, ("pids.max", str(limit) if limit > 0 else "max"))]


# ── devices' bandwidth ──────────────────────────────────────────────────────────────────────────────────────────────

_THROTTLES = (
    ("throttleReadBpsDevice", "read_bps", "rbps", "BPS Block I/O read limit", "Block I/O BPS read limit"),
    ("throttleWriteBpsDevice", "write_bps", "wbps", "BPS Block I/O write limit", "Block I/O BPS write limit"),
    ("throttleReadIOPSDevice", "read_iops", "riops", "IOPS Block read limit", "Block I/O IOPS read limit"),
    ("throttleWriteIOPSDevice", "write_iops", "wiops", "IOPS Block write limit", "Block I/O IOPS write limit"),
)


def io_weight(weight: int) -> int:
    """A blkio weight (10…1000) on v2's scale (1…10000)."""
    return 1 + (weight - 10) * 9999 // 990


def _block_io(wishes: Mapping[str, Any], version: int) -> list[Write]:
    writes = []
    weight = _number(wishes, "weight", "blockIO.weight") or 0
    if weight:
        text = _warning("Block I/O weight", "Weight")
        writes.append(Write("blkio", "blockIO.weight", text, *_weight_files(weight, version, "")))
    for entry in _entries(wishes, "weightDevice", "blockIO.weightDevice"):
        each = _number(entry, "weight", "blockIO.weightDevice.weight") or 0
        if each:
            text = _warning("Block I/O weight_device", "Weight-device")
            device = _device_number(entry, "blockIO.weightDevice") + " "
            writes.append(Write("blkio", "blockIO.weightDevice", text, *_weight_files(each, version, device)))
    for key, v1, v2, what, lost in _THROTTLES:
        for entry in _entries(wishes, key, f"blockIO.{key}"):
            device = _device_number(entry, f"blockIO.{key}")
            rate = _number(entry, "rate", f"blockIO.{key}.rate") or 0
            if version == 2:
                file = ("io.max", f"{device} {v2}={rate or 'max'}")
            else:
                file = (f"blkio.throttle.{v1}_device", f"{device} {rate}")
            writes.append(Write("blkio", f"blockIO.{key}", _warning(what, lost), file))
    return writes


def _weight_files(weight: int, version: int, device: str) -> list[tuple[str, str]]:
    """The BFQ scheduler's file takes the spec's scale; io.weight (io.cost) has its own and wants "default"."""
    if not 10 <= weight <= 1000:
        raise InvalidArgument("Range of blkio weight is from 10 to 1000")
    if version == 2:
        return [
            ("io.bfq.weight", f"{device}{weight}"),
            ("io.weight", f"{device or 'default '}{io_weight(weight)}"),
        ]
    suffix = "_device" if device else ""
    return [(f"blkio.weight{suffix}", f"{device}{weight}"), (f"blkio.bfq.weight{suffix}", f"{device}{weight}")]


def _entries(wishes: Mapping[str, Any], key: str, field: str) -> Iterable[Mapping[str, Any]]:
    entries = wishes.get(key) or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidArgument(f"linux.resources.{field} must be a list of objects")
    return entries


def _device_number(entry: Mapping[str, Any], field: str) -> str:
    major, minor = _number(entry, "major", f"{field}.major"), _number(entry, "minor", f"{field}.minor")
    if major is None or minor is None:
        raise InvalidArgument(f"linux.resources.{field} needs major and minor")
    return f"{major}:{minor}"


# ── the rest ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _huge_pages(wishes: Any, version: int) -> list[Write]:
    writes = []
    for entry in _entries({"": wishes}, "", "hugepageLimits"):
        size = entry.get("pageSize")
        limit = _number(entry, "limit", "hugepageLimits.limit")
        if not isinstance(size, str) or size[-2:] not in _PAGE_UNITS or not size[:-2].isdecimal() or limit is None:
            raise InvalidArgument("linux.resources.hugepageLimits needs pageSize, such as 2MB, and limit")
        name = f"hugetlb.{size}.max" if version == 2 else f"hugetlb.{size}.limit_in_bytes"
        text = _warning(f"huge pages of {size}", "Huge page limit")
        writes.append(Write("hugetlb", f"hugepageLimits.{size}", text, (name, _limit(limit, version))))
    return writes


def _rdma(wishes: Mapping[str, Any], _version: int) -> list[Write]:
    writes = []
    for device, wish in wishes.items():
        if not _plain(device):
            raise InvalidArgument(f"linux.resources.rdma: {device!r} is not the name of a device")
        words = [device]
        for key, name in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object")):
            value = _number(wish, key, f"rdma.{device}.{key}")
            if value is not None:
                words.append(f"{name}={value}")
        text = _warning("RDMA limits", "RDMA limit")
        writes.append(Write("rdma", f"rdma.{device}", text, ("rdma.max", " ".join(words))))
    return writes


def _network(wishes: Mapping[str, Any], where: Where) -> list[Write]:
    writes = []
    identity = _number(wishes, "classID", "network.classID")
    if identity is not None:
        files = [("net_cls.classid", str(identity))] if where("net_cls") == 1 else []
        text = _warning("network class ids", "Network class id")
        writes.append(Write("net_cls", "network.classID", text, *files))
    for entry in _entries(wishes, "priorities", "network.priorities"):
        name, priority = entry.get("name"), _number(entry, "priority", "network.priorities.priority")
        if not isinstance(name, str) or not _plain(name) or priority is None:
            raise InvalidArgument("linux.resources.network.priorities needs the name of an interface and a priority")
        files = [("net_prio.ifpriomap", f"{name} {priority}")] if where("net_prio") == 1 else []
        text = _warning("network priorities", "Network priority")
        writes.append(Write("net_prio", "network.priorities", text, *files))
    return writes


def _unified(wishes: Mapping[str, Any], where: Where) -> list[Write]:
    writes = []
    for name, value in wishes.items():
        if "/" in name or not _plain(name) or "." not in name or not isinstance(value, str):
            raise InvalidArgument(f"linux.resources.unified: {name!r} is not the name of a cgroup v2 file with a text")
        controller = name.partition(".")[0]
        known = controller if controller != "io" else "blkio"
        version = 2 if controller == "cgroup" else where(known)
        text = _warning(f"cgroup v2 {name}", name)
        writes.append(Write(known, f"unified.{name}", text, *([(name, value)] if version == 2 else [])))
    return writes


def _plain(name: str) -> bool:
    """Fit for a file name or a word in a file's line."""
    return bool(name) and name.isprintable() and " " not in name and name not in (".", "..") and len(name) < 256


# ── device rules ────────────────────────────────────────────────────────────────────────────────────────────────────


def device_rules(rules: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The v1 writes for OCI device rules, in order: [("devices.deny", "a"), ("devices.allow", "c 1:3 rwm"), …].

    Raises:
        InvalidArgument: a rule that cannot be read.
    """
    return [("devices.allow" if rule["allow"] else "devices.deny", _v1_rule(rule)) for rule in map(_checked, rules)]


def device_exceptions(rules: Iterable[Mapping[str, Any]]) -> tuple[bool, list[Device]]:
    """The state the v1 controller would be in after `rules`: (allow by default, exceptions), for a v2 program.

    Raises:
        InvalidArgument: a rule that cannot be read.
    """
    allow_all = True
    exceptions: list[Device] = []
    for rule in map(_checked, rules):
        if rule["type"] == "a":
            allow_all, exceptions = rule["allow"], []
            continue
        for kind in _KINDS[rule["type"]]:
            bits = sum(_ACCESS[letter] for letter in set(rule["access"]))
            device = Device(kind, rule["major"], rule["minor"], bits)
            known = next((each for each in exceptions if each.names(device)), None)
            if rule["allow"] == allow_all:  # takes an exception back
                if known is not None:
                    known.access &= ~bits
            elif known is not None:
                known.access |= bits
            else:
                exceptions.append(device)
    return allow_all, [device for device in exceptions if device.access]


def _checked(rule: Mapping[str, Any]) -> dict[str, Any]:
    """The rule with defaults filled in: major and minor `ANY` for "all", access "rwm"."""
    kind, access = rule.get("type") or "a", rule.get("access") or "rwm"
    if kind not in _KINDS or not isinstance(access, str) or not set(access) <= _ACCESS.keys():
        raise InvalidArgument(f"linux.resources.devices: type must be a, b or c and access of r, w, m: {dict(rule)}")
    major, minor = _number(rule, "major", "devices.major"), _number(rule, "minor", "devices.minor")
    for number in (major, minor):
        if number is not None and not -1 <= number < 1 << 31:
            raise InvalidArgument(f"linux.resources.devices: {number} is not a device number")
    if kind == "a" and (major not in (None, ANY) or minor not in (None, ANY)):
        raise InvalidArgument("linux.resources.devices: type a takes no major or minor: name b or c")
    return {
        "allow": bool(rule.get("allow")),
        "type": kind,
        "major": ANY if major is None else major,
        "minor": ANY if minor is None else minor,
        "access": access,
    }


def _v1_rule(rule: Mapping[str, Any]) -> str:
    if rule["type"] == "a":
        return "a"
    numbers = ["*" if rule[key] == ANY else str(rule[key]) for key in ("major", "minor")]
    return f"{'c' if rule['type'] == 'u' else rule['type']} {':'.join(numbers)} {rule['access']}"
