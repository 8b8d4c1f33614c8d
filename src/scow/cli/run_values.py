"""Parsers for the values of ``run`` and ``create``: one word of the command line → one piece of the API's object.

Pure but for the files that ``--env-file``, ``--label-file`` and ``seccomp=PATH`` name. Errors are Docker's sentences.
"""

from __future__ import annotations

import os

from scow.api import units
from scow.cli.flags import Kind, commas, integer, pair
from scow.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_FILE = 16 << 20

PROTOCOLS = ("tcp", "udp", "sctp")
ULIMITS = frozenset(
    [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ]
)


# ---- words checked while the command line is read ------------------------------------------------


def env_word(text: str) -> str:
    """ "NAME=value", or "NAME" for the caller's own value ("NAME" stays bare when it has none)."""
    name, equals, _ = text.partition("=")
    if not name:
        raise InvalidArgument(f"invalid environment variable: {text}")
    if equals or name not in os.environ:
        return text
    return f"{name}={os.environ[name]}"


def label_word(text: str) -> str:
    name = text.partition("=")[0]
    if not name.strip():
        raise InvalidArgument(f"invalid label '{text}': empty name")
    return text


def sysctl_word(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidArgument(f"sysctl '{text}' is not allowed")
    return name, value


def ulimit_word(text: str) -> dict[str, Any]:
    """ "nofile=1024:2048" → {"Name": "nofile", "Soft": 1024, "Hard": 2048}."""
    name, equals, limits = text.partition("=")
    if not equals:
        raise InvalidArgument(f"invalid ulimit argument: {text}")
    if name not in ULIMITS:
        raise InvalidArgument(f"invalid ulimit type: {name}")
    soft_text, colon, hard_text = limits.partition(":")
    soft = integer(soft_text)
    hard = integer(hard_text) if colon else soft
    if hard >= 0 and (soft > hard or soft < 0):
        raise InvalidArgument(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return {"Name": name, "Soft": soft, "Hard": hard}


def attach_word(text: str) -> str:
    word = text.lower()
    if word not in ("stdin", "stdout", "stderr"):
        raise InvalidArgument("valid streams are STDIN, STDOUT and STDERR")
    return word


def host_word(text: str) -> str:
    """ "name:address" or "name=address" → "name:address"."""
    separator = "=" if "=" in text else ":"
    name, found, address = text.partition(separator)
    address = address.removeprefix("[").removesuffix("]") if found else ""
    if not name or not address:
        raise InvalidArgument(f'bad format for add-host: "{text}"')
    if address != "host-gateway" and not is_address(address):
        raise InvalidArgument(f'invalid IP address in add-host: "{address}"')
    return f"{name}:{address}"


def address_word(text: str) -> str:
    if not is_address(text):
        raise InvalidArgument(f"IP address is not correctly formatted: {text}")
    return text


def is_address(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address."""
    from _socket import AF_INET, AF_INET6, inet_pton

    for family in (AF_INET, AF_INET6):
        try:
            inet_pton(family, text.partition("%")[0])
        except (OSError, ValueError):
            continue
        return True
    return False


def link_word(text: str) -> str:
    name, colon, alias = text.partition(":")
    if not name or ":" in alias:
        raise InvalidArgument(f"bad format for links: {text}")
    return text if colon else f"{name}:{name}"


def weight_word(text: str) -> dict[str, Any]:
    """ "/dev/sda:500" → {"Path": "/dev/sda", "Weight": 500}."""
    path, colon, weight = text.partition(":")
    if not colon or not path.startswith("/dev/"):
        raise InvalidArgument(f"bad format for device path: {text}" if colon else f"bad format: {text}")
    if not weight.isdigit() or not (int(weight) == 0 or 10 <= int(weight) <= 1000):
        raise InvalidArgument(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": int(weight)}


def bps_word(text: str) -> dict[str, Any]:
    """ "/dev/sda:1mb" → {"Path": "/dev/sda", "Rate": 1048576}."""
    path, rate = _throttled(text)
    return {"Path": path, "Rate": units.parse_bytes(rate)}


def iops_word(text: str) -> dict[str, Any]:
    path, rate = _throttled(text)
    if not rate.isdigit():
        raise InvalidArgument(f"invalid rate for device: {text}. The correct format is <device-path>:<number>")
    return {"Path": path, "Rate": int(rate)}


def _throttled(text: str) -> tuple[str, str]:
    path, colon, rate = text.rpartition(":")
    if not colon or not path.startswith("/dev/"):
        raise InvalidArgument(f"bad format for device path: {text}" if colon else f"bad format: {text}")
    return path, rate


def rule_word(text: str) -> str:
    """A device cgroup rule: "c 1:3 rwm"."""
    parts = text.split()
    numbers = parts[1].split(":") if len(parts) == 3 else []
    if (
        len(numbers) != 2
        or parts[0] not in ("a", "b", "c")
        or not all(number == "*" or number.isdigit() for number in numbers)
        or not parts[2]
        or set(parts[2]) - set("rwm")
    ):
        raise InvalidArgument(f"invalid device cgroup format '{text}'")
    return text


def gpus_word(text: str) -> dict[str, Any]:
    """ "all", "2", "device=0,1" → a device request."""
    request: dict[str, Any] = {"Capabilities": [["gpu"]]}
    for field in commas(text):
        key, equals, value = field.partition("=")
        if not equals:
            request["Count"] = -1 if key == "all" else integer(key)
        elif key == "count":
            request["Count"] = -1 if value == "all" else integer(value)
        elif key == "device":
            request["DeviceIDs"] = value.split(",")
        elif key == "driver":
            request["Driver"] = value
        elif key == "capabilities":
            request["Capabilities"] = [[*value.split(","), "gpu"]]
        elif key == "options":
            request["Options"] = dict(item.partition("=")[::2] for item in value.split(","))
        else:
            raise InvalidArgument(f"unexpected key '{key}' in '{field}'")
    if "DeviceIDs" not in request:
        request.setdefault("Count", 1)
    return request


# ---- words checked when the object is made -------------------------------------------------------


def device(text: str) -> dict[str, str]:
    """ "/dev/a[:/dev/b][:rwm]" → a device mapping."""
    parts = text.split(":")
    if len(parts) > 3 or not parts[0]:
        raise InvalidArgument(f"invalid device specification: {text}")
    permissions = "rwm"
    inside = parts[0]
    if len(parts) == 2 and parts[1] and not set(parts[1]) - set("rwm"):
        permissions = parts[1]
    elif len(parts) > 1:
        inside = parts[1] or parts[0]
    if len(parts) == 3:
        permissions = parts[2]
        if not permissions or set(permissions) - set("rwm"):
            raise InvalidArgument(f"bad mode specified: {permissions}")
    return {"PathOnHost": parts[0], "PathInContainer": inside, "CgroupPermissions": permissions}


def port_numbers(text: str, what: str) -> tuple[int, int]:
    """ "80" → (80, 80); "80-82" → (80, 82)."""
    first, dash, last = text.partition("-")
    if not (first.isdigit() and (last.isdigit() if dash else True)):
        raise InvalidArgument(f"invalid {what}: {text}")
    low, high = int(first), int(last) if dash else int(first)
    if high < low or high > 65535:
        raise InvalidArgument(f"invalid {what}: {text}")
    return low, high


def exposed(text: str) -> list[str]:
    """ "80-81/udp" → ["80/udp", "81/udp"]."""
    if ":" in text:
        raise InvalidArgument(f"invalid port format for --expose: {text}")
    ports, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    try:
        low, high = port_numbers(ports, "range format for --expose")
    except InvalidArgument as error:
        raise InvalidArgument(f"{error}, error: invalid port") from None
    return [f"{port}/{protocol}" for port in range(low, high + 1)]


def published(text: str) -> list[tuple[str, dict[str, str]]]:
    """ "127.0.0.1:8080-8081:80-81/tcp" → [("80/tcp", {"HostIp": …, "HostPort": "8080"}), …]."""
    if "=" in text:
        return _published_long(text)
    front, slash, protocol = text.rpartition("/")
    if not slash:
        front, protocol = text, "tcp"
    protocol = protocol.lower()
    if protocol not in PROTOCOLS:
        raise InvalidArgument(f"invalid proto: {protocol}")
    rest, _, container = front.rpartition(":")
    if not container:
        raise InvalidArgument(f"no port specified: {text}<empty>")
    address, _, host = rest.rpartition(":")
    address = address.removeprefix("[").removesuffix("]")
    if address and not is_address(address):
        raise InvalidArgument(f"invalid IP address: {address}")
    first, last = port_numbers(container, "containerPort")
    if not host:
        return [(f"{port}/{protocol}", {"HostIp": address, "HostPort": ""}) for port in range(first, last + 1)]
    low, high = port_numbers(host, "hostPort")
    if high - low != last - first:
        if first != last:
            raise InvalidArgument(f"invalid ranges specified for container and host Ports: {container} and {host}")
        return [(f"{first}/{protocol}", {"HostIp": address, "HostPort": host})]
    return [
        (f"{first + step}/{protocol}", {"HostIp": address, "HostPort": str(low + step)})
        for step in range(last - first + 1)
    ]


def _published_long(text: str) -> list[tuple[str, dict[str, str]]]:
    """ "target=80,published=8080,protocol=tcp"."""
    values = {"protocol": "tcp", "published": "", "target": ""}
    for field in commas(text):
        key, _, value = field.partition("=")
        if key == "mode":
            if value not in ("host", "ingress"):
                raise InvalidArgument(f"invalid publish mode value ({value}): must be either 'ingress' or 'host'")
            continue
        if key not in values:
            raise InvalidArgument(f"invalid field key {key}")
        values[key] = value
    return published(f"{values['published']}:{values['target']}/{values['protocol']}")


def volume(text: str) -> tuple[str, str]:
    """ "/data" → ("", "/data") for an anonymous volume; others → (bind as sent, target)."""
    parts = text.split(":")
    if len(parts) > 3:
        raise InvalidArgument(f"invalid spec: {text}: too many colons")
    if not all(parts):
        raise InvalidArgument(f"invalid spec: {text}: empty section between colons")
    if len(parts) == 1:
        return "", text
    if parts[0].startswith("."):
        parts[0] = os.path.abspath(parts[0])
    elif parts[0].startswith("~"):
        parts[0] = os.path.expanduser(parts[0])
    return ":".join(parts), parts[1]


def environment(words: list[str], files: list[str]) -> list[str]:
    """--env-file and --env as the API's list; a bare name removes the variable."""
    found: list[str] = []
    for path in files:
        for line in file_lines(path):
            name, equals, _ = line.partition("=")
            if not name or any(blank in name for blank in " \t"):
                raise InvalidArgument(
                    f"invalid env file ({path}): variable '{name}' contains whitespaces"
                    if name
                    else f"invalid env file ({path}): no variable name on line '{line}'"
                )
            if equals:
                found.append(line)
            elif name in os.environ:
                found.append(f"{name}={os.environ[name]}")
    return found + words


def labels(words: list[str], files: list[str] | None = None) -> dict[str, str]:
    """--label-file and --label as a mapping."""
    lines = [line for path in files or [] for line in file_lines(path)]
    return dict(pair(label_word(line)) for line in [*lines, *words])


def file_lines(path: str) -> list[str]:
    """Lines of a file without blank ones and comments, blanks at their start gone.

    Raises:
        InvalidArgument: it cannot be read, or is no text.
    """
    text = read_file(path)
    return [line.lstrip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def read_file(path: str) -> str:
    """A text file.

    Raises:
        InvalidArgument: it cannot be read, is too long, or is no UTF-8.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise InvalidArgument(f"open {path}: {(error.strerror or '').lower()}") from None
    if len(data) > MAX_FILE:
        raise InvalidArgument(f"{path} is longer than {MAX_FILE >> 20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidArgument(f"{path} contains invalid utf8 bytes") from None


def restart_policy(text: str) -> dict[str, Any]:
    """ "on-failure:3" → {"Name": "on-failure", "MaximumRetryCount": 3}."""
    name, colon, count = text.partition(":")
    if colon and not name:
        raise InvalidArgument("invalid restart policy format: no policy provided before colon")
    if colon and not count.lstrip("-").isdigit():
        raise InvalidArgument("invalid restart policy format: maximum retry count must be an integer")
    return {"Name": name, "MaximumRetryCount": int(count) if colon else 0}


def security(words: list[str]) -> tuple[list[str], bool]:
    """--security-opt as sent: profiles by path are read; whether ``systempaths=unconfined`` was among them."""
    found = []
    open_paths = False
    for word in words:
        key, equals, value = word.partition("=")
        if not equals and word not in ("no-new-privileges", "writable-cgroups"):
            key, colon, value = word.partition(":")
            if not colon:
                raise InvalidArgument(f'Invalid --security-opt: "{word}"')
        if key == "systempaths" and value == "unconfined":
            open_paths = True
        elif key == "seccomp" and value not in ("unconfined", "builtin"):
            try:
                found.append(f"seccomp={compact(read_file(value))}")
            except InvalidArgument as error:
                raise InvalidArgument(f"opening seccomp profile ({value}) failed: {error}") from None
        else:
            found.append(word)
    return found, open_paths


def compact(text: str) -> str:
    """JSON without its white space."""
    from scow.client import jsontext
    from scow.errors import System

    try:
        return jsontext.dumps(jsontext.loads(text))
    except System:
        raise InvalidArgument("it is not valid JSON") from None


ENV = Kind("list", [], env_word, many=True)
LABEL = Kind("list", [], label_word, many=True)
SYSCTL = Kind("map", [], sysctl_word, many=True)
ULIMIT = Kind("ulimit", [], ulimit_word, many=True)
ATTACH = Kind("list", [], attach_word, many=True)
HOST = Kind("list", [], host_word, many=True)
ADDRESS = Kind("list", [], address_word, many=True)
LINK = Kind("list", [], link_word, many=True)
WEIGHT = Kind("list", [], weight_word, many=True)
BPS = Kind("list", [], bps_word, many=True)
IOPS = Kind("list", [], iops_word, many=True)
RULE = Kind("list", [], rule_word, many=True)
GPUS = Kind("gpu-request", [], gpus_word, many=True)
