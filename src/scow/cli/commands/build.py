"""scow build: pack the context, send it, show what the builder says."""

from __future__ import annotations

import os

from scow.api import units
from scow.cli import run_values
from scow.cli.build_context import Context, chosen
from scow.cli.exits import FAILED, Exit
from scow.cli.flags import Command, Flag, Options
from scow.cli.options import CONTENT_TRUST, PLATFORM
from scow.cli.progress import StreamError, check, show
from scow.client import jsontext
from scow.client.credentials import encode
from scow.client.endpoint import default_platform
from scow.errors import InvalidArgument, System, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from scow.cli.session import Session
    from scow.client.client import QueryValue

BUILD = Command(
    "[OPTIONS] PATH | URL | -",
    "Build an image from a Dockerfile",
    least=1,
    most=1,
    flags=(
        Flag("add-host", run_values.HOST, 'Add a custom host-to-IP mapping ("host:ip")'),
        Flag("build-arg", "list", "Set build-time variables"),
        Flag("cache-from", "strings", "Images to consider as cache sources"),
        Flag("cgroup-parent", "string", 'Set the parent cgroup for the "RUN" instructions during build'),
        Flag("compress", "bool", "Compress the build context using gzip"),
        Flag("cpu-period", "int", "Limit the CPU CFS (Completely Fair Scheduler) period"),
        Flag("cpu-quota", "int", "Limit the CPU CFS (Completely Fair Scheduler) quota"),
        Flag("cpu-shares", "int", "CPU shares (relative weight)", short="c"),
        Flag("cpuset-cpus", "string", "CPUs in which to allow execution (0-3, 0,1)"),
        Flag("cpuset-mems", "string", "MEMs in which to allow execution (0-3, 0,1)"),
        CONTENT_TRUST,
        Flag("file", "string", 'Name of the Dockerfile (Default is "PATH/Dockerfile")', short="f"),
        Flag("force-rm", "bool", "Always remove intermediate containers"),
        Flag("iidfile", "string", "Write the image ID to the file"),
        Flag("label", run_values.LABEL, "Set metadata for an image"),
        Flag("load", "bool", "The image is always kept here; taken for scripts", hidden=True),
        Flag("memory", "bytes", "Memory limit", short="m"),
        Flag("memory-swap", "swap", "Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
        Flag("network", "string", "Set the networking mode for the RUN instructions during build", default="default"),
        Flag("no-cache", "bool", "Do not use cache when building the image"),
        PLATFORM,
        Flag("progress", "string", 'Set type of progress output ("auto", "plain", "tty")', default="auto"),
        Flag("pull", "bool", "Always attempt to pull a newer version of the image"),
        Flag("quiet", "bool", "Suppress the build output and print image ID on success", short="q"),
        Flag("rm", "bool", "Remove intermediate containers after a successful build", default=True),
        Flag("security-opt", "strings", "Security options"),
        Flag("shm-size", "bytes", 'Size of "/dev/shm"'),
        Flag("squash", "bool", "Squash newly built layers into a single new layer"),
        Flag("tag", "list", 'Name and optionally a tag in the "name:tag" format', short="t"),
        Flag("target", "string", "Set the target build stage to build."),
        Flag("ulimit", run_values.ULIMIT, "Ulimit options (default [])"),
        *(
            Flag(name, "list", "Needs BuildKit's protocol", hidden=True)
            for name in ("build-context", "cache-to", "output", "secret", "ssh")
        ),
        Flag("push", "bool", "Needs BuildKit's protocol", hidden=True),
    ),
)

#: Flags of buildx that cannot be carried by the classic build call → what to do instead.
REFUSED = {
    "build-context": "put the files into the context",
    "cache-to": "the cache is always kept by the engine",
    "output": "build with -t and use 'scow save' or 'scow cp'",
    "push": "build with -t and use 'scow push'",
    "secret": "pass the value with --build-arg, or mount it at run time",
    "ssh": "copy what is needed into the context",
}

_NUMBERS = (
    ("memory", "memory"),
    ("memory-swap", "memswap"),
    ("cpu-shares", "cpushares"),
    ("cpu-period", "cpuperiod"),
    ("cpu-quota", "cpuquota"),
    ("shm-size", "shmsize"),
)
_TEXTS = (
    ("cpuset-cpus", "cpusetcpus"),
    ("cpuset-mems", "cpusetmems"),
    ("cgroup-parent", "cgroupparent"),
    ("target", "target"),
    ("network", "networkmode"),
)


def build(session: Session, options: Options, arguments: list[str]) -> int:
    for name, advice in REFUSED.items():
        if options.given(name):
            raise Unsupported(f"--{name} needs BuildKit's protocol, which is not spoken here: {advice}")
    progress = options.text("progress")
    if progress not in ("auto", "plain", "tty", "quiet", "rawjson"):
        raise InvalidArgument(f"invalid progress type {progress!r}: use auto, plain or tty")
    quiet = options.on("quiet") or progress == "quiet"
    iidfile = options.text("iidfile")
    if iidfile and os.path.lexists(iidfile):
        _unlink(iidfile)
    context = chosen(arguments[0], options.text("file"))
    query = _query(options, context, quiet)
    body = None if context.chunks is None else _sent(session, context.chunks, options.on("compress"), quiet)
    headers = {"Content-Type": "application/x-tar"}
    auths = session.config.everything()
    if auths:
        headers["X-Registry-Config"] = encode(auths)  # type: ignore[arg-type]  # an object of objects
    messages = session.client.messages("POST", "/build", query, body=body, headers=headers)
    session.console.flush()
    try:
        identifier = _quiet(session, messages) if quiet else _shown(messages, progress)
    except StreamError as error:
        raise Exit(error.code or FAILED, str(error)) from None
    if iidfile:
        _write(iidfile, identifier)
    return 0


def _query(options: Options, context: Context, quiet: bool) -> dict[str, QueryValue]:
    query: dict[str, QueryValue] = {
        "version": "1",
        "t": options.items("tag"),
        "remote": context.remote,
        "dockerfile": context.dockerfile,
        "nocache": options.on("no-cache"),
        "pull": options.on("pull"),
        "q": quiet,
        "squash": options.on("squash"),
        "rm": "1" if options.on("rm") else "0",
        "forcerm": options.on("force-rm"),
        "platform": options.text("platform") or default_platform(os.environ),
        "extrahosts": options.items("add-host"),
        "securityopt": options.items("security-opt"),
    }
    query |= {field: options.number(flag) or None for flag, field in _NUMBERS}
    query |= {field: options.text(flag) for flag, field in _TEXTS}
    for field, value in (
        ("buildargs", dict(map(build_argument, options.items("build-arg")))),
        ("labels", run_values.labels(options.items("label"))),
        ("cachefrom", options.items("cache-from")),
        ("ulimits", options.raw("ulimit")),
    ):
        if value:
            query[field] = jsontext.dumps(value)
    return query


def build_argument(text: str) -> tuple[str, str | None]:
    """ "NAME=value", or "NAME" for the caller's own value; None when it has none."""
    name, equals, value = text.partition("=")
    if not name:
        raise InvalidArgument(f"invalid build argument: {text!r}: expected NAME=value")
    return name, value if equals else os.environ.get(name)


def _sent(session: Session, chunks: Iterator[bytes], compress: bool, quiet: bool) -> Iterator[bytes]:
    """The context as it is sent; how much it was is said at its end."""
    total = 0
    squeeze = None
    if compress:
        import zlib

        squeeze = zlib.compressobj(wbits=31)
    for chunk in chunks:
        total += len(chunk)
        data = squeeze.compress(chunk) if squeeze else chunk
        if data:
            yield data
    if squeeze:
        yield squeeze.flush()
    if not quiet:
        session.console.line(f"Sending build context to Scow daemon  {units.human_size(total)}")
        session.console.flush()


def _shown(messages: Iterator[dict[str, Any]], progress: str) -> str:
    """Show the build; returns the image's id."""
    found: list[str] = []
    show(messages, plain=progress == "plain", aux=_collector(found))
    return found[-1] if found else ""


def _collector(found: list[str]) -> Callable[[Any], None]:
    def collect(value: Any) -> None:
        if isinstance(value, dict) and value.get("ID"):
            found.append(str(value["ID"]))

    return collect


def _quiet(session: Session, messages: Iterator[dict[str, Any]]) -> str:
    """Wait for the end; print the id, or on failure what the build said."""
    said: list[str] = []
    found: list[str] = []
    collect = _collector(found)
    for message in messages:
        if message.get("aux") is not None:
            collect(message["aux"])
            continue
        if message.get("errorDetail") or message.get("error"):
            session.console.error("".join(said).rstrip("\n"))
        check(message)
        said.append(str(message.get("stream") or ""))
    identifier = found[-1] if found else "".join(said).strip()
    session.console.line(identifier)
    return identifier


def _write(name: str, text: str) -> None:
    try:
        with open(name, "w", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        raise System(f"could not write {name}: {error.strerror}") from None


def _unlink(name: str) -> None:
    try:
        os.unlink(name)
    except OSError as error:
        raise System(f"could not replace {name}: {error.strerror}") from None


COMMANDS = {"image build": (BUILD, build)}
