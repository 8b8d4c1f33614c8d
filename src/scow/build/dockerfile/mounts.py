"""``RUN --mount=type=…``: what is put into the container of one step and never into the image. Pure."""

import csv
from dataclasses import dataclass

from scow.api.units import parse_bytes
from scow.build.dockerfile.lexer import DockerfileError
from scow.errors import InvalidArgument

TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARING = ("shared", "private", "locked")

_KEYS = {
    "target": "target", "dst": "target", "destination": "target", "source": "source", "src": "source", "from": "origin",
    "id": "id", "sharing": "sharing", "mode": "mode", "uid": "uid", "gid": "gid", "size": "size", "env": "env",
}  # fmt: skip
_SWITCHES = ("readonly", "ro", "readwrite", "rw", "required")
_ALLOWED = {
    "bind": {"target", "source", "origin"},
    "cache": {"target", "source", "origin", "id", "sharing", "mode", "uid", "gid"},
    "tmpfs": {"target", "size"},
    "secret": {"target", "id", "mode", "uid", "gid", "env"},
    "ssh": {"target", "id", "mode", "uid", "gid"},
}


@dataclass(frozen=True, slots=True)
class Mount:
    """One ``--mount``; `target` and `source` may hold variables. `mode` is octal, None for the type's default."""

    type: str
    target: str = ""
    source: str = ""
    origin: str = ""  # from=: a stage, an image, or "" for the build context (bind) or an empty folder (cache)
    readonly: bool = False
    id: str = ""
    sharing: str = "shared"
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    size: int = 0  # bytes, 0: no limit but memory
    env: str = ""
    required: bool = False


def parse_mount(text: str, line: int) -> Mount:
    """The value of one ``--mount`` flag (comma separated, CSV quoting).

    Raises:
        DockerfileError: an unknown type or key, or a missing target.
    """
    values: dict[str, str] = {"type": "bind"}
    switches: dict[str, bool] = {}
    for item in next(csv.reader([text]), []):
        key, equals, value = item.partition("=")
        key = key.strip().lower()
        if key in _SWITCHES:
            switches[key] = _boolean(key, value if equals else "true", line)
        elif key == "type":
            values["type"] = value.lower()
        elif key not in _KEYS:
            raise DockerfileError(line, f"unexpected key '{key}' in '{item}'")
        elif not equals:
            raise DockerfileError(line, f"invalid field '{item}' must be a key=value pair")
        else:
            values[_KEYS[key]] = value
    return _checked(values, switches, line)


def _checked(values: dict[str, str], switches: dict[str, bool], line: int) -> Mount:
    kind = values["type"]
    if kind not in TYPES:
        raise DockerfileError(line, f'unsupported mount type "{kind}"')
    for key in values:
        if key != "type" and key not in _ALLOWED[kind]:
            raise DockerfileError(line, f"unexpected key '{key.replace('origin', 'from')}' for mount type '{kind}'")
    if kind in ("bind", "cache", "tmpfs") and not values.get("target"):
        raise DockerfileError(line, f"invalid mount of type {kind}: target must be set")
    if kind == "secret" and not values.get("id") and not values.get("target"):
        raise DockerfileError(line, "invalid mount of type secret: one of source, target required")
    if "$" in values.get("origin", ""):
        raise DockerfileError(
            line, f"'from' doesn't support variable expansion, define alias stage instead: {values['origin']}"
        )
    sharing = values.get("sharing", "shared").lower()
    if sharing not in SHARING:
        raise DockerfileError(line, f'unsupported sharing value "{sharing}"')
    writable = switches.get("rw", switches.get("readwrite", False))
    readonly = switches.get("ro", switches.get("readonly", kind == "bind" and not writable))
    try:
        size = parse_bytes(values["size"]) if "size" in values else 0
    except InvalidArgument as error:
        raise DockerfileError(line, str(error)) from None
    return Mount(
        kind,
        values.get("target", ""),
        values.get("source", ""),
        values.get("origin", ""),
        readonly and not writable,
        values.get("id", ""),
        sharing,
        _number(values["mode"], "mode", 8, line) if "mode" in values else None,
        _number(values.get("uid", "0"), "uid", 10, line),
        _number(values.get("gid", "0"), "gid", 10, line),
        size,
        values.get("env", ""),
        switches.get("required", False),
    )


def _boolean(key: str, value: str, line: int) -> bool:
    if value.lower() not in ("true", "false", "1", "0"):
        raise DockerfileError(line, f"invalid value for {key}: {value}")
    return value.lower() in ("true", "1")


def _number(text: str, what: str, base: int, line: int) -> int:
    digits = text.removeprefix("0o") if base == 8 else text
    valid = "01234567" if base == 8 else "0123456789"
    if not digits or len(digits) > 10 or any(character not in valid for character in digits):
        raise DockerfileError(line, f"invalid value {text} for {what}")
    return int(digits, base)
