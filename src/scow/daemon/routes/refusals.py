"""Operations of the Engine API that this engine declines, each with its reason; see SCOPE.md.

Clients probe some of them (Portainer, Traefik and docker-py ask ``/swarm``), so the answers are Docker's own for an
engine that is in no swarm.
"""

from typing import TYPE_CHECKING

from scow.errors import NotFound, Unavailable, Unsupported
from scow.web.response import Response, json_response
from scow.web.router import Routes

if TYPE_CHECKING:
    from scow.daemon.engine import Engine
    from scow.web.request import Request

routes = Routes()

NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" '
    "to connect this node to swarm and try again."
)

#: Method and path of every Swarm operation: Scow is one engine, not a cluster.
SWARM: tuple[tuple[str, str], ...] = (
    ("GET", "/swarm"),
    ("POST", "/swarm/leave"),
    ("POST", "/swarm/update"),
    ("GET", "/swarm/unlockkey"),
    ("POST", "/swarm/unlock"),
    *(
        (method, path)
        for kind in ("nodes", "services", "secrets", "configs")
        for method, path in (
            ("GET", f"/{kind}"),
            ("POST", f"/{kind}/create"),
            ("GET", f"/{kind}/{{id}}"),
            ("DELETE", f"/{kind}/{{id}}"),
            ("POST", f"/{kind}/{{id}}/update"),
        )
        if (method, path) != ("POST", "/nodes/create")
    ),
    ("GET", "/services/{id}/logs"),
    ("GET", "/tasks"),
    ("GET", "/tasks/{id}"),
    ("GET", "/tasks/{id}/logs"),
)

#: Operations with no counterpart here: (method, path, why).
UNSUPPORTED: tuple[tuple[str, str, str], ...] = (
    ("POST", "/swarm/init", "Scow has no swarm mode: run services with Compose or another orchestrator"),
    ("POST", "/swarm/join", "Scow has no swarm mode: run services with Compose or another orchestrator"),
    ("GET", "/plugins/privileges", "Scow does not run managed plugins"),
    ("POST", "/plugins/pull", "Scow does not run managed plugins"),
    ("POST", "/plugins/create", "Scow does not run managed plugins"),
    ("POST", "/session", "this engine does not serve BuildKit sessions: set DOCKER_BUILDKIT=0"),
    ("POST", "/grpc", "this engine does not serve BuildKit: set DOCKER_BUILDKIT=0"),
    ("POST", "/containers/{id}/checkpoints", "Scow does not checkpoint containers"),
)

#: Operations on one plugin: there is none.
PLUGIN: tuple[tuple[str, str], ...] = (
    ("GET", "/plugins/{name:path}/json"),
    ("DELETE", "/plugins/{name:path}"),
    *(("POST", f"/plugins/{{name:path}}/{verb}") for verb in ("enable", "disable", "upgrade", "push", "set")),
)


async def no_swarm(engine: "Engine", request: "Request") -> Response:
    """Every Swarm operation: this node is in no swarm."""
    raise Unavailable(NO_SWARM)


async def no_plugin(engine: "Engine", request: "Request") -> Response:
    """Every operation on one plugin: it is not there."""
    raise NotFound(f"plugin {request.path['name']!r} not found")


@routes.get("/plugins")
async def plugin_list(engine: "Engine", request: "Request") -> Response:
    """PluginList: no managed plugins, ever."""
    return json_response([])


@routes.get("/containers/{id}/checkpoints")
async def checkpoint_list(engine: "Engine", request: "Request") -> Response:
    """Checkpoints of a container: none."""
    return json_response([])


def _declare() -> None:
    for method, path in SWARM:
        routes.add(method, path, no_swarm)
    for method, path in PLUGIN:
        routes.add(method, path, no_plugin)
    for method, path, reason in UNSUPPORTED:

        async def refuse(engine: "Engine", request: "Request", reason: str = reason) -> Response:
            raise Unsupported(reason)

        routes.add(method, path, refuse)


_declare()
