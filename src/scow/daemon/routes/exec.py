"""The Engine API's Exec operations."""

from scow.api.containers import ExecConfig, ExecStart
from scow.daemon.engine import Engine
from scow.daemon.routes.containers import size_of, stream_type
from scow.web.hijack import Hijack
from scow.web.request import Request
from scow.web.response import CREATED, EMPTY, Response, json_response
from scow.web.router import Routes

routes = Routes()


@routes.post("/containers/{id}/exec")
async def container_exec(engine: Engine, request: Request) -> Response:
    """ContainerExec: note a process to be run in a container."""
    made = engine.containers.exec_create(request.path["id"], await request.json(ExecConfig))
    return json_response({"Id": made.id}, 201)


@routes.post("/exec/{id}/start")
async def exec_start(engine: Engine, request: Request) -> Response:
    """ExecStart: run it, detached or with this connection as its streams."""
    body = await request.json(ExecStart)
    if body.detach:
        await engine.containers.exec_start(request.path["id"], body)
        return EMPTY
    session = engine.containers.exec_session(request.path["id"], body)
    return Hijack(session.run, stream_type(request, tty=session.tty))


@routes.post("/exec/{id}/resize")
async def exec_resize(engine: Engine, request: Request) -> Response:
    """ExecResize: the size of its terminal."""
    await engine.containers.exec_resize(request.path["id"], *size_of(request))
    return EMPTY if request.version >= (1, 40) else CREATED


@routes.get("/exec/{id}/json")
async def exec_inspect(engine: Engine, request: Request) -> Response:
    """ExecInspect: whether it runs, and how it ended."""
    return json_response(engine.containers.exec_inspect(request.path["id"]))
