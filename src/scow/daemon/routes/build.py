"""Building by the classic API: ``POST /build``, pruning and cancelling.

The context is received and the Dockerfile read before the answer begins, so that what is plainly wrong is a plain 400;
from then on the answer is 200 and errors are lines of the stream, as Docker's clients expect. A client that goes away
cancels its build.
"""

import asyncio
import base64
import binascii
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from scow.api.decode import parse_json
from scow.api.filters import Filters
from scow.api.units import parse_duration, parse_rfc3339
from scow.build.builder import Build
from scow.build.options import DEFAULT_SHM_SIZE, BuildOptions, Limits
from scow.build.prune import Pruned
from scow.build.steps.run import CommandFailed
from scow.daemon.engine import Engine
from scow.errors import EngineError, InvalidArgument
from scow.oci.platform import Platform
from scow.registry.auth import AuthConfig
from scow.web.jsonlines import JsonLines
from scow.web.request import Query, Request
from scow.web.response import NO_CONTENT, Response, encode, json_response
from scow.web.router import Routes

routes = Routes()

log = logging.getLogger("scow.daemon")

#: Characters a client may be behind before the command it watches has to wait.
MAX_BEHIND = 1 << 20

#: Largest X-Registry-Config (base64).
MAX_AUTH = 1 << 20

_ARCHITECTURES = frozenset({
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64",
    "s390x", "wasm",
})  # fmt: skip
_NANOSECONDS = 1_000_000_000
_ULIMITS = frozenset({
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
})  # fmt: skip


@routes.post("/build")
async def image_build(engine: Engine, request: Request) -> Response:
    """ImageBuild: build an image from a context."""
    options = build_options(request.query, request.headers.get("x-registry-config", ""))
    build = await engine.builder.receive(request.stream(), options)
    talk = Talk(options.quiet)
    if request.query.text("version") == "2":
        talk.tell({"stream": "This request has no BuildKit session: building with the classic builder's progress.\n"})
    # Started here, not by the body: a client that is gone before the first byte must not leave the context behind.
    work = asyncio.ensure_future(_work(engine, build, request.query.text("buildid"), talk))
    return Response(200, talk.body(work))


class Talk:
    """The lines on their way to one client, and how far behind the client is."""

    def __init__(self, quiet: bool) -> None:
        self.lines = JsonLines()
        self._quiet = quiet
        self._behind = 0
        self._caught_up = asyncio.Event()

    def tell(self, value: Mapping[str, Any]) -> None:
        """Send one progress object; with ``q`` there are none."""
        if not self._quiet:
            self._behind += len(value.get("stream", ""))
            self.lines.put(value)

    async def pace(self) -> None:
        """Wait until the client has less than `MAX_BEHIND` left to read: a command that prints without end must not
        fill the memory.
        """
        while self._behind > MAX_BEHIND:
            self._caught_up.clear()
            await self._caught_up.wait()

    async def body(self, work: "asyncio.Future[None]") -> AsyncIterator[bytes]:
        """The lines as bytes; ends the build when the client goes away."""
        try:
            async for chunk in self.lines:
                sent = self._behind
                yield chunk
                self._behind -= sent
                self._caught_up.set()
            await asyncio.wait([work])
            error = None if work.cancelled() else work.exception()
            if error is not None:
                log.error("build failed", exc_info=error)
                text = f"internal error: {type(error).__name__}: {error}"
                yield encode({"errorDetail": {"message": text}, "error": text}) + b"\r\n"
        finally:
            work.cancel()
            await asyncio.wait([work])


async def _work(engine: Engine, build: Build, key: str, talk: Talk) -> None:
    """Carry out the build; whatever happens ends up as lines."""
    lines = talk.lines
    try:
        image = await engine.builder.carry_out(build, talk.tell, key, talk.pace)
        if build.options.quiet:
            lines.put({"stream": f"{image.id}\n"})
    except CommandFailed as error:
        lines.put({"errorDetail": {"code": error.code, "message": str(error)}, "error": str(error)})
    except EngineError as error:
        lines.error(str(error))
    finally:
        lines.close()


@routes.post("/build/prune")
async def build_prune(engine: Engine, request: Request) -> Response:
    """BuildPrune: remove build cache."""
    deleted, freed = await engine.builder.prune(prune_options(request.query, time.time()))
    return json_response({"CachesDeleted": deleted, "SpaceReclaimed": freed})


@routes.post("/build/cancel")
async def build_cancel(engine: Engine, request: Request) -> Response:
    """BuildCancel: stop the build that was started with ``buildid``."""
    key = request.query.text("id")
    if not key:
        raise InvalidArgument("build ID not specified")
    engine.builder.cancel(key)
    return NO_CONTENT


# ---- parameters -------------------------------------------------------------------------------------------


def build_options(query: Query, registry_config: str = "") -> BuildOptions:
    """The parameters of ``POST /build``.

    Raises:
        InvalidArgument: one of them is malformed; the text names it.
    """
    platform = _platform(query.text("platform"))
    isolation = query.text("isolation")
    if isolation not in ("", "default"):
        raise InvalidArgument(f"unsupported isolation {isolation!r}: only default exists on Linux")
    return BuildOptions(
        dockerfile=query.text("dockerfile"),
        remote=_remote(query.text("remote")),
        tags=tuple(tag for tag in query.all("t") if tag),
        target=query.text("target"),
        platform=platform,
        build_args=_arguments(query.text("buildargs")),
        labels=_labels(query.text("labels")),
        cache_from=_strings(query.text("cachefrom"), "cachefrom"),
        no_cache=query.boolean("nocache"),
        pull=query.boolean("pull"),
        quiet=query.boolean("q"),
        squash=query.boolean("squash"),
        network=query.text("networkmode") or "default",
        extra_hosts=tuple(host for text in query.all("extrahosts") for host in _hosts(text)),
        limits=_limits(query),
        auths=registry_auths(registry_config),
    )


