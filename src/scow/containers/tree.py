"""A folder or file as a tar archive: what ``docker cp`` and ``docker export`` send. Blocking.

Everything is opened by the descriptor of its folder and never followed, so a program that swaps files for symlinks
meanwhile leads nowhere else. Of what is mounted below, an export takes nothing and a copy all but kernel file systems.
"""

import os
import stat
from collections.abc import Callable

from scow.linux.fds import file_system
from scow.snapshots.tarwriter import TarWriter
from scow.snapshots.tree import MAX_DEPTH, Links, add_at, entry_at

#: Magic numbers of file systems that hold nobody's files (statfs(2)): proc, sysfs, cgroup, cgroup2, devpts, mqueue,
#: debugfs, tracefs, bpf, securityfs.
KERNEL_FILE_SYSTEMS = frozenset(
    {0x9FA0, 0x62656572, 0x27E0EB, 0x63677270, 0x1CD1, 0x19800202, 0x64626720, 0x74726163, 0xCAFE4A11, 0x73636673}
)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Packer:
    """Writes trees to one archive; `close` ends it."""

    def __init__(self, out: Callable[[bytes], object], *, one_device: bool) -> None:
        self._writer = TarWriter(out)
        self._one_device = one_device
        self._links: Links = {}

    def add(self, folder_fd: int, name: str, shown: str) -> None:
        """Append `name` of the folder ("." for the folder itself) as `shown`, with everything below it."""
        info = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        self._append(folder_fd, name, shown, info)
        if stat.S_ISDIR(info.st_mode):
            self._below(folder_fd, name, shown, info.st_dev, 0)

    def add_content(self, folder_fd: int) -> None:
        """Append everything in the folder, not the folder itself."""
        self._below(folder_fd, ".", "", os.fstat(folder_fd).st_dev, 0)

    def _append(self, folder_fd: int, name: str, shown: str, info: os.stat_result) -> None:
        entry = entry_at(folder_fd, name, shown, info, self._links)
        if entry is not None:
            add_at(self._writer, folder_fd, name, entry, info)

    def _below(self, folder_fd: int, name: str, shown: str, device: int, depth: int) -> None:
        fd = os.open(name, _FOLDER, dir_fd=folder_fd)
        try:
            here = os.fstat(fd).st_dev
            if depth >= MAX_DEPTH or (here != device and (self._one_device or file_system(fd) in KERNEL_FILE_SYSTEMS)):
                return
            for child in sorted(os.listdir(fd), key=os.fsencode):
                path = f"{shown}/{child}" if shown else child
                try:
                    info = os.stat(child, dir_fd=fd, follow_symlinks=False)
                    self._append(fd, child, path, info)
                    if stat.S_ISDIR(info.st_mode):
                        self._below(fd, child, path, here, depth + 1)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # removed by the running program meanwhile
        finally:
            os.close(fd)

    def close(self) -> None:
        """Write the end of the archive."""
        self._writer.close()
