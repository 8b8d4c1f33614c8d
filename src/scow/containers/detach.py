"""Detach keys: the sequence a person types to leave a terminal without ending what runs in it. Pure.

The input is passed on byte for byte except the sequence itself; the beginning of a sequence is held back until the next
byte shows whether it is one.
"""

from scow.errors import InvalidArgument

DEFAULT = b"\x10\x11"  # ctrl-p, ctrl-q
_CONTROLS = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse(text: str) -> bytes:
    """ "ctrl-p,ctrl-q" → the bytes; empty text is the default.

    Raises:
        InvalidArgument: a part is neither one character nor ``ctrl-`` and one of a-z @ [ \\ ] ^ _.
    """
    if not text:
        return DEFAULT
    keys = bytearray()
    for part in text.split(","):
        if len(part) == 1 and part.isascii() and part.isprintable():
            keys += part.encode()
        elif part.startswith("ctrl-") and len(part) == 6 and (part[5] in _CONTROLS or "a" <= part[5] <= "z"):
            keys.append(_CONTROLS[part[5]] if part[5] in _CONTROLS else ord(part[5]) - ord("a") + 1)
        else:
            raise InvalidArgument(f"invalid detach keys ({text[:60]}): Unknown character: '{part[:20]}'")
    return bytes(keys)


class Watch:
    """Looks for the keys in a stream of input."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(bytes to pass on, whether the sequence was typed); what follows the sequence is dropped."""
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._held]:
                self._held += 1
                if self._held == len(self._keys):
                    return bytes(out), True
                continue
            self._mismatch(byte, out)
        return bytes(out), False

    def _mismatch(self, byte: int, out: bytearray) -> None:
        """`byte` ended a partial match: pass on what cannot be the beginning of a new one."""
        pending = self._keys[: self._held] + bytes([byte])
        for start in range(len(pending) + 1):
            if self._keys.startswith(pending[start:]):
                out += pending[:start]
                self._held = len(pending) - start
                return

    def rest(self) -> bytes:
        """What is still held back, once the input has ended."""
        held, self._held = self._held, 0
        return self._keys[:held]
