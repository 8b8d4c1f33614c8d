"""The Image operations that do not move images: list, inspect, history, tag, remove, prune, search, attestations.

What moves them (pull, push, load, save, import) is in `transfers`, merged in here.
"""

import asyncio
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from scow.api.filters import Filters
from scow.api.units import parse_time
from scow.daemon.routes import transfers
from scow.errors import EngineError, InvalidArgument, NotFound
from scow.images.image import Image
from scow.oci.digest import Digest
from scow.oci.document import MAX_DOCUMENT
from scow.oci.manifest import Index, Manifest
from scow.oci.platform import Platform, host_platform
from scow.oci.reference import Reference
from scow.registry.auth import AuthConfig
from scow.web.response import CREATED, Response, json_response
from scow.web.router import Routes

if TYPE_CHECKING:
    from scow.daemon.engine import Engine
    from scow.web.request import Request

routes = Routes()
routes.merge(transfers.routes)

PRUNE_FILTERS = frozenset({"dangling", "until", "label", "label!"})
SEARCH_FILTERS = frozenset({"is-official", "is-automated", "stars"})
#: What BuildKit marks index entries with that say something about another entry.
ATTESTATION_TYPE = "vnd.docker.reference.type"
ATTESTATION_DIGEST = "vnd.docker.reference.digest"
PREDICATE_TYPE = "in-toto.io/predicate-type"
MAX_STATEMENT = 16 << 20
#: From this version on an image's list entry has no VirtualSize, and null lists are empty ones.
WITHOUT_VIRTUAL_SIZE = (1, 44)


@routes.get("/images/json")
async def image_list(engine: "Engine", request: "Request") -> Response:
    """ImageList: images newest first."""
    filters = Filters.parse(request.query.text("filters"))
    shared = request.query.boolean("shared-size")
    users = engine.containers.users()
    found = await asyncio.to_thread(engine.images.summaries, filters, shared_size=shared, users=users)
    if request.version < WITHOUT_VIRTUAL_SIZE:
        for entry in found:
            entry["VirtualSize"] = entry["Size"]
    return json_response(found)


@routes.get("/images/search")
async def image_search(engine: "Engine", request: "Request") -> Response:
    """ImageSearch: repositories of the default registry (or, for host/term, of that one) by a word."""
    term = request.query.text("term")
    limit = request.query.integer("limit") or 25
    if not 1 <= limit <= 100:
        raise InvalidArgument(f"limit {limit} is outside the range of [1, 100]")
    filters = Filters.parse(request.query.text("filters"), SEARCH_FILTERS)
    auth = AuthConfig.from_header(request.headers.get("x-registry-auth", ""))
    found = await engine.registry.search(term, limit, auth)
    return json_response([entry for entry in found if _wanted(entry, filters)])


def _wanted(entry: dict[str, Any], filters: Filters) -> bool:
    stars = filters.get("stars", ())
    if not all(text.isascii() and text.isdigit() for text in stars):
        raise InvalidArgument(f"invalid filter 'stars={list(stars)}'")
    if stars and entry["star_count"] < max(int(text[:12]) for text in stars):
        return False
    if filters.boolean("is-automated", False):
        return False
    return "is-official" not in filters or bool(entry["is_official"]) == filters.boolean("is-official", True)


@routes.post("/images/prune")
async def image_prune(engine: "Engine", request: "Request") -> Response:
    """ImagePrune: remove images nobody uses."""
    lines, freed = await prune(engine, Filters.parse(request.query.text("filters"), PRUNE_FILTERS))
    return json_response({"ImagesDeleted": lines or None, "SpaceReclaimed": freed})


async def prune(engine: "Engine", filters: Filters) -> tuple[list[dict[str, str]], int]:
    """Remove unused images that pass `filters` and tell about it; what went, and the bytes freed."""
    dangling = filters.boolean("dangling", True)
    before = [parse_time(text) / 1e9 for text in filters.get("until", ())]

    def keep(image: Image) -> bool:
        return any(image.created > limit for limit in before) or not filters.labels(image.labels)

    users, running = engine.containers.users(), engine.containers.running()
    lines, freed = await asyncio.to_thread(
        lambda: engine.images.prune(dangling=dangling, keep=keep, users=users, running=running)
    )
    _tell_removed(engine, lines, "")
    engine.events.publish("image", "prune", "", {"reclaimed": str(freed)})
    return lines, freed


@routes.get("/images/{name:path}/json")
async def image_inspect(engine: "Engine", request: "Request") -> Response:
    """ImageInspect: everything about one image."""
    name = request.path["name"]
    found = await asyncio.to_thread(engine.images.inspect, name)
    wanted = transfers.platform_of(request.query.text("platform"))
    if wanted is not None and not wanted.matches(Platform.from_json(_platform_fields(found))):
        raise NotFound(f"image with reference {name} was found but does not provide the specified platform ({wanted})")
    if request.version < WITHOUT_VIRTUAL_SIZE:
        found["VirtualSize"] = found["Size"]
    return json_response(found)


