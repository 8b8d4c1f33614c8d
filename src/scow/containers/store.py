"""Containers on disk: ``<root>/containers/<id>/config.json``, one object per file, replaced atomically.

A folder without a readable config.json is what a crash during create or remove left: it is swept at `load`.
"""

import logging
import os
import shutil
from pathlib import Path

import msgspec

from scow.containers.container import ID_LENGTH, Record
from scow.errors import System
from scow.fileio import atomic_write, fsync_dir, no_space, sweep_temporaries

log = logging.getLogger("scow.containers")

CONFIG = "config.json"
#: Marks a folder as being removed; what is in it no longer counts.
DOOMED = ".removing"


def encode(record: Record) -> bytes:
    """The record as it is stored."""
    return msgspec.json.encode(record)


class Store:
    """Reads and writes records; blocking, one caller at a time per container."""

    def __init__(self, root: Path) -> None:
        self.root = root
        #: Ids of containers whose record cannot be read; what is theirs elsewhere must stay too.
        self.damaged: set[str] = set()
        root.mkdir(parents=True, exist_ok=True, mode=0o710)

    def folder(self, id: str) -> Path:  # noqa: A002
        """Where the container's files are."""
        return self.root / id

    def create(self, record: Record) -> None:
        """Make the folder and write the record durably.

        Raises:
            NoSpace, System: nothing is left behind.
        """
        folder = self.folder(record.id)
        try:
            folder.mkdir(mode=0o710)
            fsync_dir(self.root)
        except OSError as error:
            raise _failure(error, record.id, folder) from error
        self.write(record.id, encode(record))

    def write(self, id: str, data: bytes, *, durable: bool = True) -> None:  # noqa: A002
        """Replace the stored record by `data` (see `encode`): a reader sees the old one or the new one.

        One caller at a time per container.
        """
        try:
            atomic_write(self.folder(id) / CONFIG, data, durable=durable)
        except OSError as error:
            raise _failure(error, id, self.folder(id)) from error

    def remove(self, id: str) -> None:  # noqa: A002
        """Forget the container and delete its files; removing what is gone is not an error."""
        folder = self.folder(id)
        doomed = self.root / (id + DOOMED)
        if not folder.exists():
            return
        folder.rename(doomed)
        fsync_dir(self.root)
        shutil.rmtree(doomed, ignore_errors=True)

    def load(self) -> list[Record]:
        """Every stored record, oldest first; half-made and half-removed folders are swept.

        A record that cannot be read is left out and stays as it is; `damaged` knows its container's id.
        """
        records = []
        for entry in sorted(os.scandir(self.root), key=lambda item: item.name):
            if len(entry.name) != ID_LENGTH or not (Path(entry.path) / CONFIG).is_file():
                shutil.rmtree(entry.path, ignore_errors=True)
                continue
            sweep_temporaries(entry.path)
            try:
                records.append(msgspec.json.decode((Path(entry.path) / CONFIG).read_bytes(), type=Record))
            except (msgspec.DecodeError, OSError) as error:
                # Kept on disk for a person to look at; the other containers must not suffer for it.
                log.error("container %s is left out: its config.json cannot be read: %s", entry.name, error)
                self.damaged.add(entry.name)
        return sorted(records, key=lambda record: record.created)


def _failure(error: OSError, id: str, folder: Path) -> Exception:  # noqa: A002
    """The error of the taxonomy a failed write stands for."""
    found = no_space(error, folder)
    return found if found is not error else System(f"cannot save container {id} in {folder}: {error.strerror}")
