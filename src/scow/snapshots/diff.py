"""What a snapshot changed against its parent: as an OCI layer, and as the list ``docker diff`` shows.

Two ways to find out. An overlay upper directory *is* the difference: whiteouts are 0:0 character devices, opaque
folders carry an attribute. A merged tree (and an upper directory in which the kernel has used redirects, which name
other layers' folders) is compared with its parent, file by file. Both end in the same layer.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from scow.snapshots.apply import OPAQUE, OPAQUE_XATTR, WHITEOUT
from scow.snapshots.copyup import xattrs_of
from scow.snapshots.snapshotter import Snapshotter
from scow.snapshots.tarstream import DIRECTORY, Entry
from scow.snapshots.tarwriter import TarWriter
from scow.snapshots.tree import Links, add_at, entry_at, walk

MODIFIED, ADDED, DELETED = 0, 1, 2
_REDIRECTS = ("trusted.overlay.redirect", "trusted.overlay.metacopy")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """One line of ``docker diff``: absolute path and kind (0 modified, 1 added, 2 deleted)."""

    path: str
    kind: int


def write_diff(snapshotter: Snapshotter, key: str, out: Callable[[bytes], object]) -> None:
    """Write what `key` changed as an uncompressed layer to `out`.

    Deterministic: names in byte order, times in whole seconds, pax records only where needed. Sockets are left out.
    The root folder is there only if its owner, mode or attributes changed.

    Raises:
        NotFound: no such snapshot.

    Blocking.
    Source: image-spec 1.1 layer.md.
    """
    with _Trees(snapshotter, key) as trees:
        writer = TarWriter(out)
        if trees.root_changed():
            writer.add(trees.root_entry())
        links: Links = {}
        for item in trees.items():
            if item.gone:
                writer.add(_marker(item.path, item.name, item.folder_fd))
                continue
            try:
                assert item.info is not None
                entry = entry_at(item.folder_fd, item.name, item.path, item.info, links)
                if entry is not None:
                    add_at(writer, item.folder_fd, item.name, entry, item.info)
            except FileNotFoundError:
                continue
            if item.opaque:
                writer.add(Entry(f"{item.path}/{OPAQUE}", mode=0o600, mtime_ns=entry.mtime_ns if entry else 0))
        writer.close()


def changes(snapshotter: Snapshotter, key: str) -> list[Change]:
    """What `key` changed, sorted by path; folders on the way to a change count as modified.

    Raises:
        NotFound: no such snapshot.

    Blocking.
    """
    found: dict[str, int] = {}
    with _Trees(snapshotter, key) as trees:
        for item in trees.items():
            path = "/" + item.path
            if item.gone:
                found[path] = DELETED
            else:
                assert item.info is not None
                there = trees.lower_stat(item.path)
                both_folders = there is not None and stat.S_ISDIR(there.st_mode) and stat.S_ISDIR(item.info.st_mode)
                if there is None:
                    found[path] = ADDED
                elif item.opaque and both_folders:
                    found[path] = MODIFIED
                    found.update((f"{path}/{name}", DELETED) for name in trees.hidden(item.path))
                elif not both_folders or _differ(there, item.info):
                    found[path] = MODIFIED
                else:
                    continue
            above = os.path.dirname(path)
            while above != "/" and above not in found:
                found[above] = MODIFIED
                above = os.path.dirname(above)
    return sorted(Change(path, kind) for path, kind in found.items())


@dataclass(frozen=True, slots=True)
class _Item:
    """One difference: something present (`info`), or gone."""

    folder_fd: int
    name: str
    path: str
    info: os.stat_result | None
    opaque: bool = False

    @property
    def gone(self) -> bool:
        return self.info is None


class _Trees:
    """A snapshot beside its parent; use with ``with``."""

    def __init__(self, snapshotter: Snapshotter, key: str) -> None:
        self._snapshotter = snapshotter
        self._key = key
        self._parent = snapshotter.info(key).parent
        self._lower_fd: int | None = None
        self._fds: list[int] = []

    def __enter__(self) -> "_Trees":
        try:
            self._upper_fd = self._keep(os.open(self._snapshotter.upper(self._key), _FOLDER))
            if self._parent is not None:
                self._lower_fd = self._keep(self._snapshotter.mount(self._parent, readonly=True))
            self._compare = self._snapshotter.merged or self._redirected()
            if self._compare and not self._snapshotter.merged:
                self._upper_fd = self._keep(self._snapshotter.mount(self._key, readonly=True))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        while self._fds:
            os.close(self._fds.pop())

    def items(self) -> Iterator[_Item]:
        """The differences, folders before what is in them."""
        return self._compared() if self._compare else self._upper()

    def root_changed(self) -> bool:
        """Whether owner, mode or attributes of the root differ from the parent's (or from a new root's)."""
        mine = _look(self._upper_fd)
        return mine != (_look(self._lower_fd) if self._lower_fd is not None else (0o755, 0, 0, {}))

    def root_entry(self) -> Entry:
        """The entry of the root folder."""
        info = os.fstat(self._upper_fd)
        mode, uid, gid, xattrs = _look(self._upper_fd)
        return Entry("./", DIRECTORY, mode, uid, gid, mtime_ns=info.st_mtime_ns // 10**9 * 10**9, xattrs=xattrs)

    def lower_stat(self, path: str) -> os.stat_result | None:
        """lstat of `path` in the parent; None if it is not there."""
        if self._lower_fd is None:
            return None
        try:
            # Every folder on the way exists in the snapshot as a folder; in the parent it may be a symlink.
            return _stat_below(self._lower_fd, path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def hidden(self, path: str) -> list[str]:
        """Names the parent's folder `path` has and the snapshot's opaque one has not."""
        if self._lower_fd is None:
            return []
        return sorted(_names(self._lower_fd, path) - _names(self._upper_fd, path))

    def _keep(self, fd: int) -> int:
        self._fds.append(fd)
        return fd

    def _redirected(self) -> bool:
        """Whether the kernel has noted moves instead of copying, which a module parameter allows it."""
        if not any(_parameter(name) for name in ("redirect_dir", "metacopy")):
            return False
        for folder_fd, name, _, info in walk(self._upper_fd):
            if stat.S_ISDIR(info.st_mode) or (stat.S_ISREG(info.st_mode) and not info.st_blocks and info.st_size):
                try:
                    names = os.listxattr(f"/proc/self/fd/{folder_fd}/{name}", follow_symlinks=False)
                except OSError:
                    continue
                if any(redirect in names for redirect in _REDIRECTS):
                    return True
        return False

    def _upper(self) -> Iterator[_Item]:
        for folder_fd, name, path, info in walk(self._upper_fd):
            if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
                yield _Item(folder_fd, name, path, None)
            else:
                yield _Item(folder_fd, name, path, info, stat.S_ISDIR(info.st_mode) and _is_opaque(folder_fd, name))

    def _compared(self) -> Iterator[_Item]:
        """Walk the whole tree; a folder that did not change itself waits until something below it did."""
        waiting: list[tuple[str, os.stat_result]] = []
        for folder_fd, name, path, info in walk(self._upper_fd):
            while waiting and not path.startswith(waiting[-1][0] + "/"):
                waiting.pop()
            there = self.lower_stat(path)
            gone: list[str] = []
            if there is not None and stat.S_ISDIR(info.st_mode) and stat.S_ISDIR(there.st_mode):
                gone = self.hidden(path)
            if not gone and there is not None and self._same(folder_fd, name, path, info, there):
                if stat.S_ISDIR(info.st_mode):
                    waiting.append((path, info))
                continue
            for above, above_info in waiting:
                fd = _open_below(self._upper_fd, os.path.dirname(above))
                try:
                    yield _Item(fd, os.path.basename(above), above, above_info)
                finally:
                    os.close(fd)
            waiting.clear()
            yield _Item(folder_fd, name, path, info)
            for lost in gone:
                yield _Item(folder_fd, lost, f"{path}/{lost}", None)
        for lost in self.hidden(""):
            yield _Item(self._upper_fd, lost, lost, None)

    def _same(self, folder_fd: int, name: str, path: str, mine: os.stat_result, its: os.stat_result) -> bool:
        if stat.S_IFMT(mine.st_mode) != stat.S_IFMT(its.st_mode) or _differ(mine, its):
            return False
        assert self._lower_fd is not None
        if stat.S_ISLNK(mine.st_mode) and os.readlink(name, dir_fd=folder_fd) != os.readlink(
            path, dir_fd=self._lower_fd
        ):
            return False
        here, there = f"/proc/self/fd/{folder_fd}/{name}", f"/proc/self/fd/{self._lower_fd}/{path}"
        return xattrs_of(here) == xattrs_of(there)


def _parameter(name: str) -> bool:
    try:
        with open(f"/sys/module/overlay/parameters/{name}", "rb") as file:
            return file.read(1) == b"Y"
    except OSError:
        return True


def _differ(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether lstat alone shows a change; content with the same size and time is taken for the same."""
    fields = [(x.st_mode, x.st_uid, x.st_gid, x.st_rdev, x.st_mtime_ns) for x in (one, other)]
    return fields[0] != fields[1] or (not stat.S_ISDIR(one.st_mode) and one.st_size != other.st_size)


