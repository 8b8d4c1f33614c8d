"""The plan of a container's file system: from the spec's mounts, devices and masks to a list of small steps.

`plan` is pure; the steps are data with ``describe()`` and ``apply(root)``. Order: the spec's mounts as listed, device
nodes and links in /dev, masked and read-only paths, the root's own read-only flag.
"""

from __future__ import annotations

import errno
import os
import stat

from scow.errors import InvalidArgument
from scow.linux.constants import PROC_SUPER_MAGIC
from scow.linux.fds import file_system, open_in_root
from scow.linux.mount import (
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
    clone_tree,
    mount_setattr,
    new_mount,
)
from scow.runtime.apply import is_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scow.runtime.apply import Root, Step
    from scow.runtime.cgroup import ContainerMount


#: option → (attributes added, attributes removed); with "r" in front: for the mounts below too.
_ATTRIBUTES: dict[str, tuple[int, int]] = {
    "ro": (MOUNT_ATTR_RDONLY, 0),
    "rw": (0, MOUNT_ATTR_RDONLY),
    "nosuid": (MOUNT_ATTR_NOSUID, 0),
    "suid": (0, MOUNT_ATTR_NOSUID),
    "nodev": (MOUNT_ATTR_NODEV, 0),
    "dev": (0, MOUNT_ATTR_NODEV),
    "noexec": (MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, MOUNT_ATTR_NOEXEC),
    "nodiratime": (MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, MOUNT_ATTR_NODIRATIME),
    "relatime": (0, MOUNT_ATTR__ATIME),
    "norelatime": (MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME),
    "noatime": (MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME),
    "atime": (0, MOUNT_ATTR__ATIME),
    "strictatime": (MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME),
    "nostrictatime": (0, MOUNT_ATTR__ATIME),
    "nosymfollow": (MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, MOUNT_ATTR_NOSYMFOLLOW),
}
_PROPAGATION = {"private": MS_PRIVATE, "slave": MS_SLAVE, "shared": MS_SHARED, "unbindable": MS_UNBINDABLE}
_IGNORED = frozenset({"defaults", "bind", "rbind", "async", "nomand", "loud"})
DEV = "/dev"
_PROC = "/proc"
#: Files below /proc that may be replaced: those with which lxcfs shows a container its limits (as runc has them).
PROC_FILES = frozenset(
    f"/proc/{name}"
    for name in (
        *("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo"),
        *("sys/kernel/ns_last_pid", "sys/crypto/fips_enabled"),
    )
)
#: File systems that are made of nothing on the host: no device, no folder, no server.
KERNEL_KINDS = frozenset({"proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"})
#: Type of a mount in the second part of a spec: what was made ahead belongs here. No config can spell it.
TREE: Any = object()
#: Key of a bind in the spec's mounts, ours: a path below the source, see `Bind`.
INSIDE = "inside"
#: Every option with a meaning of its own; others go to the file system.
OPTIONS = frozenset({*_ATTRIBUTES, *_PROPAGATION, *_IGNORED} | {f"r{name}" for name in (*_ATTRIBUTES, *_PROPAGATION)})

#: Nodes every container has (runtime-spec config-linux.md "Default Devices").
DEFAULT_DEVICES: tuple[tuple[str, int, int], ...] = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
DEV_LINKS: tuple[tuple[str, str], ...] = (
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
)


