"""The default snapshotter: layers stacked by overlayfs, mounted detached (nothing appears in the host's mount table).

``fs`` is the upper directory of an active snapshot and a lower one afterwards; whiteouts are overlayfs's own (a 0:0
character device, trusted.overlay.opaque), so a committed upper directory needs no conversion.
"""

import os
import stat
from pathlib import Path

from scow.errors import System
from scow.linux.mount import MOUNT_ATTR_RDONLY, clone_tree, mount_setattr
from scow.linux.overlay import overlay_mount
from scow.snapshots.copyup import set_xattr, xattrs_of
from scow.snapshots.snapshotter import ACTIVE, SnapshotInfo
from scow.snapshots.store import SnapshotStore


class OverlaySnapshotter(SnapshotStore):
    """`Snapshotter` on overlayfs."""

    driver = "overlay2"
    merged = False

    def mount(self, key_or_name: str, readonly: bool = False) -> int:
        """See `Snapshotter.mount`.

        One layer alone needs no overlay: it is bound. An active snapshot that is only read is the topmost of the
        read-only layers, so that its upper directory is never in two mounts that may write.
        """
        chain = self.chain(key_or_name)
        active = self.info(key_or_name).kind == ACTIVE
        folders = [os.fspath(self.upper(name)) for name in chain]
        try:
            if len(folders) == 1:
                mount_fd = clone_tree(folders[0])
                if readonly or not active:
                    mount_setattr(mount_fd, add=MOUNT_ATTR_RDONLY)
                return mount_fd
            if active and not readonly:
                return overlay_mount(folders[1:], folders[0], os.path.join(self._folder(key_or_name), "work"))
            return overlay_mount(folders, None, None, readonly=True)
        except OSError as error:
            raise System(f"cannot mount snapshot {key_or_name} of {len(folders)} layers: {error}") from error

    def details(self, key_or_name: str) -> dict[str, str]:
        """See `Snapshotter.details`: the keys Docker's overlay2 driver has."""
        uppers = [os.fspath(self.upper(name)) for name in self.chain(key_or_name)]
        found = {"UpperDir": uppers[0], "WorkDir": os.path.join(self._folder(key_or_name), "work")}
        if len(uppers) > 1:
            found["LowerDir"] = ":".join(uppers[1:])
        return found

    def _fill(self, made: str, info: SnapshotInfo) -> None:
        os.mkdir(os.path.join(made, "work"), 0o700)
        if info.parent is not None:
            # The root of the merged tree is the upper directory itself: it must look like the one below.
            copy_root(os.fspath(self.upper(info.parent)), os.path.join(made, "fs"))


def copy_root(source: str, target: str) -> None:
    """Give the folder `target` the owner, mode and attributes of the folder `source`."""
    info = os.stat(source)
    os.chown(target, info.st_uid, info.st_gid)
    os.chmod(target, stat.S_IMODE(info.st_mode))
    for key, value in xattrs_of(source).items():
        set_xattr(target, key, value)
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))


def supported(root: Path) -> bool:
    """Whether overlayfs works with an upper directory on the file system of `root` (an existing folder)."""
    trial = os.path.join(root, "trial")
    _remove_trial(trial)  # of one who was killed over it
    names = ("lower", "upper", "work")
    try:
        for name in names:
            os.makedirs(os.path.join(trial, name), mode=0o700, exist_ok=True)
        os.setxattr(os.path.join(trial, "upper"), "trusted.overlay.opaque", b"n")
        lower, upper, work = (os.path.join(trial, name) for name in names)
        os.close(overlay_mount([lower], upper, work))
    except OSError:
        return False
    else:
        return True
    finally:
        _remove_trial(trial)


def _remove_trial(trial: str) -> None:
    for folder, folders, files in os.walk(trial, topdown=False):
        for name in files:
            os.unlink(os.path.join(folder, name))
        for name in folders:
            os.rmdir(os.path.join(folder, name))
    if os.path.isdir(trial):
        os.rmdir(trial)
