"""The Engine API's Volume operations."""

import asyncio
from typing import TYPE_CHECKING

from scow.api.filters import Filters
from scow.api.volumes import VolumeCreate
from scow.errors import Unavailable
from scow.volumes.service import FILTERS, PRUNE_FILTERS
from scow.web.request import Request
from scow.web.response import NO_CONTENT, Response, json_response
from scow.web.router import Routes

if TYPE_CHECKING:
    from scow.daemon.engine import Engine

routes = Routes()

#: Since this version a prune spares named volumes unless asked for all.
ANONYMOUS_ONLY = (1, 42)


@routes.get("/volumes")
async def volume_list(engine: "Engine", request: Request) -> Response:
    """VolumeList: every volume that passes the filters."""
    filters = Filters.parse(request.query.text("filters"), FILTERS)
    return json_response({"Volumes": [v.to_api() for v in engine.volumes.list(filters)], "Warnings": None})


@routes.post("/volumes/create")
async def volume_create(engine: "Engine", request: Request) -> Response:
    """VolumeCreate: make a volume, or return the one of that name."""
    body = await request.json(VolumeCreate)
    if body.cluster_volume_spec is not None:
        raise Unavailable("this node is not part of a swarm: cluster volumes are not supported")
    volume = await asyncio.to_thread(engine.volumes.create, body.name, body.driver, body.driver_opts, body.labels)
    return json_response(volume.to_api(), 201)


@routes.post("/volumes/prune")
async def volume_prune(engine: "Engine", request: Request) -> Response:
    """VolumePrune: delete what nobody uses."""
    filters = Filters.parse(request.query.text("filters"), PRUNE_FILTERS)
    if request.version < ANONYMOUS_ONLY:
        filters = Filters({**filters, "all": ("true",)})
    removed, reclaimed = await asyncio.to_thread(engine.volumes.prune, filters)
    return json_response({"VolumesDeleted": removed, "SpaceReclaimed": reclaimed})


@routes.get("/volumes/{name}")
async def volume_inspect(engine: "Engine", request: Request) -> Response:
    """VolumeInspect: one volume."""
    return json_response(engine.volumes.get(request.path["name"]).to_api())


@routes.put("/volumes/{name}")
async def volume_update(engine: "Engine", request: Request) -> Response:
    """VolumeUpdate: only cluster volumes can be changed, and those need a swarm."""
    engine.volumes.get(request.path["name"])
    raise Unavailable("this node is not a swarm manager: only cluster volumes can be updated")


@routes.delete("/volumes/{name}")
async def volume_delete(engine: "Engine", request: Request) -> Response:
    """VolumeDelete: delete a volume nobody uses."""
    await asyncio.to_thread(engine.volumes.remove, request.path["name"], request.query.boolean("force"))
    return NO_CONTENT
