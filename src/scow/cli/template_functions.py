"""Values and functions of templates: Go's builtins and those Docker adds (json, join, split, upper, truncate, pad …).

Values are Python's: None, bool, int, float, str, list, dict. A `Fields` is a Go struct (a field that is not there is
an error), a plain dict a Go map (an entry that is not there prints "<no value>"); `NilList` and `NilMap` are empty
and print as such, but are ``null`` in JSON.
"""

from __future__ import annotations

from scow.client import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class TemplateError(Exception):
    """The template is wrong, or does not fit the value."""


class Missing:
    """What a map has at a key it lacks."""


class Fields(dict[str, "Any"]):
    """A struct, kept under its JSON names and asked by its Go names; a field it does not have is an error."""

    def field(self, name: str) -> Any:
        if name in GO_NAMES:
            name = GO_NAMES[name]
        elif name in JSON_NAMES:
            raise absent(name)
        for spelled in (name, name[:1].lower() + name[1:]):
            if spelled in self:
                return self[spelled]
        if name in ABSENT_WHEN_EMPTY:
            return None
        raise absent(name)


class RawMap(dict[str, "Any"]):
    """An object read without a type, under its JSON names; a key it does not have is an error."""

    def field(self, name: str) -> Any:
        if name not in self:
            raise absent(name)
        value = self[name]
        return Missing() if value is None else value


def absent(name: str) -> TemplateError:
    return TemplateError(f'template: :1:2: executing "" at <.{name}>: map has no entry for key "{name}"')


class RowFields(Fields):
    """One row of a list. Go marshals it with HTML's characters escaped, unlike everything else."""

    def field(self, name: str) -> Any:
        if name not in self:
            raise TemplateError(f'template: :1:2: executing "" at <.{name}>: can\'t evaluate field {name}')
        return self[name]


class NilList(list["Any"]):
    """A list that was null."""


class NilMap(dict[str, "Any"]):
    """A map that was null."""


#: Members that hold maps with keys of the user's; every other object of the API is a struct.
MAPS = frozenset(
    (
        "Labels",
        "Options",
        "DriverOpts",
        "Networks",
        "Ports",
        "PortBindings",
        "ExposedPorts",
        "Volumes",
        "Sysctls",
        "Annotations",
        "Tmpfs",
        "StorageOpt",
        "Containers",
        "AuxiliaryAddresses",
        "AuxAddress",
        "Data",
        "Metadata",
        "Runtimes",
        "Attributes",
        "Peers",
        "Services",
        "IndexConfigs",
        "LogConfig.Config",
        "Details",
        "Status",
    )
)
#: Members that are pointers: null prints "<nil>".
POINTERS = frozenset(
    (
        "Init",
        "OomKillDisable",
        "PidsLimit",
        "MemorySwappiness",
        "Healthcheck",
        "Health",
        "StopTimeout",
        "Server",
        "IPAMConfig",
        "Descriptor",
    )
)
#: Members the daemon leaves out when they are empty; asking for them is no error.
ABSENT_WHEN_EMPTY = POINTERS | frozenset(
    (
        "SizeRw",
        "SizeRootFs",
        "Shell",
        "StopSignal",
        "ArgsEscaped",
        "OnBuild",
        "NetworkDisabled",
        "MacAddress",
        "ConfigFrom",
        "UsageData",
        "Status",
        "Swarm",
        "ImageManifestDescriptor",
        "Storage",
        "Annotations",
        "Sysctls",
        "GraphDriver",
    )
)
#: Go's names of fields whose JSON name is spelled differently.
GO_NAMES = {
    "ID": "Id", "APIVersion": "ApiVersion", "DNS": "Dns", "DNSOptions": "DnsOptions", "DNSSearch": "DnsSearch",
    "CPUShares": "CpuShares",
    "NanoCPUs": "NanoCpus", "CPUPeriod": "CpuPeriod", "CPUQuota": "CpuQuota", "CPURealtimePeriod": "CpuRealtimePeriod",
    "CPURealtimeRuntime": "CpuRealtimeRuntime", "CPUCount": "CpuCount", "CPUPercent": "CpuPercent",
}  # fmt: skip
JSON_NAMES = frozenset(GO_NAMES.values())


def structure(value: Any, key: str = "", parent: str = "") -> Any:
    """JSON from the API as typed values: objects become structs but for those that are maps."""
    if isinstance(value, dict):
        if key in MAPS or f"{parent}.{key}" in MAPS:
            return {name: structure(item) for name, item in value.items()}
        kind = plain_fields(value)
        return kind(
            (name, structure(item, name, key) if item is not None else _nil(name)) for name, item in value.items()
        )
    if isinstance(value, list):
        return [structure(item) for item in value]
    return value


