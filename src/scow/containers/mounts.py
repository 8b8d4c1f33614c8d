"""Which mounts a container has: everything a create request and the image say, resolved to one list per destination.

Precedence is Docker's: what ``volumes-from`` brings gives way to the request's own mounts, and a volume of the image to
both. Two mounts of the request at one place are an error.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from scow.api.containers import HostConfig
from scow.containers.container import Container, Mount
from scow.errors import InvalidArgument
from scow.runtime.rootfs import INSIDE
from scow.volumes import mounts
from scow.volumes.mounts import MountPoint


@dataclass(frozen=True, slots=True)
class Plan:
    """The mounts, and for the volumes among them what is needed to make those that do not exist."""

    mounts: list[Mount]
    wishes: dict[str, MountPoint] = field(default_factory=dict)


def plan(host: HostConfig, image_volumes: Mapping[str, Any] | None, get: Callable[[str], Container]) -> Plan:
    """Every mount of a new container; volumes without a name are still to be made.

    Args:
        image_volumes: the merged config's ``Volumes``.
        get: finds the containers of ``volumes-from``.

    Raises:
        InvalidArgument: a malformed or doubled mount, in Docker's words.
        NoSuchContainer: volumes-from names nothing.
    """
    found = {mount.destination: mount for text in host.volumes_from or () for mount in _inherited(text, get)}
    asked: list[tuple[MountPoint, Mapping[str, Any] | None]] = []
    asked += [(mounts.parse_bind(text, host.volume_driver), None) for text in host.binds or ()]
    asked += [(mounts.parse_mount(value), value) for value in host.mounts or ()]
    asked += [(mounts.parse_tmpfs(path, options), None) for path, options in (host.tmpfs or {}).items()]
    mounts.check_unique(point for point, _ in asked)
    wishes: dict[str, MountPoint] = {}
    for point, spec in asked:
        found[point.destination] = _record(point, spec)
        if point.type == mounts.VOLUME:
            wishes[point.destination] = point
    for path in image_volumes or {}:
        point = mounts.image_volume(path)
        if point.destination not in found:
            found[point.destination] = _record(point, None)
            wishes[point.destination] = point
    return Plan([found[destination] for destination in sorted(found)], wishes)


def _record(point: MountPoint, spec: Mapping[str, Any] | None) -> Mount:
    return Mount(
        type=point.type,
        destination=point.destination,
        source=point.source,
        name=point.name,
        driver=point.driver,
        mode=point.mode,
        readonly=point.readonly,
        propagation=point.propagation,
        options=list(point.options),
        subpath=point.subpath,
        anonymous=point.anonymous,
        copy_up=point.copy_up,
        recursive=point.recursive,
        recursive_readonly=point.recursive_readonly,
        create_source=point.create_source,
        spec=dict(spec) if spec is not None else None,
    )


def _inherited(text: str, get: Callable[[str], Container]) -> list[Mount]:
    """The mounts of another container: ``name``, ``name:ro``, ``name:rw``."""
    name, _, mode = text.partition(":")
    if not name:
        raise InvalidArgument(f"malformed volumes-from specification: {text}")
    options = mounts.parse_mode(mode, bind=False)
    found = []
    for mount in get(name).record.mounts:
        if mount.type in (mounts.TMPFS, mounts.IMAGE):
            continue
        copy = Mount(**{key: getattr(mount, key) for key in mount.__struct_fields__})
        copy.readonly = mount.readonly or options.readonly
        copy.anonymous = False  # it goes with the container it belongs to, not with this one
        copy.copy_up = False
        found.append(copy)
    return found


def to_oci(mount: Mount, source: str) -> dict[str, Any]:
    """The runtime-spec's mount of `source`, a path on the host ("" for a tmpfs), or of the mount's subpath below it.

    Source: runtime-spec 1.2 config.md "Mounts".
    """
    if mount.type == mounts.TMPFS:
        options = ["nosuid", "nodev", "noexec", *mount.options]
        if mount.readonly and "ro" not in options:
            options.append("ro")
        return {"destination": mount.destination, "type": "tmpfs", "source": "tmpfs", "options": options}
    options = ["rbind" if mount.recursive else "bind", mount.propagation or "rprivate"]
    if mount.readonly:
        options.append("rro" if mount.recursive and mount.recursive_readonly else "ro")
    found: dict[str, Any] = {"destination": mount.destination, "type": "bind", "source": source, "options": options}
    return {**found, INSIDE: mount.subpath} if mount.subpath else found
