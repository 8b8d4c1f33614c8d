"""Containers on disk: ``<root>/containers/<id>/config.json``, one object per file, replaced atomically.

A folder appears under its id whole, and goes by one rename; what a crash left of another name is swept at `load`.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from scow.containers.container import ID_LENGTH, Record
from scow.errors import NoSpace, System
from scow.fileio import atomic_write, fsync_dir, no_space, sweep_temporaries, write_new
from scow.snapshots.removal import remove_at

log = logging.getLogger("scow.containers")

CONFIG = "config.json"
#: Marks a folder that is not a container yet.
MADE = ".new"
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

    def create(self, record: Record, files: Mapping[str, bytes]) -> None:
        """Make the folder and write the record, durably: one fsync for the record, one for the folder's name.

        Args:
            files: what else is in the folder, by name; made anew at every start, so not worth a sync.

        Raises:
            NoSpace, System: nothing is left behind.
        """
        made = self.root / (record.id + MADE)
        try:
            made.mkdir(mode=0o710)
            # A new file's own name is durable with it, as far as any file system of Linux is concerned.
            for name, content in files.items():
                write_new(made / name, content, mode=0o644, durable=False)
            write_new(made / CONFIG, encode(record))
            made.rename(self.folder(record.id))
            fsync_dir(self.root)
        except (OSError, NoSpace) as error:
            shutil.rmtree(made, ignore_errors=True)
            raise _failure(error, record.id, self.root) from error

    def write(self, id: str, data: bytes, *, durable: bool = True) -> None:  # noqa: A002
        """Replace the stored record by `data` (see `encode`): a reader sees the old one or the new one.

        One caller at a time per container.
        """
        try:
            atomic_write(self.folder(id) / CONFIG, data, durable=durable)
        except OSError as error:
            raise _failure(error, id, self.folder(id)) from error

    def doom(self, id: str) -> None:  # noqa: A002
        """Forget the container: from now on its folder is rubbish. Dooming what is gone is not an error.

        Not synced: a power cut may bring the container back, which its user can remove again.

        Raises:
            System: the kernel refused; nothing has changed.
        """
        try:
            self.folder(id).rename(self.root / (id + DOOMED))
        except FileNotFoundError:
            return
        except OSError as error:
            raise _failure(error, id, self.folder(id)) from error

    def revive(self, id: str) -> None:  # noqa: A002
        """Take `doom` back."""
        with contextlib.suppress(OSError):
            (self.root / (id + DOOMED)).rename(self.folder(id))

    def bury(self, id: str) -> None:  # noqa: A002
        """Delete the files of a doomed container; what cannot be deleted now is swept at the next start."""
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):
                remove_at(fd, id + DOOMED)
        finally:
            os.close(fd)

    def remove(self, id: str) -> None:  # noqa: A002
        """Forget the container and delete its files; removing what is gone is not an error."""
        self.doom(id)
        self.bury(id)

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


def _failure(error: OSError | NoSpace, id: str, folder: Path) -> Exception:  # noqa: A002
    """The error of the taxonomy a failed write stands for."""
    if isinstance(error, NoSpace):
        return error
    found = no_space(error, folder)
    return found if found is not error else System(f"cannot save container {id} in {folder}: {error.strerror}")
