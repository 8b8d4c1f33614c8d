"""Applying a layer: an uncompressed tar, written into a directory that must not be left.

Invariants:

* Every entry's parent is found by openat2 with RESOLVE_IN_ROOT (a symlink in the archive means what it means in the
container), its last
  part is made by the parent's descriptor and never followed. Nothing outside the root is read, written, chowned or
  touched.
* Whatever is in the way is replaced, except a directory by a directory: later entries win, as with Docker.
* A whiteout (``.wh.name``) hides what lower layers have, never what this layer brings.

Layers are applied to the bare upper directory, not to a mounted overlay: that is two to three times as fast, and
trusted.overlay.* cannot be set through a mount. The price is that a hard link to (or an unnamed folder of) a lower
layer is not there; both are looked up in `lower_fd`, a view of the parents, and copied with their metadata, which is
what the kernel's copy-up would have done.
"""

import contextlib
import errno
import os
import stat
from dataclasses import dataclass

from scow.errors import InvalidArgument, NoSpace, System
from scow.fileio import no_space
from scow.linux.fds import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2
from scow.snapshots.copyup import Lower, chmod_at, set_xattr
from scow.snapshots.removal import remove_at
from scow.snapshots.tarstream import (
    BLOCK_DEVICE,
    CHAR,
    DIRECTORY,
    FIFO,
    FILE,
    HARDLINK,
    SYMLINK,
    Entry,
    Readable,
    TarReader,
    copy_data,
    split_name,
)

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
_META = ".wh..wh."
"""aufs's own files; only the opaque marker means anything."""
OPAQUE_XATTR = "trusted.overlay.opaque"
_DIRECTORY_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_PARENTS = 64
_NAME_ERRORS = frozenset({
    errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EXDEV, errno.EINVAL, errno.EISDIR, errno.EEXIST, errno.ENOENT,
    errno.EFBIG, errno.EOVERFLOW, errno.ERANGE, errno.E2BIG, errno.EMLINK,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may ask for before it is refused.

    Attributes:
        entries: number of members.
        size: bytes of file content; None: what the file system has free, less `spare`.
        depth: folders in a path.
        spare: share of the free space that stays free.
    """

    entries: int = 4_000_000
    size: int | None = None
    depth: int = 512
    spare: float = 0.02


DEFAULT_LIMITS = Limits()


def apply(
    stream: Readable,
    root_fd: int,
    *,
    whiteouts: bool,
    merged: bool = False,
    lower_fd: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
    devices: bool = True,
    owner: tuple[int, int] | None = None,
    keep_kinds: bool = False,
) -> int:
    """Unpack the tar in `stream` below the directory `root_fd`.

    Args:
        stream: uncompressed; read to its end, so that a digest taken underneath covers everything.
        whiteouts: whether ``.wh.`` names are whiteouts (a layer) or ordinary files (docker cp, ADD).
        merged: the root already holds the lower layers, so a whiteout deletes; else it becomes an overlay whiteout.
        lower_fd: view of the parents for hard links into them; not needed when `merged`.
        devices: whether device nodes are made; if not they are an error.
        owner: user and group everything is given to, instead of the archive's.
        keep_kinds: refuse to replace a directory by something else, and the reverse.

    Returns:
        Bytes of file content written.

    Raises:
        InvalidArgument: no tar, a hostile or impossible entry, or beyond `limits`.
        DataLoss: the archive is cut off.
        NoSpace: the disk is full. What was unpacked so far is left for the caller to remove.
        System: the kernel refused for another reason.

    Blocking.
    Source: image-spec 1.1 layer.md "Applying Changesets".
    """
    applier = _Applier(root_fd, whiteouts, merged, Lower(lower_fd) if lower_fd is not None else None, limits, owner)
    applier.keep_kinds = keep_kinds
    reader = TarReader(stream)
    name = ""
    try:
        for entry in reader:
            name = entry.name
            if not devices and entry.kind in (CHAR, BLOCK_DEVICE):
                raise InvalidArgument(f"archive has a device node, which is not allowed here: {name[:200]!r}")
            applier.take(reader, entry)
        name = "folder times"
        applier.finish()
        reader.drain()
    except OSError as error:
        raise _meaning(error, name) from error
    finally:
        applier.close()
    return applier.written


def _meaning(error: OSError, name: str) -> Exception:
    found = no_space(error, name)
    if isinstance(found, NoSpace):
        return NoSpace("no space left on the disk that holds the images: remove images or containers and retry")
    text = f"cannot unpack {name[:200]!r} from the archive: {error.strerror or error}"
    return InvalidArgument(text) if error.errno in _NAME_ERRORS else System(text)


class _Applier:
    """One archive on its way into one root."""

    def __init__(
        self,
        root_fd: int,
        whiteouts: bool,
        merged: bool,
        lower: Lower | None,
        limits: Limits,
        owner: tuple[int, int] | None,
    ) -> None:
        self.written = 0
        self.keep_kinds = False
        self._root_fd = root_fd
        self._whiteouts = whiteouts
        self._merged = merged
        self._lower = lower
        self._owner = owner
        self._parents: dict[str, int] = {}
        self._times: dict[str, int] = {}
        self._mine: set[str] | None = set() if merged and whiteouts else None
        self._entries = limits.entries
        self._depth = limits.depth
        space = os.statvfs(root_fd)
        free = int(space.f_bavail * space.f_frsize * (1 - limits.spare))
        self._room = free if limits.size is None else min(free, limits.size)
        self._by_size = limits.size is not None and limits.size <= free
        # A folder with the setgid bit or a default ACL changes what new files get; then nothing may be skipped.
        self._inherits = bool(os.fstat(root_fd).st_mode & stat.S_ISGID)
        self._ids = (os.geteuid(), os.getegid())
        self._mask = _umask()

    def close(self) -> None:
        self._forget()

    def take(self, reader: TarReader, entry: Entry) -> None:
        """Make one entry real."""
        self._entries -= 1
        if self._entries < 0:
            raise InvalidArgument("archive has more entries than are allowed")
        parent, name = split_name(entry.name)
        if parent.count("/") >= self._depth:
            raise InvalidArgument(f"archive has a path that is too deep: {entry.name[:200]!r}")
        if not name:
            self._root(entry)
            return
        if self._whiteouts and name.startswith(WHITEOUT):
            self._whiteout(parent, name)
            return
        if self._mine is not None:
            self._claim(self._mine, f"{parent}/{name}" if parent else name)
        parent_fd = self._parent(parent)
        if entry.kind == FILE:
            self._file(reader, entry, parent_fd, parent, name)
        elif entry.kind == DIRECTORY:
            self._directory(entry, parent_fd, parent, name)
        elif entry.kind == HARDLINK:
            self._hardlink(entry, parent_fd, parent, name)
        else:
            self._special(entry, parent_fd, parent, name)

    def _claim(self, mine: set[str], path: str) -> None:
        """Note that `path` and the folders it lies in belong to this layer."""
        while path and path not in mine:
            mine.add(path)
            path = path.rpartition("/")[0]

    def finish(self) -> None:
        """Give folders the times they were stored with, which making their children has changed."""
        for path in sorted(self._times, reverse=True):
            when = self._times[path]
            if not path:
                os.utime(f"/proc/self/fd/{self._root_fd}", ns=(when, when))
                continue
            parent, _, name = path.rpartition("/")
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # replaced by a later entry
                os.utime(name, ns=(when, when), dir_fd=self._parent(parent, make=False), follow_symlinks=False)

    # ── the kinds ──

    def _file(self, reader: TarReader, entry: Entry, parent_fd: int, parent: str, name: str) -> None:
        stored = reader.left
        self._room -= stored
        if self._room < 0:
            if self._by_size:
                raise InvalidArgument("archive unpacks to more than the allowed size")
            raise NoSpace(
                "no space left on the disk: the archive unpacks to more than is free: "
                "remove images or containers and retry"
            )
        try:
            fd = os.open(name, _FILE_FLAGS, entry.mode & 0o777, dir_fd=parent_fd)
        except FileExistsError:
            self._clear(parent_fd, parent, name)
            fd = os.open(name, _FILE_FLAGS, entry.mode & 0o777, dir_fd=parent_fd)
        try:
            copy_data(reader, entry, fd)
            owner = self._owner or (entry.uid, entry.gid)
            chown = self._inherits or owner != self._ids
            if chown:
                os.fchown(fd, *owner)
            mode = entry.mode
            if self._inherits or mode & (0o7000 | self._mask):
                os.fchmod(fd, mode)
            for key, value in entry.xattrs.items():
                set_xattr(fd, key, value)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)
        self.written += stored

    def _directory(self, entry: Entry, parent_fd: int, parent: str, name: str) -> None:
        path = f"{parent}/{name}" if parent else name
        try:
            os.mkdir(name, 0o700, dir_fd=parent_fd)
        except FileExistsError:
            there = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
            if not stat.S_ISDIR(there.st_mode):
                if self.keep_kinds:
                    raise InvalidArgument(f"cannot overwrite non-directory {path!r} with directory") from None
                self._clear(parent_fd, parent, name)
                os.mkdir(name, 0o700, dir_fd=parent_fd)
                if _is_whiteout(there):  # the layer removes what was below and brings a new folder
                    _opaque(parent_fd, name)
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
        try:
            self._folder_metadata(entry, fd)
        except BaseException:
            os.close(fd)
            raise
        self._remember(path, fd)
        self._times[path] = entry.mtime_ns

    def _folder_metadata(self, entry: Entry, fd: int) -> None:
        os.fchown(fd, *(self._owner or (entry.uid, entry.gid)))
        os.fchmod(fd, entry.mode)
        for key, value in entry.xattrs.items():
            set_xattr(fd, key, value)
        if entry.mode & stat.S_ISGID or "system.posix_acl_default" in entry.xattrs:
            self._inherits = True

    def _hardlink(self, entry: Entry, parent_fd: int, parent: str, name: str) -> None:
        target_parent, target = split_name(entry.link)
        if not target:
            raise InvalidArgument(f"archive has a hard link to its root: {entry.name[:200]!r}")
        if (target_parent, target) == (parent, name):
            return
        try:
            source_fd = self._parent(target_parent, make=False)
            os.stat(target, dir_fd=source_fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            source_fd = self._copy_up(target_parent, target, entry)
            parent_fd = self._parent(parent)
        try:
            os.link(target, name, src_dir_fd=source_fd, dst_dir_fd=parent_fd, follow_symlinks=False)
        except FileExistsError:
            self._clear(parent_fd, parent, name)
            # Clearing may have closed every descriptor that was cached.
            source_fd, parent_fd = self._parent(target_parent, make=False), self._parent(parent)
            os.link(target, name, src_dir_fd=source_fd, dst_dir_fd=parent_fd, follow_symlinks=False)

    def _special(self, entry: Entry, parent_fd: int, parent: str, name: str) -> None:
        try:
            _make(entry, parent_fd, name)
        except FileExistsError:
            self._clear(parent_fd, parent, name)
            parent_fd = self._parent(parent)
            _make(entry, parent_fd, name)
        # Owner, then mode (chown takes setuid away), then attributes (chown takes capabilities away).
        os.chown(name, *(self._owner or (entry.uid, entry.gid)), dir_fd=parent_fd, follow_symlinks=False)
        if entry.kind != SYMLINK:
            chmod_at(parent_fd, name, entry.mode)
        for key, value in entry.xattrs.items():
            set_xattr(f"/proc/self/fd/{parent_fd}/{name}", key, value)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent_fd, follow_symlinks=False)

    def _root(self, entry: Entry) -> None:
        if entry.kind != DIRECTORY:
            raise InvalidArgument(f"archive has an entry that would replace its root: {entry.name[:200]!r}")
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._root_fd)
        try:
            self._folder_metadata(entry, fd)
        finally:
            os.close(fd)
        self._times[""] = entry.mtime_ns

    # ── whiteouts ──

    def _whiteout(self, parent: str, name: str) -> None:
        if name == OPAQUE:
            self._hide_all(parent)
            return
        if name.startswith(_META):
            return
        hidden = name[len(WHITEOUT) :]
        if hidden in ("", ".", ".."):
            raise InvalidArgument(f"archive has a whiteout of something outside its folder: {name!r}")
        if self._mine is not None:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                parent_fd = self._parent(parent, make=False)
                self._hide_below(parent_fd, parent, hidden)
            return
        parent_fd = self._parent(parent)
        try:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent_fd)
        except FileExistsError:
            # This layer's own; if it is a folder, the lower one of that name must not shine through.
            if stat.S_ISDIR(os.stat(hidden, dir_fd=parent_fd, follow_symlinks=False).st_mode):
                _opaque(parent_fd, hidden)

    def _hide_all(self, parent: str) -> None:
        """The folder shows nothing of lower layers."""
        if self._mine is None:
            os.setxattr(f"/proc/self/fd/{self._parent(parent)}", OPAQUE_XATTR, b"y")
            return
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            parent_fd = self._parent(parent, make=False)
            for child in os.listdir(f"/proc/self/fd/{parent_fd}"):
                self._hide_below(self._parent(parent, make=False), parent, child)

    def _hide_below(self, parent_fd: int, parent: str, name: str) -> None:
        """Delete `name` of the lower layers from a merged tree, keeping what this layer has put there."""
        path = f"{parent}/{name}" if parent else name
        if self._mine is None or path not in self._mine:
            self._clear(parent_fd, parent, name)
            return
        there = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        if stat.S_ISDIR(there.st_mode):
            fd = os.open(name, _DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=parent_fd)
            try:
                for child in os.listdir(f"/proc/self/fd/{fd}"):
                    self._hide_below(fd, path, child)
            finally:
                os.close(fd)

    # ── parents ──

    def _parent(self, path: str, make: bool = True) -> int:
        """The descriptor of the folder `path`; kept open for the entries that follow.

        A missing folder is made (0755, or like the lower layers' folder of that name).
        """
        if not path:
            return self._root_fd
        fd = self._parents.pop(path, None)
        if fd is not None:
            self._parents[path] = fd  # the one used last is dropped last
            return fd
        try:
            fd = openat2(self._root_fd, path, _DIRECTORY_FLAGS, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
        except (FileNotFoundError, NotADirectoryError):  # a whiteout is no folder either
            if not make:
                raise
            fd = self._make_parent(path)
        self._remember(path, fd)
        return fd

    def _remember(self, path: str, fd: int) -> None:
        """Keep `fd` of the folder `path` for the entries that follow, closing the one not used for longest."""
        before = self._parents.pop(path, None)
        if before is None and len(self._parents) >= _OPEN_PARENTS:
            before = self._parents.pop(next(iter(self._parents)))
        if before is not None:
            os.close(before)
        self._parents[path] = fd

    def _make_parent(self, path: str) -> int:
        if self._lower is not None and (real := self._lower.real_folder(path)) not in (None, path):
            # Lower layers have a symlink on the way (lib → usr/lib): the entry belongs where it points.
            assert real is not None
            return os.dup(self._parent(real))
        above, _, name = path.rpartition("/")
        parent_fd = self._parent(above)
        there = None
        with contextlib.suppress(FileNotFoundError):
            there = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        if there is not None:
            if not _is_whiteout(there):  # a symlink into nothing, or a file
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            os.unlink(name, dir_fd=parent_fd)
        os.mkdir(name, 0o755, dir_fd=parent_fd)
        if there is not None:
            _opaque(parent_fd, name)
        chmod_at(parent_fd, name, 0o755)
        if self._lower is not None and there is None:
            when = self._lower.copy_folder(path, parent_fd, name)
            if when is not None:
                self._times[path] = when
        return os.open(name, _DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=parent_fd)

    def _copy_up(self, parent: str, name: str, entry: Entry) -> int:
        """Bring the target of a hard link up from the lower layers; the descriptor of its folder."""
        if self._lower is not None:
            parent_fd = self._parent(parent)
            size = self._lower.copy_file(parent, name, parent_fd)
            if size is not None:
                self.written += size
                self._room -= size
                return parent_fd
        raise InvalidArgument(
            f"archive has a hard link {entry.name[:200]!r} to {entry.link[:200]!r}: there is no such file"
        )

    def _clear(self, parent_fd: int, parent: str, name: str) -> None:
        """Remove what is in the way; cached folders may have been in it or led through it."""
        path = f"{parent}/{name}" if parent else name
        if self.keep_kinds and stat.S_ISDIR(os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode):
            raise InvalidArgument(f"cannot overwrite directory {path!r} with non-directory")
        if remove_at(parent_fd, name):
            inside = path + "/"
            for known in [known for known in self._times if known == path or known.startswith(inside)]:
                del self._times[known]
            keep = self._parents.pop(parent, None)
            self._forget()
            if keep is not None:
                self._parents[parent] = keep

    def _forget(self) -> None:
        for fd in self._parents.values():
            os.close(fd)
        self._parents.clear()


def _make(entry: Entry, parent_fd: int, name: str) -> None:
    if entry.kind == SYMLINK:
        os.symlink(entry.link, name, dir_fd=parent_fd)
    elif entry.kind == FIFO:
        os.mknod(name, stat.S_IFIFO | 0o600, dir_fd=parent_fd)
    else:
        major, minor = entry.device
        if major >= 1 << 12 or minor >= 1 << 20:
            raise InvalidArgument(f"archive has a device number that does not exist: {major}:{minor}")
        kind = stat.S_IFCHR if entry.kind == CHAR else stat.S_IFBLK
        os.mknod(name, kind | 0o600, os.makedev(major, minor), dir_fd=parent_fd)


def _opaque(parent_fd: int, name: str) -> None:
    os.setxattr(f"/proc/self/fd/{parent_fd}/{name}", OPAQUE_XATTR, b"y", follow_symlinks=False)


def _is_whiteout(there: os.stat_result) -> bool:
    return stat.S_ISCHR(there.st_mode) and there.st_rdev == 0


def _umask() -> int:
    """The bits new files of this process lose; read from /proc, for os.umask would change it for every thread."""
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o777