class Options:
    """A mount's options, sorted by what they act on."""

    __slots__ = ("add", "data", "propagation", "propagation_recursive", "recursive_add", "recursive_remove", "remove")

    def __init__(self, words: list[str]) -> None:
        self.add = self.remove = self.recursive_add = self.recursive_remove = self.propagation = 0
        self.propagation_recursive = False
        self.data: list[tuple[str, str | int | None]] = []
        for word in words:
            self._take(word)

    def _take(self, word: str) -> None:
        below = word[1:] if word.startswith("r") else ""
        if word in _IGNORED:
            return
        if word in _ATTRIBUTES:
            add, remove = _ATTRIBUTES[word]
            self.add, self.remove = (self.add & ~remove) | add, (self.remove & ~add) | remove
        elif below in _ATTRIBUTES:
            add, remove = _ATTRIBUTES[below]
            self.recursive_add, self.recursive_remove = self.recursive_add | add, self.recursive_remove | remove
        elif word in _PROPAGATION or below in _PROPAGATION:
            self.propagation = _PROPAGATION.get(word) or _PROPAGATION[below]
            self.propagation_recursive = word not in _PROPAGATION
        elif word in ("idmap", "ridmap"):
            raise InvalidArgument(f"mount option {word} needs user namespaces, which are not supported: leave it out")
        else:
            name, equals, value = word.partition("=")
            self.data.append((name, value if equals else None))

    def settle(self, mount_fd: int) -> None:
        """Give a detached mount the attributes and propagation asked for."""
        if self.recursive_add or self.recursive_remove:
            mount_setattr(mount_fd, add=self.recursive_add, remove=self.recursive_remove, recursive=True)
        if self.add or self.remove:
            mount_setattr(mount_fd, add=self.add, remove=self.remove)
        if self.propagation:
            mount_setattr(mount_fd, propagation=self.propagation, recursive=self.propagation_recursive)


class FileSystem:
    """A new file system: proc, sysfs, tmpfs, devpts, mqueue, …"""

    __slots__ = ("kind", "mount_fd", "options", "source", "target", "words")

    def __init__(self, kind: str, source: str, target: str, words: list[str]) -> None:
        self.mount_fd = -1
        self.kind = kind
        self.source = source
        self.target = target
        self.words = words
        self.options = Options(words)

    def describe(self) -> str:
        return f"mount {self.kind} on {self.target} ({','.join(self.words)})"

    def open(self, shared: bool) -> None:
        """A file system of the kernel's own waits; any other may name devices or folders of the host."""
        if self.kind not in KERNEL_KINDS:
            try:
                self.mount_fd = new_mount(self.kind, self.options.data, self.options.add, self.source)
            except OSError as error:
                raise OSError(error.errno, error.strerror, self.target) from None

    def apply(self, root: Root) -> None:
        plain = self.kind in ("proc", "sysfs")
        options = list(self.options.data)
        # A folder of the image passes its mode on; where there was none the kernel's own default (1777) holds.
        inherits = (
            self.kind == "tmpfs" and not any(name == "mode" for name, _ in options) and _is_there(root, self.target)
        )
        target_fd = root.make_plain(self.target) if plain else root.make(self.target, directory=True)
        try:
            if inherits:
                options.append(("mode", f"{stat.S_IMODE(os.fstat(target_fd).st_mode):o}"))
            mount_fd = self.mount_fd
            if mount_fd < 0:
                mount_fd = new_mount(self.kind, options, self.options.add, self.source)
            try:
                _keep_proc(self.target, target_fd, mount_fd)
                if self.options.propagation:
                    mount_setattr(mount_fd, propagation=self.options.propagation)
                root.attach(mount_fd, target_fd)
            finally:
                os.close(mount_fd)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.target) from None
        finally:
            os.close(target_fd)


def _is_there(root: Root, target: str) -> bool:
    found = root.find(target)
    if found is not None:
        os.close(found)
    return found is not None


