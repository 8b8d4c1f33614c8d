"""Where HTTP statuses live: one table from the error taxonomy to Docker's numbers."""

import json

from scow.errors import (
    Cancelled,
    Conflict,
    CutOff,
    EngineError,
    Forbidden,
    InvalidArgument,
    NotFound,
    NotModified,
    System,
    Unauthorized,
    Unavailable,
    Unsupported,
)

STATUS: dict[type[BaseException], int] = {
    InvalidArgument: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    NotModified: 304,
    Conflict: 409,
    Unsupported: 501,
    Unavailable: 503,
    Cancelled: 500,
    CutOff: 400,
    System: 500,
    EngineError: 500,
}


def status_of(error: BaseException) -> int:
    """HTTP status for any exception; 500 for those nobody raised on purpose."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def answer_to(error: BaseException) -> tuple[int, bytes]:
    """Status and JSON body that tell a client about `error`; a 304 has no body (RFC 9110 15.4.5)."""
    status = status_of(error)
    if status == 304:
        return status, b""
    text = str(error) if isinstance(error, EngineError) else f"internal error: {type(error).__name__}: {error}"
    return status, json.dumps({"message": text}, ensure_ascii=False).encode(errors="replace") + b"\n"
