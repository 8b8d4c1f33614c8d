"""What a start needs from disk and kernel before the launch: the root file system, the sources of mounts, the spec.

Blocking. `Prepared` owns the root file system's descriptor until it is closed.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scow.containers import devices, networking, security, spec
from scow.containers.container import Container, Mount, Record
from scow.containers.context import Context
from scow.containers.mounts import to_oci
from scow.containers.roots import Root
from scow.containers.users import look_up
from scow.errors import Conflict, EngineError, InvalidArgument, NotFound, System, Unsupported
from scow.linux import capabilities
from scow.linux.fds import open_in_root
from scow.runtime import seccomp
from scow.snapshots.layers import chain_ids

log = logging.getLogger("scow.containers")


@dataclass(slots=True)
class Prepared:
    """A mounted root file system and the spec to run in it; close it after the launch."""

    root: Root
    spec: dict[str, Any]
    filter_program: bytes | None

    def close(self) -> None:
        """Let go of the mount; a container that runs in it keeps it alive."""
        self.root.close()


def ahead(context: Context, record: Record, top: str | None) -> None:
    """Mount the root file system of a container just made, for its start to find. Failing is left to the start.

    Args:
        top: name of the image's uppermost layer. What is looked up in the files of an image is the same every time.
    """
    key = (top, record.config.user, *(record.host.group_add or ()))
    try:
        known = context.roots.known(key)
        if known is not None:
            root = Root(context.snapshots.mount(record.id, readonly=False), known)
        else:
            root = mount_root(context, record)
            context.roots.remember(key, root.identity)
        context.roots.hold(record.id, root)
    except EngineError as error:
        log.debug("container %s is not mounted ahead: %s", record.id[:12], error)


def mount_root(context: Context, record: Record) -> Root:
    """Mount the root file system, and look up in it who runs there.

    Raises:
        InvalidArgument: there is no such user or group.
        System: the kernel refused the mount.
    """
    fd = context.snapshots.mount(record.id, readonly=False)
    try:
        return Root(fd, look_up(fd, record.config.user, record.host.group_add or ()))
    except BaseException:
        os.close(fd)
        raise


def quick(context: Context, record: Record) -> bool:
    """Whether `prepare` will not wait for a disk: the root is mounted, and nothing else of the host is to be found."""
    host = record.host
    return record.id in context.roots and not record.mounts and not host.devices and not host.privileged


def prepare(context: Context, container: Container) -> Prepared:
    """Mount the root file system, unless it is, and work out the spec.

    Raises:
        InvalidArgument: the user or a device does not exist, a bind source is missing.
        Conflict: another container whose namespaces are to be joined does not run.
        System: the kernel refused the mount.
    """
    record = container.record
    root = context.roots.take(record.id) or mount_root(context, record)
    try:
        allowed = capabilities.available()
        facts = spec.Facts(
            identity=root.identity,
            cgroup=container.cgroup,
            etc=str(context.store.folder(networking.shares_with(record) or record.id)),
            hostname=_hostname(context, record),
            network=_namespace(context, record.host.network_mode, "net"),
            ipc=_namespace(context, record.host.ipc_mode, "ipc"),
            pid=_namespace(context, record.host.pid_mode, "pid"),
            shm=_shm(context, record),
            devices=devices.nodes(record.host),
            device_rules=devices.rules(record.host),
            allowed=allowed,
            binds=[_mount(context, mount) for mount in record.mounts],
        )
        made = spec.build(record, facts, no_new_privileges=context.config.no_new_privileges)
        return Prepared(root, made, filter_program(record, allowed))
    except BaseException:
        root.close()
        raise


def filter_program(record: Record, allowed: frozenset[str] | None) -> bytes | None:
    """The compiled seccomp filter, None for none."""
    options = security.parse(record.host.security_opt or [])
    if options.seccomp == "unconfined" or record.host.privileged:
        return None
    granted = spec.granted(record, allowed, privileged=False)
    if isinstance(options.seccomp, dict):
        return seccomp.compile_spec(seccomp.parse_profile(options.seccomp, granted))
    return seccomp.default_program(granted)


def _hostname(context: Context, record: Record) -> str:
    """The name in the container's own UTS namespace; one that shares a network has the other's."""
    if record.host.uts_mode == "host":
        return ""
    other = networking.shares_with(record)
    return context.get(other).record.config.hostname if other else record.config.hostname


def _namespace(context: Context, mode: str, kind: str) -> str | None:
    """ "" for an own namespace, None for the host's, else the path of another container's."""
    if mode == "host":
        return None
    word, _, other = mode.partition(":")
    if word != "container":
        return ""
    found = context.get(other)
    if not found.running:
        what = {"net": "network", "ipc": "IPC", "pid": "PID"}[kind]
        raise Conflict(f"cannot join {what} of a non running container: {found.id}")
    if kind == "ipc" and found.record.host.ipc_mode not in ("shareable", "host"):
        raise Conflict(f"can't join IPC of container {found.id}: non-shareable IPC (hint: use IpcMode:shareable)")
    return f"/proc/{found.record.pid}/ns/{kind}"


def _shm(context: Context, record: Record) -> str:
    """The folder that is /dev/shm of a shareable container and of those that share with it; "" for an own tmpfs.

    A folder below the exec root, itself on a tmpfs, is what two containers can both mount without a mount on the host.
    """
    word, _, other = record.host.ipc_mode.partition(":")
    owner = other if word == "container" else record.id if record.host.ipc_mode == "shareable" else ""
    if not owner or (word == "container" and context.get(owner).record.host.ipc_mode == "host"):
        return "/dev/shm" if owner else ""
    folder = shm_folder(context, owner)
    folder.mkdir(mode=0o1777, parents=True, exist_ok=True)
    folder.chmod(0o1777)
    return str(folder)


def shm_folder(context: Context, id: str) -> Path:  # noqa: A002
    """Where a shareable container's /dev/shm is."""
    return context.exec_root / "shm" / id


