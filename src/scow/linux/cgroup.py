"""Control groups as files: where the hierarchies of v1, v2 and hybrid hosts are mounted, and the moves they allow.

Knows folders, file formats and kernel habits; what a container wants of them is `scow.runtime.cgroup`'s affair.
Controllers go by their v1 names where v1 and v2 differ ("blkio", "devices", "freezer"), so that callers ask once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time

from scow.errors import InvalidArgument, System
from scow.linux.pidfd import pidfd_open

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: v2 spells some controllers differently, and has some without a controller of that name.
_V2_NAMES = {"blkio": "io", "cpuacct": "cpu"}
_V2_BUILT_IN = frozenset({"devices", "freezer"})
_V1_FLAGS = frozenset(
    {"rw", "ro", "xattr", "noprefix", "clone_children", "none", "all", "favordynmods", "nofavordynmods"}
)
_BUFFER = 64 << 10
#: Below a mount's root: where its processes go that would keep it from passing controllers on.
VACATED = "init"
#: The v1 file with the realtime (µs a period) of a group.
REALTIME = "cpu.rt_runtime_us"
#: Processes may fork while they are moved; each round finds only those that did.
_VACATE_ROUNDS = 16


class Layout:
    """Where the hierarchies are. `controllers`: v1 name → mount point; `named`: the same for ``name=`` hierarchies."""

    __slots__ = ("controllers", "named", "unified", "unified_controllers")

    def __init__(
        self,
        controllers: dict[str, str],
        named: dict[str, str],
        unified: str | None,
        unified_controllers: frozenset[str] = frozenset(),
    ) -> None:
        self.controllers = controllers
        self.named = named
        self.unified = unified
        self.unified_controllers = unified_controllers

    @property
    def version(self) -> int:
        """2 when there is nothing but the unified hierarchy, 1 for v1 and hybrid hosts."""
        return 2 if self.unified is not None and not self.controllers else 1

    def where(self, controller: str) -> int:
        """Which interface `controller` is driven by: 1, 2, or 0 where the host does not have it."""
        if controller in self.controllers:
            return 1
        if controller in _V2_BUILT_IN:
            return 2 if self.version == 2 else 0
        return 2 if _V2_NAMES.get(controller, controller) in self.unified_controllers else 0

    def v1_mounts(self) -> dict[str, str]:
        """Every v1 hierarchy once: its folder's name ("cpu,cpuacct", "systemd") → mount point."""
        found = {*self.controllers.values(), *self.named.values()}
        return {mount.rpartition("/")[2]: mount for mount in sorted(found)}


def parse_mountinfo(text: str) -> Layout:
    """The layout told by /proc/self/mountinfo (proc_pid_mountinfo(5)); the first mount of a hierarchy counts."""
    controllers: dict[str, str] = {}
    named: dict[str, str] = {}
    unified = None
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        if not separator:
            continue
        kind, _source, options = after.split(" ", 2)
        mount = _unescape(before.split(" ")[4])
        if kind == "cgroup2":
            unified = unified or mount
        elif kind == "cgroup":
            for option in options.split(","):
                if option.startswith("name="):
                    named.setdefault(option[5:], mount)
                elif option not in _V1_FLAGS and "=" not in option:
                    controllers.setdefault(option, mount)
    return Layout(controllers, named, unified)


def _unescape(field: str) -> str:
    """A mountinfo field without its octal escapes of space, tab, newline and backslash."""
    for code, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        field = field.replace(code, character)
    return field


_layout: Layout | None = None


def layout() -> Layout:
    """This host's layout, read once a process.

    Raises:
        System: no cgroup hierarchy is mounted.
    """
    global _layout
    if _layout is None:
        found = parse_mountinfo(os.fsdecode(read("/proc/self/mountinfo")))
        if found.unified is not None:
            found.unified_controllers = frozenset(read(f"{found.unified}/cgroup.controllers").decode().split())
        if found.unified is None and not found.controllers:
            raise System("no cgroup hierarchy is mounted: mount cgroup2 on /sys/fs/cgroup and retry")
        _layout = found
    return _layout


