"""``--mount`` and ``--network`` in their long form: one CSV record of key=value → the API's object. Pure."""

from __future__ import annotations

import os

from scow.api import units
from scow.cli.flags import FALSE, TRUE, Kind, commas, integer
from scow.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TYPES = ("bind", "cluster", "image", "npipe", "tmpfs", "volume")
_SPELLINGS = {"src": "source", "target": "destination", "dst": "destination", "ro": "readonly"}


def mount(text: str) -> dict[str, Any]:
    """ "type=bind,source=/a,target=/b,readonly" → a Mount.

    Raises:
        InvalidArgument: unknown key, wrong type for a key, no target.
    """
    found: dict[str, Any] = {"Type": "volume"}
    for field in commas(text):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        key = _SPELLINGS.get(key, key)
        if not equals and key not in ("readonly", "volume-nocopy", "bind-nonrecursive"):
            raise InvalidArgument(f"invalid field '{field}' must be a key=value pair")
        _mount_field(found, key, value if equals else "true", field)
    _check(found, text)
    return found


def _mount_field(found: dict[str, Any], key: str, value: str, field: str) -> None:
    if key == "type":
        found["Type"] = value.lower()
    elif key == "source":
        found["Source"] = os.path.abspath(value) if value in (".", "..") or value.startswith(("./", "../")) else value
    elif key == "destination":
        found["Target"] = value
    elif key == "readonly":
        found["ReadOnly"] = _flag(key, value)
    elif key == "consistency":
        found["Consistency"] = value.lower()
    elif key in _NESTED:
        group, name, convert = _NESTED[key]
        found.setdefault(group, {})[name] = convert(key, value)
    elif key == "bind-recursive":
        _recursive(found, value)
    elif key == "volume-label":
        name, _, text = value.partition("=")
        found.setdefault("VolumeOptions", {}).setdefault("Labels", {})[name] = text
    elif key in ("volume-driver", "volume-opt"):
        config = found.setdefault("VolumeOptions", {}).setdefault("DriverConfig", {})
        if key == "volume-driver":
            config["Name"] = value
        else:
            name, _, text = value.partition("=")
            config.setdefault("Options", {})[name] = text
    else:
        raise InvalidArgument(f"unexpected key '{key}' in '{field}'")


def _flag(key: str, value: str) -> bool:
    if value in TRUE or value in FALSE:
        return value in TRUE
    raise InvalidArgument(f"invalid value for {key}: {value}")


def _size(key: str, value: str) -> int:
    try:
        return units.parse_bytes(value)
    except InvalidArgument:
        raise InvalidArgument(f"invalid value for {key}: {value}") from None


def _mode(key: str, value: str) -> int:
    try:
        return int(value, 8)
    except ValueError:
        raise InvalidArgument(f"invalid value for {key}: {value}") from None


def _word(key: str, value: str) -> str:
    return value.lower() if key == "bind-propagation" else value


#: key → where it goes and how it is read.
_NESTED: dict[str, tuple[str, str, Any]] = {
    "bind-propagation": ("BindOptions", "Propagation", _word),
    "bind-nonrecursive": ("BindOptions", "NonRecursive", _flag),
    "bind-create-src": ("BindOptions", "CreateMountpoint", _flag),
    "volume-nocopy": ("VolumeOptions", "NoCopy", _flag),
    "volume-subpath": ("VolumeOptions", "Subpath", _word),
    "image-subpath": ("ImageOptions", "Subpath", _word),
    "tmpfs-size": ("TmpfsOptions", "SizeBytes", _size),
    "tmpfs-mode": ("TmpfsOptions", "Mode", _mode),
}
#: Options that belong to one type.
_OWNERS = {
    "BindOptions": ("bind", "bind-*"),
    "VolumeOptions": ("volume", "volume-*"),
    "ImageOptions": ("image", "image-*"),
    "TmpfsOptions": ("tmpfs", "tmpfs-*"),
}


def _recursive(found: dict[str, Any], value: str) -> None:
    options = found.setdefault("BindOptions", {})
    if value == "enabled":
        return
    if value == "disabled":
        options["NonRecursive"] = True
    elif value == "writable":
        options["ReadOnlyNonRecursive"] = True
    elif value == "readonly":
        options["ReadOnlyForceRecursive"] = True
    else:
        raise InvalidArgument(
            f'invalid value for bind-recursive: {value} (must be "enabled", "disabled", "writable", or "readonly")'
        )


def _check(found: dict[str, Any], text: str) -> None:
    kind = found["Type"]
    if kind not in TYPES:
        raise InvalidArgument(f"invalid mount type '{kind}': expected one of {', '.join(TYPES)}")
    if not found.get("Target"):
        raise InvalidArgument("target is required")
    for group, (owner, keys) in _OWNERS.items():
        if group in found and kind != owner:
            raise InvalidArgument(f"cannot mix '{keys}' options with mount type '{kind}'")
    if kind == "bind" and not found.get("Source"):
        raise InvalidArgument(f"invalid mount '{text}': a bind mount needs a source")


def network(text: str) -> dict[str, Any]:
    """ "net" or "name=net,alias=a,ip=10.0.0.2" → {"Target", "Aliases", "IPv4", "IPv6", "Mac", "DriverOpts",
    "Priority"}.

    Raises:
        InvalidArgument: unknown key, or no name.
    """
    found: dict[str, Any] = {"Target": "", "Aliases": [], "IPv4": "", "IPv6": "", "Mac": "", "LinkLocal": []}
    found |= {"DriverOpts": {}, "Priority": 0}
    if "=" not in text:
        found["Target"] = text
        return found
    for field in commas(text):
        key, equals, value = (part.strip() for part in field.partition("="))
        if not equals:
            raise InvalidArgument(f"invalid key/value pair format in network options: {field}")
        if key == "name":
            found["Target"] = value
        elif key == "alias":
            found["Aliases"].append(value)
        elif key == "link-local-ip":
            found["LinkLocal"].append(value)
        elif key in _NETWORK:
            found[_NETWORK[key]] = value
        elif key == "driver-opt":
            name, mark, option = value.partition("=")
            if not mark:
                raise InvalidArgument(f"invalid key value pair format in driver options: {value}")
            found["DriverOpts"][name.strip().lower()] = option.strip()
        elif key == "gw-priority":
            found["Priority"] = integer(value)
        else:
            raise InvalidArgument(f"invalid field key {key}")
    if not found["Target"]:
        raise InvalidArgument("network name/id is not specified")
    return found


_NETWORK = {"ip": "IPv4", "ip6": "IPv6", "mac-address": "Mac"}

MOUNT = Kind("mount", [], mount, many=True)
NETWORK = Kind("network", [], network, many=True)
