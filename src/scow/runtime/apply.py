"""Putting a plan of mounts into force below a root that may have been filled by somebody hostile.

`Root` is that root by descriptor. Every target is opened with `scow.linux.fds` (links stay inside, magic links are
refused) and mounts are attached to the opened descriptor: nothing a path means can change between looking and mounting.
"""

from __future__ import annotations

import errno
import os
import stat

from scow.linux.constants import PROC_SUPER_MAGIC
from scow.linux.fds import RESOLVE_NO_SYMLINKS, create_in_root, file_system, open_in_root, openat2
from scow.linux.mount import (
    MNT_DETACH,
    MS_PRIVATE,
    MS_SLAVE,
    clone_tree,
    mount_setattr,
    move_mount,
    new_mount,
    pivot_root,
    umount2,
)
from scow.linux.namespaces import CLONE_NEWNS, setns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    class Step(Protocol):
        """One entry of a plan."""

        def describe(self) -> str:
            """One line: what is done, where, with which options."""

        def open(self, shared: bool) -> None:
            """Open what comes from the host, among whose mounts this process is now; most steps need nothing.

            Args:
                shared: mounts made in it may show up on the host, for binds that propagate both ways.

            Raises:
                OSError: with the source as its filename.
            """

        def apply(self, root: Root) -> None:
            """Do it.

            Raises:
                OSError: with the mount point as its filename.
            """


#: Name of the null device on a bare root.
_NULL = "null"


class Outside:
    """The host's mounts, for a child that has left them: inside ``with`` this process sees them as they are now.

    `host_fd` and `own_fd` are mount namespaces; `old_fd` is the root to come back to where that is not the topmost
    mount of the own namespace (-1 where it is).
    """

    __slots__ = ("host_fd", "old_fd", "own_fd")

    def __init__(self, host_fd: int, own_fd: int, old_fd: int = -1) -> None:
        self.host_fd = host_fd
        self.own_fd = own_fd
        self.old_fd = old_fd

    def __enter__(self) -> None:
        setns(self.host_fd, CLONE_NEWNS)

    def __exit__(self, *_: object) -> None:
        setns(self.own_fd, CLONE_NEWNS)
        if self.old_fd >= 0:
            os.fchdir(self.old_fd)
            os.chroot(".")


class Root:
    """A root file system in the making; `fd` is its mount, `null_fd` the node that masked files look like."""

    __slots__ = ("fd", "null_fd", "outside")

    def __init__(self, fd: int, null_fd: int, outside: Outside) -> None:
        self.fd = fd
        self.null_fd = null_fd
        self.outside = outside

    def find(self, path: str) -> int | None:
        """An O_PATH descriptor of what is at `path`, None if nothing is."""
        try:
            return open_in_root(self.fd, path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def make(self, path: str, directory: bool) -> int:
        """An O_PATH descriptor of the mount point `path`, made if it is missing."""
        return create_in_root(self.fd, path, directory, 0o755 if directory else 0o644)

    def make_plain(self, path: str) -> int:
        """Like `make`, for a folder no part of which may be a symlink: /proc and /sys must be where they seem to be.

        Raises:
            OSError: ELOOP or ENOTDIR, the image put a link or file there.
        """
        try:
            return openat2(self.fd, path.lstrip("/"), os.O_PATH | os.O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS)
        except FileNotFoundError:
            os.close(create_in_root(self.fd, path, directory=True))
            return openat2(self.fd, path.lstrip("/"), os.O_PATH | os.O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS)
        except OSError as error:
            raise OSError(error.errno, "must be mounted on an ordinary directory", path) from None

    def attach(self, mount_fd: int, target_fd: int) -> None:
        """Attach a detached mount at an opened target."""
        move_mount(mount_fd, target_fd)


def bare_root(outside: Outside) -> Root:
    """Hang an empty tmpfs into this mount namespace, a copy of the host's just made, to prepare trees on.

    The host's mounts become slaves, which see its changes but make none; `leave` lets go of them.
    """
    mount_setattr("/", propagation=MS_SLAVE, recursive=True)
    # A mount attached to a shared one would show up in every peer of it, the host first of all.
    mount_setattr("/", propagation=MS_PRIVATE)
    fd = new_mount("tmpfs", [("mode", "755"), ("size", "64k"), ("nr_inodes", "16")], source="none")
    move_mount(fd, "/")
    try:
        os.mknod(_NULL, stat.S_IFCHR | 0o666, os.makedev(1, 3), dir_fd=fd)
    except PermissionError:  # no CAP_MKNOD, a nested container: the host's own node does as well
        os.close(os.open(_NULL, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=fd))
        null_fd = clone_tree("/dev/null")
        target_fd = open_in_root(fd, _NULL, os.O_PATH)
        move_mount(null_fd, target_fd)
        os.close(target_fd)
        return Root(fd, null_fd, outside)
    return Root(fd, open_in_root(fd, _NULL, os.O_PATH), outside)


def leave(root: Root, old_fd: int) -> None:
    """Make `root` the root of this process and let go of the old one, which is open as `old_fd`, and of all below."""
    os.fchdir(root.fd)
    pivot_root(".", ".")
    os.fchdir(old_fd)
    umount2(".", MNT_DETACH)
    os.chdir("/")


def attach_root(fd: int, bare: Root) -> Root:
    """Hang the container's root file system, the detached mount `fd`, over everything in this mount namespace."""
    mount_setattr(fd, propagation=MS_PRIVATE, recursive=True)
    move_mount(fd, "/")
    return Root(fd, bare.null_fd, bare.outside)


def enter_root(root: Root) -> None:
    """Make `root`, the topmost mount on "/", the root of this process. What it covers is an empty tmpfs."""
    os.fchdir(root.fd)
    os.chroot(".")


def apply(plan: Iterable[Step], root: Root) -> None:
    """Put every step into force, in order.

    Raises:
        OSError: of the first step that failed; the namespace is to be thrown away.
    """
    for step in plan:
        step.apply(root)


def is_directory(fd: int) -> bool:
    """Whether the O_PATH descriptor is of a folder."""
    return stat.S_ISDIR(os.fstat(fd).st_mode)


def require_procfs(fd: int, path: str) -> None:
    """Refuse to write to a /proc that is not the kernel's.

    Raises:
        OSError: EPERM.
    """
    if file_system(fd) != PROC_SUPER_MAGIC:
        raise OSError(errno.EPERM, "not on a proc file system", path)
