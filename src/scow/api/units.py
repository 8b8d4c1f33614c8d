"""Sizes, durations and times as people write them and as the API does. Standard library only: the CLI imports this.

Durations and times are integers in nanoseconds, sizes integers in bytes.
"""

from __future__ import annotations

import time

from scow.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

NANOSECOND = 1
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

#: Go's duration units (time.ParseDuration).
DURATION_UNITS = {
    "ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000, "s": SECOND, "m": MINUTE, "h": HOUR,
}  # fmt: skip
BINARY = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
DECIMAL_NAMES = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
BINARY_NAMES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")

#: What Go prints for a time nobody set.
ZERO_TIME = "0001-01-01T00:00:00Z"


def parse_bytes(text: str) -> int:
    """ "512m", "1.5g", "1024", "64KiB" → bytes, counted in powers of 1024.

    Raises:
        InvalidArgument: "invalid size: 'x'".
    """
    word = text.strip().lower().replace(" ", "")
    digits = word.rstrip("bikmgtp")
    unit = word[len(digits) :]
    unit = unit if len(unit) <= 1 else unit.removesuffix("b").removesuffix("i")
    if unit not in BINARY or not _is_number(digits):
        raise InvalidArgument(f"invalid size: '{text}'")
    return int(float(digits) * BINARY[unit]) if "." in digits else int(digits) * BINARY[unit]


def human_size(size: float) -> str:
    """1234567 → "1.235MB": powers of 1000, four significant digits, as Docker's lists print."""
    return _sized(size, 1000.0, DECIMAL_NAMES)


def binary_size(size: float) -> str:
    """1234567 → "1.177MiB": powers of 1024, four significant digits, as Docker's stats print."""
    return _sized(size, 1024.0, BINARY_NAMES)


def _sized(size: float, base: float, names: tuple[str, ...]) -> str:
    index = 0
    while size >= base and index < len(names) - 1:
        size /= base
        index += 1
    return f"{size:.4g}{names[index]}"


