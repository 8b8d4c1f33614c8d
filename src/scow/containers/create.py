"""Create: from a request to a container on disk. All is checked before anything is changed; a failure undoes all.

Order: request → image → merged config → mounts → name → snapshot, volumes, record → index → event.
"""

import asyncio
import contextlib
import os
import secrets
import time
from typing import TYPE_CHECKING

import msgspec

from scow.api.containers import (
    ContainerConfig,
    CreateBody,
    EndpointConfig,
    HostConfig,
    LogSettings,
    RestartPolicy,
    words,
)
from scow.containers import logs, mounts, names, networking, validate
from scow.containers.background import to_the_end, to_the_end_of
from scow.containers.container import SHORT_ID, Container, Mount, Record
from scow.containers.context import ContainersConfig, Context
from scow.containers.merge import merge
from scow.containers.prepare import ahead
from scow.errors import EngineError, InvalidArgument, NoSuchImage, NotFound
from scow.oci.platform import Platform, host_platform
from scow.oci.reference import Reference
from scow.tasks.spec import MASKED_PATHS, READONLY_PATHS

if TYPE_CHECKING:
    from scow.images.image import Image

#: Networks that are not joined with others.
SOLITARY = ("none", "host")
MIXED = "conflicting options: cannot attach both user-defined and non-user-defined network-modes"


async def create(context: Context, name: str, body: CreateBody, platform: str = "") -> tuple[Container, list[str]]:
    """Make a container; (the container, warnings).

    Args:
        name: as the user wrote it, "" to have one invented.
        platform: ``os[/arch[/variant]]`` the image must be for, "" for any.

    Raises:
        InvalidArgument: the request makes no sense; nothing was changed.
        NoSuchImage: it is not here.
        Conflict: the name is taken.
        NoSpace, System: the disk or the kernel; what was made is removed again.
    """
    if name:
        context.require_free(name := names.check(name))
    warnings = validate.check(body)
    image = await asyncio.to_thread(_image, context, body.image, platform)
    if not platform:
        warnings += _platform_warnings(image)
    config = merge(_plain(body), image.config.config)
    validate.check_merged(config, body.host_config)
    host = finish_host(body.host_config, context.config)
    logs.check(host.log_config.type, host.log_config.config)
    try:
        resolve_containers(context, host)
        plan = mounts.plan(host, config.volumes, context.get)
        for mount in plan.mounts:
            _check_source(context, mount)
        host.network_mode = _network_name(context, host.network_mode, config)
        record = _record(context, name, body, config, host, image)
        record.mounts = plan.mounts
        networking.require_networks(context, record)
    except NotFound as error:
        # Clients take a "not found" of a create for the missing image, and pull.
        raise InvalidArgument(str(error)) from error
    context.reserve(record.name, record.id)
    try:
        container = await _make(context, record, plan, image)
    except BaseException:
        context.release_name(record.name, record.id)
        raise
    context.tell(container, "create")
    return container, warnings


def _plain(body: CreateBody) -> ContainerConfig:
    """The body's container config without what is about the host."""
    return ContainerConfig(**{key: getattr(body, key) for key in ContainerConfig.__struct_fields__})


def _image(context: Context, ref: str, platform: str) -> "Image":
    """The image of that name. Blocking.

    Raises:
        NoSuchImage: "No such image: x:latest".
        NotFound: it is there, but not for `platform`.
    """
    try:
        image = context.images.resolve(ref)
    except NoSuchImage:
        with contextlib.suppress(InvalidArgument):
            ref = Reference.parse(ref).familiar()
        raise NoSuchImage(ref) from None
    if platform and not Platform.parse(platform).matches(image.config.platform):
        raise NotFound(
            f"image with reference {ref} was found but its platform ({image.config.platform}) does not match "
            f"the specified platform ({platform})"
        )
    return image


def _platform_warnings(image: "Image") -> list[str]:
    host, found = host_platform(), image.config.platform
    if host.matches(found) or not found.architecture:
        return []
    return [
        f"The requested image's platform ({found}) does not match the detected host platform ({host}) "
        "and no specific platform was requested"
    ]


def finish_host(host: HostConfig, config: ContainersConfig) -> HostConfig:
    """A copy of `host` with every default filled in, as inspect shows it."""
    host = msgspec.structs.replace(host)
    host.network_mode = "bridge" if host.network_mode in ("", "default") else host.network_mode
    host.ipc_mode = host.ipc_mode or "private"
    host.cgroupns_mode = host.cgroupns_mode or "private"
    host.shm_size = host.shm_size or config.shm_size
    host.runtime = host.runtime or "scow"
    if host.init is None and config.init:
        host.init = True
    if not host.restart_policy.name:
        host.restart_policy = RestartPolicy(name="no")
    if host.memory and not host.memory_swap:
        host.memory_swap = 2 * host.memory
    log = host.log_config
    if not log.type:
        host.log_config = LogSettings(type=config.log_driver, config={**config.log_options, **log.config})
    if not host.privileged:
        host.masked_paths = list(MASKED_PATHS) if host.masked_paths is None else host.masked_paths
        host.readonly_paths = list(READONLY_PATHS) if host.readonly_paths is None else host.readonly_paths
    return host