class Bind:
    """A part of the host's tree: `source`, or what `inside` names below it.

    `source` is trusted and followed as the host sees it; `inside` leads through a folder that running containers may
    write to, so it is resolved below `source` at the moment it is opened: a path worked out earlier could have become a
    symlink to anywhere by then.
    """

    __slots__ = ("inside", "mount_fd", "options", "recursive", "source", "target", "words")

    def __init__(self, source: str, target: str, words: list[str], inside: str = "") -> None:
        self.mount_fd = -1
        self.source = source
        self.inside = inside
        self.target = target
        self.words = words
        self.recursive = "rbind" in words
        self.options = Options(words)

    def describe(self) -> str:
        source = f"{self.source}/{self.inside}" if self.inside else self.source
        return f"bind {source} on {self.target} ({','.join(self.words)})"

    def open(self, shared: bool) -> None:
        self.mount_fd = self._clone()
        alone = self.options.propagation == MS_PRIVATE and (self.options.propagation_recursive or not self.recursive)
        if not shared and not alone:
            mount_setattr(self.mount_fd, propagation=MS_SLAVE, recursive=True)

    def _clone(self) -> int:
        if not self.inside:
            return clone_tree(self.source, self.recursive)
        folder_fd = os.open(self.source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found_fd = open_in_root(folder_fd, self.inside, os.O_PATH)
        finally:
            os.close(folder_fd)
        try:
            return clone_tree(found_fd, self.recursive)
        finally:
            os.close(found_fd)

    def apply(self, root: Root) -> None:
        mount_fd = self.mount_fd
        try:
            target_fd = root.make(self.target, is_directory(mount_fd))
            try:
                _keep_proc(self.target, target_fd, mount_fd)
                self.options.settle(mount_fd)
                root.attach(mount_fd, target_fd)
            except OSError as error:
                raise OSError(error.errno, error.strerror, self.target) from None
            finally:
                os.close(target_fd)
        finally:
            os.close(mount_fd)


def _keep_proc(target: str, target_fd: int, mount_fd: int) -> None:
    """Refuse to hide the kernel's /proc, or a part of it, behind something an image or a user brings.

    Masks and read-only paths are put on what is at /proc, and programs believe what they read there.

    Raises:
        OSError: EPERM.
    """
    if target in PROC_FILES or (target != _PROC and file_system(target_fd) != PROC_SUPER_MAGIC):
        return
    if file_system(mount_fd) != PROC_SUPER_MAGIC:
        raise OSError(errno.EPERM, "cannot be mounted because it is inside /proc", target)


class Nodes:
    """Device nodes and symlinks in one folder of the container."""

    __slots__ = ("devices", "directory", "links")

    def __init__(
        self, directory: str, devices: list[tuple[str, int, int, int, int, int]], links: list[tuple[str, str]]
    ) -> None:
        self.directory = directory
        self.devices = devices  # (name, type and mode, major, minor, uid, gid)
        self.links = links

    def describe(self) -> str:
        names = [name for name, *_ in self.devices] + [f"{name} -> {target}" for name, target in self.links]
        return f"nodes in {self.directory}: {', '.join(names)}"

    def open(self, shared: bool) -> None:
        """Nothing comes from the host."""

    def apply(self, root: Root) -> None:
        directory_fd = root.make(self.directory, directory=True)
        try:
            for name, mode, major, minor, uid, gid in self.devices:
                try:
                    os.mknod(name, mode, os.makedev(major, minor), dir_fd=directory_fd)
                    if uid or gid:
                        os.chown(name, uid, gid, dir_fd=directory_fd, follow_symlinks=False)
                except FileExistsError:
                    continue
                except PermissionError:
                    self._bind(root, name)
            for name, target in self.links:
                try:
                    os.symlink(target, name, dir_fd=directory_fd)
                except FileExistsError:
                    continue
        finally:
            os.close(directory_fd)

    def _bind(self, root: Root, name: str) -> None:
        """Where mknod is forbidden (no CAP_MKNOD, a nested container) the host's own node does as well."""
        path = f"{self.directory}/{name}"
        bind = Bind(path, path, ["bind"])
        with root.outside:
            bind.open(shared=False)
        bind.apply(root)


class Mask:
    """A path that must not be seen: a file looks like /dev/null, a folder is empty; what is absent stays so."""

    __slots__ = ("target",)

    def __init__(self, target: str) -> None:
        self.target = target

    def describe(self) -> str:
        return f"mask {self.target}"

    def open(self, shared: bool) -> None:
        """Nothing comes from the host."""

    def apply(self, root: Root) -> None:
        target_fd = root.find(self.target)
        if target_fd is None:
            return
        try:
            if is_directory(target_fd):
                mount_fd = new_mount("tmpfs", [("nr_inodes", "2"), ("mode", "755")], MOUNT_ATTR_RDONLY)
            else:
                mount_fd = clone_tree(root.null_fd)
            try:
                root.attach(mount_fd, target_fd)
            finally:
                os.close(mount_fd)
        finally:
            os.close(target_fd)


class ReadOnly:
    """A path whose content may be read, not written."""

    __slots__ = ("target",)

    def __init__(self, target: str) -> None:
        self.target = target

    def describe(self) -> str:
        return f"read-only {self.target}"

    def open(self, shared: bool) -> None:
        """Nothing comes from the host."""

    def apply(self, root: Root) -> None:
        target_fd = root.find(self.target)
        if target_fd is None:
            return
        try:
            mount_fd = clone_tree(target_fd, recursive=True)
            try:
                mount_setattr(mount_fd, add=MOUNT_ATTR_RDONLY, recursive=True)
                root.attach(mount_fd, target_fd)
            finally:
                os.close(mount_fd)
        finally:
            os.close(target_fd)


class Tree:
    """A file system made ahead, with everything that was mounted in it: moved to its place."""

    __slots__ = ("fd", "target")

    def __init__(self, target: str, fd: int) -> None:
        self.target = target
        self.fd = fd

    def describe(self) -> str:
        return f"move {self.target}"

    def open(self, shared: bool) -> None:
        """Nothing comes from the host."""

    def apply(self, root: Root) -> None:
        plain = self.target == _PROC
        target_fd = root.make_plain(self.target) if plain else root.make(self.target, directory=True)
        try:
            _keep_proc(self.target, target_fd, self.fd)
            root.attach(self.fd, target_fd)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.target) from None
        finally:
            os.close(target_fd)


