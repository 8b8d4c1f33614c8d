"""scow update: limits and restart policy of containers that exist."""

from __future__ import annotations

from scow.cli.each import each
from scow.cli.exits import FAILED, Exit
from scow.cli.flags import Command, Flag, Options
from scow.cli.run_flags import TABLE
from scow.cli.run_values import restart_policy
from scow.client.client import path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scow.cli.session import Session

NAMES = frozenset(
    [
        "blkio-weight",
        "cpu-period",
        "cpu-quota",
        "cpu-rt-period",
        "cpu-rt-runtime",
        "cpu-shares",
        "cpus",
        "cpuset-cpus",
        "cpuset-mems",
        "health-on-failure",
        "memory",
        "memory-reservation",
        "memory-swap",
        "pids-limit",
    ]
)
_FIELDS = {flag.name: field.partition(".")[2] for flag, field in TABLE if flag.name in NAMES}
UPDATE = Command(
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Update configuration of one or more containers",
    least=1,
    most=None,
    flags=(
        *(flag for flag, _ in TABLE if flag.name in NAMES),
        Flag("restart", "string", "Restart policy to apply when a container exits"),
    ),
)


def update(session: Session, options: Options, arguments: list[str]) -> int:
    request: dict[str, Any] = {field: options.raw(name) for name, field in _FIELDS.items() if options.given(name)}
    if options.given("restart"):
        request["RestartPolicy"] = restart_policy(options.text("restart"))
    if not request:
        raise Exit(FAILED, "you must provide one or more flags when using this command")
    warnings: list[str] = []

    def call(name: str) -> None:
        warnings.extend(session.client.post(path("containers", name, "update"), None, request).get("Warnings") or [])

    code = each(session, arguments, call)
    for warning in warnings:
        session.console.error(warning)
    return code


COMMANDS = {"container update": (UPDATE, update)}
