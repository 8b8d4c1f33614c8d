"""The log driver that keeps nothing."""


class NullWriter:
    """Takes output and forgets it."""

    __slots__ = ("dropped",)

    def __init__(self) -> None:
        self.dropped = 0

    def write(self, stream: int, data: bytes, when_ns: int) -> None:
        """Forget `data`."""

    def close(self) -> None:
        """Nothing is held."""
