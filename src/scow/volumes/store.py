"""Volumes on disk: ``<root>/<name>/{_data, volume.json}``.

A volume exists once its record does. One that is removed is renamed first and deleted afterwards, so that it is whole
or gone; leftovers of a daemon that died in between are swept on opening.
"""

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from scow.errors import DataLoss, NoSpace
from scow.fileio import atomic_write, fsync_dir, sweep_temporaries
from scow.volumes.mounts import VOLUME_NAME
from scow.volumes.volume import Volume

log = logging.getLogger("scow.volumes")

RECORD = "volume.json"
DATA = "_data"
_TRASH = ".removed-"
_MAX_RECORD = 1 << 20


class VolumeStore:
    """The folders of all volumes, below the room's own folder. Blocking."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        # Other users may pass through, so that a container's user finds its files; they cannot list.
        os.makedirs(self._root, 0o701, exist_ok=True)

    def mountpoint(self, name: str) -> str:
        """Where a volume's data lies."""
        return f"{self._root}/{name}/{DATA}"

    def load(self) -> Iterator[Volume]:
        """Every volume; leftovers are swept, damaged records reported."""
        for name in sorted(os.listdir(self._root)):
            if name.startswith(_TRASH):
                shutil.rmtree(f"{self._root}/{name}", ignore_errors=True)
                continue
            if not VOLUME_NAME.fullmatch(name):
                continue
            volume = self._load(name)
            if volume is not None:
                yield volume

    def _load(self, name: str) -> Volume | None:
        folder = f"{self._root}/{name}"
        try:
            sweep_temporaries(folder)
            with open(f"{folder}/{RECORD}", "rb") as file:
                return Volume.from_json(name, self.mountpoint(name), json.loads(file.read(_MAX_RECORD)))
        except FileNotFoundError:
            # Died while making it: nobody was told that it exists, so nothing is in it.
            with contextlib.suppress(OSError):
                os.rmdir(self.mountpoint(name))
                os.rmdir(folder)
        except (ValueError, RecursionError, DataLoss) as error:
            return self._mended(name, error)
        except OSError as error:
            log.error("volume %s is left out: %s", name, error)
        return None

    def _mended(self, name: str, error: Exception) -> Volume | None:
        """The data of a volume whose record is damaged stays in use; its labels and options are lost."""
        record = f"{self._root}/{name}/{RECORD}"
        log.error("volume %s: %s: kept as a plain volume, the old record is %s.damaged", name, error, record)
        try:
            volume = Volume(name, self.mountpoint(name), os.stat(record).st_mtime_ns)
            os.rename(record, f"{record}.damaged")
            self.make(volume)
        except (OSError, NoSpace) as failure:
            log.error("volume %s is left out: %s", name, failure)
            return None
        return volume

    def make(self, volume: Volume) -> None:
        """Have the folders and, last, the record."""
        folder = f"{self._root}/{volume.name}"
        os.makedirs(folder, 0o701, exist_ok=True)
        os.makedirs(f"{folder}/{DATA}", 0o755, exist_ok=True)
        atomic_write(f"{folder}/{RECORD}", json.dumps(volume.to_json()).encode())
        fsync_dir(self._root)

    def clear(self, path: str) -> None:
        """Delete a folder of ours that may be there."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)

    def remove(self, volume: Volume) -> None:
        """Make a volume and everything in it disappear."""
        trash = f"{self._root}/{_TRASH}{volume.name}"
        shutil.rmtree(trash, ignore_errors=True)
        os.rename(f"{self._root}/{volume.name}", trash)
        fsync_dir(self._root)
        shutil.rmtree(trash, ignore_errors=True)


def disk_usage(path: str) -> int:
    """Bytes that the files below `path` take on disk; hard links count once, other file systems not at all."""
    seen: set[int] = set()
    total = 0
    try:
        device = os.stat(path).st_dev
    except OSError:
        return 0
    folders = [path]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if status.st_dev != device or (status.st_nlink > 1 and status.st_ino in seen):
                        continue
                    seen.add(status.st_ino)
                    total += status.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except OSError:
            continue  # it vanished, or is not ours to read
    return total
