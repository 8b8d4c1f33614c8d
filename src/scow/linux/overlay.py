"""Overlay mounts made detached: layers in, one mount descriptor out, nothing attached anywhere.

Layers are passed one by one (``lowerdir+``), so neither the 4096-byte limit of mount(2) nor colons in paths matter.
Kernels before 6.8 lack that option; there the mount is made by mount(2) inside a mount namespace of the worker thread
and taken out of it as a detached copy. Layers are then named by descriptor, which is short and free of colons.
"""

import errno
import os
from collections.abc import Sequence

from scow.linux.mount import MOUNT_ATTR_RDONLY, MS_PRIVATE, MS_RDONLY, MS_REC, clone_tree, mount, new_mount
from scow.linux.namespaces import CLONE_FS, CLONE_NEWNS, open_namespace, setns, unshare

#: overlayfs's own limit on stacked layers.
MAX_LAYERS = 500

#: Set once this kernel has turned out to lack ``lowerdir+``, which spares every other mount a try and a kernel message.
_by_namespace_only = False


def overlay_mount(
    lowers: Sequence[int | str], upper: str | None, work: str | None, readonly: bool = False, volatile: bool = False
) -> int:
    """A detached overlay mount; the caller closes the descriptor.

    Args:
        lowers: read-only layers, the topmost first; paths or directory descriptors of the caller's mount namespace.
        upper, work: the writable layer, both on one file system; None and None for a view (of two lowers
            at least).
        volatile: do not sync the upper layer on unmount (build steps whose result is read back at once).

    Raises:
        OSError: with the kernel's words; a missing layer, a file system that cannot be an upper layer.

    Blocking.
    """
    global _by_namespace_only
    if _by_namespace_only:
        return mount_by_namespace(lowers, upper, work, readonly, volatile)
    options: list[tuple[str, str | int | None]] = [("lowerdir+", _path(lower)) for lower in lowers]
    if upper is not None and work is not None:
        options += [("upperdir", upper), ("workdir", work)]
        if volatile:
            options.append(("volatile", None))
    try:
        return new_mount("overlay", options, MOUNT_ATTR_RDONLY if readonly else 0)
    except OSError as error:
        # Linux 6.5 to 6.7 refuse the option, those before take any and refuse the mount they make of them.
        if error.errno != errno.EINVAL:
            raise
    mount_fd = mount_by_namespace(lowers, upper, work, readonly, volatile)
    _by_namespace_only = True
    return mount_fd


def mount_by_namespace(
    lowers: Sequence[int | str], upper: str | None, work: str | None, readonly: bool = False, volatile: bool = False
) -> int:
    """`overlay_mount` for kernels without ``lowerdir+``: all layers in one option string of at most 4096 bytes."""
    paths = [_real_path(lower) for lower in lowers]
    own_fd = open_namespace("mount")
    try:
        unshare(CLONE_FS | CLONE_NEWNS)
        try:
            mount(None, "/", None, MS_REC | MS_PRIVATE)
            with _Folders() as folders:
                data = "lowerdir=" + ":".join([folders.open(path) for path in paths])
                if upper is not None and work is not None:
                    data += f",upperdir={folders.open(upper)},workdir={folders.open(work)}"
                    if volatile:
                        data += ",volatile"
                os.chdir("/proc/self/fd")  # of this thread, since CLONE_FS
                mount("overlay", "/", "overlay", MS_RDONLY if readonly else 0, data)
            # "/" still means the old root to us; ".." of the new one is itself, so the copy is taken through "/..".
            return clone_tree("/..")
        finally:
            setns(own_fd, CLONE_NEWNS)
    finally:
        os.close(own_fd)


class _Folders:
    """Folders held open; each is known by its descriptor's number, the name it has in /proc/self/fd."""

    def __init__(self) -> None:
        self._fds: list[int] = []

    def __enter__(self) -> "_Folders":
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._fds:
            os.close(fd)

    def open(self, path: str) -> str:
        self._fds.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        return str(self._fds[-1])


def _path(lower: int | str) -> str:
    return f"/proc/self/fd/{lower}" if isinstance(lower, int) else lower


def _real_path(lower: int | str) -> str:
    """Inside another mount namespace a descriptor of this one is refused; its path is found again there."""
    return os.readlink(f"/proc/self/fd/{lower}") if isinstance(lower, int) else lower