def _mount(context: Context, mount: Mount) -> dict[str, Any]:
    """The runtime-spec's mount for one of the user's, its source found or made."""
    if mount.type == "image":
        return _image_mount(context, mount)
    if mount.type == "bind":
        _need_source(mount)
        return to_oci(mount, mount.source)
    if mount.type == "volume":
        volume = context.volumes.get(mount.name)
        if volume.options and volume.options.get("type") not in (None, "", "none", "bind"):
            options = [word for word in volume.options.get("o", "").split(",") if word]
            return {
                "destination": mount.destination,
                "type": volume.options["type"],
                "source": volume.options.get("device", volume.options["type"]),
                "options": [*options, "ro"] if mount.readonly else options,
            }
        return to_oci(mount, _having(str(context.volumes.path(mount.name)), mount.subpath))
    return to_oci(mount, "")


def _image_mount(context: Context, mount: Mount) -> dict[str, Any]:
    """An image's tree, read-only: its one folder, or an overlay of its layers.

    Raises:
        NoSuchImage: it is not here.
        Unsupported: a subpath of an image whose tree is not one folder.
    """
    image = context.images.resolve(mount.source)
    chain = list(reversed(chain_ids(image.config.diff_ids)))
    if context.snapshots.merged:
        chain = chain[:1]
    folders = [str(context.snapshots.upper(name)) for name in chain]
    if len(folders) == 1:
        return to_oci(mount, _having(folders[0], mount.subpath))
    if mount.subpath or not folders:
        raise Unsupported(f"cannot mount {mount.subpath or '/'} of {mount.source}: only whole images can be mounted")
    options = [f"lowerdir+={folder}" for folder in folders]
    return {"destination": mount.destination, "type": "overlay", "source": "overlay", "options": ["ro", *options]}


def _need_source(mount: Mount) -> None:
    """Make a missing bind source where the user asked for that.

    Raises:
        InvalidArgument: it is missing, and not to be made.
    """
    source = Path(mount.source)
    if source.exists():
        return
    if not mount.create_source:
        raise InvalidArgument(f'invalid mount config for type "bind": bind source path does not exist: {mount.source}')
    try:
        source.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise System(f"error while creating mount source path '{mount.source}': {error.strerror}") from error


def _having(folder: str, subpath: str) -> str:
    """`folder`, once it is known that there is something at `subpath` in it.

    Only a question, asked early for the sake of its words: the folder may be a running container's, so what is mounted
    is looked up again by whoever mounts it (`scow.runtime.rootfs.Bind`).

    Raises:
        NotFound: it does not exist.
    """
    if subpath:
        root_fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.close(open_in_root(root_fd, subpath, os.O_PATH))
        except OSError as error:
            raise NotFound(f"cannot access path {subpath} of the volume: {error.strerror}") from None
        finally:
            os.close(root_fd)
    return folder
