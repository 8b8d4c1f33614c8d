"""scow port: which ports of the host lead into a container."""

from scow.cli.commands.ps import join_address
from scow.cli.exits import FAILED, Exit
from scow.cli.flags import Command, Options
from scow.cli.session import Session
from scow.client.client import path

PORT = Command(
    "CONTAINER [PRIVATE_PORT[/PROTO]]",
    "List port mappings or a specific mapping for the container",
    least=1,
    most=2,
)


def port(session: Session, options: Options, arguments: list[str]) -> int:
    found = session.client.get(path("containers", arguments[0], "json"))
    ports = (found.get("NetworkSettings") or {}).get("Ports") or {}
    if len(arguments) == 1:
        lines = [f"{name} -> {_host(binding)}" for name in ports for binding in ports[name] or []]
        session.console.out("".join(f"{line}\n" for line in sorted(lines, key=_order)))
        return 0
    number, _, protocol = arguments[1].partition("/")
    if not number.isdigit() or not 0 < int(number) < 65536 or protocol not in ("", "tcp", "udp", "sctp"):
        raise Exit(FAILED, f"Error: invalid port ({arguments[1]}): expected one like 80 or 53/udp")
    bindings = ports.get(f"{number}/{protocol or 'tcp'}") or []
    if not bindings:
        raise Exit(FAILED, f"Error: No public port '{arguments[1]}' published for {arguments[0]}")
    session.console.out("".join(f"{_host(binding)}\n" for binding in bindings))
    return 0


def _host(binding: dict[str, str]) -> str:
    return join_address(binding.get("HostIp") or "", int(binding.get("HostPort") or 0))


def _order(line: str) -> tuple[int, str]:
    number = line.partition("/")[0]
    return (int(number) if number.isdigit() else 0, line)


COMMANDS = {"container port": (PORT, port)}
