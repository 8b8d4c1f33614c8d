"""The Engine API's Network operations."""

from typing import TYPE_CHECKING

from scow.api.filters import Filters
from scow.api.networks import NetworkConnect, NetworkCreate, NetworkDisconnect
from scow.errors import InvalidArgument, NoSuchNetwork
from scow.networks.selection import FILTERS, PRUNE_FILTERS
from scow.web.request import Request
from scow.web.response import EMPTY, NO_CONTENT, Response, json_response
from scow.web.router import Routes

if TYPE_CHECKING:
    from scow.daemon.engine import Engine

routes = Routes()

#: Until this version the list told the containers of every network too.
LIST_WITHOUT_CONTAINERS = (1, 28)
#: Until this version two networks of one name were made unless the request said otherwise; we never do.
STATUS_SINCE = (1, 52)


@routes.get("/networks")
async def network_list(engine: "Engine", request: Request) -> Response:
    """NetworkList: every network that passes the filters."""
    networks = engine.networks.list(Filters.parse(request.query.text("filters"), FILTERS))
    if request.version < LIST_WITHOUT_CONTAINERS:
        return json_response([engine.networks.inspect(network) for network in networks])
    return json_response([network.summary() for network in networks])


@routes.post("/networks/create")
async def network_create(engine: "Engine", request: Request) -> Response:
    """NetworkCreate: make a user-defined network."""
    network = await engine.networks.create(await request.json(NetworkCreate))
    return json_response({"Id": network.id, "Warning": ""}, 201)


@routes.post("/networks/prune")
async def network_prune(engine: "Engine", request: Request) -> Response:
    """NetworkPrune: remove networks nobody is on."""
    filters = Filters.parse(request.query.text("filters"), PRUNE_FILTERS)
    return json_response({"NetworksDeleted": await engine.networks.prune(filters)})


@routes.get("/networks/{id}")
async def network_inspect(engine: "Engine", request: Request) -> Response:
    """NetworkInspect: one network and who is on it."""
    if request.query.text("scope") not in ("", "local"):
        raise NoSuchNetwork(request.path["id"])
    found = engine.networks.inspect(engine.networks.get(request.path["id"]))
    if request.version < STATUS_SINCE:
        del found["Status"]
    return json_response(found)


@routes.delete("/networks/{id}")
async def network_delete(engine: "Engine", request: Request) -> Response:
    """NetworkDelete: remove a network nobody is on."""
    await engine.networks.remove(request.path["id"])
    return NO_CONTENT


@routes.post("/networks/{id}/connect")
async def network_connect(engine: "Engine", request: Request) -> Response:
    """NetworkConnect: put a container on a network, now or when it is started."""
    body = await request.json(NetworkConnect)
    network = engine.networks.get(request.path["id"])
    if not body.container:
        raise InvalidArgument("no container was named: set Container")
    await engine.containers.connect_network(body.container, network.name, body.endpoint_config)
    return EMPTY


@routes.post("/networks/{id}/disconnect")
async def network_disconnect(engine: "Engine", request: Request) -> Response:
    """NetworkDisconnect: take a container off a network."""
    body = await request.json(NetworkDisconnect)
    network = engine.networks.get(request.path["id"])
    if not body.container:
        raise InvalidArgument("no container was named: set Container")
    await engine.containers.disconnect_network(body.container, network.name, force=body.force)
    return EMPTY
