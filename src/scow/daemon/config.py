"""What the daemon was told: dockerd's option names, its ``daemon.json`` keys, one table for both.

The table is the single list: command line, file and documentation are read from it. A directive given both as a flag
and in the file is refused, as dockerd does, because nobody can say which one was meant.
"""

import argparse
import ipaddress
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scow import __version__
from scow.errors import InvalidArgument
from scow.logs.driver import DRIVERS
from scow.tasks.pool import MOST, RATE

DEFAULT_DATA_ROOT = "/var/lib/scow"
DEFAULT_EXEC_ROOT = "/run/scow"
DEFAULT_SOCKET = "unix:///run/scow.sock"
DEFAULT_CONFIG_FILE = "/etc/scow/daemon.json"
MAX_CONFIG_FILE = 1 << 20
#: Most that is made ahead; every one costs an address, a link and some memory of the kernel.
MAX_POOL = 256
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")


@dataclass(frozen=True, slots=True)
class Option:
    """One directive: its flag, its key in the file, and how its value is written.

    Attributes:
        kind: "text", "flag", "number", "list" (flag repeatable, file takes a list), "map" (``k=v`` / an object)
            or "pools" (``base=…,size=…`` / objects).
    """

    flag: str
    key: str
    kind: str
    default: Any
    help: str
    short: str = ""


OPTIONS: tuple[Option, ...] = (
    Option("--host", "hosts", "list", (), "Socket to listen on: unix://PATH, tcp://ADDRESS:PORT or fd://", "-H"),
    Option(
        "--group",
        "group",
        "text",
        "",
        "Group that may use the UNIX socket (default: scow, or docker if it exists)",
        "-G",
    ),
    Option("--data-root", "data-root", "text", DEFAULT_DATA_ROOT, "Folder of images, containers and volumes"),
    Option("--exec-root", "exec-root", "text", DEFAULT_EXEC_ROOT, "Folder of the running state (on a tmpfs)"),
    Option("--pidfile", "pidfile", "text", "", "File for the daemon's process id (default: EXEC-ROOT/scowd.pid)", "-p"),
    Option("--debug", "debug", "flag", False, "Log every plan and step", "-D"),
    Option("--log-level", "log-level", "text", "info", "One of debug, info, warn, error, fatal", "-l"),
    Option("--tls", "tls", "flag", False, "Use TLS on TCP sockets; implied by --tlsverify"),
    Option(
        "--tlsverify",
        "tlsverify",
        "flag",
        False,
        "Use TLS and accept only clients whose certificate --tlscacert signed",
    ),
    Option("--tlscacert", "tlscacert", "text", "", "Certificate authority that clients must be signed by"),
    Option("--tlscert", "tlscert", "text", "", "The daemon's TLS certificate"),
    Option("--tlskey", "tlskey", "text", "", "The key of --tlscert"),
    Option(
        "--insecure-registry",
        "insecure-registries",
        "list",
        (),
        "Registry (HOST[:PORT] or CIDR) to use without verified TLS",
    ),
    Option("--registry-mirror", "registry-mirrors", "list", (), "URL of a mirror of the default registry"),
    Option("--max-concurrent-downloads", "max-concurrent-downloads", "number", 3, "Layers pulled at once"),
    Option("--max-concurrent-uploads", "max-concurrent-uploads", "number", 5, "Layers pushed at once"),
    Option("--bridge", "bridge", "text", "", "Name of the default bridge (default: scow0)", "-b"),
    Option("--bip", "bip", "text", "", "Address and prefix of the default bridge, such as 10.9.0.1/16"),
    Option(
        "--default-address-pool",
        "default-address-pools",
        "pools",
        (),
        "Pool for new networks: base=10.10.0.0/16,size=24",
    ),
    Option("--mtu", "mtu", "number", 0, "MTU of the default network (default: the route's)"),
    Option("--icc", "icc", "flag", True, "Let containers of the default network reach each other"),
    Option("--iptables", "iptables", "flag", True, "Write firewall rules (masquerading, published ports)"),
    Option("--ip-forward", "ip-forward", "flag", True, "Switch IPv4 forwarding on"),
    Option("--ip-masq", "ip-masq", "flag", True, "Hide containers behind the host's address"),
    Option("--ip", "ip", "text", "0.0.0.0", "Host address for published ports that name none"),
    Option("--dns", "dns", "list", (), "Name server for containers"),
    Option("--dns-opt", "dns-opts", "list", (), "Resolver option for containers"),
    Option("--dns-search", "dns-search", "list", (), "Search domain for containers"),
    Option("--host-gateway-ip", "host-gateway-ip", "text", "", "Address that host-gateway stands for"),
    Option("--label", "labels", "list", (), "Label of this daemon: KEY=VALUE"),
    Option("--log-driver", "log-driver", "text", "json-file", f"Log driver of new containers: {', '.join(DRIVERS)}"),
    Option("--log-opt", "log-opts", "map", {}, "Option of the log driver: KEY=VALUE"),
    Option("--default-shm-size", "default-shm-size", "text", "64m", "Size of /dev/shm"),
    Option("--init", "init", "flag", False, "Run an init as the first process of every container"),
    Option("--no-new-privileges", "no-new-privileges", "flag", False, "Set no-new-privileges on every container"),
    Option(
        "--pool-size",
        "pool-size",
        "number",
        MOST,
        "What starts need is made ahead for so many containers, as demand asks; 0: for none",
    ),
    Option("--pool-rate", "pool-rate", "number", RATE, "Sandboxes for containers to start in made ahead in a second"),
    Option("--live-restore", "live-restore", "flag", False, "Leave containers running when the daemon stops"),
    Option(
        "--shutdown-timeout", "shutdown-timeout", "number", 15, "Seconds containers get to stop when the daemon does"
    ),
)


