"""Which versions of the Engine API are spoken, and how a request says which one it means."""

from scow.errors import InvalidArgument

LATEST = (1, 55)
OLDEST = (1, 24)


def text(version: tuple[int, int]) -> str:
    """(1, 55) → "1.55"."""
    return f"{version[0]}.{version[1]}"


def parse(value: str) -> tuple[int, int]:
    """ "1.43" → (1, 43).

    Raises:
        InvalidArgument: not two numbers, or a version this daemon does not speak.
    """
    major, _, minor = value.partition(".")
    if not (major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()) or len(value) > 8:
        raise InvalidArgument(f"invalid API version {value!r}: expected one like {text(LATEST)}")
    version = (int(major), int(minor))
    if version < OLDEST:
        raise InvalidArgument(
            f"client version {value} is too old. Minimum supported API version is {text(OLDEST)}, "
            "please upgrade your client to a newer version"
        )
    if version > LATEST:
        raise InvalidArgument(
            f"client version {value} is too new. Maximum supported API version is {text(LATEST)}: "
            f"set DOCKER_API_VERSION={text(LATEST)} or upgrade this daemon"
        )
    return version
