"""What both snapshotters share: one folder a snapshot, crash-safe.

::

    <root>/<n>/meta.json    {"name", "kind", "parent", "created"}: its rename is the commit
    <root>/<n>/fs           the tree, or what differs from the parents
    <root>/<n>/work         overlayfs's own
    <root>/<n>/usage        bytes of fs, once somebody asked for a committed one's
    <root>/new-<n>          half made; swept when the store is opened
    <root>/rm-<n>           removed, being deleted; swept too
    <root>/damaged-<n>      cannot be used, because its meta.json or what it was built upon is damaged

The map from names to folders is read once; the lock guards it and the renames, never the slow work.
"""

import contextlib
import datetime
import json
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from scow.errors import AlreadyExists, Conflict, NoSpace, NotFound, System
from scow.fileio import atomic_write, fsync_dir, no_space, sync_file, write_new
from scow.snapshots.removal import remove_at
from scow.snapshots.snapshotter import ACTIVE, COMMITTED, SnapshotInfo

log = logging.getLogger("scow.snapshots")

_NEW = "new-"
_TRASH = "rm-"
_DAMAGED = "damaged-"
_META = "meta.json"
_USAGE = "usage"


class SnapshotStore:
    """Names, folders and their life; how trees are stacked is the subclass's."""

    def __init__(self, root: Path) -> None:
        """Open the snapshots under `root` (made if missing) and sweep what a dead process left half done."""
        self.root = root
        self._lock = threading.RLock()
        self._folders: dict[str, int] = {}
        self._infos: dict[str, SnapshotInfo] = {}
        self._children: dict[str, int] = {}
        self._usage: dict[str, int] = {}
        self._unsynced: set[str] = set()
        self._next = 1
        os.makedirs(root, mode=0o700, exist_ok=True)
        self._load()

    # ── the contract ──

    def prepare(self, key: str, parent: str | None, durable: bool = True) -> None:
        """See `Snapshotter.prepare`."""
        with self._lock:
            if key in self._infos:
                raise AlreadyExists(f"snapshot {key} already exists")
            if parent is not None and self._known(parent).kind != COMMITTED:
                raise NotFound(f"snapshot {parent} is not committed: only a finished snapshot can be built upon")
            number = self._next
            self._next += 1
            if parent is not None:  # from now on the parent cannot be removed
                self._children[parent] = self._children.get(parent, 0) + 1
        made = os.path.join(self.root, f"{_NEW}{number}")
        info = SnapshotInfo(key, ACTIVE, parent, _now())
        try:
            self._make(made, info, durable)
            with self._lock:
                if key in self._infos:
                    raise AlreadyExists(f"snapshot {key} already exists")
                os.rename(made, os.path.join(self.root, str(number)))
                self._folders[key] = number
                self._infos[key] = info
                if not durable:
                    self._unsynced.add(key)
            if durable:
                fsync_dir(self.root)
        except BaseException as error:
            with self._lock:
                if parent is not None and self._folders.get(key) != number:
                    self._release(parent)
            self._delete(f"{_NEW}{number}")
            if isinstance(error, OSError):
                raise _failed(error, f"cannot make snapshot {key}") from error
            raise

    def sync(self, key: str) -> None:
        """See `Snapshotter.sync`."""
        with self._lock:
            if key not in self._unsynced:
                return
            self._unsynced.discard(key)
            folder = self._folder(key)
        try:
            sync_file(os.path.join(folder, _META))
            fsync_dir(folder)
            fsync_dir(self.root)
        except FileNotFoundError:
            return  # removed meanwhile
        except OSError as error:
            with self._lock:
                self._unsynced.add(key)
            raise _failed(error, f"cannot save snapshot {key}") from error

    def commit(self, name: str, key: str) -> None:
        """See `Snapshotter.commit`."""
        self.sync(key)
        with self._lock:
            info = self._known(key)
            if info.kind != ACTIVE:
                raise NotFound(f"snapshot {key} is not active: it cannot be committed again")
            taken = name in self._infos
            if not taken:
                done = SnapshotInfo(name, COMMITTED, info.parent, info.created)
                number = self._folders[key]
                try:
                    _write(os.path.join(self.root, str(number)), done)
                except OSError as error:
                    raise _failed(error, f"cannot commit snapshot {name}") from error
                del self._infos[key], self._folders[key]
                self._infos[name] = done
                self._folders[name] = number
                self._usage.pop(key, None)
        if taken:
            self.remove(key)
            raise AlreadyExists(f"snapshot {name} already exists")

    def remove(self, key_or_name: str) -> None:
        """See `Snapshotter.remove`."""
        self.discard(key_or_name)()

    def discard(self, key_or_name: str) -> Callable[[], None]:
        """See `Snapshotter.discard`."""
        with self._lock:
            info = self._known(key_or_name)
            if self._children.get(key_or_name):
                raise Conflict(f"snapshot {key_or_name} is in use: remove what is built upon it first")
            number = self._folders[key_or_name]
            try:
                os.rename(os.path.join(self.root, str(number)), os.path.join(self.root, f"{_TRASH}{number}"))
            except OSError as error:
                raise _failed(error, f"cannot remove snapshot {key_or_name}") from error
            del self._infos[key_or_name], self._folders[key_or_name]
            self._usage.pop(key_or_name, None)
            self._unsynced.discard(key_or_name)
            if info.parent is not None:
                self._release(info.parent)
        return lambda: self._delete(f"{_TRASH}{number}")

    def info(self, key_or_name: str) -> SnapshotInfo:
        """See `Snapshotter.info`."""
        with self._lock:
            return self._known(key_or_name)

    def exists(self, key_or_name: str) -> bool:
        """See `Snapshotter.exists`."""
        with self._lock:
            return key_or_name in self._infos

    def walk(self) -> Iterator[SnapshotInfo]:
        """See `Snapshotter.walk`."""
        with self._lock:
            infos = sorted(self._infos.values(), key=lambda info: self._folders[info.name])
        yield from infos

    def upper(self, key_or_name: str) -> Path:
        """See `Snapshotter.upper`."""
        return Path(self._folder(key_or_name), "fs")

    def usage(self, key_or_name: str) -> int:
        """See `Snapshotter.usage`; a committed snapshot is measured once, also across restarts."""
        with self._lock:
            kind = self._known(key_or_name).kind
            known = self._usage.get(key_or_name)
            folder = self._folder(key_or_name)
        if known is not None:
            return known
        note = os.path.join(folder, _USAGE)
        with contextlib.suppress(OSError, ValueError), open(note, "rb") as file:
            known = int(file.read(32))
        if known is None or kind != COMMITTED:
            known = tree_usage(os.path.join(folder, "fs"))
            if kind == COMMITTED:
                with contextlib.suppress(OSError, NoSpace):  # removed meanwhile, or a full disk: measured again
                    atomic_write(note, b"%d" % known, durable=False)
        if kind == COMMITTED:
            with self._lock:
                self._usage[key_or_name] = known
        return known

    def chain(self, key_or_name: str) -> list[str]:
        """The snapshot and its parents, topmost first."""
        with self._lock:
            found: list[str] = []
            name: str | None = key_or_name
            while name is not None:
                found.append(name)
                name = self._known(name).parent
            return found

    # ── for subclasses ──

    def _fill(self, made: str, info: SnapshotInfo) -> None:
        """Put into the new folder `made` what the driver needs beside an empty ``fs``."""

    def _folder(self, key_or_name: str) -> str:
        with self._lock:
            self._known(key_or_name)
            return os.path.join(self.root, str(self._folders[key_or_name]))

    def _known(self, name: str) -> SnapshotInfo:
        try:
            return self._infos[name]
        except KeyError:
            raise NotFound(f"snapshot {name} does not exist") from None

    # ── the disk ──

    def _make(self, made: str, info: SnapshotInfo, durable: bool) -> None:
        os.mkdir(made, 0o700)
        fs = os.path.join(made, "fs")
        os.mkdir(fs, 0o755)
        if info.parent is None:  # else it looks like the parent's, see `_fill`
            os.chmod(fs, 0o755)
        self._fill(made, info)
        write_new(os.path.join(made, _META), _encode(info), durable=durable)
        if durable:
            fsync_dir(made)

    def _release(self, parent: str) -> None:
        left = self._children.get(parent, 0) - 1
        if left > 0:
            self._children[parent] = left
        else:
            self._children.pop(parent, None)

    def _delete(self, folder: str) -> None:
        """Delete a renamed folder; what cannot be deleted now is swept at the next start."""
        root_fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):
                remove_at(root_fd, folder)
        finally:
            os.close(root_fd)

    def _load(self) -> None:
        found: list[tuple[int, SnapshotInfo]] = []
        for entry in os.listdir(self.root):
            if entry.startswith((_NEW, _TRASH)):
                self._delete(entry)
            elif entry.isdecimal():
                self._next = max(self._next, int(entry) + 1)
                info = _read(os.path.join(self.root, entry))
                if info is None:
                    self._set_aside(entry, "its meta.json cannot be read")
                else:
                    found.append((int(entry), info))
        names = {info.name for _, info in found}
        for number, info in sorted(found, key=lambda pair: pair[0]):
            # A child outlives its parent only if somebody deleted folders by hand, or the parent is damaged.
            if info.name in self._infos or (info.parent is not None and info.parent not in names):
                self._set_aside(str(number), "another has its name, or what it is built upon is gone")
                names.discard(info.name)
                continue
            self._infos[info.name] = info
            self._folders[info.name] = number
            if info.parent is not None:
                self._children[info.parent] = self._children.get(info.parent, 0) + 1

    def _set_aside(self, folder: str, why: str) -> None:
        """Leave out a folder that cannot be used; it may hold somebody's only copy, so it is kept to be looked at."""
        kept = os.path.join(self.root, f"{_DAMAGED}{folder}")
        log.error("snapshot %s is left out: %s: it is kept as %s", folder, why, kept)
        with contextlib.suppress(OSError):
            os.rename(os.path.join(self.root, folder), kept)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")


