"""Start ``scowd`` when nothing listens at the default socket, and wait for its word that it does.

Only for root, only where nobody named a host, and not when ``SCOW_AUTOSTART=0``. The daemon gets a session of its
own, its output goes to ``<exec-root>/scowd.log``; readiness is one byte on a pipe (``--ready-fd``), failure its end.
"""

import os

from scow.cli.console import Console
from scow.cli.programs import command
from scow.errors import System

EXEC_ROOT = "/run/scow"
LOG = f"{EXEC_ROOT}/scowd.log"
TAIL = 2000


def start(console: Console) -> bool:
    """Start the daemon; False when that is not ours to do.

    Raises:
        System: it was started and failed; the sentence carries the end of its log.
    """
    if os.environ.get("SCOW_AUTOSTART") == "0" or os.geteuid() != 0:
        return False
    os.makedirs(EXEC_ROOT, mode=0o711, exist_ok=True)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    begin = os.fstat(log).st_size
    try:
        pid = _spawn(log, writer)
    finally:
        os.close(writer)
        os.close(log)
    try:
        ready = os.read(reader, 1)
    finally:
        os.close(reader)
    if not ready:
        raise System(f"the engine (scowd) could not be started; its log {LOG} ends with:\n{_tail(begin)}")
    console.error(f"scow: started the engine (scowd, pid {pid}); SCOW_AUTOSTART=0 turns this off")
    return True


def _spawn(log: int, writer: int) -> int:
    """A process in a session of its own with the pipe's end under number 3; returns its pid."""
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    words, environment = command("scow.daemon.main", "--ready-fd", "3")
    actions: list[tuple[int, ...]] = [
        (os.POSIX_SPAWN_DUP2, null, 0),
        (os.POSIX_SPAWN_DUP2, log, 1),
        (os.POSIX_SPAWN_DUP2, log, 2),
        (os.POSIX_SPAWN_DUP2, writer, 3),
    ]
    actions += [(os.POSIX_SPAWN_CLOSE, fd) for fd in _inherited()]
    try:
        return os.posix_spawn(words[0], words, environment, file_actions=actions, setsid=True)
    finally:
        os.close(null)


def _inherited() -> list[int]:
    """Descriptors of our caller that the daemon must not keep open, such as the pipe of a ``$(…)``."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 3 and os.get_inheritable(int(name)):
                found.append(int(name))
        except OSError:  # the descriptor of the list itself
            continue
    return found


def _tail(begin: int) -> str:
    with open(LOG, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(begin, size - TAIL))
        return file.read(TAIL).decode("utf-8", "replace").strip()
