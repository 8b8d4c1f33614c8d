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
    pivot_root,
    umount2,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    class Step(Protocol):
        """One entry of a plan."""

        def describe(self) -> str:
            """One line: what is done, where, with which options."""

        def open(self) -> None:
            """Open what comes from the host, before the root file system covers it; most steps need nothing.

            Raises:
                OSError: with the source as its filename.
            """

        def apply(self, root: Root) -> None:
            """Do it.

            Raises:
                OSError: with the mount point as its filename.
            """


class Root:
    """The container's root file system in the making; `fd` is its mount, `old_fd` the root we come from."""

    __slots__ = ("fd", "old_fd")

    def __init__(self, fd: int, old_fd: int) -> None:
        self.fd = fd
        self.old_fd = old_fd

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


def attach_root(source: int | str, plan: Iterable[Step], shared: bool = False) -> Root:
    """Hang the root file system into this (private) mount namespace, after every step has opened its source.

    Sources come first because "/" itself may be one, and must not contain the container.

    Args:
        source: a detached mount, or the path of a folder.
        shared: leave the host's mounts as they are, for binds that propagate both ways; else they become slaves, which
            see the host's changes but make none.
    """
    old_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if not shared:
        mount_setattr("/", propagation=MS_SLAVE, recursive=True)
    fd = clone_tree(source, recursive=True) if isinstance(source, str) else source
    mount_setattr(fd, propagation=MS_PRIVATE, recursive=True)
    for step in plan:
        step.open()
    # A mount attached to a shared one would show up in every peer of it, the host first of all.
    mount_setattr("/", propagation=MS_PRIVATE)
    move_mount(fd, "/")
    return Root(fd, old_fd)


def apply(plan: Iterable[Step], root: Root) -> None:
    """Put every step into force, in order.

    Raises:
        OSError: of the first step that failed; the namespace is to be thrown away.
    """
    for step in plan:
        step.apply(root)


def pivot(root: Root, shared: bool = False) -> None:
    """Make `root` the root of this process and let go of the old one; `root.fd` and `root.old_fd` are closed.

    Args:
        shared: the old root's mounts may still propagate to the host: taking them down must not.
    """
    os.fchdir(root.fd)
    pivot_root(".", ".")
    os.fchdir(root.old_fd)
    if shared:
        mount_setattr(".", propagation=MS_SLAVE, recursive=True)
    umount2(".", MNT_DETACH)
    os.chdir("/")
    os.close(root.fd)
    os.close(root.old_fd)


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
