"""Signals by name or number, as clients write them. Standard library only: the CLI imports this."""

from scow.errors import InvalidArgument

#: The kernel's numbers on every architecture Scow runs on (signal(7), x86 and arm).
SIGNALS = {
    "ABRT": 6, "ALRM": 14, "BUS": 7, "CHLD": 17, "CLD": 17, "CONT": 18, "FPE": 8, "HUP": 1, "ILL": 4, "INT": 2,
    "IO": 29, "IOT": 6, "KILL": 9, "PIPE": 13, "POLL": 29, "PROF": 27, "PWR": 30, "QUIT": 3, "SEGV": 11, "STKFLT": 16,
    "STOP": 19, "SYS": 31, "TERM": 15, "TRAP": 5, "TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "USR1": 10,
    "USR2": 12, "VTALRM": 26, "WINCH": 28, "XCPU": 24, "XFSZ": 25,
}  # fmt: skip
RTMIN = 34
RTMAX = 64
HIGHEST = 64


def parse(text: str) -> int:
    """ "KILL", "SIGKILL", "sigkill", "9" → 9; "RTMIN+3" → 37; "RTMAX-1" → 63.

    Raises:
        InvalidArgument: neither a known name nor a number from 1 to 64.
    """
    word = text.strip()
    if word.isascii() and word.isdigit() and len(word) <= 3:
        number = int(word)
    else:
        number = _named(word.upper().removeprefix("SIG"))
    if not 1 <= number <= HIGHEST:
        raise InvalidArgument(f"invalid signal: {text}")
    return number


def _named(name: str) -> int:
    """The number of `name`, 0 if there is none."""
    if name in SIGNALS:
        return SIGNALS[name]
    for base, start, sign in (("RTMIN", RTMIN, "+"), ("RTMAX", RTMAX, "-")):
        if name == base:
            return start
        head, found, offset = name.partition(sign)
        if found and head == base and offset.isascii() and offset.isdigit() and int(offset[:3]) <= RTMAX - RTMIN:
            return start + int(offset[:3]) if sign == "+" else start - int(offset[:3])
    return 0


def name_of(number: int) -> str:
    """9 → "KILL"; the number as text if it has no name."""
    return next((name for name, value in SIGNALS.items() if value == number), str(number))
