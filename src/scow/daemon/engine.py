"""The engine: every room put together. It has fields and opens and closes them; the verbs are in the rooms."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from scow.api.units import parse_bytes
from scow.build.builder import Builder
from scow.containers.context import ContainersConfig
from scow.containers.service import Containers
from scow.content.store import ContentStore
from scow.daemon.config import Config
from scow.errors import System
from scow.events import Bus, Journal
from scow.fileio import atomic_write, lock_file, sweep_temporaries
from scow.images.store import Images
from scow.networks.config import NetworkConfig
from scow.networks.ipam import Pool
from scow.networks.service import Networks
from scow.registry.client.registry import Registry, RegistryConfig
from scow.snapshots import overlay
from scow.snapshots.overlay import OverlaySnapshotter
from scow.snapshots.plain import PlainSnapshotter
from scow.snapshots.snapshotter import Snapshotter
from scow.tasks.pool import SandboxPool
from scow.tasks.tasks import Tasks
from scow.volumes.service import Volumes

log = logging.getLogger("scow.daemon")


@dataclass
class Engine:
    """Every room of one engine, opened from `config`; two engines need two data roots and two exec roots."""

    config: Config
    id: str
    content: ContentStore
    snapshots: Snapshotter
    images: Images
    registry: Registry
    networks: Networks
    volumes: Volumes
    tasks: Tasks
    containers: Containers
    builder: Builder
    events: Bus


@contextlib.asynccontextmanager
async def open_engine(config: Config) -> AsyncIterator[Engine]:
    """The engine, for as long as the block runs; with live-restore its containers go on afterwards.

    Raises:
        Unavailable: another daemon uses the data root or the exec root.
        System: a folder cannot be made, or the machine lacks what no engine can do without.
    """
    async with contextlib.AsyncExitStack() as held:
        for folder in (config.data_root, config.exec_root):
            _make(folder)
            held.enter_context(lock_file(folder / "scowd.lock", f"the folder {folder}"))
        engine = await asyncio.to_thread(_assemble, config)
        held.callback(engine.events.close)
        held.push_async_callback(engine.registry.close)
        await engine.tasks.open()
        held.push_async_callback(engine.tasks.close, stop_keeper=not config.flag("live-restore"))
        await engine.networks.open({task.id for task in engine.tasks.all()})
        held.push_async_callback(engine.networks.close)
        held.callback(engine.volumes.close)
        await engine.containers.open()
        held.push_async_callback(
            engine.containers.close,
            stop=not config.flag("live-restore"),
            timeout=config.number("shutdown-timeout"),
        )
        await engine.builder.open()
        held.push_async_callback(engine.builder.close)
        yield engine


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as error:
        raise System(
            f"cannot make the folder {folder}: {error.strerror}: choose another --data-root or --exec-root"
        ) from error


def _assemble(config: Config) -> Engine:
    """Every room, constructed but not opened. Blocking."""
    root = config.data_root
    events = Bus(journal=Journal(config.exec_root / "events.jsonl"))
    content = ContentStore(root / "content")
    snapshots = _snapshotter(root / "snapshots")
    images = Images(content, snapshots)
    networks = Networks(root / "networks", config.exec_root, network_config(config), events)
    volumes = Volumes(root / "volumes", events)
    tasks = Tasks(config.exec_root, pool_config(config))
    registry = Registry(registry_config(config))
    containers = Containers(
        root,
        config.exec_root,
        images=images,
        snapshots=snapshots,
        networks=networks,
        volumes=volumes,
        tasks=tasks,
        events=events,
        config=containers_config(config, snapshots.driver),
    )
    builder = Builder(
        root / "build",
        images=images,
        snapshots=snapshots,
        tasks=tasks,
        networks=networks,
        content=content,
        events=events,
        registry=registry,
    )
    return Engine(
        config,
        _identity(root),
        content,
        snapshots,
        images,
        registry,
        networks,
        volumes,
        tasks,
        containers,
        builder,
        events,
    )


def _snapshotter(root: Path) -> Snapshotter:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if overlay.supported(root):
        return OverlaySnapshotter(root)
    log.warning(
        "overlayfs does not work on the file system of %s: layers are copied, which takes time and disk; "
        "put --data-root on ext4, xfs or btrfs",
        root,
    )
    return PlainSnapshotter(root)


def _identity(root: Path) -> str:
    """The engine's id, made once for each data root."""
    path = root / "engine-id"
    sweep_temporaries(root)
    try:
        return str(uuid.UUID(path.read_text().strip()))
    except FileNotFoundError:
        made = str(uuid.uuid4())
    except ValueError:
        made = str(uuid.uuid4())
        log.warning("%s is no id: this engine goes by a new one", path)
    atomic_write(path, f"{made}\n".encode(), mode=0o644)
    return made


def network_config(config: Config) -> NetworkConfig:
    """What the networks room is told."""
    return NetworkConfig(
        bridge_name=config.text("bridge") or "scow0",
        bip=config.text("bip"),
        pools=tuple(Pool.parse(base, size) for base, size in config.address_pools),
        iptables=config.flag("iptables"),
        ip_forward=config.flag("ip-forward"),
        ip_masquerade=config.flag("ip-masq"),
        icc=config.flag("icc"),
        mtu=config.number("mtu"),
        host_binding=config.text("ip"),
        host_gateway=config.text("host-gateway-ip"),
        dns=config.list("dns"),
        dns_search=config.list("dns-search"),
        dns_options=config.list("dns-opts"),
        spares=config.number("pool-size"),
    )


def registry_config(config: Config) -> RegistryConfig:
    """What the registry client is told."""
    return RegistryConfig(
        insecure=config.list("insecure-registries"),
        mirrors=config.list("registry-mirrors"),
        downloads=config.number("max-concurrent-downloads"),
        uploads=config.number("max-concurrent-uploads"),
    )


def pool_config(config: Config) -> SandboxPool:
    """What the keeper keeps ready."""
    return SandboxPool(
        most=config.number("pool-size"),
        rate=config.number("pool-rate"),
        shm_size=parse_bytes(config.text("default-shm-size")),
    )


def containers_config(config: Config, driver: str) -> ContainersConfig:
    """What the containers room is told."""
    return ContainersConfig(
        log_driver=config.text("log-driver"),
        log_options=dict(config.values["log-opts"]),
        shm_size=parse_bytes(config.text("default-shm-size")),
        init=config.flag("init"),
        no_new_privileges=config.flag("no-new-privileges"),
        storage_driver=driver,
        dns=config.list("dns"),
        dns_options=config.list("dns-opts"),
        dns_search=config.list("dns-search"),
        host_gateway=config.text("host-gateway-ip"),
        debug=config.flag("debug"),
    )
