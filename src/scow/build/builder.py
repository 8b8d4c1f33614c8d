"""The builder: receives contexts, resolves base images, has plans solved and exports the result.

Owns `<root>/build/`: cache.db, cachemounts/, tmp/ (one folder per build under way). A build that dies with the daemon
leaves a folder in tmp, an active snapshot and perhaps a task, all named after it; `open` removes them. Images, layers
and cache records become visible only when they are whole.
"""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scow.build import context as contexts
from scow.build.cache import Cache
from scow.build.context import Context
from scow.build.dockerfile.instructions import Dockerfile, read
from scow.build.export import export, squash
from scow.build.graph import ImageOp, Plan, RunOp
from scow.build.options import BuildOptions
from scow.build.progress import Classic, Progress
from scow.build.prune import Pruned, disk_usage, prune
from scow.build.resolve import Resolver
from scow.build.result import State, from_image
from scow.build.solve import solve
from scow.build.stages import Base, PlanRequest, plan
from scow.build.steps import run, source
from scow.build.workplace import KEY_PREFIX, MountFolders, Workplace
from scow.content.store import ContentStore
from scow.errors import Cancelled, Forbidden, NotFound, Unavailable
from scow.events import Bus
from scow.images.image import Image
from scow.images.store import Images
from scow.networks.service import Networks
from scow.oci.platform import Platform, host_platform
from scow.oci.reference import Reference
from scow.registry.client.registry import Registry
from scow.snapshots.removal import remove_at
from scow.snapshots.snapshotter import ACTIVE, Snapshotter
from scow.tasks.tasks import Tasks

#: Rounds of planning: each resolves images the one before has named (a trigger may name more).
MAX_ROUNDS = 16


@dataclass(slots=True)
class Build:
    """A received context with its Dockerfile read: everything that can be refused at once has been."""

    id: str
    folder: Path
    context: Context
    dockerfile: Dockerfile
    options: BuildOptions
    names: tuple[Reference, ...]


async def _at_once() -> None:
    """The pace of a reader who is never behind."""


