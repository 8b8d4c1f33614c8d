"""The distribution spec's error codes: what the registry server answers, and the JSON they travel in.

`RegistryError` carries one code; `answer_to` turns any exception into status and body, so handlers raise and never
format.
Source: distribution-spec 1.1 "Error Codes".
"""

from typing import Any

from scow.errors import (
    Conflict,
    DigestMismatch,
    EngineError,
    Forbidden,
    InvalidArgument,
    NoSpace,
    NotFound,
    Unauthorized,
    Unavailable,
    Unsupported,
)
from scow.web.response import Refusal, encode

#: Code → status. The last three are Docker's, beyond the spec's table.
STATUS: dict[str, int] = {
    "BLOB_UNKNOWN": 404,
    "BLOB_UPLOAD_INVALID": 400,
    "BLOB_UPLOAD_UNKNOWN": 404,
    "DIGEST_INVALID": 400,
    "MANIFEST_BLOB_UNKNOWN": 400,
    "MANIFEST_INVALID": 400,
    "MANIFEST_UNKNOWN": 404,
    "NAME_INVALID": 400,
    "NAME_UNKNOWN": 404,
    "SIZE_INVALID": 400,
    "UNAUTHORIZED": 401,
    "DENIED": 403,
    "UNSUPPORTED": 405,
    "TOOMANYREQUESTS": 429,
    "PAGINATION_NUMBER_INVALID": 400,
    "RANGE_INVALID": 416,
    "UNKNOWN": 500,
}

#: What the taxonomy's classes stand for where no handler said more.
_CODES: dict[type[BaseException], tuple[int, str]] = {
    DigestMismatch: (400, "DIGEST_INVALID"),
    NoSpace: (507, "UNKNOWN"),
    Unauthorized: (401, "UNAUTHORIZED"),
    Forbidden: (403, "DENIED"),
    NotFound: (404, "NAME_UNKNOWN"),
    Conflict: (409, "DENIED"),
    Unsupported: (405, "UNSUPPORTED"),
    Unavailable: (503, "UNKNOWN"),
    InvalidArgument: (400, "UNSUPPORTED"),
}


class RegistryError(EngineError):
    """An answer with a code of the specification; `detail` is any JSON value that helps the client."""

    def __init__(self, code: str, message: str, detail: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.detail = detail


def answer_to(error: BaseException) -> tuple[int, bytes]:
    """Status and ``{"errors":[{"code","message","detail"}]}`` for any exception."""
    if isinstance(error, RegistryError):
        return STATUS[error.code], errors_body(error.code, str(error), error.detail)
    status, code = next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), (500, "UNKNOWN"))
    if isinstance(error, Refusal):
        status = error.status
    message = str(error) if isinstance(error, EngineError) else "internal error: see the registry's log"
    return status, errors_body(code, message)


def errors_body(code: str, message: str, detail: Any = None) -> bytes:
    """One error as the specification's JSON."""
    entry = {"code": code, "message": message}
    return encode({"errors": [entry if detail is None else entry | {"detail": detail}]})
