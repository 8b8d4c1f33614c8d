"""JSON from outside → typed values, with errors that name the field.

Go's decoder takes ``null`` for any field as "not given"; msgspec does not. So nulls are dropped from objects before the
conversion, which makes the two agree on everything clients really send.
"""

import functools
from typing import Any, TypeVar

import msgspec

from scow.errors import InvalidArgument

T = TypeVar("T")

#: Largest JSON body of a request (Docker sets none; the largest real one is a create with a big environment).
MAX_BODY = 16 << 20


def parse_json(data: bytes, what: str = "request body") -> Any:
    """JSON bytes as Python values.

    Raises:
        InvalidArgument: not JSON; says what was expected.
    """
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"invalid JSON in {what}: {error}") from None
    except RecursionError:
        raise InvalidArgument(f"invalid JSON in {what}: nested too deeply") from None


def decode(data: bytes, kind: type[T], what: str = "request body") -> T:
    """The JSON object in `data` as a `kind` (a ``msgspec.Struct``); an empty body counts as ``{}``.

    Raises:
        InvalidArgument: not JSON, or of the wrong shape: "…: Expected `int`, got `str` - at `$.HostConfig.Memory`".
    """
    return convert(parse_json(data, what) if data.strip() else {}, kind, what)


def convert(value: Any, kind: type[T], what: str = "request body") -> T:
    """`value` (as `parse_json` gives it) as a `kind`; the errors of `decode`."""
    try:
        return msgspec.convert(without_nulls(value), kind)
    except RecursionError:
        raise InvalidArgument(f"invalid {what}: nested too deeply") from None
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"invalid {what}: {error}") from None


def spelled(value: Any, kind: type[msgspec.Struct]) -> Any:
    """The object `value` with its members spelled as `kind` has them: Go's decoder does not mind upper and lower case.

    docker-py sends ``CPURealtimePeriod`` where the API says ``CpuRealtimePeriod``.
    """
    if not isinstance(value, dict):
        return value
    names = _spellings(kind)
    return {names.get(key.lower(), key): item for key, item in value.items()}


@functools.cache
def _spellings(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {name.lower(): name for name in kind.__struct_encode_fields__}


def without_nulls(value: Any) -> Any:
    """`value` with every null member of every object left out (nulls in lists stay)."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value
