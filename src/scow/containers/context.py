"""What every verb on containers stands on: the other rooms, the index of containers, events and the owner of tasks.

The index is the one truth about names: a name is taken from `add` or `rename` until `forget`.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scow.containers.background import Background, to_the_end
from scow.containers.container import Container, Exec
from scow.containers.janitor import Janitor
from scow.containers.roots import Roots
from scow.containers.state import State
from scow.containers.store import Store, encode
from scow.errors import Conflict, EngineError, InvalidArgument, NoSuchContainer

if TYPE_CHECKING:
    from scow.events import Bus
    from scow.images.store import Images
    from scow.networks.endpoint import Endpoint
    from scow.networks.service import Networks
    from scow.snapshots.snapshotter import Snapshotter
    from scow.tasks.tasks import Tasks
    from scow.volumes.service import Volumes

log = logging.getLogger("scow.containers")


@dataclass(frozen=True, slots=True)
class ContainersConfig:
    """What the daemon's configuration says about containers; sizes in bytes."""

    log_driver: str = "json-file"
    log_options: Mapping[str, str] = field(default_factory=dict)
    shm_size: int = 64 << 20
    init: bool = False
    no_new_privileges: bool = False
    storage_driver: str = "overlay2"
    dns: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    host_gateway: str = ""
    debug: bool = False


class Context:
    """The rooms the verbs use, and all containers by id and name."""

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
        self.store = Store(root / "containers")
        self.exec_root = exec_root
        self.images = images
        self.snapshots = snapshots
        self.networks = networks
        self.volumes = volumes
        self.tasks = tasks
        self.events = events
        self.config = config
        self.background = Background()
        self.janitor = Janitor(tasks, self.keep)
        self.roots = Roots()
        self.closing = False
        self.containers: dict[str, Container] = {}
        self.execs: dict[str, Exec] = {}
        self._names: dict[str, str] = {}

    # -- the index ---------------------------------------------------------------------------------------------------

    def get(self, ref: str) -> Container:
        """The container called `ref`: its id, its name (with or without slash), or the beginning of one id only.

        Raises:
            NoSuchContainer: nothing by that id, prefix or name.
            InvalidArgument: several ids begin with `ref`.
        """
        if not ref:
            raise InvalidArgument("container name or ID cannot be empty")
        found = self.containers.get(ref) or self.containers.get(self._names.get(ref.removeprefix("/"), ""))
        if found is not None:
            return found
        beginning = [container for id_, container in self.containers.items() if id_.startswith(ref)]
        if len(beginning) > 1:
            raise InvalidArgument(f"Multiple IDs found with provided prefix: {ref}")
        if not beginning:
            raise NoSuchContainer(ref)
        return beginning[0]

    def name_taken(self, name: str) -> bool:
        """Whether a container goes by `name` (without slash)."""
        return name in self._names

    def require_free(self, name: str) -> None:
        """Raise Docker's conflict if a container goes by `name`."""
        holder = self._names.get(name)
        if holder is not None:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{holder}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )

    def reserve(self, name: str, id: str) -> None:  # noqa: A002
        """Take `name` for `id` before the container exists, so that two creates cannot both have it."""
        self.require_free(name)
        self._names[name] = id

    def release_name(self, name: str, id: str) -> None:  # noqa: A002
        """Give a reserved name back, if `id` still has it."""
        if self._names.get(name) == id:
            del self._names[name]

    def add(self, container: Container) -> None:
        """Put a container whose name was reserved into the index."""
        self.containers[container.id] = container
        self._names[container.name] = container.id

    def forget(self, container: Container) -> None:
        """Take a container out of the index; its name and its execs are free."""
        self.containers.pop(container.id, None)
        self.release_name(container.name, container.id)
        for exec_id in container.execs:
            self.execs.pop(exec_id, None)

    def all(self) -> list[Container]:
        """Every container, newest first."""
        return sorted(self.containers.values(), key=lambda item: item.record.created, reverse=True)

    def endpoints(self, container: Container) -> "dict[str, Endpoint]":
        """The container's live network connections by network name."""
        return self.networks.endpoints(container.id) if container.running else {}

    # -- record and tell ---------------------------------------------------------------------------------------------

    async def save(self, container: Container, *, durable: bool = True) -> None:
        """Write the record: `durable` survives a power cut, otherwise it survives the daemon."""
        async with container.saving:
            if container.id in self.containers:
                await to_the_end(self._save, container.id, encode(container.record), durable)

    def _save(self, id: str, data: bytes, durable: bool) -> None:  # noqa: A002
        if durable:
            self.snapshots.sync(id)
        self.store.write(id, data, durable=durable)

    async def keep(self, container: Container, *, durable: bool = True) -> bool:
        """Write the record if the disk lets us; whether it did. If not, the log says so."""
        try:
            await self.save(container, durable=durable)
        except EngineError as error:
            log.error("what became of container %s could not be saved: %s", container.short_id, error)
            return False
        return True

    async def moved(
        self, container: Container, state: State, *actions: str, durable: bool = True, **attributes: str
    ) -> None:
        """Record a new state, then tell: first those who wait for it, then the events.

        What has happened is told also where it cannot be written: a full disk must not keep a container from ending.

        Args:
            durable: False where the task's own files say the same until the janitor has saved the record, soon.
        """
        container.record.state = state
        if durable:
            await self.keep(container)
        else:
            self.janitor.soon(container)
        container.changed()
        for action in actions:
            self.tell(container, action, **attributes)

    def tell(self, container: Container, action: str, **attributes: str) -> None:
        """Publish an event about `container`."""
        self.events.publish("container", action, container.id, container.attributes(**attributes))