def parse_duration(text: str) -> int:
    """Go's "1h30m", "1.5s", "300ms", "-2h" → nanoseconds.

    Raises:
        InvalidArgument: no number, or one without a unit.
    """
    word = text.strip()
    sign = -1 if word.startswith("-") else 1
    word = word[1:] if word[:1] in ("-", "+") else word
    if word == "0":
        return 0
    if not word or len(word) > 64:
        raise InvalidArgument(f"invalid duration {text[:64]!r}: expected one like 1h30m or 10s")
    total = 0
    for number, unit in _pairs(word):
        if unit not in DURATION_UNITS or not _is_number(number):
            raise InvalidArgument(f"invalid duration {text!r}: expected one like 1h30m or 10s")
        whole, _, fraction = number.partition(".")
        scale = DURATION_UNITS[unit]
        total += int(whole or "0") * scale + (int(fraction) * scale // 10 ** len(fraction) if fraction else 0)
    return sign * total


def _pairs(word: str) -> Iterator[tuple[str, str]]:
    """ "1h30m" → ("1", "h"), ("30", "m")."""
    position = 0
    while position < len(word):
        start = position
        while position < len(word) and (word[position].isdigit() or word[position] == "."):
            position += 1
        middle = position
        while position < len(word) and not (word[position].isdigit() or word[position] == "."):
            position += 1
        yield word[start:middle], word[middle:position]


def _is_number(text: str) -> bool:
    whole, _, fraction = text.partition(".")
    return (whole + fraction).isascii() and (whole + fraction).isdigit() and len(text) <= 24


def go_duration(duration: int) -> str:
    """Nanoseconds as Go prints them: "30s", "1m30s", "1h0m0s", "1.5s", "100ms", "0s"."""
    if duration < SECOND:
        for unit, length in (("ms", 1_000_000), ("µs", 1000)):
            if duration >= length:
                return f"{_decimal(duration, length)}{unit}"
        return f"{duration}ns" if duration else "0s"
    minutes, rest = divmod(duration, 60 * SECOND)
    text = f"{_decimal(rest, SECOND)}s"
    if minutes >= 60:
        return f"{minutes // 60}h{minutes % 60}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    return f"{whole}.{rest:0{len(str(unit)) - 1}d}".rstrip("0").rstrip(".")


def human_duration(duration: int) -> str:
    """Nanoseconds → "Less than a second", "5 seconds", "About an hour", "3 weeks", as Docker's lists print."""
    seconds = duration // SECOND
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    minutes = seconds // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = (duration * 2 // HOUR + 1) // 2  # to the nearest hour
    if hours == 1:
        return "About an hour"
    for limit, unit, length in ((48, "hours", 1), (24 * 7 * 2, "days", 24), (24 * 30 * 2, "weeks", 24 * 7)):
        if hours < limit:
            return f"{hours // length} {unit}"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{seconds // 3600 // 24 // 365} years"


def rfc3339(nanoseconds: int) -> str:
    """Time since 1970 → "2026-01-02T03:04:05.123456789Z", trailing zeros dropped as Go does; 0 is `ZERO_TIME`."""
    if nanoseconds <= 0:
        return ZERO_TIME
    seconds, rest = divmod(nanoseconds, SECOND)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + fraction + "Z"


def parse_rfc3339(text: str) -> int:
    """ "2026-01-02T03:04:05.5+01:00", also cut short at minutes or days, → ns since 1970. No zone means UTC.

    Raises:
        InvalidArgument: not such a time.
    """
    day, _, clock = text.strip().partition("T")
    shift = 0
    if clock.endswith(("Z", "z")):
        clock = clock[:-1]
    elif len(clock) > 6 and clock[-6] in "+-" and clock[-3] == ":" and _digits(clock[-5:-3]) and _digits(clock[-2:]):
        sign = 1 if clock[-6] == "+" else -1
        shift = sign * (int(clock[-5:-3]) * 60 + int(clock[-2:])) * 60
        clock = clock[:-6]
    clock, _, fraction = clock.partition(".")
    date, parts = day.split("-"), clock.split(":") if clock else []
    whole = [*date, *parts]
    if len(date) != 3 or len(parts) > 3 or not all(_digits(p) for p in whole) or (fraction and not _digits(fraction)):
        raise InvalidArgument(f"invalid time {text[:64]!r}: expected one like 2026-01-02T15:04:05Z")
    year, month, dayth, hour, minute, second, *_ = [int(p) for p in whole] + [0, 0, 0]
    if not (1 <= month <= 12 and 1 <= dayth <= 31 and hour < 24 and minute < 60 and second <= 60 and year < 10000):
        raise InvalidArgument(f"invalid time {text[:64]!r}: a field is out of range")
    seconds = _days(year, month, dayth) * 86400 + hour * 3600 + minute * 60 + second - shift
    return seconds * SECOND + int(fraction[:9].ljust(9, "0") if fraction else "0")


def _digits(text: str) -> bool:
    return bool(text) and text.isascii() and text.isdigit() and len(text) <= 12


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 in the Gregorian calendar (no datetime: its import costs the CLI 4 ms)."""
    year -= month <= 2
    era_year = year % 400
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return (year // 400) * 146097 + era_year * 365 + era_year // 4 - era_year // 100 + day_of_year - 719468


def parse_time(text: str, now: int | None = None) -> int:
    """A point in time as the API's ``since``, ``until`` take it → ns since 1970.

    Unix seconds with an optional fraction ("1136073600.000000001"), RFC 3339 possibly cut short, or a Go duration
    counted back from `now`.

    Raises:
        InvalidArgument: none of the three.
    """
    word = text.strip()
    if _is_number(word.removeprefix("-")):
        whole, _, fraction = word.partition(".")
        if whole.lstrip("-"):
            return int(whole) * SECOND + int(fraction[:9].ljust(9, "0") if fraction else "0")
    if word[:4].isdigit() and word[4:5] == "-":
        return parse_rfc3339(word)
    return (time.time_ns() if now is None else now) - parse_duration(word)
