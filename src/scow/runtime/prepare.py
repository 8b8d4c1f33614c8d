"""The first phase of a start: what a container is given before anything is known of its image, network and program.

`split` cuts a spec in two; `prepare` does the first part, `scow.runtime.init.finish` the second. The cold path does
both for its own spec. A parked child has done the first for the pool's; a container takes it only if its own first part
`fits`: the first phase reads nothing else, so what it did is what it would have done.

The prepared child has left the host's mounts: its root is an empty tmpfs, on which the trees wait that will be moved to
their places. What is the host's to give (binds, the root file system, sysctls) comes in the second phase, from the
host's mount namespace as it is then, which the child enters for that (`Outside`).
"""

from __future__ import annotations

import os

from scow.linux import cgroup as hierarchies
from scow.linux.capabilities import drop_bounding, mask
from scow.linux.fds import open_in_root
from scow.linux.mount import MOUNT_ATTR_RDONLY, mount_setattr
from scow.linux.namespaces import CLONE_NEWCGROUP, KINDS, open_namespace, setns, unshare
from scow.runtime import process, rootfs
from scow.runtime.apply import Outside, apply, bare_root, leave
from scow.runtime.cgroup import Cgroup, needs_v2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from scow.linux.cgroup import Layout
    from scow.runtime.apply import Root, Step

#: Where a tree may be made ahead, and what it has to be.
_TREES = {"/proc": ("proc",), "/dev": ("tmpfs",), "/sys/fs/cgroup": ("cgroup", "cgroup2")}
#: What may be mounted in such a tree ahead: nothing of these knows of a network (as sysfs does) or of the host.
_AHEAD = frozenset({"proc", "tmpfs", "devpts", "mqueue"})
#: Namespaces that are joined or made in the second phase, or before the fork.
_LATER = frozenset({"network", "pid", "user", "time", "cgroup"})


class Prepared:
    """What the first phase leaves: the bare root with trees on it, by target; the cgroup joined; the bounding set."""

    __slots__ = ("bounding", "group", "nodes", "old_fd", "root", "trees")

    def __init__(self, root: Root, trees: dict[str, int], nodes: bool) -> None:
        self.root = root
        self.trees = trees
        self.nodes = nodes  # those every container has in /dev are made
        self.group: Cgroup | None = None
        self.bounding = -1
        self.old_fd = -1  # the host's root, if it was not left


def split(spec: dict[str, Any], layout: Layout) -> tuple[dict[str, Any], dict[str, Any]]:
    """`spec` in two parts, each shaped like a spec: what can be done ahead, and what is left with the trees in place.

    Pure. A tree takes whatever is mounted in it as long as that is the kernel's own; from the first thing that is not,
    all that follows stays in its old order. On a v2 host the cgroup stays too: a group made ahead could not take the
    container's name, for v2 knows no rename.
    """
    linux = spec.get("linux") or {}
    renames = layout.version == 1 and bool(linux.get("cgroupsPath"))
    ahead, later, complete = _split_mounts(spec.get("mounts") or [], renames)

    def cut(name: str, path: Callable[[Any], str]) -> tuple[list[Any], list[Any]]:
        entries = linux.get(name) or []
        inside = [_tree(rootfs.clean(path(entry))) in complete for entry in entries]
        return (
            [entry for entry, belongs in zip(entries, inside, strict=True) if belongs],
            [entry for entry, belongs in zip(entries, inside, strict=True) if not belongs],
        )

    nodes = "/dev" in complete
    first: dict[str, Any] = {
        "namespaces": sorted((each for each in linux.get("namespaces") or [] if each["type"] != "network"), key=_kind),
        "nodes": nodes,
    }
    second = dict(linux)
    for name, path in (("maskedPaths", str), ("readonlyPaths", str), ("devices", _path)):
        first[name], second[name] = cut(name, path)
    if renames:
        resources = linux.get("resources") or {}
        first["cgroupsPath"] = linux["cgroupsPath"].rpartition("/")[0]
        first["resources"] = {"devices": resources.get("devices") or []}
        first["unified"] = needs_v2(layout, resources)
        second["resources"] = {name: value for name, value in resources.items() if name != "devices"}
    program = spec.get("process") or {}
    begun = {
        "process": {
            "oomScoreAdj": program.get("oomScoreAdj"),
            "bounding": sorted((program.get("capabilities") or {}).get("bounding") or []),
        },
        "mounts": ahead,
        "linux": first,
    }
    return begun, {**spec, "mounts": later, "linux": second}


def _path(device: dict[str, Any]) -> str:
    return str(device["path"])


def _kind(entry: dict[str, Any]) -> str:
    return str(entry["type"])


