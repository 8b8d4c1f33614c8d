"""The mount calls: detached mounts by descriptor (fsopen, open_tree, move_mount) and the few old ones still needed.

Every function returns or takes descriptors with close-on-exec set; the caller owns what is returned. Errors are
`OSError` whose filename names the file system or path; for fsopen contexts its text carries the kernel's own words.
"""

import contextlib
import os
import struct
from collections.abc import Iterable

from scow.linux.constants import AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE
from scow.linux.syscall import filled, syscall

# mount(2)
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

# umount2(2)
MNT_FORCE = 1
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

# open_tree(2)
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC

# move_mount(2)
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40

# fsmount(2), mount_setattr(2)
MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x00
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

# fsconfig(2)
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6
FSCONFIG_CMD_RECONFIGURE = 7

_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FS_MESSAGE_SIZE = 4096


def open_tree(source: str | int, flags: int = 0) -> int:
    """A descriptor of the mount at `source` (path or descriptor); with OPEN_TREE_CLONE a detached copy of it.

    Args:
        flags: OPEN_TREE_CLONE, AT_RECURSIVE (with the mounts below), AT_SYMLINK_NOFOLLOW.
    """
    if isinstance(source, int):
        return syscall("open_tree", source, b"", flags | AT_EMPTY_PATH | OPEN_TREE_CLOEXEC, what=f"fd {source}")
    return syscall("open_tree", AT_FDCWD, os.fsencode(source), flags | OPEN_TREE_CLOEXEC, what=source)


def clone_tree(source: str | int, recursive: bool = False) -> int:
    """A detached copy of the mount (or the part of it) at `source`: what a bind mount attaches."""
    return open_tree(source, OPEN_TREE_CLONE | (AT_RECURSIVE if recursive else 0))


def move_mount(mount_fd: int, target: str | int) -> None:
    """Attach the detached mount `mount_fd` at `target` (path or descriptor); the descriptor stays usable."""
    if isinstance(target, int):
        flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
        syscall("move_mount", mount_fd, b"", target, b"", flags, what=f"fd {target}")
    else:
        syscall("move_mount", mount_fd, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH, what=target)


def fsopen(kind: str) -> int:
    """A context for configuring a new file system of type `kind`."""
    return syscall("fsopen", kind.encode(), _FSOPEN_CLOEXEC, what=kind)


def fsconfig(context_fd: int, command: int, key: str | None = None, value: str | int | None = None) -> None:
    """One step of configuring a context; the error's text ends with what the file system had to say."""
    name = None if key is None else key.encode()
    try:
        if isinstance(value, int):
            syscall("fsconfig", context_fd, command, name, None, value, what=key)
        else:
            syscall("fsconfig", context_fd, command, name, None if value is None else os.fsencode(value), 0, what=key)
    except OSError as error:
        said = fs_message(context_fd)
        if said:
            raise OSError(error.errno, f"{error.strerror} ({said})", key) from None
        raise


def fs_message(context_fd: int) -> str:
    """The kernel's words about the last failure on a context; empty if it has none."""
    said = []
    with contextlib.suppress(OSError):  # ENODATA ends the list
        while message := os.read(context_fd, _FS_MESSAGE_SIZE):
            said.append(message.decode("utf-8", "replace").strip())
    return "; ".join(said)


def fsmount(context_fd: int, attributes: int = 0) -> int:
    """A detached mount of a created context, with MOUNT_ATTR_* `attributes`."""
    return syscall("fsmount", context_fd, _FSMOUNT_CLOEXEC, attributes, what="fsmount")


def new_mount(
    kind: str, options: Iterable[tuple[str, str | int | None]] = (), attributes: int = 0, source: str | None = None
) -> int:
    """A detached mount of a new file system.

    Args:
        kind: "proc", "tmpfs", "overlay", …
        options: (name, value): text, a descriptor, or None for a flag without value.
        attributes: MOUNT_ATTR_*.
        source: what the first column of ``mount`` shows; `kind` if None.
    """
    context_fd = fsopen(kind)
    try:
        fsconfig(context_fd, FSCONFIG_SET_STRING, "source", source or kind)
        for name, value in options:
            if value is None:
                fsconfig(context_fd, FSCONFIG_SET_FLAG, name)
            elif isinstance(value, int):
                fsconfig(context_fd, FSCONFIG_SET_FD, name, value)
            else:
                fsconfig(context_fd, FSCONFIG_SET_STRING, name, value)
        fsconfig(context_fd, FSCONFIG_CMD_CREATE)
        return fsmount(context_fd, attributes)
    finally:
        os.close(context_fd)


def mount_setattr(
    target: int | str, *, add: int = 0, remove: int = 0, propagation: int = 0, recursive: bool = False
) -> None:
    """Change a mount's attributes (MOUNT_ATTR_*) and propagation (MS_PRIVATE …) without reading them first."""
    data = filled(struct.pack("=QQQQ", add, remove, propagation, 0))
    flags = AT_RECURSIVE if recursive else 0
    if isinstance(target, int):
        syscall("mount_setattr", target, b"", flags | AT_EMPTY_PATH, data, len(data), what=f"fd {target}")
    else:
        syscall("mount_setattr", AT_FDCWD, os.fsencode(target), flags, data, len(data), what=target)


def mount(source: str | None, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    """The old mount(2), for what the new calls cannot do on older kernels."""
    syscall(
        "mount",
        None if source is None else os.fsencode(source),
        os.fsencode(target),
        None if kind is None else kind.encode(),
        flags,
        None if data is None else os.fsencode(data),
        what=target,
    )


def umount2(target: str, flags: int = 0) -> None:
    """Take down the mount at `target`; MNT_DETACH lets its users finish."""
    syscall("umount2", os.fsencode(target), flags, what=target)


def pivot_root(new_root: str, put_old: str) -> None:
    """Make `new_root` the root of this mount namespace and hang the old one at `put_old`; (".", ".") stacks them."""
    syscall("pivot_root", os.fsencode(new_root), os.fsencode(put_old), what=new_root)
