"""Blobs over HTTP: look, fetch (whole or a range), push (in one or many requests), mount, delete.

Source: distribution-spec 1.1 "Pulling blobs", "Pushing Blobs", "Deleting Blobs".
"""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import BinaryIO

from scow.oci.digest import Digest
from scow.registry.codes import RegistryError
from scow.registry.server.app import App, blocking
from scow.registry.server.repositories import Repository, parse_digest
from scow.web.request import Request
from scow.web.response import Response
from scow.web.router import Routes

routes = Routes()

BLOB = "/v2/{name:path}/blobs/{digest}"
UPLOADS = "/v2/{name:path}/blobs/uploads/"
UPLOAD = "/v2/{name:path}/blobs/uploads/{upload}"

OCTETS = "application/octet-stream"
#: Bytes read from the disk at a time.
CHUNK = 1 << 20

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


@routes.head(BLOB)
async def blob_head(app: App, request: Request) -> Response:
    """Whether the blob is here, and its size."""
    repository, digest = app.repository(request), parse_digest(request.path["digest"])
    size = await blocking(lambda: repository.blob_size(digest))
    return Response(200, _nothing(), _headers(digest) | {"Content-Length": str(size)}, OCTETS)


@routes.get(BLOB)
async def blob_get(app: App, request: Request) -> Response:
    """The blob, or the range of it that was asked for."""
    repository, digest = app.repository(request), parse_digest(request.path["digest"])
    size = await blocking(lambda: repository.blob_size(digest))
    if request.headers.get("if-none-match", "").strip('"') == digest:
        return Response(304, b"", _headers(digest))
    wanted = _range(request.headers.get("range", ""), size)
    blob = await blocking(lambda: app.content.open(digest))
    if wanted is None:
        return Response(200, _read(blob, 0, size), _headers(digest) | {"Content-Length": str(size)}, OCTETS)
    first, last = wanted
    headers = _headers(digest) | {
        "Content-Length": str(last - first + 1),
        "Content-Range": f"bytes {first}-{last}/{size}",
    }
    return Response(206, _read(blob, first, last + 1), headers, OCTETS)


@routes.delete(BLOB)
async def blob_delete(app: App, request: Request) -> Response:
    """Take the blob out of the repository."""
    app.require_deletable()
    repository, digest = app.repository(request), parse_digest(request.path["digest"])
    await blocking(lambda: repository.unlink_blob(digest))
    return Response(202)


@routes.post(UPLOADS)
async def upload_start(app: App, request: Request) -> Response:
    """Begin an upload; or mount a blob of another repository; or take the whole blob at once."""
    repository = app.repository(request)
    mounted = request.query.text("mount")
    if mounted and await _mount(app, repository, parse_digest(mounted), request.query.text("from")):
        return _created(repository, Digest(mounted))
    whole = request.query.text("digest")
    digest = parse_digest(whole) if whole else None
    identity = await blocking(lambda: app.uploads.start(repository.name))
    if digest is None:
        return _progress(202, repository, identity, 0)
    await app.uploads.commit(identity, request.stream(), digest)
    await blocking(lambda: repository.link_blob(digest))
    return _created(repository, digest)


@routes.get(UPLOAD)
async def upload_status(app: App, request: Request) -> Response:
    """How much has arrived."""
    repository, identity = await _upload(app, request)
    return _progress(204, repository, identity, await app.uploads.size(identity))


@routes.patch(UPLOAD)
async def upload_chunk(app: App, request: Request) -> Response:
    """The next chunk, or the whole blob as a stream."""
    repository, identity = await _upload(app, request)
    headers = request.headers
    size = await app.uploads.append(
        identity, request.stream(), headers.get("content-range", ""), headers.get("content-length", "")
    )
    return _progress(202, repository, identity, size)


@routes.put(UPLOAD)
async def upload_finish(app: App, request: Request) -> Response:
    """The last chunk (often empty) and the digest all of it must have."""
    repository, identity = await _upload(app, request)
    digest = parse_digest(request.query.text("digest"))
    await app.uploads.commit(identity, request.stream(), digest, request.headers.get("content-range", ""))
    await blocking(lambda: repository.link_blob(digest))
    return _created(repository, digest)


@routes.delete(UPLOAD)
async def upload_cancel(app: App, request: Request) -> Response:
    """Drop the upload."""
    _, identity = await _upload(app, request)
    await app.uploads.cancel(identity)
    return Response(204)


async def _upload(app: App, request: Request) -> tuple[Repository, str]:
    repository, identity = app.repository(request), request.path["upload"]
    await blocking(lambda: app.uploads.check(repository.name, identity))
    return repository, identity


async def _mount(app: App, repository: Repository, digest: Digest, source: str) -> bool:
    """Link a blob the repository `source` has; False when it does not (the client then uploads)."""
    if not source:
        return False
    other = app.repositories.get(source)
    if not await blocking(lambda: other.has_blob(digest)):
        return False
    await blocking(lambda: repository.link_blob(digest))
    return True


def _progress(status: int, repository: Repository, identity: str, size: int) -> Response:
    headers = {
        "Location": f"/v2/{repository.name}/blobs/uploads/{identity}",
        "Range": f"0-{max(size - 1, 0)}",
        "Docker-Upload-UUID": identity,
    }
    return Response(status, b"", headers)


def _created(repository: Repository, digest: Digest) -> Response:
    headers = {"Location": f"/v2/{repository.name}/blobs/{digest}", "Docker-Content-Digest": digest}
    return Response(201, b"", headers)


def _headers(digest: Digest) -> dict[str, str]:
    return {
        "Docker-Content-Digest": digest,
        "ETag": f'"{digest}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "max-age=31536000",
    }


def _range(text: str, size: int) -> tuple[int, int] | None:
    """First and last byte of a Range header; None for the whole, also for forms that may be ignored (RFC 9110 14.2).

    Raises:
        RegistryError: RANGE_INVALID when it begins beyond the end.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        first, last = max(size - int(match[2]), 0), size - 1
    else:
        first, last = int(match[1]), min(int(match[2] or size - 1), size - 1)
    if match[1] and match[2] and int(match[1]) > int(match[2]):
        return None
    if first >= size or last < first:
        raise RegistryError("RANGE_INVALID", f"the range {text[:60]} is outside the {size} bytes of the blob")
    return first, last


async def _read(blob: BinaryIO, first: int, end: int) -> AsyncIterator[bytes]:
    with blob:
        blob.seek(first)
        left = end - first
        while left > 0:
            data = await asyncio.to_thread(blob.read, min(CHUNK, left))
            if not data:
                return
            left -= len(data)
            yield data


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
