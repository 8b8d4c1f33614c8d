"""The flags of ``run`` and ``create`` → the body of ``POST /containers/create``. Pure but for the files flags name."""

from __future__ import annotations

from scow.cli import run_values
from scow.cli.run_flags import REFUSED, TABLE
from scow.errors import InvalidArgument, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scow.cli.flags import Options

STREAMS = ("stdin", "stdout", "stderr")


def body(options: Options, arguments: list[str], detach: bool = False) -> dict[str, Any]:
    """The request for ``IMAGE [COMMAND] [ARG...]``.

    Args:
        detach: nothing will be attached (``run -d``).

    Raises:
        InvalidArgument: values that do not fit or contradict each other.
        Unsupported: a flag that means nothing here.
    """
    for name, reason in REFUSED.items():
        if options.given(name):
            raise Unsupported(f"--{name} {reason}")
    config: dict[str, Any] = {"Image": arguments[0]}
    host: dict[str, Any] = {}
    for flag, field in TABLE:
        if field and options.given(flag.name):
            group, _, name = field.partition(".")
            value = options.raw(flag.name)
            (config if group == "Config" else host)[name] = value
    _process(config, options, arguments)
    _streams(config, options, detach)
    _health(config, options)
    _ports(config, host, options)
    _volumes(config, host, options)
    _host(host, options)
    result = {**config, "HostConfig": host}
    networking = _networks(config, host, options)
    if networking:
        result["NetworkingConfig"] = {"EndpointsConfig": networking}
    return result


def _process(config: dict[str, Any], options: Options, arguments: list[str]) -> None:
    if len(arguments) > 1:
        config["Cmd"] = arguments[1:]
    if options.given("entrypoint"):
        config["Entrypoint"] = [options.text("entrypoint")]
    config["Env"] = run_values.environment(options.items("env"), options.items("env-file"))
    config["Labels"] = run_values.labels(options.items("label"), options.items("label-file"))


def _streams(config: dict[str, Any], options: Options, detach: bool) -> None:
    """Which streams the client means to attach; input closes with the first client that attached it."""
    named = options.items("attach")
    if detach and named:
        raise InvalidArgument("conflicting options: cannot specify both --attach and --detach")
    wanted = {"stdin": "stdin" in named or options.on("interactive")}
    wanted |= {name: name in named or not named for name in ("stdout", "stderr")}
    for name in STREAMS:
        config[f"Attach{name.capitalize()}"] = wanted[name] and not detach
    config["OpenStdin"] = options.on("interactive")
    config["StdinOnce"] = options.on("interactive") and config["AttachStdin"]


_HEALTH = (
    ("health-interval", "Interval"),
    ("health-timeout", "Timeout"),
    ("health-start-period", "StartPeriod"),
    ("health-start-interval", "StartInterval"),
    ("health-retries", "Retries"),
)


def _health(config: dict[str, Any], options: Options) -> None:
    check: dict[str, Any] = {field: options.number(flag) for flag, field in _HEALTH if options.number(flag)}
    if any(value < 0 for value in check.values()):
        name = next(flag for flag, field in _HEALTH if check.get(field, 0) < 0)
        raise InvalidArgument(f"--{name} cannot be negative")
    command = options.text("health-cmd")
    if options.on("no-healthcheck"):
        if check or command:
            raise InvalidArgument("--no-healthcheck conflicts with --health-* options")
        config["Healthcheck"] = {"Test": ["NONE"]}
    elif check or command:
        config["Healthcheck"] = {**({"Test": ["CMD-SHELL", command]} if command else {}), **check}


def _ports(config: dict[str, Any], host: dict[str, Any], options: Options) -> None:
    open_ports: dict[str, dict[str, str]] = {
        port: {} for text in options.items("expose") for port in run_values.exposed(text)
    }
    bindings: dict[str, list[dict[str, str]]] = {}
    for text in options.items("publish"):
        for port, binding in run_values.published(text):
            open_ports[port] = {}
            bindings.setdefault(port, []).append(binding)
    if open_ports:
        config["ExposedPorts"] = open_ports
    if bindings:
        host["PortBindings"] = bindings


def _volumes(config: dict[str, Any], host: dict[str, Any], options: Options) -> None:
    binds: list[str] = []
    anonymous: dict[str, dict[str, str]] = {}
    for text in options.items("volume"):
        bind, target = run_values.volume(text)
        if bind:
            binds.append(bind)
        else:
            anonymous[target] = {}
    if binds:
        host["Binds"] = binds
    if anonymous:
        config["Volumes"] = anonymous
    tmpfs = dict(text.partition(":")[::2] for text in options.items("tmpfs"))
    if tmpfs:
        host["Tmpfs"] = tmpfs


