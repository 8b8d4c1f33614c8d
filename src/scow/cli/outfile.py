"""A response's body into a file that is whole or absent, or onto stdout."""

import os
from contextlib import suppress

from scow.client.http import Response
from scow.errors import InvalidArgument
from scow.fileio import write_all


def check(name: str, what: str) -> None:
    """Refuse an output path that cannot be written, before anything is asked for.

    Raises:
        InvalidArgument: its folder is not there, or it is a folder itself.
    """
    folder = os.path.dirname(name) or "."
    if name in ("", "-"):
        return
    if not os.path.isdir(folder):
        raise InvalidArgument(f"{what}: invalid output path: stat {folder}: no such file or directory")
    if os.path.isdir(name):
        raise InvalidArgument(f'{what}: invalid output path: "{name}" must be a regular file')


def receive(response: Response, name: str, what: str) -> None:
    """Write the body to the file `name`, or to stdout when it is "" or "-".

    The file appears when it is complete; an existing one is kept until then. Devices and pipes are written to as they
    are.

    Raises:
        InvalidArgument: it cannot be written.
    """
    if name in ("", "-"):
        for data in response:
            write_all(1, data)
        return
    if os.path.lexists(name) and not os.path.isfile(name):
        _fill(name, response, what)
        return
    temporary = os.path.join(os.path.dirname(name), f".{os.path.basename(name)}.{os.getpid()}.tmp")
    try:
        _fill(temporary, response, what)
        os.rename(temporary, name)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _fill(name: str, response: Response, what: str) -> None:
    try:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            for data in response:
                write_all(fd, data)
        finally:
            os.close(fd)
    except OSError as error:
        raise InvalidArgument(f"{what}: {name}: {error.strerror}") from None
