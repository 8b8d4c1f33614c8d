"""From a process inside the container to the program: user, limits, capabilities, seccomp, working folder, execve.

Shared by the first process (``init.py``) and by execs (``exec.py``). Order matters and is written in `become`. Runs in
a child forked for it: nothing here is undone, errors end the child.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import errno
import os
import resource
import signal

from scow.linux import seccomp
from scow.linux.capabilities import drop_bounding, mask, set_all, set_sets
from scow.linux.cgroup import write
from scow.linux.constants import PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG
from scow.linux.fds import close_all_but
from scow.linux.proc import prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scow.runtime.sync import Channel

#: Where programs are looked for when the environment has no PATH (Docker's default).
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_UNLIMITED = (1 << 64) - 1
_EVERY = (1 << 64) - 1
#: Descriptors that see any process through to its program.
_ENOUGH_FDS = 256


#: As numbers, and for the C functions themselves: the module around them is made of enumerations.
_RESET = tuple(
    int(number)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGCHLD, signal.SIGTERM)
)


class Progress:
    """What the child is doing, for the message that says why it failed."""

    __slots__ = ("stage",)

    def __init__(self) -> None:
        self.stage = "start"


def reset_signals() -> None:
    """Undo what the interpreter, the keeper and the shim did: ignored signals would stay ignored after execve."""
    signal.set_wakeup_fd(-1)
    for number in _RESET:
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def outlive_parent() -> None:
    """From here on the process is the container's: it goes on under whoever takes it up."""
    prctl(PR_SET_PDEATHSIG, 0)


def limit(process: dict[str, Any]) -> None:
    """Resource limits, but for one on descriptors that is too low for what is still to be done: see `execute`.

    Raises:
        OSError: a limit beyond what this process may give.
    """
    for entry in process.get("rlimits") or []:
        if not _starves(entry):
            _set_limit(entry)


def _starves(entry: dict[str, Any]) -> bool:
    """Whether setting this limit would keep us from getting the program to run."""
    return bool(entry["type"] == "RLIMIT_NOFILE" and 0 <= entry["soft"] < _ENOUGH_FDS)


def _set_limit(entry: dict[str, Any]) -> None:
    number = getattr(resource, entry["type"])
    try:
        resource.setrlimit(number, (_rlimit(entry["soft"]), _rlimit(entry["hard"])))
    except ValueError as error:
        raise OSError(errno.EPERM, f"{error}", entry["type"]) from None


def score(process: dict[str, Any]) -> None:
    """The out-of-memory score; needs the host's /proc.

    Raises:
        OSError: a score below the one this process has, without the right to it.
    """
    wanted = process.get("oomScoreAdj")
    if wanted is not None:
        write("/proc/self/oom_score_adj", str(wanted))


def _rlimit(value: int) -> int:
    """Unlimited is all ones in the spec, -1 in some clients, and the platform's own constant to setrlimit."""
    return resource.RLIM_INFINITY if value in (-1, _UNLIMITED) else value


def take_stdio(stdio: tuple[int, int, int], uid: int) -> None:
    """Make `stdio` descriptors 0 to 2, owned by the user so that /dev/stdout can be opened anew."""
    for number, fd in enumerate(stdio):
        if os.fstat(fd).st_rdev == 0 or os.isatty(fd):
            try:
                os.fchown(fd, uid, -1)
            except OSError as error:
                if error.errno not in (errno.EROFS, errno.EPERM, errno.EINVAL):
                    raise
        os.dup2(fd, number)