def _host(host: dict[str, Any], options: Options) -> None:
    """The fields of HostConfig that are made of more than one value, or of one that is read first."""
    swappiness = options.number("memory-swappiness")
    if swappiness != -1 and not 0 <= swappiness <= 100:
        raise InvalidArgument(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
    if swappiness != -1:
        host["MemorySwappiness"] = swappiness
    host["RestartPolicy"] = run_values.restart_policy(options.text("restart"))
    if options.on("rm") and host["RestartPolicy"]["Name"] not in ("no", ""):
        raise InvalidArgument("conflicting options: cannot specify both --restart and --rm")
    host["LogConfig"] = {"Type": options.text("log-driver"), "Config": _pairs(options.items("log-opt"), "log-opt")}
    if options.text("log-driver") == "none" and options.items("log-opt"):
        raise InvalidArgument("invalid logging opts for driver none")
    _optional(host, "StorageOpt", _pairs(options.items("storage-opt"), "storage option"))
    _optional(host, "Annotations", options.mapping("annotation"))
    _optional(host, "Sysctls", options.mapping("sysctl"))
    _optional(host, "DnsOptions", options.items("dns-option") + options.items("dns-opt"))
    _optional(host, "Links", options.items("link"))
    words, open_paths = run_values.security(options.items("security-opt"))
    _optional(host, "SecurityOpt", words)
    if open_paths:
        host["MaskedPaths"], host["ReadonlyPaths"] = [], []
    if options.given("init"):
        host["Init"] = options.on("init")
    if options.text("cidfile"):
        host["ContainerIDFile"] = options.text("cidfile")
    _devices(host, options)


def _devices(host: dict[str, Any], options: Options) -> None:
    named = [text for text in options.items("device") if "=" in text and not text.startswith("/")]
    plain = [run_values.device(text) for text in options.items("device") if text not in named]
    _optional(host, "Devices", plain)
    requests: list[Any] = options.raw("gpus")
    if named:
        requests = [*requests, {"Driver": "cdi", "DeviceIDs": named}]
    _optional(host, "DeviceRequests", requests)


def _optional(target: dict[str, Any], name: str, value: Any) -> None:
    if value:
        target[name] = value


def _pairs(words: list[str], what: str) -> dict[str, str]:
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise InvalidArgument(f"invalid {what}: {word}" if what == "storage option" else f"invalid {what} '{word}'")
        found[key] = value
    return found


def _networks(config: dict[str, Any], host: dict[str, Any], options: Options) -> dict[str, Any]:
    """Sets the network mode; returns the endpoints by network name."""
    chosen: list[dict[str, Any]] = [dict(item) for item in [*options.raw("network"), *options.raw("net")]]
    host["NetworkMode"] = chosen[0]["Target"] if chosen else "default"
    aliases = options.items("network-alias") + options.items("net-alias")
    single = {"Aliases": aliases, "IPv4": options.text("ip"), "IPv6": options.text("ip6")}
    single["Mac"] = options.text("mac-address")
    if any(single.values()):
        if not chosen:
            chosen = [{"Target": "default", "Aliases": [], "IPv4": "", "IPv6": "", "Mac": "", "LinkLocal": []}]
        _add_single(chosen[0], single)
    endpoints = {}
    for item in chosen:
        if len(chosen) > 1 and _special(item["Target"]):
            raise InvalidArgument(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
            )
        if item["Target"] in endpoints:
            raise InvalidArgument(f'network "{item["Target"]}" is specified multiple times')
        endpoints[item["Target"]] = _endpoint(item, host.get("Links") or [])
    if host["NetworkMode"].startswith("container:"):
        # There is no network to join; what was said about one is for the engine to refuse.
        endpoints = {name: endpoint for name, endpoint in endpoints.items() if endpoint}
    if single["Mac"]:
        config["MacAddress"] = single["Mac"]
    return endpoints


def _special(name: str) -> bool:
    return name in ("host", "none", "default") or name.startswith("container:")


_SINGLE = (("Aliases", "network-alias", "alias"), ("IPv4", "ip", "ip"), ("IPv6", "ip6", "ip6"))


def _add_single(item: dict[str, Any], single: dict[str, Any]) -> None:
    """Give the first network what the flags without a network name say."""
    for key, flag, option in _SINGLE:
        if single[key] and item[key]:
            raise InvalidArgument(
                f"conflicting options: cannot specify both --{flag} and per-network {option} with --network"
            )
    item["Aliases"] = item["Aliases"] or single["Aliases"]
    item["IPv4"] = item["IPv4"] or single["IPv4"]
    item["IPv6"] = item["IPv6"] or single["IPv6"]
    item["Mac"] = item["Mac"] or single["Mac"]


def _endpoint(item: dict[str, Any], links: list[str]) -> dict[str, Any]:
    endpoint: dict[str, Any] = {}
    _optional(endpoint, "Aliases", item["Aliases"])
    _optional(endpoint, "MacAddress", item["Mac"])
    _optional(endpoint, "DriverOpts", item.get("DriverOpts"))
    _optional(endpoint, "GwPriority", item.get("Priority"))
    if links and not _special(item["Target"]) and item["Target"] != "bridge":
        endpoint["Links"] = links
    addresses = {"IPv4Address": item["IPv4"], "IPv6Address": item["IPv6"], "LinkLocalIPs": item["LinkLocal"]}
    addresses = {key: value for key, value in addresses.items() if value}
    _optional(endpoint, "IPAMConfig", addresses)
    return endpoint
