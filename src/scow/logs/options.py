"""Docker's ``--log-opt`` options: which ones a driver knows, what they mean, and Docker's words for all others."""

from scow.errors import InvalidArgument

_ATTRIBUTES = frozenset({"labels", "labels-regex", "env", "env-regex", "tag"})
_ROTATION = frozenset({"max-size", "max-file", "compress"})
_CACHE = frozenset({"cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"})
_DELIVERY = frozenset({"mode", "max-buffer-size"}) | _CACHE
_SYSLOG = frozenset(
    {
        "syslog-address", "syslog-facility", "syslog-format", "syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key",
        "syslog-tls-skip-verify",
    }
)  # fmt: skip
_KNOWN = {
    "json-file": _ROTATION | _DELIVERY | _ATTRIBUTES,
    "local": _ROTATION | _DELIVERY,
    "journald": _DELIVERY | _ATTRIBUTES,
    "syslog": _DELIVERY | _ATTRIBUTES | _SYSLOG,
}
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}

LOCAL_SIZE = 20 << 20
LOCAL_FILES = 5
#: Bytes that wait for a non-blocking log.
BUFFER = 1_000_000


class Limits:
    """When to begin a new file: `max_size` in bytes (0: never), `max_file` files in all, `compress` the older ones."""

    __slots__ = ("compress", "max_file", "max_size")

    def __init__(self, max_size: int, max_file: int, compress: bool) -> None:
        self.max_size = max_size
        self.max_file = max_file
        self.compress = compress


def limits(driver: str, options: dict[str, str]) -> Limits:
    """The rotation a driver's options ask for, with its defaults.

    Raises:
        InvalidArgument: an unknown option or a value out of range, in Docker's words.
    """
    check_names(driver, options)
    local = driver == "local"
    size = LOCAL_SIZE if local else 0
    if "max-size" in options and options["max-size"] != "-1":
        size = _size(options["max-size"], "max-size")
        if size <= 0:
            raise InvalidArgument("max-size must be a positive number")
    files = _count(options.get("max-file", str(LOCAL_FILES if local else 1)))
    compress = _boolean(options.get("compress", "true" if local and files > 1 else "false"))
    if compress and local and files < 2:
        raise InvalidArgument(f"compression cannot be enabled when max file count is {files}")
    if compress and (files < 2 or not size):
        raise InvalidArgument("compress cannot be true when max-file is less than 2 or max-size is not set")
    return Limits(size, files, compress)


def check_names(driver: str, options: dict[str, str]) -> None:
    """Refuse options the driver does not know, and delivery modes nobody does.

    Raises:
        InvalidArgument: the name is in the text.
    """
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidArgument(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options:
        if mode != "non-blocking":
            raise InvalidArgument("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
        _size(options["max-buffer-size"], "max-buffer-size")
    if driver == "none":
        return
    if options.get("cache-disabled", "") not in _TRUE | _FALSE | {""}:
        raise InvalidArgument(f"invalid value for option cache-disabled: {options['cache-disabled']}")
    for name in sorted(options):
        if name not in _KNOWN[driver]:
            raise InvalidArgument(f"unknown log opt '{name}' for {driver} log driver")


def check(driver: str, options: dict[str, str]) -> None:
    """Everything that can be said about a driver's options before there is a container.

    Raises:
        InvalidArgument: in Docker's words.
    """
    if driver in ("local", "json-file"):
        limits(driver, options)
    else:
        check_names(driver, options)
        if driver != "none":
            limits("local", cache_options(options))
    if driver == "syslog":
        from scow.logs import syslog

        syslog.check(options)


def cache_disabled(options: dict[str, str]) -> bool:
    """Whether a log that is another program's is not kept for readers too."""
    return options.get("cache-disabled", "") in _TRUE


def cache_options(options: dict[str, str]) -> dict[str, str]:
    """The local driver's options for what readers are shown of another program's log."""
    return {name[6:]: value for name, value in options.items() if name in _CACHE and name != "cache-disabled"}


def buffer_size(options: dict[str, str]) -> int:
    """Bytes that may wait for the log before some are dropped; 0 if none ever are."""
    if options.get("mode") != "non-blocking":
        return 0
    return _size(options["max-buffer-size"], "max-buffer-size") if "max-buffer-size" in options else BUFFER


def _size(text: str, name: str) -> int:
    """``10m`` → 10000000: powers of 1000 with an optional b, as Docker's options count."""
    number = text.strip().lower()
    number = number[:-1] if number.endswith("b") else number
    unit = number[-1:] if number[-1:].isalpha() else ""
    digits = number[: len(number) - len(unit)].strip()
    whole, _point, fraction = digits.partition(".")
    plain = (whole + fraction).isascii() and (whole + fraction).isdecimal() and len(digits) < 20
    if unit not in _POWERS or not plain:
        raise InvalidArgument(f"error parsing option {name}: invalid size: '{text}'")
    return int(float(digits) * 1000 ** _POWERS[unit])


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 6:
        raise InvalidArgument(f"invalid value for max-file: '{text}' is not a number")
    if int(text) < 1:
        raise InvalidArgument("max-file cannot be less than 1")
    return int(text)


def _boolean(text: str) -> bool:
    if text not in _TRUE | _FALSE:
        raise InvalidArgument(f"invalid value for compress: '{text}' is not true or false")
    return text in _TRUE


def attributes(options: dict[str, str], labels: dict[str, str], environment: dict[str, str]) -> dict[str, str]:
    """What ``labels``, ``labels-regex``, ``env``, ``env-regex`` and ``tag`` pick to go with every line.

    Args:
        environment: the container's variables.

    Raises:
        InvalidArgument: an expression that cannot be read.
    """
    found: dict[str, str] = {}
    for source, names, expression in (
        (labels, options.get("labels", ""), options.get("labels-regex", "")),
        (environment, options.get("env", ""), options.get("env-regex", "")),
    ):
        found.update({name: source[name] for name in names.split(",") if name in source})
        if expression:
            import re

            try:
                pattern = re.compile(expression)
            except re.error as error:
                raise InvalidArgument(f"cannot read the expression {expression!r} of a log option: {error}") from error
            found.update({name: value for name, value in source.items() if pattern.search(name)})
    if options.get("tag"):
        found["tag"] = options["tag"]
    return found
