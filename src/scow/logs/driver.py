"""The contract of log drivers, and the choice among them.

A driver keeps what a container writes: the shim writes, the daemon reads, through files alone, so that either may die.
``local`` (default) keeps chunks as they came, ``json-file`` Docker's lines of JSON, ``none`` nothing.

Writers and readers agree on *lines as Docker counts them*: ended by a newline, cut into pieces of 16 KiB where longer,
the last one of a stream possibly without an end (`Entry.partial`). The shim imports this module and the writer of one
driver; readers live in `scow.logs.reader`.
"""

from __future__ import annotations

from scow.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from scow.logs.cursor import Cursor

    class Writer(Protocol):
        """Keeps one container's output. `dropped` counts bytes that did not fit on the disk."""

        dropped: int
        cursor: Cursor | None

        def write(self, stream: int, data: bytes, when_ns: int) -> None:
            """Append what stream 1 or 2 said at `when_ns`; never raises for want of space (see `dropped`)."""

        def clear(self) -> None:
            """Remove what was kept so far.

            Raises:
                Unsupported: it is kept where it cannot be removed.
            """

        def close(self) -> None:
            """Write what is held back and let the files go."""


DRIVERS = ("local", "json-file", "none")
DEFAULT_DRIVER = "local"


class LogConfig:
    """How one container's output is kept.

    `path`: of the newest file; older ones are ``<path>.1``, ``<path>.2.gz``, … `options`: Docker's ``--log-opt``.
    `attributes`: what ``labels``, ``env`` and ``tag`` options picked; json-file repeats them on each line.
    """

    __slots__ = ("attributes", "driver", "options", "path")

    def __init__(
        self,
        driver: str,
        path: str,
        options: Mapping[str, str] | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        self.driver = driver
        self.path = path
        self.options = dict(options or {})
        self.attributes = dict(attributes or {})


def open_writer(config: LogConfig, cursor: Cursor | None = None) -> Writer:
    """A writer that goes on where an earlier one was cut off, at whatever byte.

    Args:
        cursor: where it notes how far it has come, and an earlier one has.

    Raises:
        InvalidArgument: unknown driver or options.
        OSError: the file cannot be made.
    """
    if config.driver == "local":
        from scow.logs.local import LocalWriter

        return LocalWriter(config.path, config.options, cursor)
    if config.driver == "json-file":
        from scow.logs.jsonfile import JsonWriter

        return JsonWriter(config.path, config.options, config.attributes, cursor)
    if config.driver == "none":
        from scow.logs.none import NullWriter

        return NullWriter()
    raise InvalidArgument(f"logger: no log driver named '{config.driver}' is registered")
