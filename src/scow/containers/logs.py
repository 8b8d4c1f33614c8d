"""A container's log as the API sends it: the past, and what comes while it runs.

The daemon is not on the writing path: it reads the files the shim writes, so a log goes on across its restarts.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from scow.api.units import parse_time
from scow.containers import tags
from scow.containers.attach import AttachRequest
from scow.containers.background import to_the_end
from scow.containers.container import Container
from scow.containers.context import Context
from scow.errors import Conflict, InvalidArgument, System
from scow.logs import options
from scow.logs.driver import DRIVERS, LogConfig
from scow.logs.reader import Follower, LogReader
from scow.logs.render import Format
from scow.logs.rotate import remove_files


@dataclass(frozen=True, slots=True)
class LogsRequest:
    """What the client asks for, as the query says it; `tail` is a number or "all"."""

    follow: bool = False
    stdout: bool = False
    stderr: bool = False
    since: str = ""
    until: str = ""
    timestamps: bool = False
    tail: str = "all"
    details: bool = False


def path_of(context: Context, container: Container) -> Path:
    """The newest file of the container's log."""
    return context.store.folder(container.id) / f"{container.id}-json.log"


def config_of(context: Context, container: Container) -> LogConfig:
    """How the container's output is kept."""
    config, settings = container.record.config, container.record.host.log_config
    environment = dict(entry.partition("=")[::2] for entry in config.env or ())
    attributes = options.attributes(settings.config, config.labels or {}, environment)
    record = container.record
    tag = tags.render(settings.config.get("tag") or tags.DEFAULT, tags.fields(record))
    if "tag" in attributes:
        attributes["tag"] = tag
    fields = {"id": record.id, "name": record.name, "image": record.image_ref, "tag": tag}
    return LogConfig(settings.type, str(path_of(context, container)), settings.config, attributes, fields)


def shown_path(context: Context, container: Container) -> str:
    """What inspect says about the log's place: only json-file's is for others to read."""
    return str(path_of(context, container)) if container.record.host.log_config.type == "json-file" else ""


def check(driver: str, settings: dict[str, str]) -> None:
    """Raise `InvalidArgument` for a driver that does not exist or options it does not know."""
    if driver not in DRIVERS:
        raise InvalidArgument(f"logger: no log driver named '{driver}' is registered")
    options.check(driver, settings)
    options.attributes(settings, {}, {})
    tags.check(settings.get("tag", ""))


def read(context: Context, ref: str, request: LogsRequest) -> tuple[bool, AsyncIterator[bytes]]:
    """(whether it is a terminal's, the log's bytes for the wire).

    Raises:
        NoSuchContainer, InvalidArgument: no stream chosen, a time or a number that is none.
        Unsupported: the driver keeps nothing.
    """
    container = context.get(ref)
    if not (request.stdout or request.stderr):
        raise InvalidArgument("Bad parameters: you must choose at least one stream")
    now = time.time_ns()
    config = config_of(context, container)
    tty = container.record.config.tty
    form = Format(
        stdout=request.stdout,
        stderr=request.stderr,
        since_ns=_time(request.since, now),
        until_ns=_time(request.until, now),
        timestamps=request.timestamps,
        raw=tty,
        details=config.attributes if request.details else None,
    )
    tail = _tail(request.tail)
    reader = LogReader(config)
    if not request.follow or not container.running:
        return tty, _past(reader, form, tail)
    return tty, _follow(container, reader, form, tail, _time(request.until, now))


async def clear(context: Context, ref: str) -> None:
    """Remove what the container has logged so far, older files too; whoever follows the log goes on.

    Raises:
        NoSuchContainer.
        Unsupported: the driver keeps no files.
        System: a file cannot be removed.
    """
    container = context.get(ref)
    with LogReader(config_of(context, container)):
        pass  # says what cannot be read, and so not be cleared
    task = container.task
    if task is not None:
        with contextlib.suppress(Conflict):  # it has ended: nobody writes
            await task.clear_log()
            return
    try:
        await asyncio.to_thread(remove_files, str(path_of(context, container)))
    except OSError as error:
        raise System(f"cannot clear the log of {container.name}: {error.strerror}: {error.filename}") from error


def _time(text: str, now: int) -> int | None:
    return parse_time(text, now) if text and text != "0" else None


def _tail(text: str) -> int | None:
    """The number of lines, None for all of them (as Docker takes what is no number)."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def replay(context: Context, container: Container, request: AttachRequest, until: int) -> AsyncIterator[bytes]:
    """Everything logged up to `until` (ns), for an attach that asks for the past."""
    form = Format(request.stdout, request.stderr, until_ns=until, raw=container.record.config.tty)
    return _past(LogReader(config_of(context, container)), form, None)


async def _past(reader: LogReader, form: Format, tail: int | None, *, finished: bool = True) -> AsyncIterator[bytes]:
    pieces = reader.render(form, tail, finished)
    try:
        # To the end also for a client that goes: what a thread opens after the reader was closed, nobody would close.
        while (piece := await to_the_end(next, pieces, None)) is not None:
            yield piece
    finally:
        pieces.close()
        if finished:
            reader.close()


async def _follow(
    container: Container, reader: LogReader, form: Format, tail: int | None, until: int | None
) -> AsyncIterator[bytes]:
    """The past, then what comes, until the container has ended and everything is read, or `until` has come."""
    exits = container.exits
    try:
        async for piece in _past(reader, form, tail, finished=False):
            yield piece
        try:
            follower = await _opened(reader)
        except FileNotFoundError:  # the container has been removed meanwhile
            for block in reader.rest():
                if form.shows(block):
                    yield form.render(block)
            return
    finally:
        reader.close()
    wake = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(follower.fileno(), wake.set)
    ended = loop.create_task(container.until(lambda: container.exits > exits or container.removed))
    ended.add_done_callback(lambda _: wake.set())
    try:
        finished = False
        while True:
            wake.clear()
            over = ended.done()
            if over and not finished:
                finished = True
                follower.finish()
            data, more = await to_the_end(follower.render, form)
            if data:
                yield data
            if more:
                continue
            if over or not await _woken(wake, until):
                return
    finally:
        loop.remove_reader(follower.fileno())
        ended.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ended
        follower.close()


async def _opened(reader: LogReader) -> Follower:
    """The reader's follower; closed again if nobody waits for it any more."""
    made: list[Follower] = []
    try:
        await to_the_end(lambda: made.append(reader.follow()))
    except asyncio.CancelledError:
        for follower in made:
            follower.close()
        raise
    return made[0]


async def _woken(wake: asyncio.Event, until: int | None) -> bool:
    """Wait for news; False once the time `until` (ns) has come."""
    left = None if until is None else (until - time.time_ns()) / 1e9
    try:
        async with asyncio.timeout(left):
            await wake.wait()
    except TimeoutError:
        return False
    return True
