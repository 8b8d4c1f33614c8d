"""The grammar of the command line: Go pflag's, driven by tables.

A `Command` is a table of `Flag`s and a usage line; `parse` turns words into `Options`. Values are checked by the
parser of their kind (`KINDS`) while they are read, so a bad one is refused with the flag's name and before anything
was sent. Nothing here prints or exits.
"""

from __future__ import annotations

from scow.api import units
from scow.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


class Misuse(Exception):
    """The command line does not fit the table; the text is what pflag says."""


class Flag:
    """One flag.

    Args:
        name: long name, without dashes.
        kind: key of `KINDS`, or a kind of the command's own.
        text: help, as shown.
        short: one letter or "".
        default: value when not given; None stands for the kind's own.
        hidden: parsed and not shown.
    """

    __slots__ = ("default", "hidden", "kind", "name", "short", "text")

    def __init__(
        self, name: str, kind: str | Kind, text: str, *, short: str = "", default: Any = None, hidden: bool = False
    ) -> None:
        self.name = name
        self.kind = KINDS[kind] if isinstance(kind, str) else kind
        self.text = text
        self.short = short
        self.default = self.kind.zero if default is None else default
        self.hidden = hidden

    @property
    def label(self) -> str:
        """ "-d, --detach" or "--name": how messages name the flag."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


class Kind:
    """A type of value: its word in the help, its zero, its parser, and whether it may be given several times."""

    __slots__ = ("many", "parse", "word", "zero")

    def __init__(self, word: str, zero: Any, parse: Callable[[str], Any], many: bool = False) -> None:
        self.word = word
        self.zero = zero
        self.parse = parse
        self.many = many


TRUE = ("1", "t", "T", "true", "TRUE", "True")
FALSE = ("0", "f", "F", "false", "FALSE", "False")


def boolean(text: str) -> bool:
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise InvalidArgument(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def integer(text: str, bits: int = 64, function: str = "ParseInt") -> int:
    try:
        value = int(text, 0) if text and not text[0].isspace() and not text[-1].isspace() else int("x")
    except ValueError:
        raise InvalidArgument(f'strconv.{function}: parsing "{text}": invalid syntax') from None
    unsigned = function == "ParseUint"
    if unsigned and text.startswith("-"):
        raise InvalidArgument(f'strconv.{function}: parsing "{text}": invalid syntax')
    low, high = (0, 2**bits) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    if not low <= value < high:
        raise InvalidArgument(f'strconv.{function}: parsing "{text}": value out of range')
    return value


def unsigned16(text: str) -> int:
    return integer(text, 16, "ParseUint")


def unsigned(text: str) -> int:
    return integer(text, 64, "ParseUint")


def swap_bytes(text: str) -> int:
    """A size, or -1 for "no limit"."""
    return -1 if text == "-1" else units.parse_bytes(text)


def nano_cpus(text: str) -> int:
    """ "1.5" → 1_500_000_000: CPUs in billionths."""
    whole, _, fraction = text.partition(".")
    digits = whole.lstrip("+-") + fraction
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        raise InvalidArgument(f"failed to parse {text} as a rational number")
    if len(fraction.rstrip("0")) > 9:
        raise InvalidArgument("value is too precise")
    value = int(whole.lstrip("+-") or "0") * 10**9 + int(fraction[:9].ljust(9, "0"))
    return -value if whole.startswith("-") else value


def duration(text: str) -> int:
    """Go duration → nanoseconds."""
    try:
        return units.parse_duration(text)
    except InvalidArgument:
        raise InvalidArgument(f'time: invalid duration "{text}"') from None


def pair(text: str) -> tuple[str, str]:
    """ "key=value" or "key" → both halves, the second "" when absent."""
    key, _, value = text.partition("=")
    return key, value


def filter_pair(text: str) -> tuple[str, str]:
    """ "label=a=b" → ("label", "a=b"); the key is lower-cased, blanks trimmed."""
    key, equals, value = text.partition("=")
    if not equals:
        raise InvalidArgument("bad format of filter (expected name=value)")
    return key.strip().lower(), value.strip()


def commas(text: str) -> list[str]:
    """pflag's stringSlice: one CSV record."""
    if '"' not in text:
        return text.split(",") if text else []
    import csv

    return next(csv.reader([text]))


def plain(text: str) -> str:
    return text


#: Every type a flag may have. `many` kinds collect: "strings" flattens its lists.
KINDS: dict[str, Kind] = {
    "bool": Kind("", False, boolean),
    "string": Kind("string", "", plain),
    "int": Kind("int", 0, integer),
    "uint": Kind("uint", 0, unsigned),
    "uint16": Kind("uint16", 0, unsigned16),
    "bytes": Kind("bytes", 0, units.parse_bytes),
    "swap": Kind("bytes", 0, swap_bytes),
    "duration": Kind("duration", 0, duration),
    "decimal": Kind("decimal", 0, nano_cpus),
    "list": Kind("list", [], plain, many=True),
    "strings": Kind("strings", [], commas, many=True),
    "map": Kind("map", [], pair, many=True),
    "filter": Kind("filter", [], filter_pair, many=True),
}


