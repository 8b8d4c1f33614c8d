"""Images on the move: pull, import, push, load, save, bootstrap.

All but save answer with JSON lines. What fails before the first line has a status of its own, as Docker's clients
expect ("manifest unknown" is a 404); what fails later ends the lines with ``errorDetail``.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from scow.daemon.changes import changed
from scow.errors import InvalidArgument, NotFound, Unauthorized, Unsupported
from scow.images import bootstrap
from scow.images.image import Image
from scow.images.pull import pull, pull_all
from scow.images.push import push, references
from scow.oci.platform import Platform, host_platform
from scow.oci.reference import Reference
from scow.registry.auth import AuthConfig
from scow.web.client import HttpClient
from scow.web.flow import inlet, produced
from scow.web.progress import Report, begun, progress_response
from scow.web.response import Response
from scow.web.router import Routes

if TYPE_CHECKING:
    from scow.daemon.engine import Engine
    from scow.web.request import Request

routes = Routes()

TAR = "application/x-tar"


def platform_of(text: str) -> Platform | None:
    """A ``platform`` parameter: ``linux/arm64`` or the JSON of an OCI platform; None for nothing.

    Raises:
        InvalidArgument: neither.
    """
    if not text:
        return None
    if not text.startswith("{"):
        return Platform.parse(text)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidArgument(f"invalid platform {text[:100]!r}: not JSON") from None
    platform = Platform.from_json(value)
    if not platform.os or not platform.architecture:
        raise InvalidArgument(f"invalid platform {text[:100]!r}: os and architecture are required")
    return platform


def auth_of(request: "Request") -> AuthConfig:
    """The credentials of ``X-Registry-Auth``."""
    return AuthConfig.from_header(request.headers.get("x-registry-auth", ""))


# -- pull and import -----------------------------------------------------------------------------------------------


@routes.post("/images/create")
async def image_create(engine: "Engine", request: "Request") -> Response:
    """ImageCreate: pull ``fromImage``, or import ``fromSrc``."""
    if request.query.text("fromImage"):
        return await _pull(engine, request)
    if request.query.text("fromSrc"):
        return await _import(engine, request)
    raise InvalidArgument("nothing to do: give fromImage to pull or fromSrc to import")


async def _pull(engine: "Engine", request: "Request") -> Response:
    query = request.query
    reference = Reference.parse(query.text("fromImage"), None)
    if (tag := query.text("tag")) and reference.digest is None:
        reference = Reference.parse(f"{reference.name}@{tag}") if ":" in tag else reference.with_tag(tag)
    platform, auth = platform_of(query.text("platform")), auth_of(request)

    async def work(report: Report) -> None:
        try:
            if reference.tag is None and reference.digest is None:
                images = await pull_all(engine.images, engine.registry, reference, platform, auth, report)
            else:
                images = [await pull(engine.images, engine.registry, reference, platform, auth, report)]
        except Unauthorized as error:
            # A 401 would make the docker CLI ask for a password in the middle of a script.
            raise NotFound(
                f"pull access denied for {reference.familiar_name}, repository does not exist or may require "
                f"'docker login': {error}"
            ) from error
        for image in images:
            name = {"name": reference.familiar_name}
            engine.events.publish("image", "pull", reference.familiar(), {**image.labels, **name})

    return await progress_response(work)


async def _import(engine: "Engine", request: "Request") -> Response:
    query = request.query
    repository, tag = query.text("repo"), query.text("tag")
    name = Reference.parse(repository) if repository else None
    if name is not None and tag:
        name = name.with_tag(tag)
    platform = platform_of(query.text("platform"))
    if platform is not None and not platform.matches(host_platform()):
        raise Unsupported(f"cannot import an image for {platform} on {host_platform()}: leave --platform out")
    config = changed({}, query.all("changes"))
    source, message = query.text("fromSrc"), query.text("message")

    async def work(report: Report) -> None:
        pieces = request.stream() if source == "-" else _download(source, report)
        async with aclosing(pieces):  # type: ignore[type-var]
            file = inlet(pieces)
            said = message or f"Imported from {source}"
            image: Image = await asyncio.to_thread(engine.images.import_rootfs, file, name, config, said)
        report({"status": str(image.id)})
        engine.events.publish("image", "import", image.id, {"name": name.familiar() if name else image.id})

    return await progress_response(work)


async def _download(url: str, report: Report) -> AsyncIterator[bytes]:
    """The body at `url`.

    Raises:
        InvalidArgument: no http(s) URL, or the server does not have it.
        Unavailable: the server cannot be reached.
    """
    url = url if "://" in url else f"http://{url}"
    client = HttpClient(user_agent="scow")
    try:
        async with await client.request("GET", url) as answer:
            if answer.status != 200:
                raise InvalidArgument(f"cannot import {url[:200]}: the server answered with status {answer.status}")
            report({"status": f"Downloading from {url}"})
            async for piece in answer.stream():
                yield piece
    finally:
        await client.close()


# -- push ----------------------------------------------------------------------------------------------------------


@routes.post("/images/{name:path}/push")
async def image_push(engine: "Engine", request: "Request") -> Response:
    """ImagePush: send one tag, or all of a repository."""
    query = request.query
    repository = Reference.parse(request.path["name"], None)
    tag, auth = query.text("tag"), auth_of(request)
    reference = repository.with_tag(tag) if tag else repository
    platform = platform_of(query.text("platform"))
    found = await asyncio.to_thread(references, engine.images, reference, all_tags=not tag)

    async def work(report: Report) -> None:
        for one in found:
            await push(engine.images, engine.registry, one, auth, report, platform)
            engine.events.publish("image", "push", one.familiar(), {"name": one.familiar_name})

    return await progress_response(work)


# -- archives ------------------------------------------------------------------------------------------------------


@routes.get("/images/get")
async def image_get_all(engine: "Engine", request: "Request") -> Response:
    """ImageGetAll: several images as one archive."""
    names = [name for given in request.query.all("names") for name in given.split(",") if name]
    if not names:
        raise InvalidArgument("no image names given")
    return await _save(engine, names)


@routes.get("/images/{name:path}/get")
async def image_get(engine: "Engine", request: "Request") -> Response:
    """ImageGet: one image, or all of a repository, as an archive."""
    return await _save(engine, [request.path["name"]])


async def _save(engine: "Engine", names: list[str]) -> Response:
    def write(out: Any) -> None:
        engine.images.save(names, out)

    body = await begun(produced(write))
    for name in names:
        engine.events.publish("image", "save", name, {"name": name})
    return Response(200, body, content_type=TAR)


@routes.post("/images/load")
async def image_load(engine: "Engine", request: "Request") -> Response:
    """ImageLoad: the images in an archive."""
    quiet = request.query.boolean("quiet")

    async def work(report: Report) -> None:
        def progress(message: dict[str, Any]) -> None:
            if not quiet:
                report(message)

        lines = await asyncio.to_thread(engine.images.load, inlet(request.stream()), progress)
        for line in lines:
            report({"stream": f"{line}\n"})
            name = line.rpartition(" ")[2]
            image = await asyncio.to_thread(engine.images.resolve, name)
            engine.events.publish("image", "load", image.id, {**image.labels, "name": name})

    return await progress_response(work)


# -- images from this machine --------------------------------------------------------------------------------------


class Bootstrap(msgspec.Struct, forbid_unknown_fields=True):
    """What to make an image of: ``kind`` is busybox, debian or host."""

    kind: str
    name: str = ""
    suite: str = ""
    programs: list[str] = []
    include: list[str] = []


@dataclass(frozen=True, slots=True)
class _Wish:
    """A checked `Bootstrap`."""

    kind: str
    name: Reference
    suite: str
    programs: tuple[str, ...]
    include: tuple[str, ...]


@routes.post("/scow/images/bootstrap")
async def image_bootstrap(engine: "Engine", request: "Request") -> Response:
    """Make a first image without a registry: from busybox, Debian's archive, or programs of this machine."""
    body = await request.json(Bootstrap)
    wish = _wish(body)

    async def work(report: Report) -> None:
        report({"status": f"Making {wish.name.familiar()} from {wish.kind}"})
        image = await asyncio.to_thread(_bootstrap, engine, wish, report)
        report({"status": f"Made {wish.name.familiar()}", "aux": {"ID": str(image.id)}})
        engine.events.publish("image", "import", image.id, {"name": wish.name.familiar()})

    return await progress_response(work)


def _wish(body: Bootstrap) -> _Wish:
    if body.kind not in ("busybox", "debian", "host"):
        raise InvalidArgument(f"unknown kind {body.kind[:40]!r}: expected busybox, debian or host")
    if body.kind == "host" and not body.programs:
        raise InvalidArgument("an image of this machine needs programs: name at least one")
    name = Reference.parse(body.name or body.kind)
    return _Wish(body.kind, name, body.suite, tuple(body.programs), tuple(body.include))


def _bootstrap(engine: "Engine", wish: _Wish, report: Report) -> Image:
    """Blocking."""

    def progress(message: dict[str, Any]) -> None:
        report(message)

    images = engine.images
    if wish.kind == "busybox":
        return bootstrap.bootstrap_busybox(images, wish.name, progress)
    if wish.kind == "debian":
        return bootstrap.bootstrap_debian(images, wish.suite, wish.name, progress=progress)
    return bootstrap.from_host(images, wish.name, wish.programs, wish.include, progress=progress)