class Builder:
    """Builds images; `root` is its own folder, `<data root>/build`. `open` before use, `close` at the end."""

    def __init__(
        self,
        root: Path,
        *,
        images: Images,
        snapshots: Snapshotter,
        tasks: Tasks,
        networks: Networks,
        content: ContentStore,
        events: Bus,
        registry: Registry | None = None,
    ) -> None:
        self._folder = root
        self._temporary = self._folder / "tmp"
        self._images = images
        self._snapshots = snapshots
        self._tasks = tasks
        self._networks = networks
        self._content = content
        self._events = events
        self._resolver = Resolver(images, registry)
        for folder in (self._folder, self._temporary, self._folder / "cachemounts"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._mounts = MountFolders(self._folder / "cachemounts")
        self._cache = Cache(self._folder / "cache.db")
        images.claim(self._claims)
        self._running: dict[str, asyncio.Task[object]] = {}
        self._at_work: dict[str, Workplace] = {}
        self._closing = False

    async def open(self) -> None:
        """Remove what builds left that a former daemon did not finish."""
        for task in self._tasks.all():
            if task.id.startswith(KEY_PREFIX):
                await run.stop(task)
                await self._networks.release(task.id)
        await asyncio.to_thread(self._sweep)

    def _claims(self) -> Iterator[str]:
        """What the images room must not collect: the cache, and what builds under way stand on."""
        yield from self._cache.claims()
        for work in list(self._at_work.values()):
            yield from [*work.chains, *(str(digest) for digest in work.blobs)]

    def _sweep(self) -> None:
        for info in list(self._snapshots.walk()):
            if info.kind == ACTIVE and info.name.startswith(KEY_PREFIX):
                with contextlib.suppress(NotFound):
                    self._snapshots.remove(info.name)
        for entry in self._temporary.iterdir():
            _remove(entry)
        self._cache.shrink()

    async def close(self) -> None:
        """Cancel the builds under way and wait until they are gone."""
        self._closing = True
        running = list(self._running.values())
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        self._cache.close()

    # ---- one build -----------------------------------------------------------------------------------

    async def build(self, context: AsyncIterator[bytes] | Path, options: BuildOptions, progress: Progress) -> Image:
        """Receive and carry out one build; see `receive` and `carry_out` for what can go wrong."""
        return await self.carry_out(await self.receive(context, options), progress)

    async def receive(self, context: AsyncIterator[bytes] | Path, options: BuildOptions) -> Build:
        """Take the context in and read its Dockerfile.

        Args:
            context: an archive as it arrives (plain, gzip, bzip2, xz or zstd tar), or a folder on this machine that
                does not change meanwhile. With `options.remote` it is drained and ignored.

        Returns:
            To be passed to `carry_out` or `discard`.

        Raises:
            InvalidArgument: the context, its Dockerfile, a tag or another option is wrong.
            NoSpace: the context does not fit the disk.
            Cancelled: the client went away.
        """
        if self._closing:
            raise Unavailable("the daemon is shutting down: build again when it is back")
        names = options.check()
        build_id = secrets.token_hex(16)
        folder = self._temporary / build_id
        folder.mkdir(mode=0o700)
        try:
            opened = await self._opened(context, folder, options)
            try:
                dockerfile = read(opened.dockerfile)
            except BaseException:
                opened.close()
                raise
        except BaseException:
            await _removed(folder)
            raise
        return Build(build_id, folder, opened, dockerfile, options, names)

    async def _opened(self, context: AsyncIterator[bytes] | Path, folder: Path, options: BuildOptions) -> Context:
        """The context, wherever it comes from."""
        if isinstance(context, Path):
            return await asyncio.to_thread(Context.at, context, options.dockerfile)
        where = folder / "context"
        where.mkdir(mode=0o755)
        if not options.remote:
            root_fd, used = await contexts.receive(context, where)
            return await asyncio.to_thread(Context, root_fd, used, options.dockerfile)
        async for _ in context:
            pass  # the client may send an empty body along with the URL
        if source.is_git(options.remote):
            keep = options.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR") in ("1", "true")
            where = await source.clone(options.remote, where, keep_git_dir=keep)
        else:
            fetched = folder / "remote"
            fetched.mkdir(mode=0o700)
            download = await source.download(options.remote, fetched)
            await asyncio.to_thread(contexts.unpack_file, download.path, where, options.dockerfile)
        return await asyncio.to_thread(Context.at, where, options.dockerfile)

    async def discard(self, build: Build) -> None:
        """Drop a received build."""
        build.context.close()
        await _removed(build.folder)

    async def carry_out(
        self, build: Build, progress: Progress, key: str = "", pace: Callable[[], Awaitable[None]] = _at_once
    ) -> Image:
        """Execute a received build; it is gone afterwards, whatever happens.

        Args:
            progress: told the classic builder's JSON objects, on the loop's thread.
            key: a name under which `cancel` finds the build, besides its id.
            pace: awaited while a command prints; returns when the reader of `progress` has caught up.

        Raises:
            EngineError: the first thing that failed, in Docker's words; `code` of a failed RUN is in
                ``steps.run.CommandFailed``.
            Cancelled: by `cancel`.
        """
        task = asyncio.ensure_future(self._carry_out(build, progress, pace))
        names = {build.id, key or build.id}
        for name in names:
            self._running[name] = task
        try:
            return await _follow(task)
        finally:
            for name in names:
                self._running.pop(name, None)

    def cancel(self, key: str) -> bool:
        """Stop the build of that id or key; whether there was one."""
        task = self._running.get(key)
        return task is not None and task.cancel()

    async def _carry_out(self, build: Build, progress: Progress, pace: Callable[[], Awaitable[None]]) -> Image:
        work = Workplace(
            build.id, build.folder, build.context, build.options, self._cache, self._content,
            self._images, self._snapshots, self._networks, self._tasks, self._mounts, pace,
        )  # fmt: skip
        self._at_work[build.id] = work
        try:
            # Layers that are found here must still be here when the image is written.
            with self._content.leases.hold():
                planned, images = await self._plan(build, progress)
                for warning in planned.warnings:
                    progress({"stream": f"{warning}\n"})
                platform = _platform(planned, images, build.options)
                state = await solve(work, planned, images, platform, Classic(planned, progress))
                return await self._finish(work, planned, images, state, platform, build, progress)
        finally:
            # From here on the cache's claim protects them, or nothing has to.
            self._content.leases.settle(work.blobs)
            del self._at_work[build.id]
            await asyncio.shield(self.discard(build))

    async def _plan(self, build: Build, progress: Progress) -> tuple[Plan, dict[tuple[str, str], Image]]:
        """Plan, resolve what the plan is missing, plan again."""
        options = build.options
        request = PlanRequest(options.target, options.build_args, options.labels, options.platform)
        images: dict[tuple[str, str], Image] = {}
        for _ in range(MAX_ROUNDS):
            bases = {key: Base(key[0], image.config) for key, image in images.items()}
            planned = plan(build.dockerfile, request, bases)
            if not planned.missing:
                check_entitlements(planned, options)
                return planned, images
            for key in planned.missing:
                images[key] = await self._resolver.resolve(*key, options, progress)
        raise Unavailable(f"base images name further images more than {MAX_ROUNDS} times over")

    async def _finish(
        self,
        work: Workplace,
        planned: Plan,
        images: dict[tuple[str, str], Image],
        state: State,
        platform: Platform,
        build: Build,
        progress: Progress,
    ) -> Image:
        if build.options.squash:
            state = await asyncio.to_thread(squash, work, state, _base(planned, images))
        image = await asyncio.to_thread(export, work, state, platform, build.names)
        image_id = str(image.id)
        progress({"aux": {"ID": image_id}})
        progress({"stream": f"Successfully built {image_id.removeprefix('sha256:')[:12]}\n"})
        for name in build.names:
            progress({"stream": f"Successfully tagged {name.familiar()}\n"})
            self._events.publish("image", "tag", image_id, {"name": name.familiar()})
        return image

    # ---- the cache -----------------------------------------------------------------------------------

    async def prune(self, pruned: Pruned) -> tuple[list[str], int]:
        """Remove build cache; ids of what went and bytes set free."""

        def in_use(chain: str) -> bool:
            return any(chain in work.chains for work in list(self._at_work.values()))

        deleted, freed = await asyncio.to_thread(
            prune, self._cache, self._mounts, self._images, self._snapshots, self._content, pruned, in_use
        )
        self._events.publish("builder", "prune", "", {"reclaimed": str(freed)})
        return deleted, freed

    async def disk_usage(self) -> list[dict[str, object]]:
        """The cache as the API's BuildCache objects."""
        return await asyncio.to_thread(disk_usage, self._cache, self._mounts, self._images)


async def _follow(task: "asyncio.Task[Image]") -> Image:
    """The task's result; cancelling the caller cancels the task and waits for its end."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if task.cancelled():
            raise Cancelled("the build was cancelled") from None
        task.cancel()
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise


def check_entitlements(planned: Plan, options: BuildOptions) -> None:
    """Refuse commands that would leave the sandbox without the user having allowed it.

    Raises:
        Forbidden: names the instruction and what to allow.
    """
    for step in planned.steps:
        if not isinstance(step.op, RunOp):
            continue
        wanted = set()
        if step.op.security == "insecure":
            wanted.add("security.insecure")
        if step.op.network == "host" and options.network != "host":
            wanted.add("network.host")
        for name in sorted(wanted - options.allow):
            raise Forbidden(
                f"{name} is not allowed: line {step.line} of the Dockerfile ({step.shown[:200]}) asks for it"
            )


def _root(planned: Plan) -> ImageOp | None:
    """What the result began from, if that was an image."""
    step = planned.steps[planned.result]
    while step.parent is not None:
        step = planned.steps[step.parent]
    return step.op if isinstance(step.op, ImageOp) else None


def _base(planned: Plan, images: dict[tuple[str, str], Image]) -> State:
    step = planned.steps[planned.result]
    while step.parent is not None:
        step = planned.steps[step.parent]
    if isinstance(step.op, ImageOp):
        return from_image(images[(step.op.reference, step.op.platform)], step)
    return State()


def _platform(planned: Plan, images: dict[tuple[str, str], Image], options: BuildOptions) -> Platform:
    """The result's platform: its base image's, else what was asked for, else this machine's."""
    root = _root(planned)
    if root is not None:
        return images[(root.reference, root.platform)].config.platform
    return Platform.parse(options.platform) if options.platform else host_platform()


async def _removed(folder: Path) -> None:
    await asyncio.shield(asyncio.to_thread(_remove, folder))


def _remove(path: Path) -> None:
    """Remove a build's folder, however deep a context it holds."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_at(fd, path.name)
    finally:
        os.close(fd)