def _platform(text: str) -> str:
    """The normalised platform; a lone word must be a system or a processor that exists."""
    if not text:
        return ""
    found = Platform.parse(text)
    if "/" not in text and text.lower() != found.os and found.architecture not in _ARCHITECTURES:
        raise InvalidArgument(f'invalid platform "{text}": unknown operating system or architecture')
    return str(found)


def _remote(text: str) -> str:
    if text in ("client-session", "upload-request"):
        raise InvalidArgument(
            f"remote={text} needs a BuildKit session, which this request does not have: send the context as body"
        )
    return text


def _limits(query: Query) -> Limits:
    shm_size = query.integer("shmsize")
    return Limits(
        memory=query.integer("memory") or 0,
        memory_swap=query.integer("memswap") or 0,
        cpu_shares=query.integer("cpushares") or 0,
        cpu_period=query.integer("cpuperiod") or 0,
        cpu_quota=query.integer("cpuquota") or 0,
        cpuset_cpus=query.text("cpusetcpus"),
        cpuset_mems=query.text("cpusetmems"),
        shm_size=shm_size or DEFAULT_SHM_SIZE,
        ulimits=_ulimits(query.text("ulimits")),
    )


def _decoded(text: str, what: str, kind: type) -> Any:
    """JSON of a parameter; None when it is absent, empty or null."""
    value = parse_json(text.encode(), what) if text else None
    if value is not None and not isinstance(value, kind):
        raise InvalidArgument(f"invalid {what}: expected a JSON {'object' if kind is dict else 'list'}")
    return value


def _arguments(text: str) -> dict[str, str | None]:
    value = _decoded(text, "buildargs", dict) or {}
    if not all(item is None or isinstance(item, str) for item in value.values()):
        raise InvalidArgument("invalid buildargs: values must be strings")
    return dict(value)


def _labels(text: str) -> dict[str, str]:
    value = _decoded(text, "labels", dict) or {}
    if not all(isinstance(item, str) for item in value.values()):
        raise InvalidArgument("invalid labels: values must be strings")
    return dict(value)


def _strings(text: str, what: str) -> tuple[str, ...]:
    value = _decoded(text, what, list) or []
    if not all(isinstance(item, str) for item in value):
        raise InvalidArgument(f"invalid {what}: expected a list of strings")
    return tuple(value)


def _hosts(text: str) -> list[str]:
    """``extrahosts``: one host, several separated by commas, or (docker-py) a JSON object of name to address."""
    if text.startswith("{"):
        value = _decoded(text, "extrahosts", dict) or {}
        return [f"{name}:{address}" for name, address in value.items()]
    return [item for item in text.split(",") if item]


def _ulimits(text: str) -> tuple[tuple[str, int, int], ...]:
    found = []
    for item in _decoded(text, "ulimits", list) or []:
        name = item.get("Name") if isinstance(item, dict) else None
        soft, hard = (item.get("Soft"), item.get("Hard")) if isinstance(item, dict) else (None, None)
        if name not in _ULIMITS or not isinstance(soft, int) or not isinstance(hard, int):
            raise InvalidArgument(f"invalid ulimit {item!r}: expected a known name and numbers for Soft and Hard")
        found.append((str(name), soft, hard))
    return tuple(found)


def registry_auths(text: str) -> dict[str, AuthConfig]:
    """``X-Registry-Config``: base64url JSON of registry → credentials.

    Raises:
        InvalidArgument: not that.
    """
    if not text:
        return {}
    if len(text) > MAX_AUTH:
        raise InvalidArgument("X-Registry-Config is larger than a megabyte")
    try:
        value = json.loads(base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        raise InvalidArgument("invalid X-Registry-Config: expected base64 of a JSON object") from None
    if not isinstance(value, dict):
        raise InvalidArgument("invalid X-Registry-Config: expected base64 of a JSON object")
    return {str(registry): AuthConfig.from_json(item) for registry, item in value.items()}


#: ``docker system prune`` sends its label filters here too; build cache has no labels.
_PRUNE_FILTERS = frozenset({
    "until", "id", "parent", "type", "description", "inuse", "shared", "private", "unused-for", "label", "label!",
})  # fmt: skip
#: The kinds of build cache a wish for a label leaves.
_NONE = frozenset({""})


def prune_options(query: Query, now: float) -> Pruned:
    """The parameters of ``POST /build/prune``; `now` is seconds since 1970.

    Raises:
        InvalidArgument: an unknown filter or an unreadable time.
    """
    filters = Filters.parse(query.text("filters"), _PRUNE_FILTERS)
    before: float | None = None
    for text in (*filters.get("until", ()), *filters.get("unused-for", ())):
        before = _moment(text, now)
    keep = query.integer("reserved-space") or query.integer("keep-storage") or query.integer("max-used-space") or 0
    return Pruned(
        query.boolean("all"),
        before,
        max(0, keep),
        frozenset(filters.get("id", ())),
        frozenset(filters.get("type", ())) if filters.labels({}) else _NONE,
    )


def _moment(text: str, now: float) -> float:
    """A time as Docker's ``until`` filters take it: seconds since 1970, RFC 3339, or how long ago."""
    if text.replace(".", "", 1).isascii() and text.replace(".", "", 1).isdigit() and len(text) <= 20:
        return float(text)
    try:
        return now - parse_duration(text) / _NANOSECONDS
    except InvalidArgument:
        return parse_rfc3339(text) / _NANOSECONDS
