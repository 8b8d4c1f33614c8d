"""The two directions of ``cp``: which name the copy gets, as ``cp -r`` would decide it, and the archive either way."""

from __future__ import annotations

import binascii
import os

from scow.cli.exits import FAILED, Exit
from scow.cli.progress import source as read_source
from scow.client import jsontext
from scow.client.client import path
from scow.client.http import ApiError
from scow.fileio import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from scow.cli.session import Session

#: Go's file mode bits as the API sends them (io/fs).
GO_DIRECTORY = 1 << 31
GO_SYMLINK = 1 << 27
MOST_LINKS = 20


def out_of(session: Session, container: str, source: str, target: str, *, follow: bool, owners: bool) -> int:
    """Copy `source` of a container to `target` here ("-" for an archive on stdout); bytes of file content."""
    if follow:
        source = _followed(session, container, source)
    response = session.client.request("GET", path("containers", container, "archive"), {"path": source})
    if target == "-":
        for data in response:
            write_all(1, data)
        return 0
    found = _decoded(response.headers.get("x-docker-container-path-stat", ""))
    parent, name = _place_here(
        source, bool(int(found.get("mode") or 0) & GO_DIRECTORY), target, str(found.get("name") or "")
    )
    from scow.cli.unpacking import unpack

    return unpack(response, parent, name, owners)


def _place_here(source: str, folder: bool, target: str, name: str) -> tuple[str, str]:
    """(folder that is there, name in it) for a copy of `source`."""
    if os.path.isdir(target):
        if folder and source.endswith("/."):
            return target, "."
        return target, os.path.basename(source.rstrip("/")) or name.strip("/") or "."
    if os.path.lexists(target):
        if folder:
            raise Exit(FAILED, "cannot copy directory")
        return os.path.dirname(target) or ".", os.path.basename(target)
    bare = target.rstrip("/")
    if target != bare and not folder:
        raise Exit(FAILED, f"no such directory: {target}")
    parent = os.path.dirname(bare) or "."
    if not os.path.isdir(parent):
        raise Exit(FAILED, f'invalid output path: directory "{parent}" does not exist')
    if folder:
        os.mkdir(bare)
        return bare, "."
    return parent, os.path.basename(bare)


def into(session: Session, source: str, container: str, target: str, *, follow: bool, owners: bool) -> int:
    """Copy `source` here ("-" for an archive on stdin) to `target` in a container; bytes sent."""
    target = _followed(session, container, target)
    found = _stat(session, container, target)
    folder_there = bool(found and int(found.get("mode") or 0) & GO_DIRECTORY)
    query = {"noOverwriteDirNonDir": True, "copyUIDGID": owners}
    if source == "-":
        if not folder_there:
            raise Exit(FAILED, f'destination "{container}:{target}" must be a directory')
        return _put(session, container, {"path": target, **query}, read_source("-"))
    from scow.cli.packing import stream, tree

    place = os.path.realpath(source) if follow else source.rstrip("/") or "/"
    if source.endswith("/."):
        place = source[:-2] or "/"
    if not os.path.lexists(place):
        raise Exit(FAILED, f"lstat {os.path.abspath(source)}: no such file or directory")
    if not follow and source.endswith("/") and os.path.islink(place):
        place = os.path.realpath(place)
    folder = os.path.isdir(place) and not os.path.islink(place)
    parent, name = _place_there(source, folder, target, folder_there, bool(found))
    return _put(session, container, {"path": parent, **query}, stream(tree(place, name)))


def _place_there(source: str, folder: bool, target: str, folder_there: bool, there: bool) -> tuple[str, str]:
    if folder_there:
        if folder and source.endswith("/."):
            return target, "."
        return target, os.path.basename(os.path.abspath(source))
    if there and folder:
        raise Exit(FAILED, "cannot copy directory")
    if target.endswith("/") and not folder:
        raise Exit(FAILED, f"no such directory: {target}" if not there else "not a directory")
    bare = target.rstrip("/")
    return os.path.dirname(bare) or "/", os.path.basename(bare)


def _put(session: Session, container: str, query: dict[str, Any], body: Iterable[bytes]) -> int:
    sent = 0

    def counted() -> Iterator[bytes]:
        nonlocal sent
        for chunk in body:
            sent += len(chunk)
            yield chunk

    headers = {"Content-Type": "application/x-tar"}
    session.client.request(
        "PUT", path("containers", container, "archive"), query, body=counted(), headers=headers
    ).body()
    return sent


def _stat(session: Session, container: str, place: str) -> dict[str, Any] | None:
    """What the daemon knows of a path; None when it is not there."""
    try:
        response = session.client.request("HEAD", path("containers", container, "archive"), {"path": place})
    except ApiError as error:
        if error.status != 404:
            raise
        session.client.get(path("containers", container, "json"))  # says so when it is the container that is missing
        return None
    return _decoded(response.headers.get("x-docker-container-path-stat", ""))


def _decoded(text: str) -> dict[str, Any]:
    try:
        found = jsontext.loads(binascii.a2b_base64(text))
    except binascii.Error:
        found = {}
    return found if isinstance(found, dict) else {}


def _followed(session: Session, container: str, place: str) -> str:
    """`place` with a symbolic link at its end resolved as the daemon sees it."""
    for _ in range(MOST_LINKS):
        found = _stat(session, container, place)
        link = str((found or {}).get("linkTarget") or "")
        if not found or not int(found.get("mode") or 0) & GO_SYMLINK or not link:
            return place
        place = os.path.normpath(os.path.join(os.path.dirname(place.rstrip("/")) or "/", link))
    raise Exit(FAILED, f"too many symbolic links at {place}")
