"""Volumes: storage that outlives containers.

Owns its folder under the data root. Who uses a volume is kept in memory only: containers say so with `acquire` when
they are created or restored, and `release` when they are removed. Everything here is blocking and safe from any thread.
"""

import logging
import os
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from scow.api.filters import Filters
from scow.errors import Conflict, NoSuchVolume, NotFound, System
from scow.events import Bus
from scow.fileio import no_space
from scow.linux import mount as kernel
from scow.volumes import copyup
from scow.volumes.drivers import local
from scow.volumes.mounts import check_volume_name
from scow.volumes.store import VolumeStore, disk_usage
from scow.volumes.volume import ANONYMOUS, LOCAL, Volume

log = logging.getLogger("scow.volumes")

FILTERS = ("dangling", "driver", "label", "label!", "name")
PRUNE_FILTERS = ("all", "label", "label!")


class Volumes:
    """Every volume of one engine."""

    def __init__(self, root: Path, events: Bus | None = None) -> None:
        self._store = VolumeStore(root)
        self._events = events
        self._lock = threading.RLock()
        self._volumes = {volume.name: volume for volume in self._store.load()}
        self._users: dict[str, set[str]] = {}
        #: Mounts of volumes that are no folder, held from the first use until the last user is gone.
        self._held: dict[str, int] = {}

    def create(
        self,
        name: str | None = None,
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """Make a volume; one of that name that is there already is returned as it is.

        Args:
            name: None or "" for an anonymous one with a name of 64 hex digits.

        Raises:
            InvalidArgument: a bad name or option.
            NotFound: there is no such driver.
            Conflict: the name belongs to a volume of another driver.
            NoSpace: the disk is full.
        """
        found_labels = dict(labels or {})
        if not name:
            name = secrets.token_hex(32)
            found_labels.setdefault(ANONYMOUS, "")
        check_volume_name(name)
        if (driver or LOCAL) != LOCAL:
            raise NotFound(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')
        local.check_options(name, options or {})
        with self._lock:
            known = self._volumes.get(name)
            if known is not None:
                return known
            volume = Volume(
                name, self._store.mountpoint(name), time.time_ns(), LOCAL, found_labels, dict(options or {})
            )
            try:
                self._store.make(volume)
            except OSError as error:
                raise no_space(error, volume.mountpoint) from error
            self._volumes[name] = volume
        self._tell("create", volume)
        return volume

    def ensure(
        self,
        name: str | None,
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        *,
        by: str = "",
    ) -> Volume:
        """`create` and, with `by`, `acquire` in one step, so that no prune comes between."""
        with self._lock:
            volume = self.create(name, driver, options, labels)
            if by:
                self.acquire(volume.name, by)
            return volume

    def get(self, name: str) -> Volume:
        """The volume of that name.

        Raises:
            NoSuchVolume: there is none.
        """
        with self._lock:
            volume = self._volumes.get(name)
        if volume is None:
            raise NoSuchVolume(name)
        return volume

    def list(self, filters: Filters | None = None) -> Sequence[Volume]:
        """Every volume that passes the filters, by name."""
        chosen = Filters() if filters is None else filters
        chosen.require(FILTERS)
        with self._lock:
            found = sorted(self._volumes.values(), key=lambda volume: volume.name)
            used = {name for name, users in self._users.items() if users}
        if "dangling" in chosen:
            wanted = chosen.boolean("dangling", False)
            found = [volume for volume in found if (volume.name not in used) == wanted]
        return [
            volume
            for volume in found
            if chosen.exact("driver", volume.driver)
            and chosen.pattern("name", volume.name)
            and chosen.labels(volume.labels)
        ]

    def remove(self, name: str, force: bool = False) -> None:
        """Delete a volume and what is in it.

        Args:
            force: it is no error that there is none.

        Raises:
            NoSuchVolume: there is none.
            Conflict: containers use it.
        """
        with self._lock:
            volume = self._volumes.get(name)
            if volume is None:
                if force:
                    return
                raise NoSuchVolume(name)
            users = self._users.get(name)
            if users:
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(sorted(users))}]")
            try:
                self._store.remove(volume)
            except OSError as error:
                raise System(f"remove {name}: {error.strerror}") from error
            del self._volumes[name]
        self._tell("destroy", volume)

    def prune(self, filters: Filters | None = None) -> tuple[Sequence[str], int]:
        """Delete volumes nobody uses: anonymous ones, or all with the filter ``all``; (names, bytes reclaimed)."""
        chosen = Filters() if filters is None else filters
        chosen.require(PRUNE_FILTERS)
        everything = chosen.boolean("all", False)
        removed = []
        reclaimed = 0
        for volume in self.list():
            if not (everything or volume.anonymous) or not chosen.labels(volume.labels) or self.users(volume.name):
                continue
            size = self.usage(volume)
            try:
                self.remove(volume.name)
            except (Conflict, NoSuchVolume):
                continue  # somebody was faster
            except System as error:
                log.warning("%s", error)
                continue
            removed.append(volume.name)
            reclaimed += max(size, 0)
        if self._events is not None:
            self._events.publish("volume", "prune", "", {"reclaimed": str(reclaimed)})
        return removed, reclaimed

    def acquire(self, name: str, by: str) -> Volume:
        """Note that `by` (a container's id) uses the volume.

        Raises:
            NoSuchVolume: there is none.
        """
        with self._lock:
            volume = self.get(name)
            self._users.setdefault(name, set()).add(by)
            return volume

    def release(self, by: str) -> None:
        """Note that `by` uses nothing any more."""
        with self._lock:
            for name, users in list(self._users.items()):
                users.discard(by)
                if not users:
                    del self._users[name]
                    held_fd = self._held.pop(name, None)
                    if held_fd is not None:
                        os.close(held_fd)

    def users(self, name: str) -> frozenset[str]:
        """Who uses a volume."""
        with self._lock:
            return frozenset(self._users.get(name, ()))

    def path(self, name: str) -> Path:
        """The folder that is the volume; of one that is mounted for its users only, a path by this process's
        descriptor, good while the volume is in use and the engine runs: ask again at every start.

        Raises:
            NoSuchVolume: there is none.
            System: it cannot be mounted.
        """
        volume = self.get(name)
        folder = local.source(volume)
        if folder is not None:
            return Path(folder)
        with self._lock:
            return Path(f"/proc/{os.getpid()}/fd/{self._hold(volume)}")

    def open(self, name: str) -> int:
        """A detached mount of the volume, to be attached in a container; the caller closes it.

        Raises:
            NoSuchVolume: there is none.
            System: it cannot be mounted.
        """
        volume = self.get(name)
        folder = local.source(volume)
        if folder is not None:
            return local.open_folder(volume, folder)
        with self._lock:
            try:
                return kernel.clone_tree(self._hold(volume))
            except OSError as error:
                raise System(
                    f"volume {name} cannot be shared: {error.strerror}: volumes of type {volume.options.get('type')} "
                    "need Linux 6.15, mount it on the host and bind the folder"
                ) from error

    def _hold(self, volume: Volume) -> int:
        if volume.name not in self._held:
            self._held[volume.name] = local.open_mount(volume)
        return self._held[volume.name]

    def copy_up(self, name: str, rootfs_fd: int, path: str) -> bool:
        """Fill an empty volume with what the container's root has at `path`; whether anything was copied.

        Owner and mode of the folder are taken too. An interrupted copy leaves an empty volume, unless somebody else has
        it mounted: then files appear one by one.

        Raises:
            NoSpace: the disk is full.
            System: a file cannot be copied.
        """
        volume = self.get(name)
        with self._lock:
            try:
                source_fd = copyup.open_source(rootfs_fd, path)
                if source_fd is None:
                    return False
                try:
                    return self._copy(volume, source_fd)
                finally:
                    os.close(source_fd)
            except OSError as error:
                raise System(f"failed to copy {path} of the image into volume {name}: {error.strerror}") from error

    def _copy(self, volume: Volume, source_fd: int) -> bool:
        target_fd = self._target(volume)
        try:
            if not copyup.is_empty(target_fd):
                return False
            if volume.options or len(self._users.get(volume.name, ())) > 1:
                copyup.copy_tree(source_fd, target_fd)
                return True
        finally:
            os.close(target_fd)
        aside = f"{volume.mountpoint}.new"
        self._store.clear(aside)
        os.mkdir(aside, 0o700)
        aside_fd = os.open(aside, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            copyup.copy_tree(source_fd, aside_fd)
        finally:
            os.close(aside_fd)
        os.rename(aside, volume.mountpoint)
        return True

    def _target(self, volume: Volume) -> int:
        folder = local.source(volume)
        if folder is None:
            return self.open(volume.name)
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def usage(self, volume: Volume) -> int:
        """Bytes a volume takes on disk; -1 for one that is not a folder of ours."""
        return -1 if volume.options else disk_usage(volume.mountpoint)

    def close(self) -> None:
        """Let go of mounts held for nobody but us."""
        with self._lock:
            for fd in self._held.values():
                os.close(fd)
            self._held.clear()

    def _tell(self, action: str, volume: Volume) -> None:
        if self._events is not None:
            self._events.publish("volume", action, volume.name, {"driver": volume.driver})