@dataclass(frozen=True, slots=True)
class Config:
    """The directives after command line and file were joined; `values` has every key of `OPTIONS`."""

    values: dict[str, Any]
    file: Path | None = None
    allow_plain_tcp: bool = False
    ready_fd: int | None = None
    given: frozenset[str] = field(default_factory=frozenset)

    def text(self, key: str) -> str:
        """A directive of kind text."""
        return str(self.values[key])

    def flag(self, key: str) -> bool:
        """A directive of kind flag."""
        return bool(self.values[key])

    def number(self, key: str) -> int:
        """A directive of kind number."""
        return int(self.values[key])

    def list(self, key: str) -> tuple[str, ...]:
        """A directive of kind list."""
        return tuple(self.values[key])

    @property
    def data_root(self) -> Path:
        return Path(self.text("data-root"))

    @property
    def exec_root(self) -> Path:
        return Path(self.text("exec-root"))

    @property
    def pidfile(self) -> Path:
        return Path(self.text("pidfile")) if self.text("pidfile") else self.exec_root / "scowd.pid"

    @property
    def hosts(self) -> tuple[str, ...]:
        return self.list("hosts") or (DEFAULT_SOCKET,)

    @property
    def address_pools(self) -> tuple[tuple[str, int], ...]:
        """(base network, prefix length of each network) pairs."""
        return tuple((base, size) for base, size in self.values["default-address-pools"])


def argument_parser() -> argparse.ArgumentParser:
    """The command line of ``scowd``, made from `OPTIONS`."""
    parser = argparse.ArgumentParser(
        prog="scowd", description="Scow's daemon: serves the Docker Engine API.", allow_abbrev=False
    )
    parser.add_argument("-v", "--version", action="version", version=f"scowd version {__version__}")
    parser.add_argument(
        "--config-file", default="", metavar="PATH", help=f"Configuration file (default {DEFAULT_CONFIG_FILE})"
    )
    parser.add_argument("--validate", action="store_true", help="Check the configuration and exit")
    parser.add_argument(
        "--allow-plain-tcp",
        action="store_true",
        help="Serve TCP without TLS also beyond loopback: anyone who reaches it is root here",
    )
    parser.add_argument(
        "--ready-fd", type=int, default=None, metavar="N", help="Write one line to this descriptor once the API answers"
    )
    for option in OPTIONS:
        names = [option.short, option.flag] if option.short else [option.flag]
        metavar = option.key.rstrip("s").upper()
        if option.kind == "flag":
            parser.add_argument(
                *names, dest=option.key, nargs="?", const="true", default=None, metavar="BOOL", help=option.help
            )
        elif option.kind in ("list", "map", "pools"):
            parser.add_argument(
                *names, dest=option.key, action="append", default=None, metavar=metavar, help=option.help
            )
        else:
            parser.add_argument(*names, dest=option.key, default=None, metavar=metavar, help=option.help)
    return parser


