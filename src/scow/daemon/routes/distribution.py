"""The Distribution tag: what a registry says about an image, without pulling it."""

from typing import TYPE_CHECKING, Any

from scow.errors import EngineError
from scow.oci.config import MAX_CONFIG, ImageConfig
from scow.oci.descriptor import Descriptor
from scow.oci.manifest import Index, Manifest
from scow.oci.mediatypes import CONFIGS, is_index
from scow.oci.reference import Reference
from scow.registry.auth import AuthConfig
from scow.web.response import Response, json_response
from scow.web.router import Routes

if TYPE_CHECKING:
    from scow.daemon.engine import Engine
    from scow.web.request import Request

routes = Routes()


@routes.get("/distribution/{name:path}/json")
async def distribution_inspect(engine: "Engine", request: "Request") -> Response:
    """DistributionInspect: digest and platforms of an image in its registry."""
    reference = Reference.parse(request.path["name"])
    auth = AuthConfig.from_header(request.headers.get("x-registry-auth", ""))
    resolved = await engine.registry.resolve(reference, auth)
    data, media_type = await engine.registry.fetch_manifest(reference, resolved, auth)
    target = Descriptor(media_type, resolved.digest, len(data))
    if is_index(media_type):
        entries = Index.parse(data, media_type).images()
        platforms = [entry.platform.to_json() for entry in entries if entry.platform is not None]
    else:
        platforms = await _platforms(engine, reference, Manifest.parse(data, media_type), auth)
    return json_response({"Descriptor": target.to_json(), "Platforms": platforms})


async def _platforms(
    engine: "Engine", reference: Reference, manifest: Manifest, auth: AuthConfig
) -> list[dict[str, Any]]:
    """The platform of a single image, from its config; none for artifacts."""
    if manifest.config.media_type not in CONFIGS:
        return []
    data = await engine.registry.fetch_small(reference, manifest.config, MAX_CONFIG, auth)
    try:
        return [ImageConfig.parse(data).platform.to_json()]
    except EngineError:
        return []