def plain_fields(value: dict[str, Any]) -> type[Fields]:
    """The struct for an object; one that says "ID" itself is asked by that name."""
    return OwnID if "ID" in value else Fields


class OwnID(Fields):
    """A struct whose JSON name for the id is Go's already."""

    def field(self, name: str) -> Any:
        return self["ID"] if name == "ID" else super().field(name)


def untyped(value: Any) -> Any:
    """JSON from the API as Go reads it without a type: what `inspect` falls back to."""
    if isinstance(value, dict):
        return RawMap((name, untyped(item)) for name, item in value.items())
    if isinstance(value, list):
        return [untyped(item) for item in value]
    return value


def _nil(key: str) -> Any:
    if key in POINTERS:
        return None
    return NilMap() if key in MAPS else NilList()


def truth(value: Any) -> bool:
    """Whether Go takes `value` for true: a struct always is, anything empty or zero is not."""
    if isinstance(value, Fields):
        return True
    return not isinstance(value, Missing) and bool(value)


def printed(value: Any) -> str:
    """`value` at the top of an action, as Go prints it."""
    if isinstance(value, Missing):
        return "<no value>"
    return formatted(value)


def formatted(value: Any) -> str:
    """``%v``."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, Missing):
        return "<nil>"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int | float):
        return jsontext.number(value)
    if isinstance(value, Fields):
        return "{" + " ".join(formatted(item) for item in value.values() if not callable(item)) + "}"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{formatted(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(formatted, value)) + "]"
    raise TemplateError("can't print a function: it needs arguments")


def plain(value: Any) -> Any:
    """`value` ready for JSON: nil lists and maps as null, no methods; maps with their keys in order."""
    if isinstance(value, NilList | NilMap | Missing):
        return None
    if isinstance(value, Fields):
        return {key: plain(item) for key, item in value.items() if not callable(item)}
    if isinstance(value, dict):
        return {key: plain(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def to_json(value: Any) -> str:
    text = jsontext.dumps(plain(value))
    if isinstance(value, RowFields):
        text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return text


def _text(value: object, name: str) -> str:
    """`value`, which function `name` needs as text."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: wrong type for value; expected string; got {type(value).__name__}")
    return value


def join(items: Any, separator: str = "") -> str:
    if isinstance(items, str):
        raise TypeError("expected slice, got string")
    return separator.join(formatted(item) for item in items or ())


def split(text: Any, separator: str) -> list[str]:
    known = _text(text, "split")
    return known.split(separator) if separator else list(known)


def title(text: Any) -> str:
    out, start = [], True
    for char in _text(text, "title"):
        out.append(char.title() if start else char)
        start = not (char.isalnum() or char in "_'")
    return "".join(out)


def pad(text: Any, before: int, after: int) -> str:
    known = _text(text, "pad")
    return " " * before + known + " " * after if known else known


def truncate(text: Any, limit: int) -> str:
    return _text(text, "truncate")[:limit]


def index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            if not isinstance(key, str):
                raise TypeError(f"value has type {type(key).__name__}; should be string")
            value = value.get(key, "")
        elif isinstance(value, list | str):
            if not isinstance(key, int) or isinstance(key, bool):
                raise TypeError(f"cannot index slice/array with type {type(key).__name__}")
            if not 0 <= key < len(value):
                raise IndexError(f"index out of range: {key}")
            value = ord(value[key]) if isinstance(value, str) else value[key]
        else:
            raise TypeError(
                "index of untyped nil" if value is None else f"can't index item of type {type(value).__name__}"
            )
    return value


def cut(value: Any, *bounds: int) -> Any:
    """``slice``."""
    low = bounds[0] if bounds else 0
    high = bounds[1] if len(bounds) > 1 else len(value)
    if not 0 <= low <= high <= len(value):
        raise IndexError(f"index out of range: {high}")
    return value[low:high]


def length(value: Any) -> int:
    if not isinstance(value, str | list | dict):
        raise TypeError("len of nil pointer" if value is None else f"len of type {type(value).__name__}")
    return len(value.encode()) if isinstance(value, str) else len(value)


def equal(first: Any, *others: Any) -> bool:
    if not others:
        raise TypeError("missing argument for comparison")
    return any(_same(first, other) for other in others)


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Missing):
        first = None
    if isinstance(second, Missing):
        second = None
    if first is None or second is None:
        return first is second
    if isinstance(first, bool) != isinstance(second, bool) or isinstance(first, str) != isinstance(second, str):
        raise TypeError("incompatible types for comparison")
    return bool(first == second)


def _less(first: Any, second: Any) -> bool:
    if isinstance(first, bool) or isinstance(first, str) != isinstance(second, str):
        raise TypeError("incompatible types for comparison")
    return bool(first < second)