def resolve_containers(context: Context, host: HostConfig) -> None:
    """Replace names in ``container:<name>`` modes by ids.

    Raises:
        NoSuchContainer: nothing by that name.
    """
    for field in ("network_mode", "ipc_mode", "pid_mode"):
        kind, colon, name = getattr(host, field).partition(":")
        if colon and kind == "container":
            setattr(host, field, f"container:{context.get(name).id}")


def _check_source(context: Context, mount: Mount) -> None:
    """Raise for a bind of a path that is not there and is not to be made, and for an image that is not here."""
    if mount.type == "image":
        context.images.resolve(mount.source)
    if mount.type == "bind" and not mount.create_source and mount.spec is not None and not os.path.exists(mount.source):
        raise InvalidArgument(f'invalid mount config for type "bind": bind source path does not exist: {mount.source}')


def _network_name(context: Context, mode: str, config: ContainerConfig) -> str:
    """The network's name where the user gave its id; what does not exist yet is found out at the start."""
    if config.network_disabled:
        return "none"
    if mode.startswith("container:") or mode in SOLITARY:
        return mode
    try:
        return context.networks.get(mode).name
    except EngineError:
        return mode


def _record(
    context: Context, name: str, body: CreateBody, config: ContainerConfig, host: HostConfig, image: "Image"
) -> Record:
    id_ = secrets.token_hex(32)
    command = [*(words(config.entrypoint) or []), *(words(config.cmd) or [])]
    if not config.hostname and not host.network_mode.startswith("container:"):
        shared = host.network_mode == "host" or host.uts_mode == "host"
        config.hostname = os.uname().nodename if shared else id_[:SHORT_ID]
    return Record(
        id=id_,
        name=name or names.invent(context.name_taken),
        created=time.time_ns(),
        image_ref=body.image,
        image_id=str(image.id),
        manifest=image.manifest.to_json(),
        path=command[0],
        args=command[1:],
        config=config,
        host=host,
        endpoints=endpoint_wishes(context, body, host),
    )


def endpoint_wishes(context: Context, body: CreateBody, host: HostConfig) -> dict[str, EndpointConfig]:
    """What is asked of each network, by the network's name; the main one first.

    Raises:
        InvalidArgument: networks that cannot be combined.
    """
    mode = host.network_mode
    given = {_network_name(context, "bridge" if key == "default" else key, ContainerConfig()): wish
             for key, wish in body.networking_config.endpoints_config.items()}  # fmt: skip
    if mode.startswith("container:"):
        if set(given) - {mode}:
            raise InvalidArgument(MIXED)
        return {}
    if mode in SOLITARY and set(given) - {mode}:
        raise InvalidArgument(MIXED)
    main = given.pop(mode, None) or EndpointConfig()
    if body.mac_address:
        if main.mac_address and main.mac_address != body.mac_address:
            raise InvalidArgument(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network"
            )
        main.mac_address = body.mac_address
    if host.links and mode != "bridge":
        main.links = [*(main.links or []), *host.links]
    return {mode: main, **given}


async def _make(context: Context, record: Record, plan: mounts.Plan, image: "Image") -> Container:
    """Snapshot, volumes, files, record; everything is taken back if one of them fails."""
    undo = contextlib.ExitStack()
    container = Container(record)
    container.files = networking.files_ahead(context, record)
    try:
        await to_the_end(_make_sync, context, record, plan, image, undo)
        undo.callback(context.roots.drop, record.id)
        loop = asyncio.get_running_loop()
        saving = loop.run_in_executor(None, context.store.create, record, container.files)
        mounting = loop.run_in_executor(None, ahead, context, record, image.top)  # while the disk syncs the record
        try:
            await to_the_end_of(saving)
        finally:
            await to_the_end_of(mounting)
    except BaseException:
        await asyncio.to_thread(undo.close)
        raise
    context.add(container)
    context.janitor.soon(container)
    context.networks.expect(networking.requests(container))
    return container


def _make_sync(context: Context, record: Record, plan: mounts.Plan, image: "Image", undo: contextlib.ExitStack) -> None:
    context.snapshots.prepare(record.id, image.top, durable=False)
    undo.callback(context.snapshots.remove, record.id)
    made: list[str] = []
    undo.callback(_drop_volumes, context, record.id, made)
    _make_volumes(context, record, plan, made)
    undo.callback(context.store.remove, record.id)


def _drop_volumes(context: Context, by: str, made: list[str]) -> None:
    """Let go of the volumes of a container that was not made, and remove those `made` for it."""
    context.volumes.release(by)
    for name in made:
        context.volumes.remove(name, force=True)


def _make_volumes(context: Context, record: Record, plan: mounts.Plan, made: list[str]) -> None:
    """Make or find every volume, fill the empty ones from the image, note their places; `made` gets the new ones."""
    fillable = []
    for mount in record.mounts:
        if mount.type != "volume":
            continue
        wish = plan.wishes.get(mount.destination)
        known = mount.name
        volume = context.volumes.ensure(
            mount.name or None,
            mount.driver,
            wish.driver_options if wish else None,
            wish.labels if wish else None,
            by=record.id,
        )
        mount.name, mount.source = volume.name, volume.mountpoint
        if not known:
            made.append(volume.name)
        if mount.copy_up and not mount.subpath:
            fillable.append(mount)
    if fillable:
        root_fd = context.snapshots.mount(record.id, readonly=True)
        try:
            for mount in fillable:
                context.volumes.copy_up(mount.name, root_fd, mount.destination)
        finally:
            os.close(root_fd)