class Options:
    """The values of one parse, by long name."""

    def __init__(self, values: dict[str, Any], given: set[str]) -> None:
        self._values = values
        self._given = given

    def given(self, name: str) -> bool:
        """Whether the flag was on the command line."""
        return name in self._given

    def raw(self, name: str) -> Any:
        """The value as its kind made it."""
        return self._values[name]

    def on(self, name: str) -> bool:
        """A boolean flag."""
        return bool(self._values[name])

    def text(self, name: str) -> str:
        """A flag of kind "string"."""
        return str(self._values[name])

    def number(self, name: str) -> int:
        """A flag whose kind parses to an integer."""
        return int(self._values[name])

    def items(self, name: str) -> list[str]:
        """A list flag, in the order given."""
        return list(self._values[name])

    def pairs(self, name: str) -> list[tuple[str, str]]:
        """A map or filter flag, in the order given."""
        return list(self._values[name])

    def mapping(self, name: str) -> dict[str, str]:
        """A map flag; the last value of a key wins."""
        return dict(self._values[name])

    def filters(self, name: str = "filter") -> dict[str, list[str]]:
        """A filter flag: key → values."""
        found: dict[str, list[str]] = {}
        for key, value in self._values[name]:
            found.setdefault(key, []).append(value)
        return found


class Command:
    """One command: what it takes and how it is shown.

    Args:
        usage: the words after the command's name, "[OPTIONS] IMAGE [COMMAND] [ARG...]"; further lines are further
        forms. text: the description. least, most: number of arguments; most None for any number. interspersed:
        whether flags may follow arguments. passes: every word is an argument; flags are another program's.
    """

    __slots__ = ("flags", "interspersed", "least", "most", "passes", "text", "usage")

    def __init__(
        self,
        usage: str,
        text: str,
        *,
        least: int = 0,
        most: int | None = 0,
        flags: Sequence[Flag] = (),
        interspersed: bool = True,
        passes: bool = False,
    ) -> None:
        self.usage = usage
        self.text = text
        self.least = least
        self.most = most
        self.flags = sorted([*flags, HELP] if flags and shows_help(flags) else flags, key=lambda flag: flag.name)
        self.interspersed = interspersed
        self.passes = passes


def shows_help(flags: Sequence[Flag]) -> bool:
    """Whether the table lists -h for something else, where Docker shows --help in full."""
    return any(flag.short == "h" for flag in flags)


HELP = Flag("help", "bool", "Print usage")


class Parsed:
    """Options, the words left over, and whether help was asked for."""

    __slots__ = ("arguments", "help", "options")

    def __init__(self, options: Options, arguments: list[str], wants_help: bool) -> None:
        self.options = options
        self.arguments = arguments
        self.help = wants_help


def parse(flags: Sequence[Flag], words: Sequence[str], interspersed: bool = True) -> Parsed:
    """Read `words` by the table.

    Raises:
        Misuse: unknown flag, missing or bad value; the text is pflag's.
    """
    reader = _Reader(flags, list(words), interspersed)
    reader.run()
    values = {flag.name: list(flag.default) if flag.kind.many else flag.default for flag in flags}
    values.update(reader.values)
    return Parsed(Options(values, set(reader.values)), reader.arguments, reader.help)


class _Reader:
    def __init__(self, flags: Sequence[Flag], words: list[str], interspersed: bool) -> None:
        self.long = {flag.name: flag for flag in flags}
        self.short = {flag.short: flag for flag in flags if flag.short}
        self.words = words
        self.interspersed = interspersed
        self.values: dict[str, Any] = {}
        self.arguments: list[str] = []
        self.help = False

    def run(self) -> None:
        words = self.words
        while words:
            word = words.pop(0)
            if word == "--":
                self.arguments += words
                return
            if len(word) < 2 or word[0] != "-":
                self.arguments.append(word)
                if not self.interspersed:
                    self.arguments += words
                    return
            elif word[1] == "-":
                self._long(word[2:])
            else:
                self._shorts(word[1:])

    def _long(self, word: str) -> None:
        name, equals, value = word.partition("=")
        if not name or name.startswith("-"):
            raise Misuse(f"bad flag syntax: --{word}")
        flag = self.long.get(name)
        if flag is None:
            if name == "help":
                self.help = True
                return
            raise Misuse(f"unknown flag: --{name}")
        if equals:
            self._set(flag, value)
        elif flag.kind.parse is boolean:
            self._set(flag, "true")
        elif self.words:
            self._set(flag, self.words.pop(0))
        else:
            raise Misuse(f"flag needs an argument: --{name}")

    def _shorts(self, cluster: str) -> None:
        rest = cluster
        while rest:
            letter, rest = rest[0], rest[1:]
            flag = self.short.get(letter)
            if flag is None:
                if letter == "h":
                    self.help = True
                    return
                raise Misuse(f"unknown shorthand flag: '{letter}' in -{cluster}")
            if rest.startswith("="):
                self._set(flag, rest[1:])
                return
            if flag.kind.parse is boolean:
                self._set(flag, "true")
                continue
            if rest:
                self._set(flag, rest)
                return
            if not self.words:
                raise Misuse(f"flag needs an argument: '{letter}' in -{cluster}")
            self._set(flag, self.words.pop(0))

    def _set(self, flag: Flag, text: str) -> None:
        try:
            value = flag.kind.parse(text)
        except InvalidArgument as error:
            raise Misuse(f'invalid argument "{text}" for "{flag.label}" flag: {error}') from None
        if flag.name == "help":
            self.help = bool(value)
            return
        if not flag.kind.many:
            self.values[flag.name] = value
        elif isinstance(value, list):
            self.values.setdefault(flag.name, []).extend(value)
        else:
            self.values.setdefault(flag.name, []).append(value)
