"""A container: what is stored about it (`Record`) and what is known only while the daemon lives (`Container`).

`Record` is the only thing on disk; everything in it survives a restart of daemon and machine. The verbs change it under
`Container.lock` and save it with `Store.save`.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from scow.api.containers import ContainerConfig, EndpointConfig, ExecConfig, HostConfig, to_wire
from scow.containers.paths import clean
from scow.containers.state import State

if TYPE_CHECKING:
    from scow.tasks.attachment import Attachment
    from scow.tasks.task import ExecTask, Task

ID_LENGTH = 64
SHORT_ID = 12


class Mount(msgspec.Struct, kw_only=True):
    """One mount point of a container, resolved: what to mount where.

    `type` is bind, volume, tmpfs or image; `source` the host path (empty for tmpfs); `name` the volume's name.
    """

    type: str
    destination: str
    source: str = ""
    name: str = ""
    driver: str = ""
    mode: str = ""
    readonly: bool = False
    propagation: str = ""
    options: list[str] = []
    subpath: str = ""
    anonymous: bool = False
    copy_up: bool = False
    recursive: bool = True
    recursive_readonly: bool = True
    create_source: bool = False
    spec: dict[str, Any] | None = None

    def inspect(self) -> dict[str, Any]:
        """The API's MountPoint."""
        found: dict[str, Any] = {"Type": self.type}
        if self.name:
            found["Name"] = self.name
        found["Source"] = self.source
        found["Destination"] = self.destination
        if self.driver:
            found["Driver"] = self.driver
        return found | {"Mode": self.mode, "RW": not self.readonly, "Propagation": self.propagation}


class ProbeResult(msgspec.Struct, kw_only=True):
    """One run of a health check; times in ns."""

    start: int
    end: int
    exit_code: int
    output: str


class Health(msgspec.Struct, kw_only=True):
    """What the probes found so far; `status` is starting, healthy or unhealthy."""

    status: str = "starting"
    failing_streak: int = 0
    log: list[ProbeResult] = []


class Record(msgspec.Struct, kw_only=True):
    """Everything stored about one container; times in ns since 1970, 0 = never."""

    id: str
    name: str
    created: int
    image_ref: str
    image_id: str
    manifest: dict[str, Any] | None = None
    path: str
    args: list[str]
    config: ContainerConfig
    host: HostConfig
    endpoints: dict[str, EndpointConfig] = {}
    mounts: list[Mount] = []
    platform: str = "linux"

    state: State = State.CREATED
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started: int = 0
    finished: int = 0
    restart_count: int = 0
    stopped_by_user: bool = False
    health: Health | None = None


class Exec:
    """One more process in a running container; lives in memory only, as Docker's do."""

    def __init__(self, id: str, container_id: str, config: ExecConfig, command: list[str], detach_keys: bytes) -> None:  # noqa: A002
        self.id = id
        self.container_id = container_id
        self.config = config
        self.command = command
        self.detach_keys = detach_keys
        self.task: ExecTask | None = None
        self.started = False
        self.running = False
        self.exit_code: int | None = None
        #: Terminal size asked for before the start: (rows, columns).
        self.size: tuple[int, int] | None = None
        #: When it ended, in ns; 0 while it has not.
        self.ended = 0


class Container:
    """A container in the daemon's memory; `record` is what is stored."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.lock = asyncio.Lock()
        #: Held while the record is written; unlike `lock` nobody waits long for it.
        self.saving = asyncio.Lock()
        self.task: Task | None = None
        self.execs: dict[str, Exec] = {}
        #: Attachments opened before the start; given to the task with its launch.
        self.pending: list[Attachment] = []
        #: What is in its own files (hostname …) since it was made; forgotten at its first start, which may change them.
        self.files: Mapping[str, bytes] = {}
        #: Terminal size asked for before the start: (rows, columns).
        self.size: tuple[int, int] | None = None
        #: Restart back-off (ns) and the timer that waits it out.
        self.backoff = 0
        self.timer: asyncio.TimerHandle | None = None
        #: Set by stop and kill so that the restart policy leaves the exit alone, until the next start.
        self.stopping = False
        #: Set while a restart stops it, so that it is not removed on the way.
        self.kept = False
        #: How often it has ended, so that a waiter knows a new exit from an old one.
        self.exits = 0
        self.removed = False
        #: Why a removal failed; `wait` tells those who wait for it.
        self.removal_error = ""
        self.monitor: asyncio.Task[None] | None = None
        self._watchers: set[asyncio.Future[None]] = set()

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def short_id(self) -> str:
        return self.record.id[:SHORT_ID]

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def state(self) -> State:
        return self.record.state

    @property
    def running(self) -> bool:
        """Whether there is a process (paused containers have one)."""
        return self.record.state in (State.RUNNING, State.PAUSED)

    @property
    def cgroup(self) -> str:
        """Path of the container's control group, as the runtime-spec's ``cgroupsPath``."""
        parent = self.record.host.cgroup_parent
        return f"{clean(parent) if parent else '/scow'}/{self.id}"

    def attributes(self, **more: str) -> dict[str, str]:
        """What an event says about this container."""
        labels = self.record.config.labels or {}
        return labels | {"image": self.record.image_ref, "name": self.name} | more

    def config_json(self) -> dict[str, Any]:
        """The API's ContainerConfig."""
        return to_wire(self.record.config)

    async def until(self, met: Callable[[], bool]) -> None:
        """Return once `met()` holds; it is asked at every change of this container."""
        while not met():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._watchers.add(waiter)
            try:
                await waiter
            finally:
                self._watchers.discard(waiter)

    def changed(self) -> None:
        """Wake everyone in `until`; call after each change of state."""
        for waiter in self._watchers:
            if not waiter.done():
                waiter.set_result(None)
