"""What a container wants mounted: ``-v`` strings, Mount objects, ``--tmpfs`` and image volumes → `MountPoint`. Pure.

Wording follows Docker's, because people search for it. Whether a bind source exists is not known here; `create_source`
says what to do when it does not.

Source: Engine API, HostConfig.Binds and Mount.
"""

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from scow.api.units import parse_bytes
from scow.errors import InvalidArgument

BIND, VOLUME, TMPFS, IMAGE = "bind", "volume", "tmpfs", "image"

VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_LABEL_MODES = ("z", "Z")
_CONSISTENCY = ("consistent", "cached", "delegated", "default")
#: Options of --tmpfs: mount flags, and those with a value.
_TMPFS_FLAGS = frozenset((
    "ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "sync", "async", "dirsync", "remount", "mand",
    "nomand", "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime",
    "bind", "rbind", "unbindable", "runbindable", "private", "rprivate", "shared", "rshared", "slave", "rslave",
    "defaults",
))  # fmt: skip
_TMPFS_VALUES = frozenset(["mode", "uid", "gid", "size", "nr_blocks", "nr_inodes", "mpol"])


@dataclass(frozen=True, slots=True)
class MountPoint:
    """One thing to mount.

    Attributes:
        source: host path of a bind, image reference of an image mount; of a volume only known once it exists.
        name: of a volume; "" for an anonymous one that still has to be made.
        mode: the options as the user wrote them (``-v``), for inspect.
        options: of the mount itself (tmpfs: "size=64m", "noexec").
        driver_options, labels: for a volume that has to be made.
        copy_up: fill an empty volume with what the image has at the destination.
        recursive: take the mounts below a bind source along.
        recursive_readonly: a read-only bind is read-only in the mounts below it, where the kernel can;
            with `force_recursive_readonly` it is an error where it cannot.
        create_source: make a missing bind source (``-v``); otherwise a missing one is an error.
    """

    type: str
    destination: str
    source: str = ""
    name: str = ""
    driver: str = ""
    mode: str = ""
    readonly: bool = False
    propagation: str = ""
    options: tuple[str, ...] = ()
    driver_options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    subpath: str = ""
    anonymous: bool = False
    copy_up: bool = False
    recursive: bool = True
    recursive_readonly: bool = True
    force_recursive_readonly: bool = False
    create_source: bool = False


def parse_bind(text: str, volume_driver: str = "") -> MountPoint:
    """``/host:/container[:options]``, ``name:/container[:options]`` or ``/container``.

    Raises:
        InvalidArgument: Docker's sentence for what is wrong.
    """
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise InvalidArgument(f'invalid volume specification: "{text}": invalid mount config')
    source, destination, mode = ("", parts[0], "") if len(parts) == 1 else (parts[0], parts[1], "".join(parts[2:]))
    target = check_destination(destination, f"invalid volume specification: '{text}': ")
    is_bind = source.startswith("/")
    options = parse_mode(mode, bind=is_bind)
    if is_bind:
        return MountPoint(
            BIND,
            target,
            source=posixpath.normpath("/" + source.lstrip("/")),
            mode=mode,
            readonly=options.readonly,
            propagation=options.propagation or "rprivate",
            create_source=True,
        )
    if source:
        check_volume_name(source)
    return MountPoint(
        VOLUME,
        target,
        name=source,
        driver=volume_driver or "local",
        mode=mode or "z",
        readonly=options.readonly,
        anonymous=not source,
        copy_up=options.copy_up,
        propagation=options.propagation,
    )


@dataclass(frozen=True, slots=True)
class _Mode:
    readonly: bool = False
    propagation: str = ""
    copy_up: bool = True


def parse_mode(mode: str, *, bind: bool) -> _Mode:
    """The third part of ``-v``.

    Raises:
        InvalidArgument: "invalid mode: x", also for two of a kind.
    """
    wrong = InvalidArgument(f"invalid mode: {mode}")
    seen: set[str] = set()
    readonly, propagation, copy_up = False, "", True
    for word in mode.split(",") if mode else ():
        if word in ("rw", "ro"):
            kind, readonly = "access", word == "ro"
        elif word in _LABEL_MODES:
            kind = "label"
        elif word in _CONSISTENCY:
            kind = "consistency"
        elif word in PROPAGATION and bind:
            kind, propagation = "propagation", word
        elif word == "nocopy" and not bind:
            kind, copy_up = "copy", False
        else:
            raise wrong
        if kind in seen:
            raise wrong
        seen.add(kind)
    return _Mode(readonly, propagation, copy_up)