def _encode(info: SnapshotInfo) -> bytes:
    document = {"name": info.name, "kind": info.kind, "parent": info.parent, "created": info.created}
    return json.dumps(document).encode()


def _write(folder: str, info: SnapshotInfo) -> None:
    atomic_write(os.path.join(folder, _META), _encode(info))


def _read(folder: str) -> SnapshotInfo | None:
    try:
        with open(os.path.join(folder, _META), "rb") as file:
            found = json.load(file)
        name, kind, parent, created = (found[key] for key in ("name", "kind", "parent", "created"))
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None
    if not isinstance(parent, str | None) or not all(isinstance(text, str) for text in (name, kind, created)):
        return None
    return SnapshotInfo(name, kind, parent, created)


def _failed(error: OSError, what: str) -> Exception:
    found = no_space(error, error.filename or what)
    return found if found is not error else System(f"{what}: {error.strerror}")


def tree_usage(path: str) -> int:
    """Bytes on disk below `path`, a file with several names once; what vanishes meanwhile is not counted."""
    total = 0
    seen: set[tuple[int, int]] = set()
    pending = [path]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        for entry in entries:
            try:
                info = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(info.st_mode):
                pending.append(entry.path)
            elif info.st_nlink > 1:
                if (info.st_dev, info.st_ino) in seen:
                    continue
                seen.add((info.st_dev, info.st_ino))
            total += info.st_blocks * 512
    return total
