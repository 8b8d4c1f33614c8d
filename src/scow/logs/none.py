"""The log driver that keeps nothing."""

from __future__ import annotations

from scow.errors import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scow.logs.cursor import Cursor


class NullWriter:
    """Takes output and forgets it."""

    __slots__ = ("cursor", "dropped")

    def __init__(self) -> None:
        self.cursor: Cursor | None = None
        self.dropped = 0

    def write(self, stream: int, data: bytes, when_ns: int) -> None:
        """Forget `data`."""

    def clear(self) -> None:
        """Raises Unsupported."""
        raise Unsupported("the none log driver keeps no log that could be cleared")

    def close(self) -> None:
        """Nothing is held."""