def _platform_fields(found: dict[str, Any]) -> dict[str, Any]:
    return {"os": found["Os"], "architecture": found["Architecture"], "variant": found.get("Variant", "")}


@routes.get("/images/{name:path}/history")
async def image_history(engine: "Engine", request: "Request") -> Response:
    """ImageHistory: the steps an image was made by."""
    return json_response(await asyncio.to_thread(engine.images.history, request.path["name"]))


@routes.post("/images/{name:path}/tag")
async def image_tag(engine: "Engine", request: "Request") -> Response:
    """ImageTag: another name for an image."""
    repository, tag = request.query.text("repo"), request.query.text("tag")
    target = Reference.parse(repository, None)
    target = target.with_tag(tag) if tag else target
    if target.tag is None and target.digest is None:
        target = target.with_tag("latest")
    image = await asyncio.to_thread(engine.images.tag, request.path["name"], target)
    engine.events.publish("image", "tag", image.id, {**image.labels, "name": target.familiar()})
    return CREATED


@routes.delete("/images/{name:path}")
async def image_delete(engine: "Engine", request: "Request") -> Response:
    """ImageDelete: take a name away, and the image with its last one."""
    name = request.path["name"]
    force, noprune = request.query.boolean("force"), request.query.boolean("noprune")
    users, running = engine.containers.users(), engine.containers.running()

    def remove() -> tuple[Digest, list[dict[str, str]]]:
        image = engine.images.resolve(name)
        lines = engine.images.remove(name, force=force, prune=not noprune, users=users, running=running)
        return image.id, lines

    identity, lines = await asyncio.to_thread(remove)
    _tell_removed(engine, lines, identity)
    return json_response(lines)


def _tell_removed(engine: "Engine", lines: Iterable[dict[str, str]], identity: str) -> None:
    """Events for what went; layers, which are "Deleted" too, are not images."""
    for line in lines:
        if "Untagged" in line:
            engine.events.publish("image", "untag", identity, {"name": line["Untagged"]})
        elif line.get("Deleted") == identity:
            engine.events.publish("image", "delete", identity, {"name": identity})


@routes.get("/images/{name:path}/attestations")
async def image_attestations(engine: "Engine", request: "Request") -> Response:
    """ImageAttestations: the in-toto statements that came with an image and are here."""
    platforms = request.query.all("platform")
    if len(platforms) > 1:
        raise InvalidArgument("only one platform can be given")
    wanted = transfers.platform_of(platforms[0] if platforms else "")
    kinds, whole = set(request.query.all("type")), request.query.boolean("statement")
    image = await asyncio.to_thread(engine.images.resolve, request.path["name"])
    return json_response(await asyncio.to_thread(_attestations, engine, image, wanted, kinds, whole))


def _attestations(
    engine: "Engine", image: Image, platform: Platform | None, kinds: set[str], whole: bool
) -> list[dict[str, Any]]:
    """AttestationStatement objects. Blocking."""
    if image.index is None:
        if platform is not None and not platform.matches(image.config.platform):
            raise NotFound(f"no manifest found for platform {platform}: the image is for {image.config.platform}")
        return []
    index = Index.parse(engine.content.read(image.index.digest, MAX_DOCUMENT), image.index.media_type)
    subject = index.choose(platform or host_platform()).digest
    found: list[dict[str, Any]] = []
    for entry in index.manifests:
        notes = entry.annotations
        mine = notes.get(ATTESTATION_TYPE) == "attestation-manifest" and notes.get(ATTESTATION_DIGEST) == subject
        if not mine or not engine.content.has(entry.digest):
            continue
        manifest = Manifest.parse(engine.content.read(entry.digest, MAX_DOCUMENT), entry.media_type)
        for layer in manifest.layers:
            kind = layer.annotations.get(PREDICATE_TYPE, "")
            if not kind or (kinds and kind not in kinds) or not engine.content.has(layer.digest):
                continue
            statement: dict[str, Any] = {"Descriptor": layer.to_json(), "PredicateType": kind}
            if whole:
                statement["Statement"] = _statement(engine, layer.digest)
            found.append(statement)
    return found


def _statement(engine: "Engine", digest: Digest) -> Any:
    try:
        return json.loads(engine.content.read(digest, MAX_STATEMENT))
    except (ValueError, RecursionError):
        raise NotFound(f"attestation {digest} is not JSON: it was damaged where it was made") from None
    except EngineError:
        return None
