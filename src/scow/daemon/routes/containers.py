"""The Engine API's Container operations."""

from collections.abc import AsyncIterator
from typing import Any

from scow.api import signal
from scow.api.containers import ContainerConfig, UpdateBody, parse_create
from scow.api.decode import decode
from scow.api.filters import Filters
from scow.containers.archive import stat_header
from scow.containers.attach import AttachRequest
from scow.containers.commit import CommitRequest
from scow.containers.listing import LIST_FILTERS, PRUNE_FILTERS, Selection
from scow.containers.logs import LogsRequest
from scow.daemon.engine import Engine
from scow.daemon.routes.websocket import WebSocket, accept_key
from scow.errors import InvalidArgument
from scow.oci.reference import Reference
from scow.web.hijack import MULTIPLEXED, RAW, Hijack
from scow.web.request import Request
from scow.web.response import EMPTY, NO_CONTENT, Response, encode, json_response
from scow.web.router import Routes
from scow.web.stream import Stream

routes = Routes()

STAT_HEADER = "X-Docker-Container-Path-Stat"
TAR = "application/x-tar"
#: From this version on a stream of frames is called so; before, everything was raw.
MULTIPLEXED_SINCE = (1, 42)


def stream_type(request: Request, *, tty: bool) -> str:
    """What a stream of a container's output is called."""
    return MULTIPLEXED if not tty and request.version >= MULTIPLEXED_SINCE else RAW


def query_signal(request: Request) -> int | None:
    """The parameter ``signal``, a name or a number; None when it was not given."""
    text = request.query.text("signal")
    return signal.parse(text) if text else None


def size_of(request: Request) -> tuple[int, int]:
    """(rows, columns) of a resize.

    Raises:
        InvalidArgument: one of them is missing or no size.
    """
    rows, cols = request.query.integer("h"), request.query.integer("w")
    if rows is None or cols is None or not (0 <= rows < 65536 and 0 <= cols < 65536):
        raise InvalidArgument("invalid terminal size: give h and w as numbers below 65536")
    return rows, cols


@routes.get("/containers/json")
async def container_list(engine: Engine, request: Request) -> Response:
    """ContainerList: the containers that pass the filters, newest first."""
    query = request.query
    selection = Selection(
        everything=query.boolean("all"),
        limit=max(query.integer("limit") or 0, 0),
        filters=Filters.parse(query.text("filters"), LIST_FILTERS),
    )
    return json_response(await engine.containers.list(selection, request.version, sizes=query.boolean("size")))


@routes.post("/containers/create")
async def container_create(engine: Engine, request: Request) -> Response:
    """ContainerCreate: make a container; nothing runs yet."""
    body = parse_create(await request.json_text())
    id_, warnings = await engine.containers.create(request.query.text("name"), body, request.query.text("platform"))
    return json_response({"Id": id_, "Warnings": warnings}, 201)


@routes.post("/containers/prune")
async def container_prune(engine: Engine, request: Request) -> Response:
    """ContainerPrune: remove ended containers."""
    filters = Filters.parse(request.query.text("filters"), PRUNE_FILTERS)
    removed, reclaimed = await engine.containers.prune(filters)
    return json_response({"ContainersDeleted": removed, "SpaceReclaimed": reclaimed})


@routes.get("/containers/{id}/json")
async def container_inspect(engine: Engine, request: Request) -> Response:
    """ContainerInspect: everything about one container."""
    size = request.query.boolean("size")
    return json_response(await engine.containers.inspect(request.path["id"], request.version, size=size))


@routes.get("/containers/{id}/top")
async def container_top(engine: Engine, request: Request) -> Response:
    """ContainerTop: its processes."""
    return json_response(await engine.containers.top(request.path["id"], request.query.text("ps_args")))


