"""``SecurityOpt``: the list of words in a create request, parsed. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scow.errors import InvalidArgument

#: A bound for a seccomp profile sent along (Docker's own default has 13 kB).
MAX_PROFILE = 1 << 20


@dataclass(frozen=True, slots=True)
class Security:
    """What the options ask for.

    `seccomp` is "default", "unconfined" or a profile in Docker's JSON format; `apparmor` the profile's name or "";
    `system_paths` False leaves /proc and /sys unmasked.
    """

    seccomp: str | dict[str, Any] = "default"
    no_new_privileges: bool = False
    apparmor: str = ""
    labels: tuple[str, ...] = ()
    system_paths: bool = True
    writable_cgroups: bool = False


def parse(options: Sequence[str], *, no_new_privileges: bool = False) -> Security:
    """Read ``name=value`` (or ``name:value``, as old clients write) words.

    Raises:
        InvalidArgument: an unknown option or a value it cannot have.
    """
    found: dict[str, Any] = {"no_new_privileges": no_new_privileges}
    labels: list[str] = []
    for option in options:
        name, value = _split(option)
        if name == "label":
            labels.append(value)
        elif name == "apparmor":
            found["apparmor"] = value
        elif name == "seccomp":
            found["seccomp"] = _seccomp(value)
        elif name == "no-new-privileges":
            found["no_new_privileges"] = _truth(option, value or "true")
        elif name == "writable-cgroups":
            found["writable_cgroups"] = _truth(option, value or "true")
        elif name == "systempaths" and value == "unconfined":
            found["system_paths"] = False
        else:
            raise InvalidArgument(f'invalid --security-opt 2: "{option[:200]}"')
    return Security(labels=tuple(labels), **found)


def _split(option: str) -> tuple[str, str]:
    if option in ("no-new-privileges", "writable-cgroups"):
        return option, ""
    for separator in ("=", ":"):
        name, found, value = option.partition(separator)
        if found and name and value:
            return name, value
    raise InvalidArgument(f'invalid --security-opt 1: "{option[:200]}"')


def _truth(option: str, value: str) -> bool:
    if value.lower() in ("1", "t", "true"):
        return True
    if value.lower() in ("0", "f", "false"):
        return False
    raise InvalidArgument(f'invalid --security-opt 2: "{option[:200]}"')


def _seccomp(value: str) -> str | dict[str, Any]:
    if value == "unconfined":
        return value
    if value == "builtin":
        return "default"
    if len(value) > MAX_PROFILE:
        raise InvalidArgument("the seccomp profile is larger than a megabyte")
    try:
        profile = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(
            f"decoding seccomp profile failed: {error}: give the profile's JSON text, unconfined or builtin"
        ) from None
    if not isinstance(profile, dict):
        raise InvalidArgument("decoding seccomp profile failed: expected a JSON object")
    return profile