def _split_mounts(
    mounts: list[dict[str, Any]], renames: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], set[str]]:
    """(those of trees, the others with the trees in their places, trees that nothing foreign is mounted in)."""
    ahead: list[dict[str, Any]] = []
    later: list[dict[str, Any]] = []
    state: dict[str, bool] = {}  # tree → still to be added to
    targets = [rootfs.clean(mount["destination"]) for mount in mounts]
    # A path that climbs, or covers everything, could be anywhere: such a spec is followed to the letter.
    followed = any(target == "/" or ".." in target.split("/") for target in targets)
    for mount, target in zip(mounts, targets, strict=True):
        tree = "" if followed else _tree(target)
        if target == tree and tree not in state and _begins(mount, tree, renames):
            state[tree] = True
            ahead.append(mount)
            later.append({"destination": tree, "type": rootfs.TREE})
        elif tree and target != tree and state.get(tree) and mount.get("type") in _AHEAD and not rootfs.is_bind(mount):
            ahead.append(mount)
        else:
            state[tree] = False
            later.append(mount)
    return ahead, later, {tree for tree, complete in state.items() if complete}


def _tree(path: str) -> str:
    """The tree `path` is in, "" if in none or if it climbs."""
    if ".." in path.split("/"):
        return ""
    for tree in _TREES:
        if path == tree or path.startswith(f"{tree}/"):
            return tree
    return ""


def _begins(mount: dict[str, Any], tree: str, renames: bool) -> bool:
    """Whether `mount` makes the tree, out of nothing and in the same way whatever the image has in its place."""
    kind = mount.get("type") or ""
    if kind not in _TREES[tree] or rootfs.is_bind(mount):
        return False
    if tree == "/dev":
        return any(word.startswith("mode=") for word in mount.get("options") or [])
    return renames or tree == "/proc"


def fits(first: dict[str, Any], done: dict[str, Any]) -> bool:
    """Whether a container whose first part is `first` may take what was prepared for `done`; both from `split`.

    They must be the same, but that the container may want to give up more capabilities: the second phase drops those.
    """
    wanted, had = first["process"]["bounding"], done["process"]["bounding"]
    if wanted != had and not set(wanted) <= set(had):
        return False
    alike = {**first, "process": {**first["process"], "bounding": had}}
    return alike == done


def prepare(first: dict[str, Any], group: str | None, progress: process.Progress, *, stay: bool = False) -> Prepared:
    """Do the first phase, in a child forked for it: `first` is the first part of a spec.

    Args:
        group: path of the cgroup to make and enter, if the first part has one.
        stay: keep the host's mounts in sight, and every capability, for hooks that are run in the child.

    Raises:
        OSError, EngineError: `progress.stage` says at what.
    """
    linux = first["linux"]
    progress.stage = "limits"
    process.score(first["process"])
    progress.stage = "namespaces"
    host_fd = open_namespace("mount")
    take_namespaces({entry["type"]: entry.get("path") or "" for entry in linux["namespaces"]})
    outside = Outside(host_fd, open_namespace("mount"))
    joined = None
    if "cgroupsPath" in linux and group is not None:
        progress.stage = "cgroup"
        joined = Cgroup.create(group, linux["resources"], unified=linux["unified"])
        joined.join_self()
        progress.stage = "namespaces"
        own_cgroups(linux["namespaces"])
    progress.stage = "mount"
    os.umask(0)
    old_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    root = bare_root(outside)
    steps = rootfs.plan(first, cgroup_steps(first, joined), dev=linux["nodes"])
    for step in steps:
        step.open(shared=False)
    apply(steps, root)
    made = {_tree(rootfs.clean(mount["destination"])) for mount in first["mounts"]}
    trees = {tree: open_in_root(root.fd, tree, os.O_PATH) for tree in made}
    mount_setattr(root.fd, add=MOUNT_ATTR_RDONLY)
    prepared = Prepared(root, trees, linux["nodes"])
    prepared.group = joined
    if stay:
        outside.old_fd = prepared.old_fd = old_fd
        return prepared
    leave(root, old_fd)
    os.close(old_fd)
    progress.stage = "capabilities"
    prepared.bounding = mask(first["process"]["bounding"])
    drop_bounding(prepared.bounding)
    return prepared


def take_namespaces(wanted: dict[str, str]) -> None:
    """Join those with a path, then make the others new: mount, uts and ipc.

    The cgroup namespace comes when the cgroup is entered, the network with the container, pid came with the fork.
    """
    fresh = 0
    for kind, path in wanted.items():
        if kind in _LATER and not (kind == "cgroup" and path):
            continue
        if not path:
            fresh |= KINDS[kind][0]
            continue
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        setns(fd, KINDS[kind][0])
        os.close(fd)
    unshare(fresh)


def own_cgroups(namespaces: list[dict[str, Any]]) -> None:
    """A cgroup namespace, if one is wanted: its root is the group one is in now."""
    if any(entry["type"] == "cgroup" and not entry.get("path") for entry in namespaces):
        unshare(CLONE_NEWCGROUP)


def cgroup_steps(part: dict[str, Any], group: Cgroup | None) -> list[Step]:
    """The steps for the cgroup mount of a spec or of one part of it, empty without one."""
    steps: list[Step] = []
    for mount in part.get("mounts") or []:
        if mount.get("type") in ("cgroup", "cgroup2"):
            groups = group.mounts_for_container() if group is not None else []
            private = any(
                entry["type"] == "cgroup" and not entry.get("path") for entry in part["linux"].get("namespaces") or []
            )
            steps += rootfs.cgroup_steps(
                mount, [each for each in groups if each.kind == "cgroup"], hierarchies.layout().unified, private
            )
    return steps
