"""What the daemon and the keeper say to each other over ``keeper.sock``: packets as in `scow.shim.protocol`.

::

    daemon                                           keeper
    (socketpair inherited, or connected)        ◀──  {"event": "keeper", "pid": …, "code": …}
    {"do": "shim", …} + control, root, … sockets ──▶ forks; the shim answers on its control socket
    {"do": "pool", "most", "rate", "first"}      ──▶ keeps sandboxes ready, see `scow.keeper.pool`
    {"n": 1, "do": "count"}                      ──▶ {"n": 1, "ready", "wanted", "most"}
    {"do": "end"}                                ──▶ exits; shims stay

The keeper answers nothing else: a control socket that closes without a word means no shim came of it.
"""

import os
import sys

SOCKET_NAME = "keeper.sock"
LOCK_NAME = "keeper.lock"
LOG_NAME = "keeper.log"

#: Rooms whose code is in the keeper's memory.
_ROOMS = ("keeper", "shim", "runtime", "logs", "linux")


def package_folder() -> str:
    """The folder the package ``scow`` lies in."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def code() -> str:
    """A text that differs when the keeper's code or interpreter does: an upgraded daemon wants a keeper of its own."""
    folder = package_folder()
    stamps = []
    for room in _ROOMS:
        with os.scandir(f"{folder}/scow/{room}") as entries:
            stamps += [entry.stat().st_mtime_ns for entry in entries if entry.name.endswith(".py")]
    return f"{sys.version_info[:3]} {folder} {max(stamps)} {len(stamps)}"
