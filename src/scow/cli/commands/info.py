"""scow info: what the daemon says about itself and its host."""

from __future__ import annotations

from scow import __version__
from scow.api import units
from scow.cli.flags import Command, Options
from scow.cli.options import FORMAT_JSON
from scow.errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scow.cli.session import Session

INFO = Command("[OPTIONS]", "Display system-wide information", flags=(FORMAT_JSON,))


def info(session: Session, options: Options, arguments: list[str]) -> int:
    form = options.text("format")
    client = {"Debug": session.debug, "Context": "default", "Version": __version__, "Plugins": [], "Warnings": None}
    failure: EngineError | None = None
    found: dict[str, Any] = {}
    try:
        found = session.client.get("/info")
    except EngineError as error:
        failure = error
    if form:
        from scow.cli.format import one

        if failure is not None:
            found = {"ServerErrors": [str(failure)]}
        one(session, {**found, "ClientInfo": client}, form)
        return 0
    out = session.console.out
    out(f"Client:\n Version:    {__version__}\n Context:    default\n Debug Mode: {_bool(session.debug)}\n\nServer:\n")
    if failure is not None:
        session.console.flush()
        raise failure
    out("".join(f"{line}\n" for line in page(found)))
    for warning in found.get("Warnings") or []:
        session.console.error(str(warning))
    return 0


def _bool(value: Any) -> str:
    return "true" if value else "false"


def page(found: dict[str, Any]) -> list[str]:
    """The server's part, one line an entry; what the daemon does not say is left out."""
    lines = [
        f" Containers: {found.get('Containers', 0)}",
        f"  Running: {found.get('ContainersRunning', 0)}",
        f"  Paused: {found.get('ContainersPaused', 0)}",
        f"  Stopped: {found.get('ContainersStopped', 0)}",
        f" Images: {found.get('Images', 0)}",
    ]
    lines += _fields(found, (("ServerVersion", "Server Version"), ("Driver", "Storage Driver")))
    lines += [f"  {name}: {value}" for name, value in found.get("DriverStatus") or []]
    lines += _fields(
        found,
        (("LoggingDriver", "Logging Driver"), ("CgroupDriver", "Cgroup Driver"), ("CgroupVersion", "Cgroup Version")),
    )
    lines += _plugins(found.get("Plugins") or {})
    swarm = (found.get("Swarm") or {}).get("LocalNodeState")
    if swarm:
        lines.append(f" Swarm: {swarm}")
    runtimes = found.get("Runtimes") or {}
    if runtimes:
        lines.append(f" Runtimes: {' '.join(sorted(runtimes))}")
        status = (runtimes.get("scow") or {}).get("status") or {}
        lines += _fields(status, (("scow.parked-sandboxes", " Parked sandboxes"),))
    lines += _fields(found, (("DefaultRuntime", "Default Runtime"), ("InitBinary", "Init Binary")))
    options = found.get("SecurityOptions") or []
    if options:
        lines.append(" Security Options:")
        lines += [line for option in options for line in _security(str(option))]
    lines += _fields(found, _HOST)
    if found.get("MemTotal"):
        lines.append(f" Total Memory: {units.binary_size(found['MemTotal'])}")
    lines += _fields(found, _REST)
    lines.append(f" Debug Mode: {_bool(found.get('Debug'))}")
    for key in ("HttpProxy", "HttpsProxy", "NoProxy"):
        if found.get(key):
            lines.append(
                f" {key.replace('Http', 'HTTP ').replace('HTTP s', 'HTTPS ').replace('No', 'No ')}: {found[key]}"
            )
    lines += _listed(" Labels:", found.get("Labels") or [])
    lines.append(f" Experimental: {_bool(found.get('ExperimentalBuild'))}")
    registries = found.get("RegistryConfig") or {}
    lines += _listed(" Insecure Registries:", _insecure(registries))
    lines += _listed(" Registry Mirrors:", registries.get("Mirrors") or [])
    lines.append(f" Live Restore Enabled: {_bool(found.get('LiveRestoreEnabled'))}")
    return lines


_HOST = (
    ("KernelVersion", "Kernel Version"),
    ("OperatingSystem", "Operating System"),
    ("OSType", "OSType"),
    ("Architecture", "Architecture"),
    ("NCPU", "CPUs"),
)
_REST = (("Name", "Name"), ("ID", "ID"), ("DockerRootDir", "Docker Root Dir"))


def _fields(found: dict[str, Any], names: tuple[tuple[str, str], ...]) -> list[str]:
    return [f" {title}: {found[key]}" for key, title in names if found.get(key)]


def _plugins(plugins: dict[str, Any]) -> list[str]:
    lines = [
        f"  {kind}: {' '.join(plugins[kind])}"
        for kind in ("Volume", "Network", "Authorization", "Log")
        if plugins.get(kind)
    ]
    return [" Plugins:", *lines] if lines else []


def _security(option: str) -> list[str]:
    """ "name=seccomp,profile=builtin" → two lines."""
    pairs = [pair.partition("=")[::2] for pair in option.split(",")]
    name = next((value for key, value in pairs if key == "name"), option)
    rest = [f"   {key.capitalize()}: {value}" for key, value in pairs if key != "name" and value]
    return [f"  {name}", *rest]


def _insecure(registries: dict[str, Any]) -> list[str]:
    names = [name for name, entry in (registries.get("IndexConfigs") or {}).items() if not entry.get("Secure", True)]
    return [*names, *(registries.get("InsecureRegistryCIDRs") or [])]


def _listed(title: str, values: list[str]) -> list[str]:
    return [title, *(f"  {value}" for value in values)] if values else []


COMMANDS = {"system info": (INFO, info)}