def check_destination(path: str, prefix: str = "") -> str:
    """A container path, cleaned.

    Raises:
        InvalidArgument: not absolute, or "/".
    """
    if not path.startswith("/"):
        raise InvalidArgument(f"{prefix}invalid mount config: invalid mount path: '{path}' mount path must be absolute")
    if "\0" in path or len(path) > 4095:
        raise InvalidArgument(f"{prefix}invalid mount config: the mount path is not a valid path")
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if clean == "/":
        raise InvalidArgument(f"{prefix}invalid specification: destination can't be '/'")
    return clean


def check_volume_name(name: str) -> None:
    """Raise `InvalidArgument` unless `name` may be a volume's."""
    if len(name) == 1:
        raise InvalidArgument("volume name is too short, names should be at least two alphanumeric characters")
    if not VOLUME_NAME.fullmatch(name) or len(name) > 255:
        raise InvalidArgument(
            f'"{name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are '
            "allowed. If you intended to pass a host directory, use absolute path"
        )


def parse_mount(value: Mapping[str, Any]) -> MountPoint:
    """A Mount object of the API (wire names).

    Raises:
        InvalidArgument: "invalid mount config for type "x": …".
    """
    kind = _text(value, "Type")
    where = f'invalid mount config for type "{kind}"'
    target = _text(value, "Target")
    if kind not in (BIND, VOLUME, TMPFS, IMAGE):
        raise InvalidArgument(f"mount type unknown: {kind!r}: use bind, volume, tmpfs or image")
    if not target:
        raise InvalidArgument(f"{where}: field Target must not be empty")
    try:
        clean = check_destination(target)
    except InvalidArgument as error:
        raise InvalidArgument(f"{where}: {str(error).removeprefix('invalid mount config: ')}") from None
    for other, key in (
        (BIND, "BindOptions"),
        (VOLUME, "VolumeOptions"),
        (TMPFS, "TmpfsOptions"),
        (IMAGE, "ImageOptions"),
    ):
        if other != kind and value.get(key):
            raise InvalidArgument(f"{where}: field {key} must not be specified")
    build = {BIND: _bind, VOLUME: _volume, TMPFS: _tmpfs, IMAGE: _image}[kind]
    return build(value, clean, where)


def _bind(value: Mapping[str, Any], target: str, where: str) -> MountPoint:
    source = _text(value, "Source")
    if not source:
        raise InvalidArgument(f"{where}: field Source must not be empty")
    if not source.startswith("/") or "\0" in source:
        raise InvalidArgument(f"{where}: invalid mount path: '{source}' mount path must be absolute")
    options = _object(value, "BindOptions", where)
    propagation = _text(options, "Propagation") or "rprivate"
    if propagation not in PROPAGATION:
        raise InvalidArgument(f"{where}: invalid propagation mode: {propagation}")
    readonly = _flag(value, "ReadOnly")
    not_below, force = _flag(options, "ReadOnlyNonRecursive"), _flag(options, "ReadOnlyForceRecursive")
    if (not_below or force) and not readonly:
        raise InvalidArgument(f"{where}: mount must be read-only to choose how read-only it is below")
    if not_below and force:
        raise InvalidArgument(f"{where}: ReadOnlyNonRecursive and ReadOnlyForceRecursive exclude each other")
    return MountPoint(
        BIND,
        target,
        source=posixpath.normpath("/" + source.lstrip("/")),
        readonly=readonly,
        propagation=propagation,
        recursive=not _flag(options, "NonRecursive"),
        recursive_readonly=not not_below,
        force_recursive_readonly=force,
        create_source=_flag(options, "CreateMountpoint"),
    )


def _volume(value: Mapping[str, Any], target: str, where: str) -> MountPoint:
    name = _text(value, "Source")
    if name:
        check_volume_name(name)
    options = _object(value, "VolumeOptions", where)
    config = _object(options, "DriverConfig", where)
    subpath = check_subpath(_text(options, "Subpath"), where)
    if subpath and not name:
        raise InvalidArgument(f"{where}: field VolumeOptions.Subpath must not be specified for an anonymous volume")
    return MountPoint(
        VOLUME,
        target,
        name=name,
        driver=_text(config, "Name") or "local",
        mode="z",
        readonly=_flag(value, "ReadOnly"),
        driver_options=_words(config, "Options", where),
        labels=_words(options, "Labels", where),
        subpath=subpath,
        anonymous=not name,
        copy_up=not _flag(options, "NoCopy"),
    )


