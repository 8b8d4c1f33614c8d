"""Manifests and indexes over HTTP: fetch, push, delete, by tag or digest.

A manifest is stored byte for byte as it came, under the media type it came with. It is taken only when everything it
refers to is in the repository, so a tag never names an image that cannot be pulled.
Source: distribution-spec 1.1 "Pulling manifests", "Pushing Manifests", "Deleting Manifests".
"""

from collections.abc import AsyncIterator

from scow.errors import InvalidArgument, Unsupported
from scow.oci.descriptor import Descriptor
from scow.oci.digest import Digest, digest_of
from scow.oci.document import MAX_DOCUMENT
from scow.oci.manifest import Index, Manifest, sniff
from scow.oci.mediatypes import is_foreign, is_index
from scow.registry.codes import RegistryError
from scow.registry.server.app import App, blocking
from scow.registry.server.repositories import Repository, is_tag, parse_digest
from scow.web.request import Request
from scow.web.response import Refusal, Response
from scow.web.router import Routes

routes = Routes()

MANIFEST = "/v2/{name:path}/manifests/{reference}"


@routes.head(MANIFEST)
async def manifest_head(app: App, request: Request) -> Response:
    """Digest, size and type of a manifest."""
    repository = app.repository(request)
    digest, media_type = await blocking(lambda: _find(repository, request.path["reference"]))
    size = await blocking(lambda: app.content.size(digest))
    return Response(200, _nothing(), _headers(digest) | {"Content-Length": str(size)}, media_type)


@routes.get(MANIFEST)
async def manifest_get(app: App, request: Request) -> Response:
    """A manifest's bytes."""
    repository = app.repository(request)
    digest, media_type = await blocking(lambda: _find(repository, request.path["reference"]))
    if request.headers.get("if-none-match", "").strip('"') == digest:
        return Response(304, b"", _headers(digest))
    data = await blocking(lambda: app.content.read(digest, MAX_DOCUMENT))
    return Response(200, data, _headers(digest), media_type)


@routes.put(MANIFEST)
async def manifest_put(app: App, request: Request) -> Response:
    """Store a manifest and point the tag to it."""
    repository, reference = app.repository(request), request.path["reference"]
    if not is_tag(reference):
        parse_digest(reference)
    try:
        data = await request.body(MAX_DOCUMENT)
    except Refusal as error:
        if error.status != 413:
            raise
        raise RegistryError("SIZE_INVALID", f"a manifest may have at most {MAX_DOCUMENT} bytes") from None
    content_type = request.headers.get("content-type", "").partition(";")[0].strip()
    digest, subject = await blocking(lambda: _store(repository, reference, data, content_type))
    headers = {"Location": f"/v2/{repository.name}/manifests/{digest}", "Docker-Content-Digest": digest}
    if subject is not None:
        headers["OCI-Subject"] = subject
    return Response(201, b"", headers)


@routes.delete(MANIFEST)
async def manifest_delete(app: App, request: Request) -> Response:
    """Forget a tag; or, by digest, a manifest with its tags."""
    app.require_deletable()
    repository, reference = app.repository(request), request.path["reference"]
    if is_tag(reference):
        await blocking(lambda: repository.delete_tag(reference))
    else:
        digest = parse_digest(reference)
        await blocking(lambda: repository.delete_manifest(digest))
    return Response(202)


def _find(repository: Repository, reference: str) -> tuple[Digest, str]:
    """Digest and media type of what a tag or digest names."""
    digest = repository.tag_digest(reference) if is_tag(reference) else parse_digest(reference)
    return digest, repository.manifest_type(digest)


def _store(repository: Repository, reference: str, data: bytes, content_type: str) -> tuple[Digest, Digest | None]:
    """Check and store; digest and the subject's digest."""
    try:
        media_type = sniff(data, content_type)
        document = Index.parse(data, media_type) if is_index(media_type) else Manifest.parse(data, media_type)
    except (InvalidArgument, Unsupported) as error:
        raise RegistryError("MANIFEST_INVALID", str(error)) from None
    if not is_tag(reference) and digest_of(data) != reference:
        raise RegistryError("DIGEST_INVALID", f"the manifest has digest {digest_of(data)}, not {reference}")
    missing = [entry.digest for entry in _needed(document) if not _has(repository, document, entry)]
    if missing:
        detail = [{"digest": digest} for digest in missing[:100]]
        raise RegistryError("MANIFEST_BLOB_UNKNOWN", "manifest references content the repository lacks", detail)
    subject = document.subject.digest if document.subject is not None else None
    digest = repository.put_manifest(data, media_type, subject)
    if is_tag(reference):
        repository.put_tag(reference, digest)
    return digest, subject


def _needed(document: Manifest | Index) -> list[Descriptor]:
    if isinstance(document, Index):
        return list(document.manifests)
    return [document.config, *(layer for layer in document.layers if not (is_foreign(layer.media_type) and layer.urls))]


def _has(repository: Repository, document: Manifest | Index, entry: Descriptor) -> bool:
    if isinstance(document, Index):
        return repository.has_manifest(entry.digest)
    return repository.has_blob(entry.digest)


def _headers(digest: Digest) -> dict[str, str]:
    return {"Docker-Content-Digest": digest, "ETag": f'"{digest}"'}


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
