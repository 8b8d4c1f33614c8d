"""scow network: create, ls, rm, connect, disconnect, prune."""

from __future__ import annotations

from scow.api import units
from scow.cli import human, run_values, subnets
from scow.cli.each import each
from scow.cli.flags import Command, Flag, Options
from scow.cli.format import Row, View, show
from scow.cli.options import FORCE_PRUNE, FORMAT_TABLE
from scow.client.client import filters_text, path
from scow.client.http import ApiError
from scow.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scow.cli.session import Session

CREATE = Command(
    "[OPTIONS] NETWORK",
    "Create a network",
    least=1,
    most=1,
    flags=(
        Flag("attachable", "bool", "Enable manual container attachment"),
        Flag("aux-address", "map", "Auxiliary IPv4 or IPv6 addresses used by Network driver (default map[])"),
        Flag("config-from", "string", "The network from which to copy the configuration"),
        Flag("config-only", "bool", "Create a configuration only network"),
        Flag("driver", "string", "Driver to manage the Network", short="d", default="bridge"),
        Flag("gateway", "strings", "IPv4 or IPv6 Gateway for the master subnet"),
        Flag("ingress", "bool", "Create swarm routing-mesh network", hidden=True),
        Flag("internal", "bool", "Restrict external access to the network"),
        Flag("ip-range", "strings", "Allocate container ip from a sub-range"),
        Flag("ipam-driver", "string", "IP Address Management Driver", default="default"),
        Flag("ipam-opt", "map", "Set IPAM driver specific options (default map[])"),
        Flag("ipv4", "bool", "Enable or disable IPv4 address assignment", default=True),
        Flag("ipv6", "bool", "Enable or disable IPv6 address assignment"),
        Flag("label", run_values.LABEL, "Set metadata on a network"),
        Flag("opt", "map", "Set driver specific options (default map[])", short="o"),
        Flag("scope", "string", "Control the network's scope"),
        Flag("subnet", "strings", "Subnet in CIDR format that represents a network segment"),
    ),
)
LIST = Command(
    "[OPTIONS]",
    "List networks",
    flags=(
        Flag("filter", "filter", 'Provide filter values (e.g. "driver=bridge")', short="f"),
        FORMAT_TABLE,
        Flag("no-trunc", "bool", "Do not truncate the output"),
        Flag("quiet", "bool", "Only display network IDs", short="q"),
    ),
)
REMOVE = Command(
    "NETWORK [NETWORK...]",
    "Remove one or more networks",
    least=1,
    most=None,
    flags=(Flag("force", "bool", "Do not error if the network does not exist", short="f"),),
)
CONNECT = Command(
    "[OPTIONS] NETWORK CONTAINER",
    "Connect a container to a network",
    least=2,
    most=2,
    flags=(
        Flag("alias", "strings", "Add network-scoped alias for the container"),
        Flag("driver-opt", "strings", "driver options for the network"),
        Flag(
            "gw-priority",
            "int",
            "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
        ),
        Flag("ip", "string", 'IPv4 address (e.g., "172.30.100.104")'),
        Flag("ip6", "string", 'IPv6 address (e.g., "2001:db8::33")'),
        Flag("link", run_values.LINK, "Add link to another container"),
        Flag("link-local-ip", "strings", "Add a link-local address for the container"),
    ),
)
DISCONNECT = Command(
    "[OPTIONS] NETWORK CONTAINER",
    "Disconnect a container from a network",
    least=2,
    most=2,
    flags=(Flag("force", "bool", "Force the container to disconnect from a network", short="f"),),
)
PRUNE = Command(
    "[OPTIONS]",
    "Remove all unused networks",
    flags=(Flag("filter", "filter", 'Provide filter values (e.g. "until=<timestamp>")'), FORCE_PRUNE),
)
HEADINGS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
}


