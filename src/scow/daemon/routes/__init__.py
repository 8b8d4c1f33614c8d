"""The Engine API's operations, one module per tag of its description; `all_routes` joins them."""

from scow.daemon.routes import (
    auth,
    build,
    containers,
    distribution,
    events,
    exec,  # noqa: A004 – the tag's name
    images,
    networks,
    refusals,
    system,
    volumes,
)
from scow.web.router import Routes


def all_routes() -> Routes:
    """Every operation this daemon answers, refusals included."""
    routes = Routes()
    for module in (system, containers, exec, images, build, networks, volumes, distribution, auth, events, refusals):
        routes.merge(module.routes)
    return routes