def offers(where: Layout, controller: str, names: Iterable[str]) -> bool | None:
    """Whether groups on this host have one of the files `names` of `controller` (v1 name).

    Looked up where it can be seen: in the hierarchy's root, which lacks most of them, and in a group below it.

    Returns:
        None where no group shows the controller's files yet.
    """
    version = where.where(controller)
    if not version:
        return False
    mount = where.controllers[controller] if version == 1 else where.unified or ""
    files = list(names)
    if any(os.path.exists(f"{mount}/{name}") for name in files):
        return True
    wanted = _V2_NAMES.get(controller, controller)
    for folder in children(mount):
        try:
            if version == 2 and wanted not in read(f"{folder}/cgroup.controllers").decode().split():
                continue
        except OSError:
            continue
        found = any(os.path.exists(f"{folder}/{name}") for name in files)
        if found or os.path.exists(folder):
            return found
    return None


def check_path(path: str) -> str:
    """`path` as "/a/b", fit to be appended to a mount point.

    Raises:
        InvalidArgument: it is relative, climbs, is empty or cannot be a file name.
    """
    parts = path.split("/")
    names = [part for part in parts if part]
    climbs = any(part in (".", "..") or "\0" in part or "\n" in part or len(part) > 255 for part in names)
    if parts[0] or not names or climbs:
        raise InvalidArgument(f"invalid cgroup path {path!r}: give an absolute path without dots")
    return "/" + "/".join(names)


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def read(path: str) -> bytes:
    """The whole of a small kernel file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = chunk = os.read(fd, _BUFFER)
        while chunk:
            chunk = os.read(fd, _BUFFER)
            data += chunk
        return data
    finally:
        os.close(fd)


def write(path: str, text: str) -> None:
    """One write of `text`: kernel files take a whole value or nothing."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def read_number(path: str, missing: int = 0) -> int:
    """The number in a file: "max" is -1, an absent or unreadable file is `missing`."""
    try:
        text = read(path).strip()
    except OSError:
        return missing
    if text == b"max":
        return -1
    try:
        return int(text)
    except ValueError:
        return missing


def read_pairs(path: str) -> dict[str, int]:
    """A flat-keyed file ("name number" a line); empty if it is absent."""
    try:
        words = read(path).decode().split()
        return dict(zip(words[::2], map(int, words[1::2]), strict=True))
    except (OSError, ValueError):
        return {}


# ── folders ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def make_v1(mount: str, path: str, cpuset: bool) -> str:
    """Create the group at `path` with its parents and return its folder; one that exists is taken as it is.

    A cpuset group starts empty and admits nobody: parents are told to pass theirs on, which spares their children
    two writes each.
    """
    folder = mount + path
    try:
        os.mkdir(folder, 0o755)
    except FileExistsError:
        pass
    except FileNotFoundError:
        make_v1(mount, path.rpartition("/")[0], cpuset)
        if cpuset:
            write(f"{folder.rpartition('/')[0]}/cgroup.clone_children", "1")
        _mkdir(folder)
    if cpuset:
        _inherit_cpuset(mount, folder)
    return folder


def _mkdir(folder: str) -> None:
    """mkdir that does not mind being second."""
    try:
        os.mkdir(folder, 0o755)
    except FileExistsError:
        return


