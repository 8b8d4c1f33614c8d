"""Mount points a RUN needs and the image lacks: the runtime makes them, and they must not stay in the layer.

Before the command runs, `Stubs` notes which parts of each mount point are missing and the times of the folders they
will be made in; afterwards it removes what is still empty and puts the times back. Blocking.
"""

import contextlib
import os
import posixpath
import stat
from collections.abc import Iterable

from scow.linux.fds import open_in_root


class Stubs:
    """The mount points of one command in one root file system."""

    def __init__(self, root_fd: int, targets: Iterable[str]) -> None:
        self._root_fd = root_fd
        self._missing: dict[str, None] = {}  # in the order of making: above before below
        self._times: dict[str, tuple[int, int]] = {}
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
                info = os.fstat(fd)
            finally:
                os.close(fd)
            self._times.setdefault(path, (info.st_atime_ns, info.st_mtime_ns))
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
        for path, times in self._times.items():
            with contextlib.suppress(OSError):
                fd = open_in_root(self._root_fd, path, os.O_PATH)
                try:
                    os.utime(f"/proc/self/fd/{fd}", ns=times)
                finally:
                    os.close(fd)

    def _remove(self, folder_fd: int, name: str) -> None:
        info = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        if stat.S_ISDIR(info.st_mode):
            os.rmdir(name, dir_fd=folder_fd)
        elif stat.S_ISREG(info.st_mode) and info.st_size == 0:
            os.unlink(name, dir_fd=folder_fd)
