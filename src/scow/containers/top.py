"""``docker top``: the processes of a container as ps would list them, read from /proc without running a ps.

A subset of ps: ``-ef``-like and ``aux``-like formats, ``-o name,…`` columns and ``--sort [-]name,…``; other words are
refused.
"""

import os
import pwd
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scow.containers.container import Container
from scow.containers.context import Context
from scow.containers.state import TOP, require
from scow.errors import InvalidArgument
from scow.runtime.cgroup import Cgroup

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

FULL = ("uid_name", "pid", "ppid", "c", "stime", "tty", "time", "args")
BSD = ("user", "pid", "pcpu", "pmem", "vsz", "rss", "tname", "stat", "start", "bsdtime", "command")


@dataclass(frozen=True, slots=True)
class Process:
    """One process as /proc shows it; times in seconds, sizes in bytes."""

    pid: int
    ppid: int
    pgid: int
    sid: int
    uid: int
    gid: int
    state: str
    terminal: int
    nice: int
    threads: int
    cpu: float
    started: float
    virtual: int
    resident: int
    name: str
    command: str


@dataclass(frozen=True, slots=True)
class Host:
    """What the columns need besides the process: the time, memory in bytes, and names of users."""

    now: float
    memory: int

    def user(self, uid: int) -> str:
        """The user's name on the host, or the number."""
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return str(uid)


def _stime(process: Process, host: Host) -> str:
    form = "%H:%M" if host.now - process.started < 86400 else "%b%d"
    return time.strftime(form, time.localtime(process.started))


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _elapsed(process: Process, host: Host) -> str:
    whole = max(int(host.now - process.started), 0)
    days, hours = whole // 86400, whole // 3600 % 24
    text = f"{whole // 60 % 60:02d}:{whole % 60:02d}"
    text = f"{hours:02d}:{text}" if hours or days else text
    return f"{days}-{text}" if days else text


def _terminal(process: Process) -> str:
    """The terminal's name as ps prints it: pts/0, tty1, ?."""
    major, minor = os.major(process.terminal), os.minor(process.terminal)
    if 136 <= major <= 143:
        return f"pts/{minor + 256 * (major - 136)}"
    if major == 4:
        return f"tty{minor}"
    return "?"


def _percent(process: Process, host: Host) -> float:
    return 100 * process.cpu / max(host.now - process.started, 0.01)


