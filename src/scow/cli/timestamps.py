"""Points in time as flags give them → as the API's ``since`` and ``until`` take them. Pure."""

from scow.api import units
from scow.errors import InvalidArgument


def wire(text: str) -> str:
    """ "42m", "2013-01-02T13:23:37Z", "1136073600" → seconds since 1970 with nanoseconds; "" stays "".

    Raises:
        InvalidArgument: none of these.
    """
    if not text:
        return ""
    try:
        found = units.parse_time(text)
    except InvalidArgument:
        raise InvalidArgument(f'invalid value for "since" or "until": {text}: not a time and not a duration') from None
    seconds, rest = divmod(found, units.SECOND)
    return f"{seconds}.{rest:09d}"
