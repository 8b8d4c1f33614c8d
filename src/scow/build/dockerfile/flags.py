"""The ``--flags`` of one instruction: each is asked for once by whoever knows it, the rest is refused. Pure."""

import difflib

from scow.build.dockerfile.lexer import DockerfileError
from scow.build.dockerfile.parser import Flag


class Flags:
    """Reads flags by name and remembers which names were asked for, so `finish` can refuse the others."""

    def __init__(self, flags: tuple[Flag, ...], line: int) -> None:
        self.line = line
        self._flags = flags
        self._known: list[str] = []

    def given(self, name: str) -> bool:
        """Whether the flag was written at all."""
        self._known.append(name)
        return any(flag.name == name for flag in self._flags)

    def all(self, name: str) -> list[str]:
        """Every value of a flag that may be repeated."""
        self._known.append(name)
        return [self._value(flag) for flag in self._flags if flag.name == name]

    def text(self, name: str, default: str = "") -> str:
        """The value of a flag that may be given once."""
        values = self.all(name)
        if len(values) > 1:
            raise DockerfileError(self.line, f"duplicate flag specified: {name}")
        return values[0] if values else default

    def boolean(self, name: str) -> bool:
        """A switch: ``--link``, ``--link=true``, ``--link=false``."""
        self._known.append(name)
        values = [flag.value for flag in self._flags if flag.name == name]
        if len(values) > 1:
            raise DockerfileError(self.line, f"duplicate flag specified: {name}")
        if not values:
            return False
        value = "true" if values[0] is None else values[0].lower()
        if value not in ("true", "false"):
            raise DockerfileError(self.line, f"expecting boolean value for flag {name}, not: {values[0]}")
        return value == "true"

    def finish(self) -> None:
        """Refuse what nobody asked for.

        Raises:
            DockerfileError: "unknown flag: --form (did you mean from?)".
        """
        for flag in self._flags:
            if flag.name not in self._known:
                close = difflib.get_close_matches(flag.name[:64], self._known, n=1)
                hint = f" (did you mean {close[0]}?)" if close else ""
                raise DockerfileError(self.line, f"unknown flag: --{flag.name}{hint}")

    def _value(self, flag: Flag) -> str:
        if flag.value is None or not flag.value:
            raise DockerfileError(self.line, f"missing a value on flag: {flag.name}")
        return flag.value