#: column → (title, how to print it)
COLUMNS: dict[str, tuple[str, Callable[[Process, Host], str]]] = {
    "uid_name": ("UID", lambda p, h: h.user(p.uid)),
    "user": ("USER", lambda p, h: h.user(p.uid)),
    "uid": ("UID", lambda p, h: str(p.uid)),
    "gid": ("GID", lambda p, h: str(p.gid)),
    "pid": ("PID", lambda p, h: str(p.pid)),
    "ppid": ("PPID", lambda p, h: str(p.ppid)),
    "pgid": ("PGID", lambda p, h: str(p.pgid)),
    "sid": ("SID", lambda p, h: str(p.sid)),
    "c": ("C", lambda p, h: str(int(min(_percent(p, h), 99)))),
    "pcpu": ("%CPU", lambda p, h: f"{_percent(p, h):.1f}"),
    "pmem": ("%MEM", lambda p, h: f"{100 * p.resident / h.memory:.1f}"),
    "vsz": ("VSZ", lambda p, h: str(p.virtual // 1024)),
    "rss": ("RSS", lambda p, h: str(p.resident // 1024)),
    "stime": ("STIME", _stime),
    "start": ("START", _stime),
    "etime": ("ELAPSED", _elapsed),
    "tty": ("TTY", lambda p, h: _terminal(p)),
    "tname": ("TTY", lambda p, h: _terminal(p)),
    "stat": ("STAT", lambda p, h: p.state),
    "s": ("S", lambda p, h: p.state),
    "ni": ("NI", lambda p, h: str(p.nice)),
    "nlwp": ("NLWP", lambda p, h: str(p.threads)),
    "time": ("TIME", lambda p, h: _clock(p.cpu)),
    "bsdtime": ("TIME", lambda p, h: f"{int(p.cpu) // 60}:{int(p.cpu) % 60:02d}"),
    "comm": ("COMMAND", lambda p, h: p.name),
    "ucmd": ("CMD", lambda p, h: p.name),
    "args": ("CMD", lambda p, h: p.command),
    "cmd": ("CMD", lambda p, h: p.command),
    "command": ("COMMAND", lambda p, h: p.command),
}
ALIASES = {"%cpu": "pcpu", "%mem": "pmem", "tt": "tty", "state": "s", "nice": "ni", "euser": "user", "euid": "uid"}
ALIASES |= {"egid": "gid", "cputime": "time", "lstart": "start", "vsize": "vsz", "rssize": "rss", "thcount": "nlwp"}


#: column → what it is sorted by, where that is not the text it shows.
KEYS: dict[str, Callable[[Process, Host], float]] = {
    "uid": lambda p, _: p.uid,
    "gid": lambda p, _: p.gid,
    "pid": lambda p, _: p.pid,
    "ppid": lambda p, _: p.ppid,
    "pgid": lambda p, _: p.pgid,
    "sid": lambda p, _: p.sid,
    "c": _percent,
    "pcpu": _percent,
    "pmem": lambda p, _: p.resident,
    "rss": lambda p, _: p.resident,
    "vsz": lambda p, _: p.virtual,
    "stime": lambda p, _: p.started,
    "start": lambda p, _: p.started,
    "etime": lambda p, _: -p.started,
    "ni": lambda p, _: p.nice,
    "nlwp": lambda p, _: p.threads,
    "time": lambda p, _: p.cpu,
    "bsdtime": lambda p, _: p.cpu,
}


def arguments_of(text: str) -> tuple[list[tuple[str, str]], list[tuple[str, bool]]]:
    """ps's arguments: its columns as (column, title) pairs, and what to sort by as (column, whether downwards).

    Raises:
        InvalidArgument: an option or column that is not known here.
    """
    kept: list[str] = []
    order: list[tuple[str, bool]] = []
    words = iter(text.split())
    for word in words:
        option, equals, value = word.partition("=")
        if option not in ("--sort", "k", "-k"):
            kept.append(word)
            continue
        for item in (value if equals else next(words, "")).split(","):
            ((found, _title),) = _named(item.lstrip("+-"))
            order.append((found, item.startswith("-")))
    return columns(" ".join(kept)), order


def columns(arguments: str) -> list[tuple[str, str]]:
    """ps's arguments, without what to sort by, as (column, title) pairs; "" means ``-ef``.

    Raises:
        InvalidArgument: an option or column that is not known here.
    """
    words = arguments.split() or ["-ef"]
    chosen: list[tuple[str, str]] = []
    layout: Sequence[str] = ()
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        flags = word.lstrip("-")
        head, has_o, rest = flags.partition("o")
        if has_o and set(head) <= set("aexfA"):
            if not rest:
                if position >= len(words):
                    raise InvalidArgument("ps: option -o needs a list of columns, such as pid,user,args")
                rest = words[position]
                position += 1
            chosen += _named(rest)
        elif word.startswith("-") and set(flags) <= set("efAaFlw"):
            layout = FULL
        elif not word.startswith("-") and set(flags) <= set("auxwf"):
            layout = BSD
        else:
            raise InvalidArgument(f"ps: unknown option {word[:40]!r}: use -ef, aux or -o COLUMN,…")
    return chosen or [(name, COLUMNS[name][0]) for name in layout or FULL]


def _named(text: str) -> list[tuple[str, str]]:
    """ "pid,args=WHAT" → [("pid", "PID"), ("args", "WHAT")]."""
    found = []
    for item in text.split(","):
        name, equals, title = item.partition("=")
        name = ALIASES.get(name.lower(), name.lower())
        if name not in COLUMNS or name == "uid_name":
            raise InvalidArgument(f"ps: unknown column {item[:40]!r}: choose from {', '.join(sorted(COLUMNS))}")
        found.append((name, title if equals else COLUMNS[name][0]))
    return found


def read(pid: int, boot: float) -> Process | None:
    """The process `pid`, None if it is gone.

    Source: proc(5) "/proc/pid/stat".
    """
    folder = Path(f"/proc/{pid}")
    try:
        stat = (folder / "stat").read_bytes().decode("utf-8", "replace")
        status = (folder / "status").read_text(errors="replace")
        words = (folder / "cmdline").read_bytes()
    except OSError:
        return None
    name, _, rest = stat.partition("(")[2].rpartition(")")
    fields = rest.split()
    ids = {line.partition(":")[0]: line.split() for line in status.splitlines() if line.startswith(("Uid:", "Gid:"))}
    command = words.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
    return Process(
        pid=pid,
        state=fields[0],
        ppid=int(fields[1]),
        pgid=int(fields[2]),
        sid=int(fields[3]),
        terminal=int(fields[4]) & 0xFFFFFFFF,
        cpu=(int(fields[11]) + int(fields[12])) / TICKS,
        nice=int(fields[16]),
        threads=int(fields[17]),
        started=boot + int(fields[19]) / TICKS,
        virtual=int(fields[20]),
        resident=int(fields[21]) * PAGE,
        uid=int(ids["Uid"][2]),
        gid=int(ids["Gid"][2]),
        name=name,
        command=command or f"[{name}]",
    )


def table(container: Container, arguments: str) -> dict[str, list[str] | list[list[str]]]:
    """The API's ContainerTopResponse. Blocking."""
    wanted, order = arguments_of(arguments)
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    host = Host(time.time(), os.sysconf("SC_PHYS_PAGES") * PAGE)
    pids = sorted(Cgroup.open(container.cgroup).pids())
    processes = [found for pid in pids if (found := read(pid, boot)) is not None]
    for column, downwards in reversed(order):
        key = KEYS.get(column) or COLUMNS[column][1]
        processes.sort(key=lambda process, key=key: key(process, host), reverse=downwards)  # type: ignore[misc]
    return {
        "Titles": [title for _, title in wanted],
        "Processes": [[COLUMNS[name][1](process, host) for name, _ in wanted] for process in processes],
    }


def check(context: Context, ref: str) -> Container:
    """The container, if its processes can be listed."""
    container = context.get(ref)
    require(TOP, container.state, container.name, container.id)
    return container
