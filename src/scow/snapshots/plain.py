"""The fallback snapshotter: every snapshot is a whole tree, copied from its parent.

For file systems overlayfs cannot write on (some network and nested ones). Slow and large, but needs nothing of the
kernel but mounts.
"""

import os
import stat

from scow.errors import System
from scow.linux.mount import MOUNT_ATTR_RDONLY, clone_tree, mount_setattr
from scow.snapshots.copyup import copy_entry, copy_metadata
from scow.snapshots.overlay import copy_root
from scow.snapshots.snapshotter import ACTIVE, SnapshotInfo
from scow.snapshots.store import SnapshotStore

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class PlainSnapshotter(SnapshotStore):
    """`Snapshotter` by copying."""

    driver = "vfs"
    merged = True

    def mount(self, key_or_name: str, readonly: bool = False) -> int:
        """See `Snapshotter.mount`: a bind of the tree."""
        try:
            mount_fd = clone_tree(os.fspath(self.upper(key_or_name)))
            if readonly or self.info(key_or_name).kind != ACTIVE:
                mount_setattr(mount_fd, add=MOUNT_ATTR_RDONLY)
        except OSError as error:
            raise System(f"cannot mount snapshot {key_or_name}: {error}") from error
        return mount_fd

    def details(self, key_or_name: str) -> dict[str, str]:
        """See `Snapshotter.details`: Docker's vfs driver has none."""
        self.info(key_or_name)
        return {}

    def _fill(self, made: str, info: SnapshotInfo) -> None:
        if info.parent is not None:
            copy_tree(os.fspath(self.upper(info.parent)), os.path.join(made, "fs"))


def copy_tree(source: str, target: str) -> None:
    """Copy the tree `source` into the empty folder `target`: owners, modes, attributes, times, hard links and holes."""
    links: dict[tuple[int, int], str] = {}
    folders: list[str] = []
    pending = [""]
    root_fd = os.open(target, _FOLDER)
    try:
        while pending:
            path = pending.pop()
            folders.append(path)
            source_fd = os.open(os.path.join(source, path), _FOLDER)
            target_fd = os.open(path or ".", _FOLDER, dir_fd=root_fd)
            try:
                for name in os.listdir(source_fd):
                    info = os.stat(name, dir_fd=source_fd, follow_symlinks=False)
                    inside = os.path.join(path, name)
                    if stat.S_ISDIR(info.st_mode):
                        os.mkdir(name, 0o700, dir_fd=target_fd)
                        pending.append(inside)
                        continue
                    if stat.S_ISSOCK(info.st_mode):
                        continue
                    first = links.setdefault((info.st_dev, info.st_ino), inside) if info.st_nlink > 1 else inside
                    if first != inside:
                        os.link(first, name, src_dir_fd=root_fd, dst_dir_fd=target_fd, follow_symlinks=False)
                    else:
                        copy_entry(source_fd, target_fd, name, info)
            finally:
                os.close(source_fd)
                os.close(target_fd)
        for path in reversed(folders[1:]):
            above, name = os.path.split(path)
            here = os.path.join(source, path)
            target_fd = os.open(above or ".", _FOLDER, dir_fd=root_fd)
            try:
                copy_metadata(here, target_fd, name, os.lstat(here))
            finally:
                os.close(target_fd)
    finally:
        os.close(root_fd)
    copy_root(source, target)
