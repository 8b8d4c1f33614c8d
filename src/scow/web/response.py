"""What a handler answers: status, headers and a body that is bytes or comes piece by piece.

Responses are immutable, so the constants at the end can be shared by all requests.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from scow.errors import InvalidArgument

JSON = "application/json"


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """One answer.

    A `body` that is an async iterator is sent as it comes: the headers go out before its first piece is asked for,
    and it is cancelled when the client goes away. `headers` may give ``content-length`` for such a body; otherwise it
    is chunked.
    """

    status: int
    body: bytes | AsyncIterator[bytes] = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON


class Refusal(InvalidArgument):
    """A request that cannot be served as HTTP, or an error whose status no class of the taxonomy stands for."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers: Mapping[str, str] = headers or {}


def encode(value: Any) -> bytes:
    """`value` as JSON; kinds of text (a `Digest`) are text."""
    return msgspec.json.encode(value, enc_hook=_plain)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"no JSON for a {type(value).__name__}")


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`value` as a JSON answer, newline-terminated as Docker's are."""
    return Response(status, encode(value) + b"\n", headers or {})


#: 200 with nothing to say.
EMPTY = Response(200)
CREATED = Response(201)
NO_CONTENT = Response(204)
NOT_MODIFIED = Response(304)
