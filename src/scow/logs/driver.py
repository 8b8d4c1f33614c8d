"""The contract of log drivers, and the choice among them.

A driver keeps what a container writes: the shim writes, the daemon reads, through files alone, so that either may die.
``json-file`` (default) keeps Docker's lines of JSON, ``local`` chunks as they came, ``none`` nothing. ``journald`` and
``syslog`` hand lines to another program (`open_sink`, in a process of its own) and keep a copy for readers as ``local``
does: Docker's dual logging.

Writers and readers agree on *lines as Docker counts them*: ended by a newline, cut into pieces of 16 KiB where longer,
the last one of a stream possibly without an end (`Entry.partial`). The shim imports this module and the writer of one
driver; readers live in `scow.logs.reader`.
"""

from __future__ import annotations

from scow.errors import InvalidArgument
from scow.logs.options import cache_disabled, cache_options

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

    class Sink(Protocol):
        """What a process of its own writes a log to."""

        def write(self, stream: int, data: bytes, when_ns: int) -> None:
            """As `Writer.write`."""

        def clear(self) -> None:
            """As `Writer.clear`."""

        def close(self) -> None:
            """As `Writer.close`."""


FILES = ("local", "json-file")
REMOTE = ("journald", "syslog")
DRIVERS = (*FILES, *REMOTE, "none")


class LogConfig:
    """How one container's output is kept.

    `path`: of the newest file; older ones are ``<path>.1``, ``<path>.2.gz``, … `options`: Docker's ``--log-opt``.
    `attributes`: what ``labels``, ``env`` and ``tag`` options picked; json-file repeats them on each line.
    `fields`: "id", "name", "image" and "tag" of the container, for other programs' logs.
    """

    __slots__ = ("attributes", "driver", "fields", "options", "path")

    def __init__(
        self,
        driver: str,
        path: str,
        options: Mapping[str, str] | None = None,
        attributes: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        self.driver = driver
        self.path = path
        self.options = dict(options or {})
        self.attributes = dict(attributes or {})
        self.fields = {"id": "", "name": "", "image": "", "tag": "", **(fields or {})}

    @property
    def waits(self) -> bool:
        """Whether writing may take long, and has a process of its own."""
        return self.driver in REMOTE or (self.driver in FILES and self.options.get("mode") == "non-blocking")

    def kept(self) -> LogConfig | None:
        """The files that readers find the log in, None where there are none."""
        if self.driver in FILES:
            return self
        if self.driver in REMOTE and not cache_disabled(self.options):
            return LogConfig("local", self.path, cache_options(self.options), self.attributes)
        return None


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


def open_sink(config: LogConfig) -> Sink:
    """The writer for a process of its own; one of another program's log is not connected yet.

    Raises:
        InvalidArgument: unknown driver or options.
        OSError: a file cannot be made.
    """
    if config.driver not in REMOTE:
        return open_writer(config)
    from scow.logs.remote import RemoteWriter

    if config.driver == "journald":
        from scow.logs.journald import JournalSender

        return RemoteWriter(JournalSender(config.fields, config.attributes))
    from scow.logs.syslog import SyslogSender

    return RemoteWriter(SyslogSender(config.options, config.fields["tag"]))