def create(session: Session, options: Options, arguments: list[str]) -> int:
    request: dict[str, Any] = {
        "Name": arguments[0],
        "Driver": options.text("driver"),
        "Options": options.mapping("opt"),
        "IPAM": {
            "Driver": options.text("ipam-driver"),
            "Options": options.mapping("ipam-opt"),
            "Config": subnets.pools(
                options.items("subnet"),
                options.items("ip-range"),
                options.items("gateway"),
                options.mapping("aux-address"),
            ),
        },
        "Internal": options.on("internal"),
        "Ingress": options.on("ingress"),
        "Attachable": options.on("attachable"),
        "Scope": options.text("scope"),
        "ConfigOnly": options.on("config-only"),
        "Labels": run_values.labels(options.items("label")),
    }
    if options.text("config-from"):
        request["ConfigFrom"] = {"Network": options.text("config-from")}
    for flag, field in (("ipv4", "EnableIPv4"), ("ipv6", "EnableIPv6")):
        if options.given(flag):
            request[field] = options.on(flag)
    answer = session.client.post("/networks/create", None, request)
    if answer.get("Warning"):
        session.console.error(f"WARNING: {answer['Warning']}")
    session.console.line(answer["Id"])
    return 0


def list_networks(session: Session, options: Options, arguments: list[str]) -> int:
    found = session.client.get("/networks", {"filters": filters_text(options.filters())}) or []
    form = options.text("format") or ("" if options.on("quiet") else session.config.text("networksFormat"))
    rows = [_row(item, not options.on("no-trunc")) for item in sorted(found, key=lambda item: str(item["Name"]))]
    show(session, View(HEADINGS, ("ID", "Name", "Driver", "Scope"), "ID"), rows, form, options.on("quiet"))
    return 0


def _row(item: dict[str, Any], truncate: bool) -> Row:
    labels: dict[str, str] = item.get("Labels") or {}
    return {
        "ID": human.short(item["Id"]) if truncate else item["Id"],
        "Name": item["Name"],
        "Driver": item.get("Driver") or "",
        "Scope": item.get("Scope") or "",
        "IPv4": "true" if item.get("EnableIPv4", True) else "false",
        "IPv6": "true" if item.get("EnableIPv6") else "false",
        "Internal": "true" if item.get("Internal") else "false",
        "Labels": human.labels_text(labels),
        "Label": lambda name: labels.get(name, ""),
        "CreatedAt": _created(item),
    }


def _created(item: dict[str, Any]) -> str:
    try:
        return human.moment_nanoseconds(units.parse_rfc3339(str(item.get("Created") or "")))
    except InvalidArgument:
        return str(item.get("Created") or "")


def remove(session: Session, options: Options, arguments: list[str]) -> int:
    def call(name: str) -> None:
        try:
            session.client.delete(path("networks", name))
        except ApiError as error:
            if not (options.on("force") and error.status == 404):
                raise

    return each(session, arguments, call)


def connect(session: Session, options: Options, arguments: list[str]) -> int:
    endpoint: dict[str, Any] = {
        "IPAMConfig": {
            "IPv4Address": options.text("ip"),
            "IPv6Address": options.text("ip6"),
            "LinkLocalIPs": options.items("link-local-ip"),
        },
        "Links": options.items("link"),
        "Aliases": options.items("alias"),
        "DriverOpts": dict(_driver_option(text) for text in options.items("driver-opt")),
        "GwPriority": options.number("gw-priority"),
    }
    request = {"Container": arguments[1], "EndpointConfig": endpoint}
    session.client.post(path("networks", arguments[0], "connect"), None, request)
    return 0


def _driver_option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidArgument("invalid key value pair format in driver options")
    return name.strip(), value.strip()


def disconnect(session: Session, options: Options, arguments: list[str]) -> int:
    request = {"Container": arguments[1], "Force": options.on("force")}
    session.client.post(path("networks", arguments[0], "disconnect"), None, request)
    return 0


def prune(session: Session, options: Options, arguments: list[str]) -> int:
    from scow.cli.pruning import NETWORKS, run

    return run(session, options, NETWORKS)


COMMANDS = {
    "network create": (CREATE, create),
    "network ls": (LIST, list_networks),
    "network rm": (REMOVE, remove),
    "network connect": (CONNECT, connect),
    "network disconnect": (DISCONNECT, disconnect),
    "network prune": (PRUNE, prune),
}
