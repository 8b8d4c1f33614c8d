"""scow version: the versions of both sides. ``one_line`` is what ``scow --version`` prints."""

from __future__ import annotations

import os
import sys
import time

from scow import __version__
from scow.api import units
from scow.api.version import LATEST, text
from scow.cli.flags import Command, Options
from scow.cli.options import FORMAT_JSON
from scow.cli.tabular import layout
from scow.errors import EngineError, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scow.cli.session import Session

VERSION = Command("[OPTIONS]", "Show the Scow version information", flags=(FORMAT_JSON,))

#: Kernel's name of the machine → the one of the API.
MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def one_line() -> str:
    return f"Scow version {__version__}"


def version(session: Session, options: Options, arguments: list[str]) -> int:
    failure: EngineError | None = None
    server: dict[str, Any] | None = None
    api = text(LATEST)
    try:
        server = session.client.get("/version")
        api = session.client.version
    except EngineError as error:
        failure = error
    client = _client(api)
    form = options.text("format")
    if form:
        from scow.cli.format import one

        one(session, {"Client": client, "Server": server}, form)
    else:
        session.console.out(_page(client, server))
    if failure is not None:
        raise failure
    return 0


def _client(api: str) -> dict[str, Any]:
    machine = os.uname().machine
    return {
        "Version": __version__,
        "ApiVersion": api,
        "DefaultAPIVersion": text(LATEST),
        "PythonVersion": ".".join(map(str, sys.version_info[:3])),
        "Os": "linux",
        "Arch": MACHINES.get(machine, machine),
        "Context": "default",
    }


def _page(client: dict[str, Any], server: dict[str, Any] | None) -> str:
    default = client["DefaultAPIVersion"]
    api = (
        client["ApiVersion"]
        if client["ApiVersion"] == default
        else f"{client['ApiVersion']} (downgraded from {default})"
    )
    rows = [
        "Client:",
        f" Version:\t{client['Version']}",
        f" API version:\t{api}",
        f" Python version:\t{client['PythonVersion']}",
        f" OS/Arch:\t{client['Os']}/{client['Arch']}",
        f" Context:\t{client['Context']}",
    ]
    if server is not None:
        platform = (server.get("Platform") or {}).get("Name", "")
        rows += ["", f"Server: {platform}".rstrip() if platform else "Server:"]
        for component in server.get("Components") or []:
            rows += _component(component)
    return layout("\n".join(rows), least=20, padding=1) + "\n"


#: Details of the engine in the order shown, with their titles.
_DETAILS = (
    ("ApiVersion", "API version"),
    ("GoVersion", "Go version"),
    ("PythonVersion", "Python version"),
    ("GitCommit", "Git commit"),
    ("BuildTime", "Built"),
)


def _component(component: dict[str, Any]) -> list[str]:
    details: dict[str, str] = component.get("Details") or {}
    if component.get("Name") != "Engine":
        others = [f"  {key}:\t{details[key]}" for key in sorted(details)]
        return [f" {component.get('Name', '')}:", f"  Version:\t{component.get('Version', '')}", *others]
    rows = [f" {component.get('Name', '')}:", f"  Version:\t{component.get('Version', '')}"]
    for key, title in _DETAILS:
        if not details.get(key):
            continue
        value = details[key]
        if key == "ApiVersion":
            value = f"{value} (minimum version {details.get('MinAPIVersion', '')})"
        elif key == "BuildTime":
            value = _built(value)
        rows.append(f"  {title}:\t{value}")
    if details.get("Os"):
        rows += [
            f"  OS/Arch:\t{details['Os']}/{details.get('Arch', '')}",
            f"  Experimental:\t{details.get('Experimental', 'false')}",
        ]
    return rows


def _built(text: str) -> str:
    """A build time as C's asctime has it: "Fri Jan  2 03:04:05 2026"; other text as it is."""
    try:
        when = units.parse_rfc3339(text)
    except InvalidArgument:
        return text
    return time.strftime("%a %b %e %H:%M:%S %Y", time.localtime(when // units.SECOND))


COMMANDS = {"version": (VERSION, version)}
