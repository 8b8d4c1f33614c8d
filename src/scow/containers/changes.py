"""``docker commit --change``: a few Dockerfile instructions applied to a container's config. Pure.

Those Docker allows there: CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR.
"""

import json
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from scow.api import signal
from scow.api.units import parse_duration
from scow.containers import ports
from scow.containers.paths import clean
from scow.errors import InvalidArgument

SHELL = ["/bin/sh", "-c"]
MAX_CHANGES = 1000


def apply(config: dict[str, Any], lines: Sequence[str]) -> dict[str, Any]:
    """A copy of the image `config` object with the instructions in `lines` applied in order.

    Raises:
        InvalidArgument: an instruction that is not known or allowed, or malformed.
    """
    found = json.loads(json.dumps(config))
    if len(lines) > MAX_CHANGES:
        raise InvalidArgument("too many changes")
    for text in lines:
        for line in text.replace("\\\n", " ").splitlines():
            word, _, rest = line.strip().partition(" ")
            if not word or word.startswith("#"):
                continue
            instruction = INSTRUCTIONS.get(word.upper())
            if instruction is None:
                raise InvalidArgument(f"{word} is not a valid change command")
            if not rest.strip():
                raise InvalidArgument(f"{word.upper()} requires at least one argument")
            instruction(found, rest.strip())
    return found  # type: ignore[no-any-return]


def _command(text: str) -> list[str]:
    """The exec form if it is a JSON list, else the shell form."""
    if text.startswith("["):
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value
    return [*SHELL, text]


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InvalidArgument(f"cannot read {text[:100]!r}: {error}") from None


def _pairs(text: str, what: str) -> list[tuple[str, str]]:
    """``a=b c="d e"``, or the old ``a b c``."""
    if "=" not in text.split()[0]:
        name, _, value = text.partition(" ")
        if not value:
            raise InvalidArgument(f"{what} must have two arguments")
        return [(name, value.strip())]
    found = []
    for word in _words(text):
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InvalidArgument(f"Syntax error - can't find = in {word[:60]!r}. Must be of the form: name=value")
        found.append((name, value))
    return found


def _env(config: dict[str, Any], text: str) -> None:
    for name, value in _pairs(text, "ENV"):
        others = [entry for entry in config.get("Env") or [] if entry.partition("=")[0] != name]
        config["Env"] = [*others, f"{name}={value}"]


def _label(config: dict[str, Any], text: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **dict(_pairs(text, "LABEL"))}


def _expose(config: dict[str, Any], text: str) -> None:
    added: dict[str, Any] = {str(ports.parse(word)): {} for word in text.split()}
    config["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **added}


def _volume(config: dict[str, Any], text: str) -> None:
    paths = _command(text) if text.startswith("[") else _words(text)
    config["Volumes"] = {**(config.get("Volumes") or {}), **{clean(path): {} for path in paths}}


def _workdir(config: dict[str, Any], text: str) -> None:
    here = text if text.startswith("/") else f"{config.get('WorkingDir') or '/'}/{text}"
    config["WorkingDir"] = clean(here)


def _entrypoint(config: dict[str, Any], text: str) -> None:
    config["Entrypoint"] = _command(text)


def _cmd(config: dict[str, Any], text: str) -> None:
    config["Cmd"] = _command(text)


def _user(config: dict[str, Any], text: str) -> None:
    config["User"] = text


def _stopsignal(config: dict[str, Any], text: str) -> None:
    signal.parse(text)
    config["StopSignal"] = text


def _onbuild(config: dict[str, Any], text: str) -> None:
    config["OnBuild"] = [*(config.get("OnBuild") or []), text]


_HEALTH_FLAGS = {
    "--interval": "Interval", "--timeout": "Timeout", "--start-period": "StartPeriod",
    "--start-interval": "StartInterval", "--retries": "Retries",
}  # fmt: skip


def _healthcheck(config: dict[str, Any], text: str) -> None:
    probe: dict[str, Any] = {}
    while text.startswith("--"):
        flag, _, text = text.partition(" ")
        name, _, value = flag.partition("=")
        if name not in _HEALTH_FLAGS:
            raise InvalidArgument(f"Unknown flag: {name.lstrip('-')[:40]}")
        if name == "--retries" and not value.isdigit():
            raise InvalidArgument(f"HEALTHCHECK --retries must be a number, not {value[:40]!r}")
        probe[_HEALTH_FLAGS[name]] = int(value) if name == "--retries" else parse_duration(value)
        text = text.strip()
    kind, _, rest = text.partition(" ")
    if kind.upper() == "NONE":
        probe["Test"] = ["NONE"]
    elif kind.upper() == "CMD" and rest.strip():
        command = _command(rest.strip())
        probe["Test"] = ["CMD-SHELL", rest.strip()] if command[:2] == SHELL else ["CMD", *command]
    else:
        raise InvalidArgument(f"Unknown type {kind[:40]!r} in HEALTHCHECK (try CMD)")
    config["Healthcheck"] = probe


INSTRUCTIONS: dict[str, Callable[[dict[str, Any], str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
