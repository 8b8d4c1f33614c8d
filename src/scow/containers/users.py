"""Who the first process is: ``User`` and ``GroupAdd`` looked up in the rootfs's own passwd and group files.

The files belong to the image, so they are opened inside its root, must be regular files and are read up to `MAX_FILE`.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scow.errors import InvalidArgument
from scow.linux.fds import open_regular

MAX_FILE = 4 << 20
MAX_ID = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Identity:
    """Ids of a process; `groups` are the supplementary ones, the primary first. `home` is "" when passwd has none."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = (0,)
    home: str = ""


def look_up(root_fd: int, user: str, add_groups: Sequence[str] = ()) -> Identity:
    """`resolve` against the files in the rootfs at `root_fd`. Blocking."""
    return resolve(user, add_groups, read(root_fd, "/etc/passwd"), read(root_fd, "/etc/group"))


def read(root_fd: int, path: str, limit: int = MAX_FILE) -> bytes:
    """The regular file at `path` inside the root, empty if there is none that can be read."""
    try:
        fd = open_regular(root_fd, path)
    except OSError:
        return b""
    try:
        found = os.read(fd, limit)
        while len(found) < limit and (more := os.read(fd, limit - len(found))):
            found += more
        return found
    finally:
        os.close(fd)


def resolve(user: str, add_groups: Sequence[str], passwd: bytes, group: bytes) -> Identity:
    """ "", "name", "uid", "name:group", "uid:gid" → ids, by the rules of runc's user lookup.

    A number needs no entry; a name does. Without a group the user's own of passwd counts, with all its supplementary
    groups; with one, only that.

    Raises:
        InvalidArgument: "unable to find user x: no matching entries in passwd file", and the like for groups.
    """
    name, _, wanted_group = user.partition(":")
    uid, gid, home, matched = _user(name, passwd)
    groups: list[int] = []
    if wanted_group:
        gid = _group(wanted_group, group)
    elif matched:
        groups = [number for _, number, members in _groups(group) if matched in members]
    groups += [_group(item, group) for item in add_groups]
    return Identity(uid, gid, tuple(dict.fromkeys([gid, *groups])), home)


def _user(name: str, passwd: bytes) -> tuple[int, int, str, str]:
    """(uid, gid, home, name in passwd or "")."""
    for fields in _lines(passwd, 7):
        uid, gid = _number(fields[2]), _number(fields[3])
        if uid is None or gid is None:
            continue
        if name in (fields[0], fields[2]) or (not name and uid == 0):
            return uid, gid, fields[5], fields[0]
    if not name:
        return 0, 0, "", ""
    number = _number(name)
    if number is None:
        raise InvalidArgument(f"unable to find user {name}: no matching entries in passwd file")
    return number, 0, "", ""


def _group(name: str, group: bytes) -> int:
    number = _number(name)
    for found, gid, _ in _groups(group):
        if name == found or number == gid:
            return gid
    if number is None:
        raise InvalidArgument(f"unable to find group {name}: no matching entries in group file")
    return number


def _groups(group: bytes) -> Iterator[tuple[str, int, list[str]]]:
    for fields in _lines(group, 3):
        gid = _number(fields[2])
        if gid is not None:
            yield fields[0], gid, fields[3].split(",") if len(fields) > 3 else []


def _lines(data: bytes, least: int) -> Iterator[list[str]]:
    for line in data.decode("utf-8", "replace").split("\n"):
        fields = line.strip().split(":")
        if len(fields) >= least and not line.startswith("#"):
            yield fields


def _number(text: str) -> int | None:
    """The id `text` spells, None if it is not a number.

    Raises:
        InvalidArgument: out of the kernel's range.
    """
    if not (text.isascii() and text.isdigit()):
        return None
    if len(text) > 10 or int(text) > MAX_ID:
        raise InvalidArgument(f"uids and gids must be in range 0-{MAX_ID}")
    return int(text)
