"""A container's control group: one object over v1, v2 and hybrid hosts.

Owns the folders of one group in every hierarchy, from `Cgroup.create` to `Cgroup.remove`; the shim creates it, the
container's first process joins it by itself, the daemon reads it. Nothing is kept in memory that the kernel knows, so
any process may `Cgroup.open` the same path at any time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import time

from scow.errors import Conflict, InvalidArgument, System
from scow.linux import bpf, cgroup
from scow.linux.pidfd import pid_of
from scow.runtime import resources as wishes
from scow.runtime.stats import read_stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from scow.linux.cgroup import Layout
    from scow.runtime.resources import Resources, Write

#: Seconds for a group to stop: a process in uninterruptible sleep can hold it up for as long as its disk does.
FREEZE_TIMEOUT = 10.0
#: Rounds of signalling until no new process turns up; each round can only be outrun by a fork in between.
_KILL_ROUNDS = 32


class ContainerMount:
    """What to mount below /sys/fs/cgroup inside a container.

    `name`: folder there ("" for v2, "memory", "cpu,cpuacct", "systemd"); `kind`: file system type; `options`: for a
    mount inside a private cgroup namespace; `source`: this group's folder on the host, to bind where the namespace is
    the host's; `links`: names of symlinks to the folder ("cpu" → "cpu,cpuacct").
    """

    __slots__ = ("kind", "links", "name", "options", "source")

    def __init__(self, name: str, kind: str, options: str, source: str, links: tuple[str, ...]) -> None:
        self.name = name
        self.kind = kind
        self.options = options
        self.source = source
        self.links = links


class Cgroup:
    """One group; `folders`: controller → folder, `v1`: folders of all v1 hierarchies, `v2`: the unified one or None."""

    __slots__ = ("folders", "layout", "path", "v1", "v2")

    def __init__(self, path: str, layout: Layout, v1: dict[str, str], v2: str | None) -> None:
        self.path = path
        self.layout = layout
        self.v1 = v1
        self.v2 = v2
        self.folders = {name: v1[mount] for name, mount in layout.controllers.items() if mount in v1}

    @classmethod
    def create(
        cls, path: str, resources: Resources | None = None, layout: Layout | None = None, unified: bool | None = None
    ) -> Cgroup:
        """Make the group and put `resources` (OCI linux.resources) in force; a group left over at `path` is taken.

        Args:
            path: absolute, such as "/scow/<id>".
            unified: also in the unified hierarchy of a hybrid host; None: if one of `resources` lives there.

        Raises:
            InvalidArgument: the path, or a value in `resources`; nothing is left behind.
            System: the kernel refuses.
        """
        path = cgroup.check_path(path)
        layout = layout or cgroup.layout()
        group = cls(path, layout, {}, None)
        try:
            try:
                cpuset = layout.controllers.get("cpuset")
                for mount in layout.v1_mounts().values():
                    group.v1[mount] = cgroup.make_v1(mount, path, mount == cpuset)
                if layout.unified is not None and (needs_v2(layout, resources or {}) if unified is None else unified):
                    group.v2 = cgroup.make_v2(layout.unified, path, layout.unified_controllers)
            except OSError as error:
                raise _not_made(path, error) from error
            group.folders = {name: group.v1[mount] for name, mount in layout.controllers.items()}
            if resources:
                group.apply(resources)
        except BaseException:
            with contextlib.suppress(OSError):
                group.remove(0)
            raise
        return group

    @staticmethod
    def make_way(path: str, layout: Layout | None = None) -> None:
        """On v2, have the groups above `path` pass their controllers on.

        `create` does it as well, but not from a pid namespace of one's own, where the processes that may stand in the
        way are not to be seen.

        Raises:
            System: the kernel refuses.
        """
        layout = layout or cgroup.layout()
        if layout.version == 2 and layout.unified is not None:
            path = cgroup.check_path(path)
            try:
                cgroup.pass_down(layout.unified, path, layout.unified_controllers)
            except OSError as error:
                raise _not_made(path, error) from error

    @classmethod
    def open(cls, path: str, layout: Layout | None = None) -> Cgroup:
        """The group at `path` as far as it exists; one that is gone has no folders and all its numbers are zero."""
        path = cgroup.check_path(path)
        layout = layout or cgroup.layout()
        v1 = {mount: mount + path for mount in layout.v1_mounts().values() if os.path.isdir(mount + path)}
        v2 = None if layout.unified is None else layout.unified + path
        return cls(path, layout, v1, v2 if v2 is not None and os.path.isdir(v2) else None)

    def rename(self, path: str) -> None:
        """Give the group another name; v1 hierarchies only, and below the same parent.

        Raises:
            System: the name is taken, or the kernel refuses.
        """
        path = cgroup.check_path(path)
        try:
            for mount, folder in self.v1.items():
                try:
                    os.rename(folder, mount + path)
                except FileExistsError:
                    cgroup.remove(mount + path, 0)  # a group left over holds nobody
                    os.rename(folder, mount + path)
                self.v1[mount] = mount + path
        except OSError as error:
            raise _not_made(path, error) from error
        self.path = path
        self.folders = {name: self.v1[mount] for name, mount in self.layout.controllers.items() if mount in self.v1}

    @property
    def exists(self) -> bool:
        """Whether any folder was there when this object was made."""
        return bool(self.v1 or self.v2)

    def folder(self, controller: str) -> str | None:
        """Where the files of `controller` are, or None if this host (or this group) does not have it."""
        found = self.folders.get(controller)
        if found is None and self.v2 is not None and (controller == "cgroup" or self.layout.where(controller) == 2):
            return self.v2
        return found

    # ── members ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def join_self(self, beside: int | None = None) -> None:
        """Move the calling process (one thread, or this thread on v1) into the group.

        On v1 a thread that moves itself takes a short way: moving another one waits for an RCU grace period.

        Args:
            beside: pidfd of a member, to be followed when a v2 group has passed its controllers on to groups of its own
                and admits nobody any more (a service manager runs inside).

        Raises:
            System: the kernel refuses.
        """
        self._move("0", "tasks", beside)

    def enter(self, pid: int, beside: int | None = None) -> None:
        """Move process `pid` with all its threads into the group; see `join_self`.

        Raises:
            System: the kernel refuses, or there is no such process.
        """
        self._move(str(pid), "cgroup.procs", beside)

    def _move(self, who: str, v1_file: str, beside: int | None) -> None:
        folder = ""
        try:
            for folder in self.v1.values():
                cgroup.write(f"{folder}/{v1_file}", who)
            if self.v2 is not None:
                folder = self.v2
                try:
                    cgroup.write(f"{folder}/cgroup.procs", who)
                except OSError as error:
                    if error.errno != errno.EBUSY or beside is None:
                        raise
                    cgroup.write(f"{self._home(beside)}/cgroup.procs", who)
        except OSError as error:
            raise System(f"cannot enter the cgroup {folder}: {error.strerror}") from error

    def _home(self, pidfd: int) -> str:
        """The v2 folder the process behind `pidfd` is in."""
        for line in cgroup.read(f"/proc/{pid_of(pidfd)}/cgroup").decode().splitlines():
            if line.startswith("0::"):
                return f"{self.layout.unified}{line[3:]}"
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), "process")

    def pids(self) -> list[int]:
        """Every process in the group and in groups below it; empty if it is gone."""
        folder = self._members()
        return cgroup.pids(folder) if folder else []

    def _members(self) -> str | None:
        """A folder whose cgroup.procs lists everyone."""
        return self.folders.get("freezer") or self.v2 or next(iter(self.v1.values()), None)

    # ── limits ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def apply(self, resources: Resources) -> None:
        """Put OCI linux.resources in force; what is not mentioned stays. Wishes this host cannot fulfil are left out
        (`unavailable` names them).

        Raises:
            InvalidArgument: a value the kernel refuses; the text names the field.
            Conflict: the group uses more than the new limit.
            System: anything else the kernel says.
        """
        later = [write for write in wishes.plan(resources, self.layout.where) if not self._write(write, patient=True)]
        # A memory limit above the old memory+swap limit, or a period below what the quota allows, is refused until
        # its partner has moved; which of the two must go first depends on what is in force.
        for write in later:
            self._write(write, patient=False)
        if resources.get("devices"):
            self._apply_devices(resources["devices"])

    def _write(self, write: Write, patient: bool) -> bool:
        """Write the first file that exists; False if the kernel refuses the value and `patient` asks to go on."""
        folder = self.folder(write.controller)
        if folder is None and self.layout.where(write.controller) == self.layout.version:
            raise Conflict(f"cannot set linux.resources.{write.field}: the cgroup {self.path} has gone: restart it")
        for name, text in write.files if folder is not None else ():
            try:
                if name == cgroup.REALTIME:
                    cgroup.lend_realtime(self.layout.controllers["cpu"], self.path, int(text))
                cgroup.write(f"{folder}/{name}", text)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno == errno.EINVAL and patient:
                    return False
                raise _refused(write.field, text, error) from error
            return True
        if write.files and self.v2 is not None and folder == self.v2:
            self._check_passed_on(write)
        return True

    def _check_passed_on(self, write: Write) -> None:
        """Say why a v2 file is missing, unless it is the kernel that does not know it.

        Raises:
            System: a group above keeps the controller to itself.
        """
        found = cgroup.refuser(self.layout.unified or "", self.path, write.controller)
        if found is None:
            return
        folder, busy = found
        raise System(
            f"cannot set linux.resources.{write.field}: the cgroup {folder} does not pass the controller on"
            + (", for it has processes itself: move them into a group below it" if busy else ": have it delegated")
            + " and retry"
        )

    def _apply_devices(self, rules: list[Mapping[str, Any]]) -> None:
        where = self.layout.where("devices")
        folder = self.folder("devices")
        if where == 1:
            for name, text in wishes.device_rules(rules):
                try:
                    cgroup.write(f"{folder}/{name}", text)
                except OSError as error:
                    raise _refused("devices", text, error) from error
        elif where == 2 and folder is not None:
            program_fd = bpf.load_device_program(bpf.device_program(*wishes.device_exceptions(rules)))
            try:
                folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    bpf.attach_device_program(folder_fd, program_fd)
                finally:
                    os.close(folder_fd)
            except OSError as error:
                raise System(f"cannot put device rules in force on {folder}: {error.strerror}") from error
            finally:
                os.close(program_fd)

    def unavailable(self, resources: Resources) -> list[str]:
        """One sentence of Docker's for every wish this host cannot fulfil, each once."""
        missing = []
        for write in wishes.plan(resources, self.layout.where):
            folder = self.folder(write.controller)
            if folder is None or not any(os.path.exists(f"{folder}/{name}") for name, _text in write.files):
                missing.append(write.warning)
        return list(dict.fromkeys(missing))

    def stats(self) -> dict[str, Any]:
        """What the group has used, as Docker's stats JSON shows it: see `scow.runtime.stats.read_stats`."""
        return read_stats(self.folder, self.layout.where)

    # ── signals ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def freeze(self) -> None:
        """Stop every process; returns once they have stopped.

        Raises:
            System: some did not stop in time; they go on.
        """
        if not self._freeze(True):
            self._freeze(False)
            raise System(f"the processes of cgroup {self.path} did not stop in {FREEZE_TIMEOUT:.0f} seconds: try again")

    def thaw(self) -> None:
        """Let every process go on.

        Raises:
            System: some are still stopped.
        """
        if not self._freeze(False):
            raise System(
                f"the processes of cgroup {self.path} did not resume in {FREEZE_TIMEOUT:.0f} seconds: try again"
            )

    def frozen(self) -> bool:
        """Whether the group is stopped, or being stopped."""
        if "freezer" in self.folders:
            return cgroup.read(f"{self.folders['freezer']}/freezer.state").strip() != b"THAWED"
        return self.v2 is not None and cgroup.read_number(f"{self.v2}/cgroup.freeze") == 1

    def _freeze(self, frozen: bool) -> bool:
        try:
            if "freezer" in self.folders:
                return cgroup.freeze_v1(self.folders["freezer"], frozen, FREEZE_TIMEOUT)
            if self.v2 is not None:
                return cgroup.freeze_v2(self.v2, frozen, FREEZE_TIMEOUT)
        except OSError as error:
            verb = "stop" if frozen else "resume"
            raise System(f"cannot {verb} the cgroup {self.path}: {error.strerror}") from error
        raise System(f"cannot stop the cgroup {self.path}: this host has no freezer")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to every process in the group and below it; for SIGKILL none escapes by forking.

        Raises:
            System: processes kept appearing, or are not ours to signal.
        """
        if number == signal.SIGKILL and self.v2 is not None and self.layout.version == 2:
            try:
                cgroup.write(f"{self.v2}/cgroup.kill", "1")
                return
            except FileNotFoundError:
                pass  # before Linux 5.14, or the group is gone
        signalled: set[int] = set()
        for _round in range(_KILL_ROUNDS):
            fresh = [pid for pid in self.pids() if pid not in signalled]
            if not fresh:
                break
            for pid in fresh:
                with contextlib.suppress(ProcessLookupError):
                    try:
                        os.kill(pid, number)
                    except PermissionError as error:
                        raise System(f"cannot signal process {pid} in cgroup {self.path}: not permitted") from error
            signalled.update(fresh)
            if number != signal.SIGKILL:
                return
        else:
            raise System(f"processes in cgroup {self.path} fork faster than they can be killed: set a pids limit")
        if number == signal.SIGKILL and signalled and self.frozen():
            self.thaw()  # a stopped process takes its death only when it goes on

    # ── out of memory ───────────────────────────────────────────────────────────────────────────────────────────────

    def oom_events(self) -> int:
        """How many processes of the group the kernel has killed for memory."""
        memory = self.folder("memory")
        if memory is None:
            return 0
        name = "memory.oom_control" if self.layout.where("memory") == 1 else "memory.events"
        return cgroup.read_pairs(f"{memory}/{name}").get("oom_kill", 0)

    def oom_killed(self) -> bool:
        """Whether the kernel has killed any process of the group for memory."""
        return self.oom_events() > 0

    def oom_watch(self) -> tuple[int, int] | None:
        """(descriptor, events for poll(2)) that tell when memory runs out, or the group goes; None without the
        controller. The caller closes it.

        On v1 it is an eventfd, which wakes before the kill: read it to wait again. On v2 it is memory.events, which
        wakes for other events too: read it from its start to wait again.

        Raises:
            System: the kernel refuses, or the group is gone.
        """
        memory = self.folder("memory")
        if memory is None:
            return None
        try:
            if self.layout.where("memory") == 1:
                return cgroup.oom_eventfd_v1(memory), select.POLLIN
            fd = os.open(f"{memory}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
            os.pread(fd, 4096, 0)
            return fd, select.POLLPRI
        except OSError as error:
            raise System(f"cannot watch the memory of cgroup {self.path}: {error.strerror}") from error

    # ── the end, and the inside ─────────────────────────────────────────────────────────────────────────────────────

    def remove(self, seconds: float = 1.0) -> bool:
        """Remove the group from every hierarchy, with those below it; absent is fine.

        Args:
            seconds: how long to wait for processes that are just ending; 0 to try once.

        Returns:
            False if processes still hold it: kill them, then call again.
        """
        deadline = time.monotonic() + seconds
        gone = True
        folders = [*self.v1.values()]
        if self.layout.unified is not None:
            folders.append(self.v2 or self.layout.unified + self.path)
        for folder in folders:
            gone = cgroup.remove(folder, deadline) and gone
        return gone

    def mounts_for_container(self) -> list[ContainerMount]:
        """What /sys/fs/cgroup holds inside: one cgroup2 for v2, one folder per hierarchy for v1."""
        if self.layout.version == 2:
            return [ContainerMount("", "cgroup2", "", self.v2 or "", ())]
        mounts = []
        for name, mount in self.layout.v1_mounts().items():
            if mount not in self.v1:
                continue
            controllers = [each for each, place in self.layout.controllers.items() if place == mount]
            named = [f"name={each}" for each, place in self.layout.named.items() if place == mount]
            options = ",".join(controllers) if controllers else ",".join(["none", *named])
            links = tuple(sorted(set(controllers) - {name})) if len(controllers) > 1 else ()
            mounts.append(ContainerMount(name, "cgroup", options, self.v1[mount], links))
        return mounts


def needs_v2(layout: Layout, resources: Resources) -> bool:
    """On a hybrid host, whether a wish lives in the unified hierarchy.

    Joining it takes a lock that can wait 20 ms for an RCU grace period (v1 has a way round), so a container joins
    only if it must.
    """
    if layout.version == 2:
        return True
    return any(write.files and layout.where(write.controller) == 2 for write in wishes.plan(resources, layout.where))


def _not_made(path: str, error: OSError) -> System:
    """The kernel's refusal of a folder or of a controller."""
    advice = {
        errno.EROFS: ": remount the cgroup file system read-write and retry",
        errno.EACCES: ": the groups above are not delegated to this user",
        errno.EPERM: ": the groups above are not delegated to this user",
        errno.EAGAIN: ": a group above has reached its cgroup.max.descendants or cgroup.max.depth",
    }.get(error.errno or 0, "")
    return System(f"cannot make the cgroup {path}: {error.strerror} ({error.filename}){advice}")


def _refused(field: str, text: str, error: OSError) -> Exception:
    """The kernel's refusal of a value, classed by what the caller should do."""
    sentence = f"cannot set linux.resources.{field} to {text}: {error.strerror}"
    if error.errno == errno.EBUSY:
        return Conflict(f"{sentence}: the container uses more than that; free some or choose a higher limit")
    if error.errno in (errno.EINVAL, errno.ERANGE, errno.EOVERFLOW, errno.ENODEV, errno.ENXIO, errno.EACCES):
        return InvalidArgument(sentence)
    return System(sentence)
