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
from scow.linux.fds import MAX_SYMLINKS, open_in_root
from scow.snapshots import apply
from scow.snapshots.compression import unpacked

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
        context.roots.drop(container.id)
        root_fd = context.snapshots.mount(container.id, readonly=False)
    try:
        yield root_fd
    finally:
        os.close(root_fd)


@contextmanager
def place_of(context: Context, container: Container, path: str, *, follow: bool) -> Iterator[Place]:
    """Where `path` (clean) is. `follow` the last symlink, or name the link itself.

    Raises:
        InvalidArgument: too many symlinks.
    """
    with root_of(context, container) as root_fd:
        if container.running:
            yield Place(root_fd, path, _mount_over(container, path))
            return
        with _Walk(container, root_fd) as walk:
            yield walk.place(walk.real(path, follow=follow))


def _mount_over(container: Container, path: str) -> Mount | None:
    """The mount of the container that `path` lies in by its text, the deepest one."""
    found = [mount for mount in container.record.mounts if below(path, mount.destination) is not None]
    return max(found, key=lambda mount: len(mount.destination), default=None)


class _Walk:
    """Follows paths of a stopped container as if its volumes were mounted; holds the volumes' descriptors meanwhile."""

    def __init__(self, container: Container, root_fd: int) -> None:
        self._container = container
        self._root_fd = root_fd
        self._fds: dict[str, int] = {}

    def __enter__(self) -> "_Walk":
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._fds.values():
            os.close(fd)

    def real(self, path: str, *, follow: bool) -> str:
        """`path` in the container with its symlinks resolved, the last one only if `follow`.

        What does not exist is taken as it is.
        """
        done = "/"
        todo = list(reversed(path.split("/")))
        links = 0
        while todo:
            name = todo.pop()
            if name in ("", ".", ".."):
                done = split(done)[0] if name == ".." else done
                continue
            here = clean(f"{done}/{name}")
            target = self._link(here) if any(todo) or follow else None
            if target is None:
                done = here
                continue
            links += 1
            if links > MAX_SYMLINKS:
                raise InvalidArgument(f"{path}: {os.strerror(errno.ELOOP)}")
            done = "/" if target.startswith("/") else done
            todo.extend(reversed(target.split("/")))
        return done

    def _link(self, path: str) -> str | None:
        """The target of the symlink at `path`, whose folder has none; None if it is none."""
        place = self.place(path)
        try:
            fd = open_in_root(place.root_fd, place.path, os.O_PATH | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            return os.readlink("", dir_fd=fd) if stat.S_ISLNK(os.fstat(fd).st_mode) else None
        finally:
            os.close(fd)

    def place(self, path: str) -> Place:
        """Where the resolved `path` is: in the root file system, or in a volume's or bind's own folder."""
        mount = _mount_over(self._container, path)
        if mount is None or not mount.source or not os.path.exists(mount.source):
            return Place(self._root_fd, path, mount)
        folder, inside = mount.source, f"/{below(path, mount.destination)}"
        if mount.subpath:
            inside = clean(f"{mount.subpath}/{inside}")
        if not os.path.isdir(folder):
            folder, name = os.path.split(folder)
            inside = f"/{name}"
        if folder not in self._fds:
            self._fds[folder] = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return Place(self._fds[folder], inside, mount)


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
        except (FileNotFoundError, NotADirectoryError):
            # A program in the container has put something else there since.
            raise NotFound(f"Could not find the file {path} in container {container.id}") from None
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
