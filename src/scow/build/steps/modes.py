"""``--chmod``: octal or symbolic modes. Pure."""

import re
from dataclasses import dataclass

from scow.errors import InvalidArgument

_CLAUSE = re.compile(r"^([ugoa]*)([+=-])([rwxXst]*)$")
_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o1007}
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000, "t": 0o1000}


@dataclass(frozen=True, slots=True)
class Mode:
    """A parsed ``--chmod``: `octal`, or the clauses of a symbolic mode (who mask, operator, permissions)."""

    octal: int | None = None
    clauses: tuple[tuple[int, str, str], ...] = ()

    def of(self, mode: int, folder: bool) -> int:
        """The permission bits a file of `mode` gets."""
        if self.octal is not None:
            return self.octal
        mode &= 0o7777
        for who, operator, permissions in self.clauses:
            executable = folder or mode & 0o111
            bits = 0
            for letter in permissions:
                if letter != "X":
                    bits |= _BITS[letter]
                elif executable:
                    bits |= 0o111
            bits &= who
            if operator == "+":
                mode |= bits
            elif operator == "-":
                mode &= ~bits
            else:
                mode = mode & ~(who & 0o777) | bits
        return mode


def parse_mode(text: str) -> Mode | None:
    """ "755", "0644", "u=rwX,go-w"; "" is None.

    Raises:
        InvalidArgument: neither of the two forms.
    """
    if not text:
        return None
    if all(character in "01234567" for character in text):
        if len(text) <= 5 and int(text, 8) <= 0o7777:
            return Mode(int(text, 8))
        raise InvalidArgument(f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")
    clauses = []
    for part in text.split(","):
        match = _CLAUSE.match(part)
        if not match:
            raise InvalidArgument(
                f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777, "
                "or symbolic as in u=rwX,go=rX"
            )
        who = 0
        for letter in match.group(1).replace("a", "ugo") or "ugo":
            who |= _WHO[letter]
        clauses.append((who, match.group(2), match.group(3)))
    return Mode(None, tuple(clauses))