class RootReadOnly:
    """The root file system itself; volumes and tmpfs on it stay writable."""

    __slots__ = ()

    def describe(self) -> str:
        return "read-only /"

    def open(self, shared: bool) -> None:
        """Nothing comes from the host."""

    def apply(self, root: Root) -> None:
        mount_setattr(root.fd, add=MOUNT_ATTR_RDONLY)


def plan(
    spec: dict[str, Any], cgroups: list[Step], trees: dict[str, int] | None = None, *, dev: bool = True
) -> list[Step]:
    """Everything to do below an attached root file system.

    Args:
        spec: an OCI runtime-spec config, or one part of it (see `scow.runtime.prepare.split`).
        cgroups: the steps that stand for the mount of type "cgroup", if the spec has one.
        trees: target → descriptor of what was made ahead and has its place in the order of the mounts.
        dev: /dev is to have the nodes and links of every container.

    Raises:
        InvalidArgument: an option or device nobody can apply.
    Source: runtime-spec 1.2 config.md "Mounts", config-linux.md "Devices", "Masked Paths", "Readonly Paths".
    """
    linux = spec.get("linux") or {}
    mounts = spec.get("mounts") or []
    steps: list[Step] = []
    for mount in mounts:
        words = list(mount.get("options") or [])
        kind, target, source = mount.get("type") or "", clean(mount["destination"]), mount.get("source") or ""
        if kind is TREE:
            steps.append(Tree(target, (trees or {})[target]))
        elif kind in ("cgroup", "cgroup2"):
            steps += cgroups
        elif is_bind(mount):
            words = words if "rbind" in words or "bind" in words else [*words, "rbind"]
            steps.append(Bind(source, target, words, mount.get(INSIDE) or ""))
        else:
            steps.append(FileSystem(kind, source or kind, target, words))
    if not any(isinstance(step, Bind) and step.target == DEV for step in steps):
        steps += _nodes(linux.get("devices") or [], dev)
    steps += [Mask(clean(path)) for path in linux.get("maskedPaths") or []]
    steps += [ReadOnly(clean(path)) for path in linux.get("readonlyPaths") or []]
    if (spec.get("root") or {}).get("readonly"):
        steps.append(RootReadOnly())
    return steps


