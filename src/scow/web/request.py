"""A request as handlers see it: method, path parameters, query, headers, and a body that is read on demand."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import parse_qs

from scow.api import version as api_version
from scow.api.decode import MAX_BODY, decode
from scow.errors import InvalidArgument
from scow.web.response import Refusal

T = TypeVar("T")

#: Most parameters a query may have; a hostile query is refused before it costs memory.
MAX_QUERY_FIELDS = 1000
#: What Docker reads as "no" in a query or form.
FALSE_WORDS = frozenset({"", "0", "no", "false", "none"})


class Query:
    """The parameters after ``?``, typed on demand. A parameter that is given twice answers with its first value."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, list[str]] | None = None) -> None:
        self._fields = fields or {}

    @classmethod
    def parse(cls, text: str) -> "Query":
        """The query of ``a=1&b=2``.

        Raises:
            InvalidArgument: too many parameters.
        """
        if not text:
            return cls()
        try:
            return cls(
                parse_qs(text, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS, errors="surrogateescape")
            )
        except ValueError as error:
            raise InvalidArgument(f"invalid query: {error}") from None

    def __contains__(self, key: str) -> bool:
        return key in self._fields

    def text(self, key: str, default: str = "") -> str:
        """The value of `key` as it is.

        Raises:
            InvalidArgument: it is not UTF-8.
        """
        values = self._fields.get(key)
        return _utf8(key, values[0]) if values else default

    def path(self, key: str) -> str:
        """The value of `key` as a file name: bytes that are not UTF-8 are kept as `os.fsencode` has them."""
        values = self._fields.get(key)
        return values[0] if values else ""

    def all(self, key: str) -> list[str]:
        """Every value of `key`, in order; empty when it was not given; the errors of `text`."""
        return [_utf8(key, value) for value in self._fields.get(key, ())]

    def boolean(self, key: str, default: bool = False) -> bool:
        """Whether `key` says yes, by Docker's rule: anything but "", 0, no, false and none does."""
        values = self._fields.get(key)
        return values[0].strip().lower() not in FALSE_WORDS if values else default

    def integer(self, key: str, default: int | None = None) -> int | None:
        """`key` as a number; `default` when absent or empty.

        Raises:
            InvalidArgument: not a decimal number of at most 19 digits.
        """
        value = self.text(key).strip()
        if not value:
            return default
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 19):
            raise InvalidArgument(f"invalid value {value!r} for {key}: expected a number")
        return int(value)


def _utf8(key: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"invalid value for {key[:40]!a}: it is not UTF-8") from None
    return value


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end: an address for TCP, the process for a UNIX socket, the certificate's name for mutual
    TLS."""

    address: str = ""
    pid: int | None = None
    uid: int | None = None
    common_name: str | None = None


class Body:
    """A request body that arrives from somewhere; the server makes one per request."""

    async def next(self) -> bytes:
        """The next bytes; ``b""`` at the end.

        Raises:
            Cancelled: the client went away before the end.
            Refusal: the client's framing is broken.
        """
        return b""


@dataclass(slots=True)
class Request:
    """One request. `path` holds the route's parameters; `version` the API version of the path's prefix."""

    method: str
    target: str
    path: dict[str, str] = field(default_factory=dict)
    query: Query = field(default_factory=Query)
    headers: Mapping[str, str] = field(default_factory=dict)
    version: tuple[int, int] = api_version.LATEST
    peer: Peer = field(default_factory=Peer)
    source: Body = field(default_factory=Body)

    async def stream(self) -> AsyncIterator[bytes]:
        """The body, piece by piece; whoever iterates sets the pace.

        Raises:
            Cancelled: the client went away before the end.
            Refusal: the client's framing is broken.
        """
        while data := await self.source.next():
            yield data

    async def body(self, limit: int = MAX_BODY) -> bytes:
        """The whole body.

        Raises:
            Refusal: it is larger than `limit` bytes (413), or the framing is broken.
            Cancelled: the client went away before the end.
        """
        declared = self.headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared) > limit:
            raise Refusal(413, f"the request body of {declared} bytes is too large: at most {limit} are accepted")
        data = bytearray()
        while piece := await self.source.next():
            data += piece
            if len(data) > limit:
                raise Refusal(413, f"the request body is too large: at most {limit} bytes are accepted")
        return bytes(data)

    async def json(self, kind: type[T]) -> T:
        """The body as a `kind` (a ``msgspec.Struct``); an empty body counts as ``{}``.

        Raises:
            InvalidArgument: not JSON, of the wrong shape, or of another content type.
        """
        return decode(await self.json_text(), kind)

    async def json_text(self) -> bytes:
        """The body, said to be JSON or blank, for who reads it by other means than `json`.

        The content type must be JSON: a web page can make a browser post anything but that without asking.

        Raises:
            InvalidArgument: of another content type.
        """
        data = await self.body()
        content_type = self.headers.get("content-type", "")
        if data.strip() and content_type.partition(";")[0].strip().lower() != "application/json":
            raise InvalidArgument(f"Content-Type specified ({content_type}) must be 'application/json'")
        return data


def replayed(pieces: list[bytes]) -> Body:
    """A body made of `pieces`, for tests and for handlers that call each other."""
    return _Replayed(pieces)


class _Replayed(Body):
    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]

    async def next(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""