def _inherit_cpuset(mount: str, folder: str) -> None:
    """Give `folder` its parent's processors and memory nodes where it has none."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if folder != mount and not read(f"{folder}/{name}").strip():
            parent = folder.rpartition("/")[0]
            _inherit_cpuset(mount, parent)
            write(f"{folder}/{name}", read(f"{parent}/{name}").decode())


def make_v2(mount: str, path: str, controllers: frozenset[str]) -> str:
    """Create the group at `path` with its parents, each passing `controllers` on, and return its folder.

    A controller the kernel refuses to pass on (a parent that has processes of its own: "no internal processes")
    is left out: `refuser` tells why a file is missing then.

    Where the mount's root is no root in truth (a container in which this runs), its processes move into a group of
    their own: nobody else is there to do it, and without it no limit would work.
    """
    folder = f"{pass_down(mount, path, controllers)}/{path.rpartition('/')[2]}"
    _mkdir(folder)
    return folder


def pass_down(mount: str, path: str, controllers: frozenset[str]) -> str:
    """The part of `make_v2` above the group itself: the folder of its parent, which passes `controllers` on."""
    folder = mount
    for name in ["", *path[1:].split("/")[:-1]]:
        if name:
            folder = f"{folder}/{name}"
            _mkdir(folder)
        missing = controllers - frozenset(read(f"{folder}/cgroup.subtree_control").decode().split())
        if missing and not _pass_on(folder, missing) and folder == mount:
            _vacate(folder)
            _pass_on(folder, missing)
    return folder


def _pass_on(folder: str, controllers: frozenset[str]) -> bool:
    """Let the groups below have `controllers`, as far as the group has them; False if processes stand in the way.

    All at once: some ("threaded" ones) may be passed on in spite of processes, but then groups below admit nobody.
    """
    there = controllers & frozenset(read(f"{folder}/cgroup.controllers").decode().split())
    attempts = [there, *(frozenset({each}) for each in sorted(there))]
    for attempt in attempts if there else ():
        try:
            write(f"{folder}/cgroup.subtree_control", " ".join(f"+{each}" for each in sorted(attempt)))
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.EOPNOTSUPP):
                return False
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise  # else one of them is not to be had now (the processor's, with realtime processes)
        else:
            if attempt == there:
                break
    return True


def _vacate(folder: str) -> None:
    """Move the processes of the group itself into one below; those of other pid namespaces cannot be moved."""
    home = f"{folder}/{VACATED}"
    _mkdir(home)
    for _round in range(_VACATE_ROUNDS):
        members = [word for word in read(f"{folder}/cgroup.procs").decode().split() if word != "0"]
        if not members:
            return
        for member in members:
            with contextlib.suppress(ProcessLookupError):
                write(f"{home}/cgroup.procs", member)


def refuser(mount: str, path: str, controller: str) -> tuple[str, bool] | None:
    """Why the group at `path` lacks v2 `controller` (any spelling); None if it has it.

    Returns:
        The folder of the group above that does not pass it on, and whether that one's own processes are the reason.
    """
    name = _V2_NAMES.get(controller, controller)
    folder = mount
    for part in path[1:].split("/"):
        if name not in read(f"{folder}/cgroup.subtree_control").decode().split():
            # Only the hierarchy's true root has no type, and it may have processes as well.
            busy = os.path.exists(f"{folder}/cgroup.type") and bool(read(f"{folder}/cgroup.procs").strip())
            return folder, busy
        folder = f"{folder}/{part}"
    return None


def children(folder: str) -> list[str]:
    """Folders of the groups directly below; empty if `folder` is gone."""
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def pids(folder: str) -> list[int]:
    """Every process in the group and below it; 0 (outside this pid namespace) is left out."""
    try:
        found = [int(word) for word in read(f"{folder}/cgroup.procs").split()]
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return []
        if error.errno != errno.EOPNOTSUPP:  # a threaded v2 group tells its processes only at its domain
            raise
        found = []
    for child in children(folder):
        found += pids(child)
    return [pid for pid in found if pid]


def remove(folder: str, deadline: float) -> bool:
    """Remove the group and those below it; False if processes still hold it when `deadline` (monotonic) is past."""
    while True:
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno == errno.EROFS and not os.path.exists(folder):
                return True
            if error.errno != errno.EBUSY:
                raise
        else:
            return True
        below = children(folder)
        if below:
            if not all(remove(child, deadline) for child in below):
                return False
            continue
        if not _wait_for_change(folder, deadline - time.monotonic()):
            return False


def _wait_for_change(folder: str, seconds: float) -> bool:
    """Block until there may be fewer processes in `folder`; False when the time is up."""
    if seconds <= 0:
        return False
    if os.path.exists(f"{folder}/cgroup.events"):
        fd = os.open(f"{folder}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if b"populated 0" not in os.read(fd, _BUFFER):
                return bool(_poll(fd, select.POLLPRI, seconds))
        finally:
            os.close(fd)
    members = pids(folder)
    if members:
        try:
            fd = pidfd_open(members[0])
        except ProcessLookupError:
            return True
        try:
            return bool(_poll(fd, select.POLLIN, seconds))
        finally:
            os.close(fd)
    # A task that is exiting is no longer listed but still counted until the scheduler is done with it, and the
    # kernel tells nobody when that is: the one place where looking again is all there is.
    select.select([], [], [], min(0.001, seconds))
    return True


def _poll(fd: int, events: int, seconds: float) -> list[tuple[int, int]]:
    poller = select.poll()
    poller.register(fd, events)
    return poller.poll(max(0, seconds) * 1000)


# ── realtime on v1 ──────────────────────────────────────────────────────────────────────────────────────────────────


def lend_realtime(mount: str, path: str, runtime: int) -> None:
    """Give the groups above the one at `path` enough realtime (µs a period) for it to have `runtime`.

    A new group has none, and the kernel wants a group to have as much as those below it together.
    """
    parent = path.rpartition("/")[0]
    if not parent:
        return
    folder = mount + parent
    others = sum(read_number(f"{child}/{REALTIME}") for child in children(folder) if child != mount + path)
    if read_number(f"{folder}/{REALTIME}") < others + runtime:
        lend_realtime(mount, parent, others + runtime)
        write(f"{folder}/{REALTIME}", str(others + runtime))


# ── freezing ────────────────────────────────────────────────────────────────────────────────────────────────────────


def freeze_v2(folder: str, frozen: bool, seconds: float) -> bool:
    """Stop or resume the group; returns once the kernel says it is so, or False after `seconds`."""
    wanted = b"frozen 1" if frozen else b"frozen 0"
    deadline = time.monotonic() + seconds
    fd = os.open(f"{folder}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    try:
        write(f"{folder}/cgroup.freeze", "1" if frozen else "0")
        while wanted not in os.pread(fd, _BUFFER, 0):
            left = deadline - time.monotonic()
            if left <= 0 or not _poll(fd, select.POLLPRI, left):
                return False
        return True
    finally:
        os.close(fd)


def freeze_v1(folder: str, frozen: bool, seconds: float) -> bool:
    """Stop or resume the group through the v1 freezer; False if it is not so after `seconds`.

    The v1 freezer notifies nobody and advances only when its state is read, and a task that forks meanwhile needs
    the order again: hence write, read, and look again, soon at first.
    """
    wanted = "FROZEN" if frozen else "THAWED"
    started = time.monotonic()
    state = f"{folder}/freezer.state"
    while True:
        write(state, wanted)
        if read(state).strip() == wanted.encode():
            return True
        waited = time.monotonic() - started
        if waited > seconds:
            return False
        select.select([], [], [], min(0.01, waited / 4))


# ── memory pressure ─────────────────────────────────────────────────────────────────────────────────────────────────


def oom_eventfd_v1(folder: str) -> int:
    """An eventfd (non-blocking, close-on-exec) that counts up when a v1 memory group runs out, or is removed."""
    event_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        control_fd = os.open(f"{folder}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            write(f"{folder}/cgroup.event_control", f"{event_fd} {control_fd}")
        finally:
            os.close(control_fd)
    except OSError:
        os.close(event_fd)
        raise
    return event_fd