def print_values(*values: Any) -> str:
    """``print``: blanks between operands when neither is text."""
    out = ""
    for position, value in enumerate(values):
        if position and not isinstance(value, str) and not isinstance(values[position - 1], str):
            out += " "
        out += formatted(value)
    return out


def print_line(*values: Any) -> str:
    return " ".join(map(formatted, values)) + "\n"


def printf(form: Any, *values: Any) -> str:
    """Go's verbs s d v q x X t f g e c U % with flags, width and precision."""
    form = _text(form, "printf")
    out: list[str] = []
    rest = list(values)
    at = 0
    while at < len(form):
        if form[at] != "%":
            out.append(form[at])
            at += 1
            continue
        end = at + 1
        while end < len(form) and form[end] in "-+# 0123456789.":
            end += 1
        verb = form[end : end + 1]
        if verb == "%":
            out.append("%")
        elif not verb:
            out.append("%!(NOVERB)")
        elif not rest:
            out.append(f"%!{verb}(MISSING)")
        else:
            out.append(_verb(form[at + 1 : end], verb, rest.pop(0)))
        at = end + 1
    return "".join(out)


def go_type(value: Any) -> str:
    """The name Go has for the type of `value`."""
    names = {str: "string", bool: "bool", int: "int", float: "float64", list: "[]interface {}", type(None): "<nil>"}
    return names.get(type(value), "map[string]interface {}")


def _verb(flags: str, verb: str, value: Any) -> str:
    width, _, precision = flags.lstrip("-+# 0").partition(".")
    if len(width) > 4 or len(precision) > 4:
        raise ValueError("width or precision out of range")
    text = _converted(flags, verb, value, precision)
    if "-" in flags[: len(flags) - len(flags.lstrip("-+# 0"))]:
        return text.ljust(int(width or 0))
    zero = "0" in flags[: len(flags) - len(flags.lstrip("-+# 0"))] and verb not in "sqv"
    return text.zfill(int(width or 0)) if zero else text.rjust(int(width or 0))


def _converted(flags: str, verb: str, value: Any, precision: str) -> str:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if verb in "vs" and (verb == "v" or isinstance(value, str | list | dict)):
        text = formatted(value)
        return text[: int(precision)] if precision and isinstance(value, str) else text
    if verb == "q" and isinstance(value, str):
        return jsontext.dumps(value)
    if verb == "d" and whole:
        return f"{value:+d}" if "+" in flags else str(value)
    if verb in "xX" and (whole or isinstance(value, str)):
        text = f"{value:x}" if whole else value.encode().hex()
        return text.upper() if verb == "X" else text
    if verb == "t" and isinstance(value, bool):
        return formatted(value)
    if verb in "fge" and isinstance(value, float):
        return f"{value:.{precision or '6'}{verb}}" if verb != "g" or precision else formatted(value)
    if verb == "T":
        return go_type(value)
    if verb in "cbo" and whole:
        return chr(value) if verb == "c" else f"{value:{verb}}"
    return f"%!{verb}({'string=' if isinstance(value, str) else ''}{formatted(value)})"


def escape_html(*values: Any) -> str:
    text = print_values(*values)
    for char, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"), ("'", "&#39;")):
        text = text.replace(char, name)
    return text


def escape_query(*values: Any) -> str:
    from scow.client.client import quote

    return quote(print_values(*values)).replace("%20", "+")


def escape_js(*values: Any) -> str:
    text = print_values(*values).replace("\\", "\\\\").replace("'", "\\'").replace('"', '\\"')
    return text.replace("\n", "\\n").replace("<", "\\u003C").replace(">", "\\u003E")


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": lambda *values: values, "or": lambda *values: values,  # evaluated by the template itself
    "not": lambda value: not truth(value),
    "eq": equal,
    "ne": lambda first, second: not _same(first, second),
    "lt": _less,
    "le": lambda first, second: _less(first, second) or _same(first, second),
    "gt": lambda first, second: not _less(first, second) and not _same(first, second),
    "ge": lambda first, second: not _less(first, second),
    "len": length, "index": index, "slice": cut,
    "print": print_values, "println": print_line, "printf": printf,
    "html": escape_html, "urlquery": escape_query, "js": escape_js,
    "json": to_json, "join": join, "split": split,
    "lower": lambda text: _text(text, "lower").lower(), "upper": lambda text: _text(text, "upper").upper(),
    "title": title, "pad": pad, "truncate": truncate,
}  # fmt: skip

#: In the heading of a table the functions leave the column's title alone.
HEADING_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": lambda text: text,
    "title": lambda text: text,
    "lower": lambda text: text,
    "upper": lambda text: text,
    "truncate": lambda text, _: text,
}