def _marker(path: str, name: str, folder_fd: int) -> Entry:
    above = path[: len(path) - len(name)]
    return Entry(f"{above}{WHITEOUT}{name}", mode=0o600)


def _look(fd: int) -> tuple[int, int, int, dict[str, bytes]]:
    path = f"/proc/self/fd/{fd}/."
    info = os.stat(path)
    return stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, xattrs_of(path)


def _is_opaque(folder_fd: int, name: str) -> bool:
    try:
        return os.getxattr(f"/proc/self/fd/{folder_fd}/{name}", OPAQUE_XATTR, follow_symlinks=False) == b"y"
    except OSError:
        return False


def _open_below(root_fd: int, path: str) -> int:
    fd = os.open(".", _FOLDER, dir_fd=root_fd)
    for part in path.split("/") if path else ():
        try:
            inner = os.open(part, _FOLDER, dir_fd=fd)
        finally:
            os.close(fd)
        fd = inner
    return fd


def _stat_below(root_fd: int, path: str) -> os.stat_result:
    above, _, name = path.rpartition("/")
    fd = _open_below(root_fd, above)
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    finally:
        os.close(fd)


def _names(root_fd: int, path: str) -> set[str]:
    try:
        fd = _open_below(root_fd, path)
    except (FileNotFoundError, NotADirectoryError, OSError):
        return set()
    try:
        return set(os.listdir(fd))
    finally:
        os.close(fd)
