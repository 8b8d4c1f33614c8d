"""``docker cp``: looking at, reading and writing paths in a container, running or not.

A path is resolved below a root descriptor and can never leave it (openat2 with RESOLVE_IN_ROOT). For a running
container that root is the container's own, with everything mounted in it; for a stopped one a fresh mount of its
snapshot, and a path that leads into a volume goes on in the volume's folder. Blocking.
"""

import base64
import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from scow.api.units import rfc3339
from scow.containers.container import Container, Mount
from scow.containers.context import Context
from scow.containers.paths import below, clean, rests_on, split
from scow.containers.tree import Packer
from scow.errors import Conflict, Forbidden, InvalidArgument, NotFound, System
from scow.linux.fds import open_in_root
from scow.snapshots import apply
from scow.snapshots.compression import unpacked

#: How often a path may cross from the root file system into a volume before it is called a loop.
MAX_CROSSINGS = 8
#: Go's os.FileMode bits, which the stat header shows.
_GO_BITS = {
    stat.S_IFDIR: 1 << 31, stat.S_IFLNK: 1 << 27, stat.S_IFIFO: 1 << 25, stat.S_IFSOCK: 1 << 24,
    stat.S_IFBLK: 1 << 26, stat.S_IFCHR: (1 << 26) | (1 << 21),
}  # fmt: skip
_GO_SPECIAL = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path is: `path` below `root_fd`; `mount` is the volume it lies in, if any."""

    root_fd: int
    path: str
    mount: Mount | None


@contextmanager
def root_of(context: Context, container: Container) -> Iterator[int]:
    """The container's root directory as a descriptor, for as long as the block runs.

    Raises:
        Conflict: it is neither running nor has a snapshot (it is being removed).
        System: the kernel refused the mount.
    """
    if container.running and container.task is not None:
        root_fd = container.task.root_fd()
    else:
        root_fd = context.snapshots.mount(container.id, readonly=False)
    try:
        yield root_fd
    finally:
        os.close(root_fd)


@contextmanager
def place_of(context: Context, container: Container, path: str, *, follow: bool) -> Iterator[Place]:
    """Where `path` (clean) is. `follow` the last symlink, or name the link itself.

    Raises:
        NotFound: a folder on the way does not exist.
    """
    with root_of(context, container) as root_fd:
        if container.running:
            yield Place(root_fd, path, _mount_over(container, path))
            return
        fds: list[int] = []
        try:
            yield _descend(container, root_fd, path, follow=follow, fds=fds)
        finally:
            for fd in fds:
                os.close(fd)


def _mount_over(container: Container, path: str) -> Mount | None:
    """The mount of the container that `path` lies in by its text, the deepest one."""
    found = [mount for mount in container.record.mounts if below(path, mount.destination) is not None]
    return max(found, key=lambda mount: len(mount.destination), default=None)


def _descend(container: Container, root_fd: int, path: str, *, follow: bool, fds: list[int]) -> Place:
    """Follow `path` from the bare root file system into the volumes that would be mounted on it."""
    for _ in range(MAX_CROSSINGS):
        mount = _mount_over(container, path)
        if mount is None:
            real = _real(container, root_fd, path, follow=follow)
            if real == path or _mount_over(container, real) is None:
                return Place(root_fd, path, None)
            path = real
            continue
        if mount.type == "tmpfs" or not mount.source:
            return Place(root_fd, path, mount)
        inside = below(path, mount.destination) or ""
        if not os.path.isdir(mount.source):
            fds.append(os.open(os.path.dirname(mount.source), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            return Place(fds[-1], f"/{os.path.basename(mount.source)}", mount)
        fds.append(os.open(mount.source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        return Place(fds[-1], f"/{inside}", mount)
    raise InvalidArgument(f"{path} leads through too many volumes: {os.strerror(errno.ELOOP)}")


def _real(container: Container, root_fd: int, path: str, *, follow: bool) -> str:
    """`path` with its symlinks resolved inside the root (the last only if `follow`); itself if it does not exist."""
    folder, name = split(path)
    try:
        fd = open_in_root(root_fd, path if follow else folder, os.O_PATH)
    except OSError:
        return path
    try:
        # The name the kernel gives is the one inside the mount, for a detached mount has no other.
        found = os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    if follow or path == "/":
        return clean(found)
    return clean(f"{found}/{name}")


# -- stat --


def stat_path(context: Context, ref: str, path: str) -> dict[str, Any]:
    """The API's PathStat of `path`: name, size, Go's file mode, mtime and the target of a link.

    Raises:
        NoSuchContainer, NotFound: Docker's sentence for a path that is not there.
    """
    container = context.get(ref)
    with place_of(context, container, _checked(path), follow=rests_on(path)) as place:
        return _stat(container, place, path)


def stat_header(found: dict[str, Any]) -> str:
    """The value of ``X-Docker-Container-Path-Stat``."""
    return base64.b64encode(json.dumps(found).encode()).decode()


def _checked(path: str) -> str:
    if not path or "\0" in path:
        raise InvalidArgument("bad parameter: path cannot be empty")
    return clean(path)


def _stat(container: Container, place: Place, asked: str) -> dict[str, Any]:
    fd = _open(container, place, asked, os.O_PATH | (0 if rests_on(asked) else os.O_NOFOLLOW))
    try:
        info = os.fstat(fd)
        target = ""
        if stat.S_ISLNK(info.st_mode):
            target = _target(place, os.readlink("", dir_fd=fd))
    finally:
        os.close(fd)
    mode = stat.S_IMODE(info.st_mode) & 0o777
    mode |= _GO_BITS.get(stat.S_IFMT(info.st_mode), 0)
    mode |= sum(bit for flag, bit in _GO_SPECIAL.items() if info.st_mode & flag)
    name = split(clean(asked))[1]
    return {
        "name": name,
        "size": info.st_size,
        "mode": mode,
        "mtime": rfc3339(info.st_mtime_ns),
        "linkTarget": target,
    }


def _target(place: Place, link: str) -> str:
    """Where a symlink leads, as a path in the container; followed as far as it exists."""
    target = clean(link) if link.startswith("/") else clean(f"{split(place.path)[0]}/{link}")
    return target


def _open(container: Container, place: Place, asked: str, flags: int) -> int:
    """Open the place; the errors speak of the path `asked` for."""
    try:
        return open_in_root(place.root_fd, place.path, flags)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"Could not find the file {asked} in container {container.id}") from None
    except OSError as error:
        raise System(f"cannot open {asked} in container {container.id}: {error.strerror}") from error


# -- get --


def pack(context: Context, ref: str, path: str, out: Callable[[bytes], object]) -> None:
    """Write `path` as a tar whose first entry is its last name ("." for "dir/.").

    Raises:
        NoSuchContainer, NotFound.
    """
    container = context.get(ref)
    with place_of(context, container, _checked(path), follow=rests_on(path)) as place:
        follow = 0 if rests_on(path) else os.O_NOFOLLOW
        fd = _open(container, place, path, os.O_PATH | follow)
        try:
            is_folder = stat.S_ISDIR(os.fstat(fd).st_mode)
            packer = Packer(out, one_device=False)
            shown = "." if path.endswith("/.") or path == "." or clean(path) == "/" else split(clean(path))[1]
            if is_folder:
                packer.add(fd, ".", shown)
            else:
                folder_fd = _open(container, Place(place.root_fd, split(place.path)[0], None), path, os.O_PATH)
                try:
                    packer.add(folder_fd, split(place.path)[1], shown)
                finally:
                    os.close(folder_fd)
            packer.close()
        finally:
            os.close(fd)


# -- put --


def unpack(
    context: Context, ref: str, path: str, stream: BinaryIO, *, keep_kinds: bool = False, copy_owner: bool = False
) -> None:
    """Extract the archive in `stream` (tar, also gzip, bzip2, xz or zstd) into the folder `path`.

    Args:
        keep_kinds: refuse to put a file where a folder is, and the other way round.
        copy_owner: give everything to the owner of the folder.

    Raises:
        NoSuchContainer, NotFound: the folder does not exist.
        InvalidArgument: it is no folder, or the archive is broken or hostile.
        Forbidden: the root file system or the volume is read-only.
    """
    container = context.get(ref)
    with place_of(context, container, _checked(path), follow=True) as place:
        _require_writable(container, place.mount)
        fd = _open(container, place, path, os.O_PATH)
        try:
            info = os.fstat(fd)
            if not stat.S_ISDIR(info.st_mode):
                raise InvalidArgument("extraction point is not a directory")
            owner = (info.st_uid, info.st_gid) if copy_owner else None
            root_fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            try:
                apply.apply(_tar(stream), root_fd, whiteouts=False, owner=owner, keep_kinds=keep_kinds)
            finally:
                os.close(root_fd)
        finally:
            os.close(fd)


def _tar(stream: BinaryIO) -> BinaryIO:
    """The stream, decompressed if it is compressed."""
    return unpacked(stream)  # type: ignore[return-value]


def _require_writable(container: Container, mount: Mount | None) -> None:
    if mount is not None:
        if mount.readonly:
            raise Forbidden(f"mounted volume is marked read-only: {mount.destination}")
        return
    if container.record.host.readonly_rootfs:
        raise Forbidden("container rootfs is marked read-only")


# -- export --


def export(context: Context, ref: str, out: Callable[[bytes], object]) -> None:
    """Write the container's root file system, without what is mounted on it, as a tar.

    Raises:
        NoSuchContainer, Conflict.
    """
    container = context.get(ref)
    if container.removed:
        raise Conflict(f"You cannot export container {container.id} which is being removed")
    with root_of(context, container) as root_fd:
        packer = Packer(out, one_device=True)
        packer.add_content(root_fd)
        packer.close()
