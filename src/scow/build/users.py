"""Users and groups by name, looked up in the root file system they are for. Pure but for reading two files.

Used for USER, ``--chown`` and nothing else; numbers need no file. The files are an image's, hence hostile: bounded and
opened below the root.
"""

import os
from dataclasses import dataclass

from scow.errors import InvalidArgument
from scow.linux.fds import open_regular

#: Bytes read of /etc/passwd and /etc/group.
MAX_FILE = 4 << 20
MAX_ID = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class User:
    """Who a process runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


def lookup(root_fd: int, text: str) -> User:
    """ "user", "uid", "user:group", "uid:gid" as Docker's USER understands them; "" is root.

    Raises:
        InvalidArgument: "unable to find user x: no matching entries in passwd file".
    """
    name, colon, group = text.partition(":")
    passwd = _records(root_fd, "etc/passwd")
    entry = _find(passwd, name or "0", 2)
    if entry is not None and len(entry) >= 6:
        uid, gid, home, login = _number(entry[2], 0), _number(entry[3], 0), entry[5] or "/", entry[0]
    elif _is_number(name or "0"):
        uid, gid, home, login = _number(name or "0"), 0, "/", ""
    else:
        raise InvalidArgument(f"unable to find user {name}: no matching entries in passwd file")
    if colon and group:
        return User(uid, _group(root_fd, group), (), home)
    return User(uid, gid, _groups(root_fd, login, gid), home)


def owner(root_fd: int, text: str) -> tuple[int, int]:
    """``--chown``'s (uid, gid): a user without a group means the group of the same number or name.

    Raises:
        InvalidArgument: a name that is not in the image's passwd or group file.
    """
    name, colon, group = text.partition(":")
    uid = _user_id(root_fd, name) if name else 0
    if not colon:
        return uid, _same_group(root_fd, name, uid)
    return uid, _group(root_fd, group) if group else 0


def _user_id(root_fd: int, name: str) -> int:
    if _is_number(name):
        return _number(name)
    entry = _find(_records(root_fd, "etc/passwd"), name, 2)
    if entry is None or len(entry) < 4:
        raise InvalidArgument(f"unable to convert uid/gid chown string to host mapping: can't find uid for user {name}")
    return _number(entry[2], 0)


def _same_group(root_fd: int, name: str, uid: int) -> int:
    if _is_number(name):
        return uid
    entry = _find(_records(root_fd, "etc/passwd"), name, 2)
    return _number(entry[3], 0) if entry is not None and len(entry) >= 4 else uid


def _group(root_fd: int, name: str) -> int:
    entry = _find(_records(root_fd, "etc/group"), name, 2)
    if entry is not None and len(entry) >= 3:
        return _number(entry[2], 0)
    if _is_number(name):
        return _number(name)
    raise InvalidArgument(f"unable to find group {name}: no matching entries in group file")


def _groups(root_fd: int, login: str, gid: int) -> tuple[int, ...]:
    """The groups a user is listed in, besides his own."""
    if not login:
        return ()
    found = (
        int(entry[2])
        for entry in _records(root_fd, "etc/group")
        if len(entry) >= 4 and login in entry[3].split(",") and _is_number(entry[2])
    )
    return tuple(dict.fromkeys(number for number in found if number != gid))


def _find(records: list[list[str]], name: str, column: int) -> list[str] | None:
    """The record of that name, else the one with that number."""
    for record in records:
        if record[0] == name:
            return record
    if _is_number(name):
        for record in records:
            if len(record) > column and record[column] == name:
                return record
    return None


def _records(root_fd: int, path: str) -> list[list[str]]:
    try:
        fd = open_regular(root_fd, path)
    except OSError:
        return []
    with os.fdopen(fd, "rb") as file:
        data = file.read(MAX_FILE)
    return [line.split(":") for line in data.decode("utf-8", "replace").splitlines() if line and line[0] != "#"]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10


def _number(text: str, default: int | None = None) -> int:
    if not _is_number(text) or int(text) > MAX_ID:
        if default is None:
            raise InvalidArgument(f"uids and gids must be in range 0-{MAX_ID}, not {text}")
        return default
    return int(text)
