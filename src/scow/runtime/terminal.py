"""The container's terminal: a pair from its own devpts, the slave also as /dev/console.

Neither side is opened by a path in the container's control: the folder by descriptor, the slave from the master.
"""

import errno
import os
import select
import socket
import termios
import tty

from scow.fileio import write_all
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


def hand_over(path: str, master_fd: int) -> None:
    """Send a terminal's master to the UNIX socket at `path` (the OCI command line's ``--console-socket``).

    Raises:
        OSError: nobody listens there.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as console:
        console.connect(path)
        socket.send_fds(console, [b"/dev/ptmx"], [master_fd])


def proxy(master_fd: int) -> None:
    """Copy between this process's terminal and the container's until the container's side ends.

    The caller's terminal is raw meanwhile, and its size is passed on.
    """
    before = termios.tcgetattr(0) if os.isatty(0) else None
    if before is not None:
        tty.setraw(0)
        columns, rows = os.get_terminal_size(0)
        pty.resize(master_fd, rows, columns)
    try:
        _copy(master_fd)
    finally:
        if before is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, before)


def _copy(master_fd: int) -> None:
    sources = [0, master_fd]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if master_fd in ready:
            try:
                data = os.read(master_fd, 1 << 16)
            except OSError as error:
                if error.errno != errno.EIO:  # the other side is closed
                    raise
                return
            write_all(1, data)
        if 0 in ready:
            data = os.read(0, 1 << 16)
            if data:
                write_all(master_fd, data)
            else:
                sources.remove(0)


def console_size(process: dict[str, object]) -> tuple[int, int] | None:
    """(rows, columns) of the spec's ``consoleSize``."""
    size = process.get("consoleSize")
    if not isinstance(size, dict):
        return None
    return int(size.get("height", 0)), int(size.get("width", 0))
