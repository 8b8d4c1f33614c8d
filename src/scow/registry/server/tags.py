"""Lists: tags of a repository, repositories of the registry, referrers of a manifest, and the version check.

Source: distribution-spec 1.1 "Content Discovery", "Listing Referrers".
"""

from typing import Any

from scow.oci.digest import Digest
from scow.oci.document import MAX_DOCUMENT
from scow.oci.manifest import Index, Manifest
from scow.oci.mediatypes import OCI_INDEX, is_index
from scow.registry.codes import RegistryError
from scow.registry.server.app import App, blocking, page
from scow.registry.server.repositories import Repository, parse_digest
from scow.web.request import Request
from scow.web.response import Response, encode, json_response
from scow.web.router import Routes

routes = Routes()


@routes.get("/v2/")
async def version_check(app: App, request: Request) -> Response:
    """The registry speaks version 2 (and the credentials are good)."""
    return json_response({})


@routes.get("/v2/_catalog")
async def catalog(app: App, request: Request) -> Response:
    """Every repository, page by page."""
    names, headers = page(request, await blocking(app.repositories.names))
    return json_response({"repositories": names}, headers=headers)


@routes.get("/v2/{name:path}/tags/list")
async def tags_list(app: App, request: Request) -> Response:
    """Every tag of a repository, page by page."""
    repository = app.repository(request)
    if not await blocking(repository.exists):
        raise RegistryError("NAME_UNKNOWN", "repository name not known to registry", {"name": repository.name})
    tags, headers = page(request, await blocking(repository.tags))
    return json_response({"name": repository.name, "tags": tags}, headers=headers)


@routes.get("/v2/{name:path}/referrers/{digest}")
async def referrers(app: App, request: Request) -> Response:
    """An index of the manifests whose subject is `digest`; empty when there are none."""
    repository, digest = app.repository(request), parse_digest(request.path["digest"])
    names, headers = page(request, [str(found) for found in await blocking(lambda: repository.referrers(digest))])
    entries = [await blocking(lambda name=name: _describe(repository, Digest(name))) for name in names]  # type: ignore[misc]
    wanted = request.query.text("artifactType")
    if wanted:
        entries = [entry for entry in entries if entry.get("artifactType") == wanted]
        headers["OCI-Filters-Applied"] = "artifactType"
    body = encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    return Response(200, body, headers, OCI_INDEX)


def _describe(repository: Repository, digest: Digest) -> dict[str, Any]:
    """A referrer's descriptor with its artifact type (a manifest without one is typed by its config) and
    annotations."""
    data = repository.content.read(digest, MAX_DOCUMENT)
    media_type = repository.manifest_type(digest)
    document = Index.parse(data, media_type) if is_index(media_type) else Manifest.parse(data, media_type)
    kind = document.artifact_type
    if not kind and isinstance(document, Manifest):
        kind = document.config.media_type
    entry: dict[str, Any] = {"mediaType": media_type, "digest": digest, "size": len(data)}
    if kind:
        entry["artifactType"] = kind
    if document.annotations:
        entry["annotations"] = document.annotations
    return entry
