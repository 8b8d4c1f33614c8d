"""What earlier builds made: step key → layer. One SQLite file, `<root>/build/cache.db`.

A record is a hint, never the only copy of anything: who uses one checks that blob and snapshot are still there, and a
database that cannot be read is put aside and begun anew. Safe from any thread.
"""

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scow.oci.descriptor import Descriptor
from scow.oci.digest import Digest

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE steps (
    key TEXT PRIMARY KEY, layer TEXT, diff_id TEXT, chain TEXT NOT NULL, created TEXT NOT NULL,
    description TEXT NOT NULL, size INTEGER NOT NULL, made INTEGER NOT NULL, used INTEGER NOT NULL,
    uses INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX steps_by_chain ON steps (chain);
CREATE TABLE trees (key TEXT PRIMARY KEY, digest TEXT NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE mounts (
    name TEXT PRIMARY KEY, description TEXT NOT NULL, made INTEGER NOT NULL, used INTEGER NOT NULL
) WITHOUT ROWID;
"""

#: Records kept; the least recently used go first. A record is some 300 bytes.
MAX_STEPS = 100_000
MAX_TREES = 100_000


@dataclass(frozen=True, slots=True)
class Record:
    """One remembered step. `layer` and `diff_id` are None when the files stayed as they were.

    `created` is RFC 3339; `made` and `used` are seconds since 1970; `size` is the layer blob's.
    """

    key: str
    layer: Descriptor | None
    diff_id: Digest | None
    chain: str
    created: str
    description: str = ""
    size: int = 0
    made: int = 0
    used: int = 0
    uses: int = 0


class Cache:
    """The open database."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._database = self._open()
        except sqlite3.DatabaseError:
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    path.with_name(path.name + suffix).rename(path.with_name(f"{path.name}{suffix}.damaged"))
            self._database = self._open()

    def close(self) -> None:
        """Close the file; the object is of no use afterwards."""
        with self._lock:
            self._database.close()

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        try:
            # Losing the last records in a power cut costs a rebuild, so commits need not wait for the disk.
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version != _SCHEMA_VERSION:
                for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                    database.execute(f'DROP TABLE "{name}"')
                database.executescript(_SCHEMA)
                database.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        except sqlite3.Error:
            database.close()
            raise
        return database

    @contextlib.contextmanager
    def _work(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            yield self._database

    # ---- steps ---------------------------------------------------------------------------------------

    def get(self, key: str) -> Record | None:
        """The record of a step, and note that it was used."""
        with self._work() as database:
            row = database.execute(f"SELECT {_COLUMNS} FROM steps WHERE key = ?", (key,)).fetchone()
            if row is None:
                return None
            database.execute("UPDATE steps SET used = ?, uses = uses + 1 WHERE key = ?", (_now(), key))
        return _record(row)

    def put(self, record: Record) -> None:
        """Remember a step; an older record of the key is replaced."""
        now = _now()
        layer = json.dumps(record.layer.to_json()) if record.layer else None
        values = (
            record.key, layer, record.diff_id, record.chain, record.created, record.description[:4096], record.size,
            now, now, 0,
        )  # fmt: skip
        with self._work() as database:
            database.execute(f"INSERT OR REPLACE INTO steps ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)", values)

    def forget(self, key: str) -> None:
        """Drop a record: what it names is gone."""
        with self._work() as database:
            database.execute("DELETE FROM steps WHERE key = ?", (key,))

    def records(self) -> list[Record]:
        """Every step, least recently used first."""
        with self._work() as database:
            rows = database.execute(f"SELECT {_COLUMNS} FROM steps ORDER BY used, key").fetchall()
        return [_record(row) for row in rows]

    def claims(self) -> Iterator[str]:
        """Digests of blobs and chain ids of snapshots that collecting garbage must leave alone."""
        for record in self.records():
            yield record.chain
            if record.layer is not None:
                yield str(record.layer.digest)

    # ---- digests of files in snapshots ---------------------------------------------------------------

    def tree(self, key: str) -> str | None:
        """The remembered digest, or None."""
        with self._work() as database:
            row = database.execute("SELECT digest FROM trees WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def put_tree(self, key: str, digest: str) -> None:
        """Remember the digest of files that can no longer change."""
        with self._work() as database:
            database.execute("INSERT OR REPLACE INTO trees VALUES (?,?,?)", (key, digest, _now()))

    # ---- cache mounts --------------------------------------------------------------------------------

    def note_mount(self, name: str, description: str) -> None:
        """Note the use of the cache mount kept in the folder `name`."""
        now = _now()
        with self._work() as database:
            database.execute(
                "INSERT INTO mounts VALUES (?,?,?,?) ON CONFLICT (name) DO UPDATE SET used = excluded.used",
                (name, description[:4096], now, now),
            )

    def mounts(self) -> list[tuple[str, str, int, int]]:
        """(folder name, description, made, used) of every cache mount, least recently used first."""
        with self._work() as database:
            rows = database.execute("SELECT name, description, made, used FROM mounts ORDER BY used").fetchall()
        return [(str(row[0]), str(row[1]), int(row[2]), int(row[3])) for row in rows]

    def forget_mount(self, name: str) -> None:
        """Drop a cache mount's record."""
        with self._work() as database:
            database.execute("DELETE FROM mounts WHERE name = ?", (name,))

    def shrink(self) -> None:
        """Drop the oldest records above the limits."""
        with self._work() as database:
            for table, limit in (("steps", MAX_STEPS), ("trees", MAX_TREES)):
                database.execute(
                    f"DELETE FROM {table} WHERE key IN "
                    f"(SELECT key FROM {table} ORDER BY used DESC LIMIT -1 OFFSET {limit})"
                )


_COLUMNS = "key, layer, diff_id, chain, created, description, size, made, used, uses"


def _record(row: tuple[object, ...]) -> Record:
    key, layer, diff_id, chain, created, description, size, made, used, uses = row
    return Record(
        str(key),
        Descriptor.from_json(json.loads(str(layer))) if layer else None,
        Digest(str(diff_id)) if diff_id else None,
        str(chain),
        str(created),
        str(description),
        int(str(size)),
        int(str(made)),
        int(str(used)),
        int(str(uses)),
    )


def _now() -> int:
    return int(time.time())