def _tmpfs(value: Mapping[str, Any], target: str, where: str) -> MountPoint:
    if _text(value, "Source"):
        raise InvalidArgument(f"{where}: field Source must not be specified")
    options = _object(value, "TmpfsOptions", where)
    size, mode = options.get("SizeBytes", 0), options.get("Mode", 0)
    words: list[str] = []
    if not isinstance(size, int) or not isinstance(mode, int) or size < 0 or not 0 <= mode <= 0o7777:
        raise InvalidArgument(f"{where}: SizeBytes and Mode must be numbers, Mode at most 0o7777")
    if size:
        words.append(f"size={size}")
    if mode:
        words.append(f"mode={mode:o}")
    for item in options.get("Options") or ():
        if not isinstance(item, list) or not 1 <= len(item) <= 2 or not all(isinstance(part, str) for part in item):
            raise InvalidArgument(f"{where}: each of Options must be a list of one or two texts")
        words.append("=".join(item))
    check_tmpfs_options(words)
    return MountPoint(TMPFS, target, readonly=_flag(value, "ReadOnly"), options=tuple(words))


def _image(value: Mapping[str, Any], target: str, where: str) -> MountPoint:
    source = _text(value, "Source")
    if not source:
        raise InvalidArgument(f"{where}: field Source must not be empty")
    options = _object(value, "ImageOptions", where)
    return MountPoint(
        IMAGE, target, source=source, readonly=True, subpath=check_subpath(_text(options, "Subpath"), where)
    )


def parse_tmpfs(path: str, options: str) -> MountPoint:
    """One entry of HostConfig.Tmpfs: path → "size=64m,noexec".

    Raises:
        InvalidArgument: an option tmpfs does not have.
    """
    words = tuple(word for word in options.split(",") if word)
    check_tmpfs_options(words)
    return MountPoint(TMPFS, check_destination(path), readonly="ro" in words, options=words)


def check_tmpfs_options(words: Iterable[str]) -> None:
    """Raise `InvalidArgument` for an option that tmpfs does not have or whose value cannot be."""
    for word in words:
        key, has_value, value = word.partition("=")
        if has_value and key in _TMPFS_VALUES and value:
            if key == "size" and not value.endswith("%"):
                parse_bytes(value)
        elif has_value or key not in _TMPFS_FLAGS:
            raise InvalidArgument(f'invalid tmpfs option "{word}"')


def image_volume(path: str) -> MountPoint:
    """An anonymous volume that the image declares (VOLUME)."""
    return MountPoint(VOLUME, check_destination(path), driver="local", anonymous=True, copy_up=True)


def check_unique(mounts: Iterable[MountPoint]) -> None:
    """Raise `InvalidArgument` when two mounts have the same destination."""
    seen: set[str] = set()
    for mount in mounts:
        if mount.destination in seen:
            raise InvalidArgument(f"Duplicate mount point: {mount.destination}")
        seen.add(mount.destination)


def check_subpath(path: str, where: str) -> str:
    """A path inside a volume or image.

    Raises:
        InvalidArgument: absolute, or it climbs out.
    """
    if not path:
        return ""
    if path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise InvalidArgument(f"{where}: subpath must be a relative path within the volume")
    return posixpath.normpath(path)


def _text(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise InvalidArgument(f"invalid mount config: {key} must be a text")
    return found


def _flag(value: Mapping[str, Any], key: str) -> bool:
    found = value.get(key)
    if found is None:
        return False
    if not isinstance(found, bool):
        raise InvalidArgument(f"invalid mount config: {key} must be true or false")
    return found


def _object(value: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    found = value.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InvalidArgument(f"{where}: {key} must be an object")
    return found


def _words(value: Mapping[str, Any], key: str, where: str) -> dict[str, str]:
    found = _object(value, key, where)
    if not all(isinstance(item, str) for item in found.values()):
        raise InvalidArgument(f"{where}: {key} must hold texts")
    return dict(found)