@routes.get("/containers/{id}/logs")
async def container_logs(engine: Engine, request: Request) -> Response:
    """ContainerLogs: what it has written, and with `follow` what it writes."""
    query = request.query
    tty, body = engine.containers.logs(
        request.path["id"],
        LogsRequest(
            follow=query.boolean("follow"),
            stdout=query.boolean("stdout"),
            stderr=query.boolean("stderr"),
            since=query.text("since"),
            until=query.text("until"),
            timestamps=query.boolean("timestamps"),
            tail=query.text("tail", "all"),
            details=query.boolean("details"),
        ),
    )
    return Response(200, body, content_type=stream_type(request, tty=tty))


@routes.delete("/scow/containers/{id}/logs")
async def container_logs_clear(engine: Engine, request: Request) -> Response:
    """Our own: remove what a container has logged so far, while it runs or not."""
    await engine.containers.clear_logs(request.path["id"])
    return NO_CONTENT


@routes.get("/containers/{id}/changes")
async def container_changes(engine: Engine, request: Request) -> Response:
    """ContainerChanges: paths it changed, added or deleted."""
    return json_response(await engine.containers.changes(request.path["id"]))


@routes.get("/containers/{id}/export")
async def container_export(engine: Engine, request: Request) -> Response:
    """ContainerExport: its file system as a tar."""
    return Response(200, engine.containers.export(request.path["id"]), content_type="application/octet-stream")


@routes.get("/containers/{id}/stats")
async def container_stats(engine: Engine, request: Request) -> Response:
    """ContainerStats: what it uses, once or again and again."""
    ref, version = request.path["id"], request.version
    if not request.query.boolean("stream", default=True):
        one_shot = request.query.boolean("one-shot")
        return json_response(await engine.containers.stats_once(ref, version, one_shot=one_shot))
    if request.query.boolean("one-shot"):
        raise InvalidArgument("cannot have stream=true and one-shot=true")
    return Response(200, _lines(engine.containers.stats_stream(ref, version)))


