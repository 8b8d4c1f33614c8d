"""Containers: the entrance to the room. Every method is one operation of the API; the work is in the modules beside.

Open it after images, networks, volumes and tasks; close it before them. Methods are for the loop; what blocks runs in
threads below. The modules share a `Context`, which holds the index and the other rooms.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scow.api.containers import CreateBody, EndpointConfig, ExecConfig, ExecStart, UpdateBody
from scow.api.filters import Filters
from scow.containers import (
    archive,
    attach,
    commit,
    create,
    exec,  # noqa: A004 - the API's word
    inspect,
    listing,
    logs,
    networking,
    remove,
    restore,
    start,
    stats,
    stop,
    top,
    update,
    wait,
)
from scow.containers.attach import AttachRequest
from scow.containers.commit import CommitRequest
from scow.containers.container import Container, Exec
from scow.containers.context import ContainersConfig, Context
from scow.containers.listing import Selection
from scow.containers.logs import LogsRequest
from scow.containers.state import RESIZE, require
from scow.containers.stop import SIGKILL, stop_all
from scow.errors import EngineError
from scow.images.image import Image
from scow.oci.digest import Digest
from scow.web.flow import inlet, produced

if TYPE_CHECKING:
    from scow.events import Bus
    from scow.images.store import Images
    from scow.networks.service import Networks
    from scow.snapshots.snapshotter import Snapshotter
    from scow.tasks.tasks import Tasks
    from scow.volumes.service import Volumes

__all__ = ["Containers", "ContainersConfig"]

#: Bytes of a container's own layer and of everything it shows.
Sizes = tuple[int, int]
# Inside the class `list` is the method.
Objects = list[dict[str, Any]]
Texts = list[str]


class Containers:
    """Every container of one engine."""

    def __init__(
        self,
        root: Path,
        exec_root: Path,
        *,
        images: "Images",
        snapshots: "Snapshotter",
        networks: "Networks",
        volumes: "Volumes",
        tasks: "Tasks",
        events: "Bus",
        config: ContainersConfig,
    ) -> None:
        self._context = Context(
            root,
            exec_root,
            images=images,
            snapshots=snapshots,
            networks=networks,
            volumes=volumes,
            tasks=tasks,
            events=events,
            config=config,
        )

    # -- life of the room --

    async def open(self) -> None:
        """Take up what a former daemon left: running containers, exits meanwhile, restart policies."""
        await restore.restore(self._context)

    async def close(self, *, stop: bool = True, timeout: float = 15) -> None:
        """End everything that works on containers; with `stop` the containers too, within `timeout` seconds."""
        self._context.closing = True
        for container in self._context.all():
            start.stop_timer(container)
        if stop:
            await stop_all(self._context, timeout)
        await self._context.background.close()
        await self._context.janitor.close()
        self._context.roots.close()

    # -- finding --

    def get(self, ref: str) -> Container:
        """The container by id, name or unambiguous beginning of an id; NoSuchContainer, InvalidArgument."""
        return self._context.get(ref)

    def users(self) -> Mapping[Digest, list[str]]:
        """Container ids by the image they were made from."""
        found: dict[Digest, list[str]] = {}
        for container in self._context.all():
            found.setdefault(Digest.parse(container.record.image_id), []).append(container.id)
        return found

    def running(self) -> frozenset[str]:
        """Ids of the containers that run (or wait to be restarted)."""
        return frozenset(container.id for container in self._context.all() if container.state in wait.ALIVE)

    def count_by_state(self) -> Mapping[str, int]:
        """How many containers are in each state."""
        return Counter(str(container.state) for container in self._context.all())

    async def list(self, selection: Selection, version: tuple[int, int], *, sizes: bool = False) -> Objects:
        """The API's list of ContainerSummary, newest first."""
        found = listing.select(self._context, selection)
        names: dict[tuple[str, str], str] = {}
        now = time.time_ns()
        rows = []
        for container in found:
            record = container.record
            key = (record.image_ref, record.image_id)
            if key not in names:
                names[key] = self._image_name(*key)
            rows.append(
                inspect.summary(
                    container,
                    image=names[key],
                    endpoints=self._context.endpoints(container),
                    now=now,
                    version=version,
                )
            )
            if sizes:
                rows[-1]["SizeRw"], rows[-1]["SizeRootFs"] = await self.sizes(container)
        return rows

    def _image_name(self, ref: str, image_id: str) -> str:
        """How a list names the image: as the user did, or its id once that name leads elsewhere."""
        try:
            return ref if str(self._context.images.resolve(ref).id) == image_id else image_id
        except EngineError:
            return image_id

    async def inspect(self, ref: str, version: tuple[int, int], *, size: bool = False) -> dict[str, Any]:
        """The API's ContainerInspectResponse; NoSuchContainer, InvalidArgument."""
        context = self._context
        container = context.get(ref)
        try:
            details = await asyncio.to_thread(context.snapshots.details, container.id)
        except EngineError:
            details = {}  # it is being removed
        found = inspect.inspect(
            container,
            folder=context.store.folder(container.id),
            log_path=logs.shown_path(context, container),
            storage={"GraphDriver": {"Name": context.config.storage_driver, "Data": details}},
            endpoints=context.endpoints(container),
            version=version,
        )
        if size:
            found["SizeRw"], found["SizeRootFs"] = await self.sizes(container)
        return found

    async def sizes(self, container: Container) -> Sizes:
        """Bytes of the container's own layer, and of all it shows."""

        def measure() -> Sizes:
            try:
                own = self._context.snapshots.usage(container.id)
            except EngineError:
                return 0, 0
            try:
                return own, own + self._context.images.resolve(container.record.image_id).size
            except EngineError:
                return own, own

        return await asyncio.to_thread(measure)

    # -- life of a container --

    async def create(self, name: str, body: CreateBody, platform: str = "") -> tuple[str, Texts]:
        """Make a container: (its id, warnings). See `create.create` for the errors."""
        container, warnings = await create.create(self._context, name, body, platform)
        return container.id, warnings

    async def start(self, ref: str) -> None:
        """Run its first process; see `start.start`."""
        await start.start(self._context, ref)

    async def stop(self, ref: str, *, signal: int | None = None, grace: int | None = None) -> None:
        """End it, kindly and then not; see `stop.stop`."""
        await stop.stop(self._context, ref, number=signal, grace=grace)

    async def restart(self, ref: str, *, signal: int | None = None, grace: int | None = None) -> None:
        """Stop it if it runs, then start it.

        Raises:
            NoSuchContainer, and what `start` raises.
        """
        await start.restart(self._context, self._context.get(ref), number=signal, grace=grace)

    async def kill(self, ref: str, signal: int = SIGKILL) -> None:
        """Send a signal to its first process; see `stop.kill`."""
        await stop.kill(self._context, ref, signal)

    async def pause(self, ref: str) -> None:
        """Freeze every process in it."""
        await stop.pause(self._context, ref)

    async def unpause(self, ref: str) -> None:
        """Let it go on."""
        await stop.unpause(self._context, ref, start.watch_health)

    async def rename(self, ref: str, name: str) -> None:
        """Give it another name."""
        await update.rename(self._context, ref, name)

    async def update(self, ref: str, body: UpdateBody) -> Texts:
        """Change limits and restart policy; the warnings."""
        return await update.update(self._context, ref, body)

    async def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it; see `remove.remove`."""
        await remove.remove(self._context, ref, force=force, volumes=volumes)

    async def prune(self, filters: Filters) -> tuple[Texts, int]:
        """Remove every ended container that passes the filters: (ids, bytes)."""
        return await remove.prune(self._context, filters)

    def wait(self, ref: str, condition: str = wait.NOT_RUNNING) -> Awaitable[dict[str, Any]]:
        """Wait from this call on; await the result for the API's ContainerWaitResponse."""
        return wait.begin(self._context, ref, condition)

    # -- streams --

    async def attach(self, ref: str, request: AttachRequest) -> attach.Session:
        """Register a client with its streams; `run` the session on the client's."""

        def past(container: Container, asked: AttachRequest, until: int) -> AsyncIterator[bytes]:
            return logs.replay(self._context, container, asked, until)

        return await attach.attach(self._context, ref, request, past)

    def logs(self, ref: str, request: LogsRequest) -> tuple[bool, AsyncIterator[bytes]]:
        """(whether it has a terminal, its log as bytes for the wire)."""
        return logs.read(self._context, ref, request)

    async def clear_logs(self, ref: str) -> None:
        """Empty its log; see `logs.clear`."""
        await logs.clear(self._context, ref)

    async def resize(self, ref: str, rows: int, cols: int) -> None:
        """Tell its terminal the size; before the start it is remembered."""
        container = self._context.get(ref)
        container.size = (rows, cols)
        if container.task is None:
            return
        require(RESIZE, container.state, container.name, container.id)
        if container.record.config.tty:
            await container.task.resize(rows, cols)
            self._context.tell(container, "resize", height=str(rows), width=str(cols))

    # -- execs --

    def exec_create(self, ref: str, config: ExecConfig) -> Exec:
        """Note a process to be run in it."""
        return exec.create(self._context, ref, config)

    async def exec_start(self, exec_id: str, body: ExecStart) -> None:
        """Start an exec with nobody on its streams."""
        await exec.start_detached(self._context, exec_id, body)

    def exec_session(self, exec_id: str, body: ExecStart) -> exec.Session:
        """Claim an exec for a client; `run` the session on the client's stream."""
        return exec.Session(self._context, exec.claim(self._context, exec_id, body))

    def exec_inspect(self, exec_id: str) -> dict[str, Any]:
        """The API's ExecInspectResponse."""
        return exec.inspect(self._context, exec_id)

    async def exec_resize(self, exec_id: str, rows: int, cols: int) -> None:
        """Tell an exec's terminal the size."""
        await exec.resize(self._context, exec_id, rows, cols)

    # -- looking inside --

    async def top(self, ref: str, arguments: str = "") -> dict[str, Any]:
        """Its processes as ps lists them."""
        container = top.check(self._context, ref)
        self._context.tell(container, "top")
        return await asyncio.to_thread(top.table, container, arguments)

    async def stats_once(self, ref: str, version: tuple[int, int], *, one_shot: bool) -> dict[str, Any]:
        """What it uses now."""
        return await stats.once(self._context, ref, version, one_shot=one_shot)

    def stats_stream(self, ref: str, version: tuple[int, int]) -> AsyncIterator[dict[str, Any]]:
        """What it uses, again and again."""
        return stats.stream(self._context, ref, version)

    async def changes(self, ref: str) -> Objects:
        """What it changed against its image."""
        return await asyncio.to_thread(commit.differences, self._context, ref)

    async def commit(self, ref: str, request: CommitRequest) -> Image:
        """Make an image of it."""
        return await commit.commit(self._context, ref, request)

    def export(self, ref: str) -> AsyncIterator[bytes]:
        """Its root file system as a tar."""
        container = self._context.get(ref)
        self._context.tell(container, "export")
        return produced(lambda out: archive.export(self._context, container.id, out))

    async def archive_stat(self, ref: str, path: str) -> dict[str, Any]:
        """The API's PathStat of a path in it."""
        return await asyncio.to_thread(archive.stat_path, self._context, ref, path)

    def archive_get(self, ref: str, path: str) -> AsyncIterator[bytes]:
        """A path in it as a tar."""
        self._context.tell(self._context.get(ref), "archive-path", path=path)
        return produced(lambda out: archive.pack(self._context, ref, path, out))

    async def archive_put(
        self, ref: str, path: str, body: AsyncIterator[bytes], *, keep_kinds: bool = False, copy_owner: bool = False
    ) -> None:
        """Extract a tar into a folder of it."""
        stream = inlet(body)
        container = self._context.get(ref)
        await asyncio.to_thread(
            archive.unpack, self._context, container.id, path, stream, keep_kinds=keep_kinds, copy_owner=copy_owner
        )
        self._context.tell(container, "extract-to-dir", path=path)

    # -- networks --

    async def connect_network(self, ref: str, network: str, wish: EndpointConfig | None = None) -> None:
        """Put it on one more network."""
        await networking.connect_network(self._context, ref, network, wish)

    async def disconnect_network(self, ref: str, network: str, *, force: bool = False) -> None:
        """Take it off a network."""
        await networking.disconnect_network(self._context, ref, network, force=force)
