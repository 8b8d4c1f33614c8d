"""Mount points a RUN needs and the image lacks: the runtime makes them, and they must not stay in the layer.

Before the command runs, `Stubs` notes which parts of each mount point are missing and what the folders they will be
made in look like; afterwards it removes what is still empty and puts the folders' times back. An overlay has by then
copied those folders up, and would store them as changed: `tidy` takes the copies away. Blocking.
"""

import contextlib
import os
import posixpath
import stat
from collections.abc import Iterable
from pathlib import Path

from scow.linux.fds import open_in_root


class Stubs:
    """The mount points of one command in one root file system."""

    def __init__(self, root_fd: int, targets: Iterable[str]) -> None:
        self._root_fd = root_fd
        self._missing: dict[str, None] = {}  # in the order of making: above before below
        self._before: dict[str, os.stat_result] = {}
        for target in targets:
            self._note(posixpath.normpath("/" + target.lstrip("/")))

    def _note(self, path: str) -> None:
        missing = []
        while path != "/":
            try:
                fd = open_in_root(self._root_fd, path, os.O_PATH)
            except (FileNotFoundError, NotADirectoryError):
                missing.append(path)
                path = posixpath.dirname(path)
                continue
            except OSError:
                return  # a loop of links: the runtime will say so
            os.close(fd)
            break
        if not missing:
            return
        with contextlib.suppress(OSError):
            fd = open_in_root(self._root_fd, path, os.O_PATH)
            try:
                self._before.setdefault(path, os.fstat(fd))
            finally:
                os.close(fd)
        for part in reversed(missing):
            self._missing.setdefault(part)

    def clean(self) -> None:
        """Remove what was made and is still empty; what the command put something into stays."""
        for path in reversed(self._missing):
            folder, name = posixpath.split(path)
            with contextlib.suppress(OSError):
                fd = open_in_root(self._root_fd, folder, os.O_PATH | os.O_DIRECTORY)
                try:
                    self._remove(fd, name)
                finally:
                    os.close(fd)
        for path, info in self._before.items():
            with contextlib.suppress(OSError):
                fd = open_in_root(self._root_fd, path, os.O_PATH)
                try:
                    os.utime(f"/proc/self/fd/{fd}", ns=(info.st_atime_ns, info.st_mtime_ns))
                finally:
                    os.close(fd)

    def _remove(self, folder_fd: int, name: str) -> None:
        info = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        if stat.S_ISDIR(info.st_mode):
            os.rmdir(name, dir_fd=folder_fd)
        elif stat.S_ISREG(info.st_mode) and info.st_size == 0:
            os.unlink(name, dir_fd=folder_fd)

    def tidy(self, upper: Path) -> None:
        """Remove the empty copies of unchanged folders from an overlay's own directory, which is not mounted now."""
        root_fd = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for path, before in sorted(self._before.items(), reverse=True):
                if path != "/":
                    with contextlib.suppress(OSError):
                        _remove_copy(root_fd, path, before)
        finally:
            os.close(root_fd)


def _remove_copy(root_fd: int, path: str, before: os.stat_result) -> None:
    """Remove the folder if it is empty and says no more than the one below does."""
    folder, name = posixpath.split(path)
    fd = open_in_root(root_fd, folder, os.O_PATH | os.O_DIRECTORY)
    try:
        now = os.stat(name, dir_fd=fd, follow_symlinks=False)
        same = (now.st_mode, now.st_uid, now.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
        # An attribute of overlayfs's own may say that nothing of the folder below shines through.
        if same and not os.listxattr(f"/proc/self/fd/{fd}/{name}", follow_symlinks=False):
            os.rmdir(name, dir_fd=fd)
    finally:
        os.close(fd)