def become(
    process: dict[str, Any],
    filter_program: bytes | None,
    permitted: int,
    channel: Channel,
    progress: Progress,
    bounded: int = -1,
) -> None:
    """Give up everything the program is not to have; afterwards only `channel` and stdio are open.

    The filter goes in before the capabilities go out unless no_new_privs is set: loading it takes CAP_SYS_ADMIN.

    Args:
        permitted: capabilities this process holds; the spec's others are left out, as Docker does.
        bounded: capabilities its bounding set still has.

    Raises:
        OSError: with `progress.stage` saying where.
    """
    user = process.get("user") or {}
    close_all_but({channel.socket.fileno()})
    os.umask(user.get("umask", 0o022))
    wanted = process.get("capabilities") or {}
    masks: dict[tuple[str, ...], int] = {(): 0}
    bounding, effective, allowed, inheritable, ambient = (
        _mask(tuple(wanted.get(kind) or ()), masks) & permitted
        for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")
    )
    progress.stage = "cwd"
    folder = process.get("cwd") or "/"
    entered = _chdir(folder, forgive=True)
    progress.stage = "capabilities"
    drop_bounding(bounding, bounded)
    only_safe = bool(process.get("noNewPrivileges"))
    if only_safe:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
    elif filter_program:
        progress.stage = "seccomp"
        seccomp.load(filter_program)
    progress.stage = "user"
    take_user(user)
    progress.stage = "capabilities"
    # The bounding set was cut above, while CAP_SETPCAP was there; the ambient set is empty to begin with.
    if ambient:
        set_all(_EVERY, effective, allowed, inheritable, ambient)
    else:
        set_sets(effective, allowed, inheritable)
    if not entered:
        progress.stage = "cwd"
        _chdir(folder, forgive=False)
    if only_safe and filter_program:
        progress.stage = "seccomp"
        seccomp.load(filter_program)


def _mask(names: tuple[str, ...], known: dict[tuple[str, ...], int]) -> int:
    """`mask`, worked out once for sets that are alike, as they mostly are."""
    if names not in known:
        known[names] = mask(names)
    return known[names]


def take_user(user: dict[str, Any]) -> None:
    """Become uid, gid and additionalGids, keeping the permitted capabilities for the moment."""
    uid, gid = int(user.get("uid", 0)), int(user.get("gid", 0))
    prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([int(group) for group in user.get("additionalGids") or []])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    prctl(PR_SET_KEEPCAPS, 0)


def _chdir(folder: str, forgive: bool) -> bool:
    """Enter `folder`; with `forgive` a refusal to root is not final (a network file system knows the user only)."""
    try:
        os.chdir(folder)
    except PermissionError:
        if forgive:
            return False
        raise
    if not os.getcwd().startswith("/"):
        raise OSError(errno.ENOENT, "the folder is outside of the container", folder)
    return True


def execute(process: dict[str, Any], channel: Channel, progress: Progress) -> None:
    """Replace this process by the program; returns only by raising.

    A name without "/" is looked for along the PATH of the process's own environment, as execvp does.

    Raises:
        OSError: ENOENT nothing by that name, EACCES not executable, ENOEXEC, E2BIG.
    """
    progress.stage = "exec"
    args = process.get("args") or []
    if not args or not args[0]:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), args[0] if args else "")
    name = args[0]
    environment: dict[str, str] = {}
    for entry in process.get("env") or []:
        key, _, value = entry.partition("=")
        environment[key] = value
    for entry in process.get("rlimits") or []:
        if _starves(entry):
            _set_limit(entry)
    outlive_parent()
    channel.send({"at": "exec"})
    if "/" in name:
        _execve(name, args, environment)
    denied = False
    for folder in (environment.get("PATH") or DEFAULT_PATH).split(":"):
        try:
            os.execve(f"{folder or '.'}/{name}", args, environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError:
            denied = True
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), name) from None
    number = errno.EACCES if denied else errno.ENOENT
    raise OSError(number, os.strerror(number), name)


def require_program(process: dict[str, Any]) -> None:
    """Refuse a process whose program is not there, without running it: ``create`` must say so, not ``start``.

    Raises:
        OSError: ENOENT or EACCES.
    """
    name = process["args"][0]
    paths = [name]
    if "/" not in name:
        path = next((entry[5:] for entry in process.get("env") or [] if entry.startswith("PATH=")), DEFAULT_PATH)
        paths = [f"{folder or '.'}/{name}" for folder in path.split(":")]
    found = [path for path in paths if os.path.isfile(path)]
    if not found:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    if not any(os.stat(path).st_mode & 0o111 for path in found):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), name)


def _execve(path: str, args: list[str], environment: dict[str, str]) -> None:
    try:
        os.execve(path, args, environment)
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), path) from None
