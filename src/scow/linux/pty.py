"""Pseudo terminals by descriptor: the slave is opened from the master (TIOCGPTPEER), never by a path."""

import errno
import fcntl
import os
import stat
import struct
import termios

from scow.linux.constants import DEVPTS_SUPER_MAGIC
from scow.linux.fds import RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, file_system, openat2

_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441
_PTMX = os.makedev(5, 2)


def open_pair(directory_fd: int) -> tuple[int, int]:
    """(master, slave) from the devpts mounted at `directory_fd`.

    Raises:
        OSError: ENODEV, the folder holds something that only looks like a devpts.
    """
    master = openat2(directory_fd, "ptmx", os.O_RDWR | os.O_NOCTTY, 0, RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
    try:
        status = os.fstat(master)
        genuine = stat.S_ISCHR(status.st_mode) and status.st_rdev == _PTMX
        if not genuine or file_system(master) != DEVPTS_SUPER_MAGIC:
            raise OSError(errno.ENODEV, "not a pseudo terminal multiplexer", "/dev/pts/ptmx")
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("=i", 0))
        return master, fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        os.close(master)
        raise


def resize(fd: int, rows: int, columns: int) -> None:
    """Tell the terminal its size in characters; its foreground group gets SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("=HHHH", min(rows, 65535), min(columns, 65535), 0, 0))


def make_controlling(slave_fd: int) -> None:
    """Make `slave_fd` the controlling terminal of this process, which must lead its session."""
    fcntl.ioctl(slave_fd, termios.TIOCSCTTY, 0)