def load(arguments: Sequence[str]) -> tuple[Config, bool]:
    """Command line and file → `Config`, and whether only a check was asked for (``--validate``).

    Raises:
        InvalidArgument: an unknown key, a value of the wrong kind, or a directive given in both places.
    """
    parsed = vars(argument_parser().parse_args(list(arguments)))
    flags = {option.key: _from_flag(option, parsed[option.key]) for option in OPTIONS if parsed[option.key] is not None}
    path = Path(parsed["config_file"] or DEFAULT_CONFIG_FILE)
    from_file: dict[str, Any] = {}
    if path.exists() or parsed["config_file"]:
        from_file = read_file(path)
    both = sorted(set(flags) & set(from_file))
    if both:
        raise InvalidArgument(
            f"the following directives are specified both as a flag and in the configuration file: {', '.join(both)}: "
            f"remove them from the command line or from {path}"
        )
    values = {option.key: option.default for option in OPTIONS} | from_file | flags
    config = Config(
        values,
        path if from_file else None,
        parsed["allow_plain_tcp"],
        parsed["ready_fd"],
        frozenset(set(flags) | set(from_file)),
    )
    check(config)
    return config, parsed["validate"]


def read_file(path: Path) -> dict[str, Any]:
    """The directives in a ``daemon.json``.

    Raises:
        InvalidArgument: unreadable, not a JSON object, an unknown key, or a value of the wrong kind.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_FILE + 1)
    except OSError as error:
        raise InvalidArgument(f"cannot read the configuration file {path}: {error.strerror}") from None
    if len(data) > MAX_CONFIG_FILE:
        raise InvalidArgument(f"the configuration file {path} is larger than 1 MiB: is it the right file?")
    try:
        content = json.loads(data or b"{}")
    except ValueError as error:
        raise InvalidArgument(f"the configuration file {path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise InvalidArgument(f"the configuration file {path} must hold one JSON object")
    known = {option.key: option for option in OPTIONS}
    unknown = sorted(set(content) - set(known))
    if unknown:
        raise InvalidArgument(
            f"the following directives don't match any configuration option: {', '.join(unknown)} (in {path})"
        )
    return {key: _from_file(known[key], value, path) for key, value in content.items()}


def check(config: Config) -> None:
    """Refuse what could only fail later, or would be unsafe.

    Raises:
        InvalidArgument: with the directive's name and what to write instead.
    """
    if config.text("log-level") not in LOG_LEVELS:
        raise InvalidArgument(f"invalid log-level {config.text('log-level')!r}: use one of {', '.join(LOG_LEVELS)}")
    if config.text("log-driver") not in DRIVERS:
        raise InvalidArgument(f"unknown log-driver {config.text('log-driver')!r}: use one of {', '.join(DRIVERS)}")
    if config.text("bip"):
        _interface("bip", config.text("bip"))
    for base, size in config.address_pools:
        if not ipaddress.ip_network(base).prefixlen <= size <= 30:
            raise InvalidArgument(f"default-address-pool {base}: size {size} must lie between its prefix and 30")
    numbers = (
        ("max-concurrent-downloads", 1),
        ("max-concurrent-uploads", 1),
        ("mtu", 0),
        ("pool-size", 0),
        ("pool-rate", 1),
    )
    for key, least in numbers:
        if config.number(key) < least:
            raise InvalidArgument(f"invalid {key}: {config.number(key)}: write {least} or more")
    if config.number("pool-size") > MAX_POOL:
        raise InvalidArgument(f"invalid pool-size: {config.number('pool-size')}: write {MAX_POOL} or less")
    for label in config.list("labels"):
        if "=" not in label:
            raise InvalidArgument(f"bad attribute format: {label}: write a label as KEY=VALUE")
    for key in ("data-root", "exec-root"):
        if not os.path.isabs(config.text(key)):
            raise InvalidArgument(f"{key} must be an absolute path, got {config.text(key)!r}")
    for mirror in config.list("registry-mirrors"):
        if not mirror.startswith(("http://", "https://")):
            raise InvalidArgument(f"invalid mirror {mirror!r}: write it as https://HOST[:PORT]")
    _check_tls(config)


def _check_tls(config: Config) -> None:
    if config.flag("tls") or config.flag("tlsverify"):
        for key in ("tlscert", "tlskey"):
            if not config.text(key):
                raise InvalidArgument(f"TLS needs --{key}: give the daemon's certificate and key")
    if config.flag("tlsverify") and not config.text("tlscacert"):
        raise InvalidArgument("--tlsverify needs --tlscacert: the authority that signs the clients' certificates")
    for key in ("tlscacert", "tlscert", "tlskey"):
        if config.text(key) and not Path(config.text(key)).is_file():
            raise InvalidArgument(f"--{key}: no such file {config.text(key)}")


def _interface(key: str, value: str) -> None:
    try:
        interface = ipaddress.ip_interface(value)
    except ValueError:
        raise InvalidArgument(
            f"invalid {key} {value!r}: write an address with its prefix, such as 10.9.0.1/16"
        ) from None
    if "/" not in value or interface.ip == interface.network.network_address:
        raise InvalidArgument(f"invalid {key} {value!r}: name the bridge's own address, such as 10.9.0.1/16")


def _from_flag(option: Option, value: Any) -> Any:
    if option.kind == "flag":
        return _boolean(option, value)
    if option.kind == "number":
        return _number(option, value)
    if option.kind == "list":
        return tuple(item for text in value for item in ([text] if option.key == "labels" else text.split(",")) if item)
    if option.kind == "map":
        return dict(_pair(option, text) for text in value)
    if option.kind == "pools":
        return tuple(_pool(dict(_pair(option, part) for part in text.split(","))) for text in value)
    return value


def _from_file(option: Option, value: Any, path: Path) -> Any:
    where = f"{option.key} in {path}"
    if option.kind == "flag" and isinstance(value, bool):
        return value
    if option.kind == "number" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if option.kind == "text" and isinstance(value, str):
        return value
    if option.kind == "list" and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if option.kind == "map" and isinstance(value, dict):
        return {str(key): str(item) for key, item in value.items()}
    if option.kind == "pools" and isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return tuple(_pool(item) for item in value)
    names = {
        "flag": "true or false",
        "number": "a number",
        "text": "a text",
        "list": "a list of texts",
        "map": "an object",
        "pools": "a list of objects",
    }
    raise InvalidArgument(f"invalid value for {where}: expected {names[option.kind]}")


def _boolean(option: Option, value: str) -> bool:
    if value.lower() in ("true", "1", "t"):
        return True
    if value.lower() in ("false", "0", "f"):
        return False
    raise InvalidArgument(f"invalid value {value!r} for {option.flag}: write true or false")


def _number(option: Option, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise InvalidArgument(f"invalid value {value!r} for {option.flag}: expected a number") from None


def _pair(option: Option, text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise InvalidArgument(f"invalid value {text!r} for {option.flag}: write KEY=VALUE")
    return key, value


def _pool(value: dict[str, Any]) -> tuple[str, int]:
    try:
        return str(ipaddress.ip_network(str(value["base"]))), int(value["size"])
    except (KeyError, ValueError, TypeError):
        raise InvalidArgument(f"invalid default-address-pool {value}: write base=10.10.0.0/16,size=24") from None
