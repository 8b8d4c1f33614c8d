"""The container's terminal: a pair from its own devpts, the slave also as /dev/console.

Neither side is opened by a path in the container's control: the folder by descriptor, the slave from the master.
"""

import errno
import os

from scow.linux import pty
from scow.linux.fds import open_in_root
from scow.linux.mount import clone_tree
from scow.runtime.apply import Root
from scow.runtime.sync import Channel

_DEVPTS = "/dev/pts"
_CONSOLE = "/dev/console"


def open_terminal(root_fd: int, channel: Channel, size: tuple[int, int] | None) -> int:
    """The slave of a new terminal of the container whose root is `root_fd`; the master goes out over `channel`.

    Args:
        size: (rows, columns), or None to leave it unset.

    Raises:
        OSError: the container has no devpts.
    """
    try:
        directory_fd = open_in_root(root_fd, _DEVPTS, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        raise OSError(errno.ENODEV, "no terminals in this container: it has no devpts mounted", _DEVPTS) from None
    try:
        master, slave = pty.open_pair(directory_fd)
    finally:
        os.close(directory_fd)
    if size is not None and size[0] and size[1]:
        pty.resize(master, *size)
    channel.send({"at": "terminal"}, [master])
    os.close(master)
    return slave


def mount_console(root: Root, slave: int) -> None:
    """Show the slave as /dev/console, where programs that start systems look for it."""
    target_fd = root.make(_CONSOLE, directory=False)
    try:
        mount_fd = clone_tree(slave)
        try:
            root.attach(mount_fd, target_fd)
        finally:
            os.close(mount_fd)
    finally:
        os.close(target_fd)


def console_size(process: dict[str, object]) -> tuple[int, int] | None:
    """(rows, columns) of the spec's ``consoleSize``."""
    size = process.get("consoleSize")
    if not isinstance(size, dict):
        return None
    return int(size.get("height", 0)), int(size.get("width", 0))
