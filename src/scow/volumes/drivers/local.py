"""The local driver: a folder, or with options a file system mounted for as long as somebody uses it.

Options are those of mount(8): ``type``, ``device``, ``o``. A bind (``o=bind``) needs no mount at all, its device is the
volume. Everything else is made as a detached mount: it is in nobody's mount table and vanishes with its last user.
"""

import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

from scow.errors import InvalidArgument, System
from scow.linux import mount as kernel
from scow.volumes.volume import Volume

OPTIONS = ("type", "device", "o")

#: mount(8) words → MOUNT_ATTR_* (linux/mount.h); words that take an attribute away are 0.
ATTRIBUTES = {
    "ro": 0x1, "nosuid": 0x2, "nodev": 0x4, "noexec": 0x8, "noatime": 0x10, "strictatime": 0x20, "nodiratime": 0x80,
    "rw": 0, "suid": 0, "dev": 0, "exec": 0, "atime": 0, "relatime": 0, "diratime": 0, "defaults": 0,
}  # fmt: skip
#: What only mount(8) and its helpers understand: the kernel would refuse it in words nobody can use.
_UNSUPPORTED_TYPES = ("cifs", "smb3", "fuse", "overlay", "proc", "sysfs", "cgroup", "cgroup2", "devpts")


@dataclass(frozen=True, slots=True)
class MountOptions:
    """A volume's options, read."""

    kind: str
    device: str
    bind: bool
    attributes: int
    data: tuple[tuple[str, str | None], ...]


def check_options(name: str, options: Mapping[str, str]) -> MountOptions | None:
    """Read and check the options; None for a plain folder.

    Raises:
        InvalidArgument: unknown, incomplete, or not supported; Docker's words where it has some.
    """
    for key in options:
        if key not in OPTIONS:
            raise InvalidArgument(f'create {name}: invalid option: "{key}"')
    given = {key: value for key, value in options.items() if value}
    if not given:
        return None
    words = [word for word in given.get("o", "").split(",") if word]
    kind = given.get("type", "")
    bind = kind == "bind" or (kind in ("", "none") and ("bind" in words or "rbind" in words))
    if not given.get("device") and kind != "tmpfs":
        raise InvalidArgument(f'create {name}: missing required option: "device"')
    if not bind and kind in ("", "none"):
        raise InvalidArgument(f'create {name}: missing required option: "type"')
    if kind in _UNSUPPORTED_TYPES:
        raise InvalidArgument(
            f"create {name}: volumes of type {kind} are not supported: mount it on the host and bind the folder"
        )
    device = given.get("device", "tmpfs")
    if bind and not device.startswith("/"):
        raise InvalidArgument(f"create {name}: invalid device {device!r}: a bind needs an absolute path")
    attributes = 0
    data: list[tuple[str, str | None]] = []
    for word in words:
        if word in ATTRIBUTES:
            attributes |= ATTRIBUTES[word]
        elif word not in ("bind", "rbind"):
            key, has_value, value = word.partition("=")
            data.append((key, value if has_value else None))
    if bind and data:
        raise InvalidArgument(f'create {name}: invalid option: "{data[0][0]}" means nothing for a bind')
    return MountOptions(kind, posixpath.normpath(device) if bind else device, bind, attributes, tuple(data))


def source(volume: Volume) -> str | None:
    """The folder that is the volume; None for one that has to be mounted."""
    options = check_options(volume.name, volume.options)
    if options is None:
        return volume.mountpoint
    return options.device if options.bind else None


def open_mount(volume: Volume) -> int:
    """A detached mount of a volume that has no folder; the caller closes it. Blocking.

    Raises:
        System: the kernel refused, in its own words.
    """
    options = check_options(volume.name, volume.options)
    if options is None or options.bind:
        raise System(f"volume {volume.name} needs no mount")
    try:
        return kernel.new_mount(options.kind, options.data, options.attributes, options.device)
    except OSError as error:
        raise System(
            f"error while mounting volume {volume.name}: failed to mount local volume: "
            f"mount {options.device} ({options.kind}, {volume.options.get('o', '')}): {error.strerror}"
        ) from error


def open_folder(volume: Volume, path: str) -> int:
    """A detached clone of the folder that is the volume; the caller closes it. Blocking.

    Raises:
        System: it is gone.
    """
    options = check_options(volume.name, volume.options)
    try:
        fd = kernel.clone_tree(path, recursive=True)
        if options is not None and options.attributes:
            try:
                kernel.mount_setattr(fd, add=options.attributes, recursive=True)
            except OSError:
                os.close(fd)
                raise
    except OSError as error:
        raise System(
            f"error while mounting volume {volume.name}: failed to mount local volume: {path}: {error.strerror}"
        ) from error
    return fd
