"""Sizes, times and ids as Docker's lists print them. Pure."""

import time

from scow.api import units

LONGEST_COMMAND = 20
SHORT_ID = 12


def size(value: float) -> str:
    """1234567 → "1.23MB": powers of 1000, three significant digits."""
    for name in units.DECIMAL_NAMES[:-1]:
        if value < 1000:
            return f"{_three(value)}{name}"
        value /= 1000
    return f"{_three(value)}{units.DECIMAL_NAMES[-1]}"


def _three(value: float) -> str:
    return f"{value:.3g}"


def ago(nanoseconds: int) -> str:
    """Time since 1970 → "2 minutes ago"."""
    return f"{units.human_duration(time.time_ns() - nanoseconds)} ago"


def moment(nanoseconds: int) -> str:
    """Time since 1970 as Go's ``time.Time`` prints it, in the local zone: "2026-01-02 03:04:05 +0000 UTC"."""
    local = time.localtime(nanoseconds // units.SECOND)
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", local)


def local_rfc3339(nanoseconds: int, digits: bool = True) -> str:
    """Time since 1970 in the local zone: "2026-01-02T03:04:05.000000000Z" or with "+01:00"."""
    seconds, rest = divmod(nanoseconds, units.SECOND)
    local = time.localtime(seconds)
    zone = time.strftime("%z", local)
    shown = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    return time.strftime("%Y-%m-%dT%H:%M:%S", local) + (f".{rest:09d}" if digits else "") + shown


def short(identifier: str) -> str:
    """The first twelve characters of an id, its algorithm left out."""
    return identifier.partition(":")[2][:SHORT_ID] if ":" in identifier else identifier[:SHORT_ID]


def ellipsis(text: str, limit: int) -> str:
    """`text`, cut to `limit` characters with "…" as the last one."""
    if len(text) <= limit:
        return text
    return text[: limit - 1] + "…" if limit > 1 else text[:limit]


def labels_text(labels: dict[str, str] | None) -> str:
    """Labels as lists show them: "a=1,b=2", in order."""
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items()))


def moment_nanoseconds(nanoseconds: int) -> str:
    """`moment` with the fraction of the second: "2026-01-02 03:04:05.678 +0000 UTC"."""
    fraction = f".{nanoseconds % units.SECOND:09d}".rstrip("0").rstrip(".")
    text = moment(nanoseconds)
    return text[:19] + fraction + text[19:]