async def _lines(values: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    async for value in values:
        yield encode(value) + b"\n"


@routes.post("/containers/{id}/resize")
async def container_resize(engine: Engine, request: Request) -> Response:
    """ContainerResize: the size of its terminal, also before it starts."""
    await engine.containers.resize(request.path["id"], *size_of(request))
    return EMPTY


@routes.post("/containers/{id}/start")
async def container_start(engine: Engine, request: Request) -> Response:
    """ContainerStart: run its first process."""
    await engine.containers.start(request.path["id"])
    return NO_CONTENT


@routes.post("/containers/{id}/stop")
async def container_stop(engine: Engine, request: Request) -> Response:
    """ContainerStop: end the first process, kindly and then not."""
    await engine.containers.stop(request.path["id"], signal=query_signal(request), grace=request.query.integer("t"))
    return NO_CONTENT


@routes.post("/containers/{id}/restart")
async def container_restart(engine: Engine, request: Request) -> Response:
    """ContainerRestart: stop it if it runs, then start it."""
    await engine.containers.restart(request.path["id"], signal=query_signal(request), grace=request.query.integer("t"))
    return NO_CONTENT


@routes.post("/containers/{id}/kill")
async def container_kill(engine: Engine, request: Request) -> Response:
    """ContainerKill: send its first process a signal."""
    await engine.containers.kill(request.path["id"], query_signal(request) or 9)
    return NO_CONTENT


@routes.post("/containers/{id}/update")
async def container_update(engine: Engine, request: Request) -> Response:
    """ContainerUpdate: other limits, another restart policy."""
    warnings = await engine.containers.update(request.path["id"], await request.json(UpdateBody))
    return json_response({"Warnings": warnings or None})


@routes.post("/containers/{id}/rename")
async def container_rename(engine: Engine, request: Request) -> Response:
    """ContainerRename: another name."""
    await engine.containers.rename(request.path["id"], request.query.text("name"))
    return NO_CONTENT


@routes.post("/containers/{id}/pause")
async def container_pause(engine: Engine, request: Request) -> Response:
    """ContainerPause: freeze its processes."""
    await engine.containers.pause(request.path["id"])
    return NO_CONTENT


@routes.post("/containers/{id}/unpause")
async def container_unpause(engine: Engine, request: Request) -> Response:
    """ContainerUnpause: let them go on."""
    await engine.containers.unpause(request.path["id"])
    return NO_CONTENT


def attach_request(request: Request) -> AttachRequest:
    """What an attach asks for."""
    query = request.query
    return AttachRequest(
        logs=query.boolean("logs"),
        stream=query.boolean("stream"),
        stdin=query.boolean("stdin"),
        stdout=query.boolean("stdout"),
        stderr=query.boolean("stderr"),
        keys=query.text("detachKeys"),
    )


@routes.post("/containers/{id}/attach")
async def container_attach(engine: Engine, request: Request) -> Response:
    """ContainerAttach: the connection becomes its streams."""
    session = await engine.containers.attach(request.path["id"], attach_request(request))
    return Hijack(session.run, stream_type(request, tty=session.tty))


@routes.get("/containers/{id}/attach/ws")
async def container_attach_websocket(engine: Engine, request: Request) -> Response:
    """ContainerAttachWebsocket: the same streams as a websocket."""
    headers = {"Sec-WebSocket-Accept": accept_key(request)}
    session = await engine.containers.attach(request.path["id"], attach_request(request))

    async def run(stream: Stream) -> None:
        peer = WebSocket(stream, framed=not session.tty)
        await session.run(peer)
        await peer.close()

    return Hijack(run, RAW, headers, protocol="websocket")


@routes.post("/containers/{id}/wait")
async def container_wait(engine: Engine, request: Request) -> Response:
    """ContainerWait: headers at once, the exit code when it has ended."""
    ended = engine.containers.wait(request.path["id"], request.query.text("condition"))

    async def body() -> AsyncIterator[bytes]:
        yield encode(await ended) + b"\n"

    return Response(200, body())


@routes.delete("/containers/{id}")
async def container_delete(engine: Engine, request: Request) -> Response:
    """ContainerDelete: remove it."""
    query = request.query
    if query.boolean("link"):
        raise InvalidArgument("removing a link is not supported: connect containers by networks instead")
    await engine.containers.remove(request.path["id"], force=query.boolean("force"), volumes=query.boolean("v"))
    return NO_CONTENT


@routes.head("/containers/{id}/archive")
async def container_archive_info(engine: Engine, request: Request) -> Response:
    """ContainerArchiveInfo: what is at a path in it."""
    found = await engine.containers.archive_stat(request.path["id"], request.query.path("path"))
    return Response(200, headers={STAT_HEADER: stat_header(found)})


@routes.get("/containers/{id}/archive")
async def container_archive(engine: Engine, request: Request) -> Response:
    """ContainerArchive: a path in it as a tar."""
    ref, path = request.path["id"], request.query.path("path")
    found = await engine.containers.archive_stat(ref, path)
    headers = {STAT_HEADER: stat_header(found)}
    return Response(200, engine.containers.archive_get(ref, path), headers, TAR)


@routes.put("/containers/{id}/archive")
async def put_container_archive(engine: Engine, request: Request) -> Response:
    """PutContainerArchive: extract a tar into a folder of it."""
    query = request.query
    await engine.containers.archive_put(
        request.path["id"],
        query.path("path"),
        request.stream(),
        keep_kinds=query.boolean("noOverwriteDirNonDir"),
        copy_owner=query.boolean("copyUIDGID"),
    )
    return EMPTY


@routes.post("/commit")
async def image_commit(engine: Engine, request: Request) -> Response:
    """ImageCommit: an image of a container."""
    query = request.query
    data = await request.json_text()
    repo, tag = query.text("repo"), query.text("tag")
    name = Reference.parse(f"{repo}:{tag}" if tag else repo) if repo else None
    image = await engine.containers.commit(
        query.text("container"),
        CommitRequest(
            name=name,
            author=query.text("author"),
            message=query.text("comment"),
            pause=query.boolean("pause", default=True),
            changes=tuple(query.all("changes")),
            config=decode(data, ContainerConfig) if data.strip() else None,
        ),
    )
    return json_response({"Id": str(image.id)}, 201)