def is_bind(mount: dict[str, Any]) -> bool:
    """Whether the spec's mount binds a part of the host's tree, by its type or by its options."""
    words = mount.get("options") or []
    return (mount.get("type") or "") in ("bind", "none", "") or "bind" in words or "rbind" in words


def _nodes(devices: list[dict[str, Any]], dev: bool) -> list[Step]:
    """One step per folder that gets device nodes; /dev first (if `dev`), with the links every container has."""
    folders: dict[str, list[tuple[str, int, int, int, int, int]]] = {DEV: []} if dev else {}
    for device in devices:
        folder, _, name = clean(device["path"]).rpartition("/")
        if not name or name == "..":
            raise InvalidArgument(f"invalid device path {device['path']!r}: name a file below /dev")
        kind = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}.get(device.get("type", "c"))
        if kind is None:
            raise InvalidArgument(f"invalid type {device['type']!r} of device {device['path']}: use c, b or p")
        folders.setdefault(folder or "/", []).append(
            (
                name,
                kind | device.get("fileMode", 0o666),
                device.get("major", 0),
                device.get("minor", 0),
                device.get("uid", 0),
                device.get("gid", 0),
            )
        )
    if dev:
        taken = {name for name, *_ in folders[DEV]}
        folders[DEV] += [
            (name, stat.S_IFCHR | 0o666, major, minor, 0, 0)
            for name, major, minor in DEFAULT_DEVICES
            if name not in taken
        ]
    return [Nodes(folder, nodes, list(DEV_LINKS) if dev and folder == DEV else []) for folder, nodes in folders.items()]


def clean(path: str) -> str:
    """`path` made absolute, without doubled slashes; ".." stays, the kernel resolves it inside the root."""
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


class Seal:
    """Make a mount made earlier read-only, now that everything is in it."""

    __slots__ = ("target",)

    def __init__(self, target: str) -> None:
        self.target = target

    def describe(self) -> str:
        return f"seal {self.target}"

    def open(self, shared: bool) -> None:
        """Nothing comes from the host."""

    def apply(self, root: Root) -> None:
        target_fd = root.make(self.target, directory=True)
        try:
            mount_setattr(target_fd, add=MOUNT_ATTR_RDONLY)
        finally:
            os.close(target_fd)


def cgroup_steps(mount: dict[str, Any], groups: list[ContainerMount], unified: str | None, private: bool) -> list[Step]:
    """What the spec's mount of type "cgroup" means on this host.

    v1 and hybrid: a tmpfs with a bind of the container's own group of every hierarchy. v2: the file system itself,
    whose root is the group the cgroup namespace was made in; without such a namespace a bind of the host's.

    Args:
        groups: the container's v1 groups; empty on a v2 host.
        unified: where the v2 hierarchy is mounted on the host.
        private: the container has a cgroup namespace of its own.
    """
    target, words = clean(mount["destination"]), list(mount.get("options") or [])
    flags = [word for word in words if word in _ATTRIBUTES]
    if not groups:
        if unified is None:
            return []
        return [FileSystem("cgroup2", "cgroup", target, flags) if private else Bind(unified, target, ["rbind", *flags])]
    writable = [word for word in flags if word != "ro"]
    steps: list[Step] = [FileSystem("tmpfs", "tmpfs", target, [*writable, "mode=755", "size=64k"])]
    steps += [Bind(group.source, f"{target}/{group.name}", ["bind", *flags]) for group in groups]
    links = [(link, group.name) for group in groups for link in group.links]
    if links:
        steps.append(Nodes(target, [], links))
    if "ro" in flags:
        steps.append(Seal(target))
    return steps
