"""Connections that stop being HTTP: attach, exec and build sessions take the raw stream over.

`Hijack` is the response a handler gives; the server sends the switch (``101 UPGRADED`` when the client asked for an
upgrade, ``200 OK`` otherwise), hands early bytes and the rest to `handler`, and closes the connection when it returns.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from scow.web.response import Response
from scow.web.stream import Stream

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"

StreamHandler: TypeAlias = Callable[[Stream], Awaitable[None]]

__all__ = ["MULTIPLEXED", "RAW", "Hijack", "Stream", "StreamHandler"]


class Hijack(Response):
    """Take the connection over.

    Args:
        handler: gets the stream; when it returns, what was written is sent and the connection closed. It is cancelled
            only when the server shuts down: a client that goes away shows as ``b""`` from `read` or `Cancelled` from
            `write`.
        content_type: named in the answer (Docker clients choose the framing by it).
        headers: more headers for the answer (a websocket's accept key).
        protocol: the ``Upgrade`` to answer; None repeats what the client asked for.
    """

    __slots__ = ("handler", "protocol")

    def __init__(
        self,
        handler: StreamHandler,
        content_type: str = RAW,
        headers: Mapping[str, str] | None = None,
        protocol: str | None = None,
    ) -> None:
        super().__init__(200, b"", headers or {}, content_type)
        object.__setattr__(self, "handler", handler)
        object.__setattr__(self, "protocol", protocol)

    handler: StreamHandler
    protocol: str | None
