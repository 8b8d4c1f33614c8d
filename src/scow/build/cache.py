"""What earlier builds made: step key → layer. One SQLite file, `<root>/build/cache.db`.

A record is a hint, never the only copy of anything: who uses one checks that blob and snapshot are still there, and a
database that cannot be read is put aside and begun anew. Safe from any thread.
"""

import contextlib
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scow.oci.descriptor import Descriptor
from scow.oci.digest import Digest

log = logging.getLogger("scow.build")

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
        self._database = self._begin()

    def close(self) -> None:
        """Close the file; the object is of no use afterwards."""
        with self._lock:
            self._database.close()

    def _begin(self) -> sqlite3.Connection:
        """The database; an empty one in memory where the file cannot be used, so that a full disk stops nobody."""
        try:
            return _opened(str(self._path))
        except sqlite3.DatabaseError as error:
            trouble = error
        if _damaged(trouble):
            self._set_aside(trouble)
            with contextlib.suppress(sqlite3.DatabaseError):
                return _opened(str(self._path))
        log.error("the build cache %s cannot be used, so builds are not remembered: %s", self._path, trouble)
        return _opened(":memory:")

    def _set_aside(self, error: sqlite3.Error) -> None:
        path = self._path
        log.error("the build cache %s is damaged and begun anew: %s: it is kept as %s.damaged", path, error, path.name)
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(path.with_name(f"{path.name}{suffix}.damaged"))

    def _ask(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Execute one statement; its rows. A cache that cannot be read or written has none."""
        with self._lock:
            try:
                return self._database.execute(statement, values).fetchall()
            except sqlite3.ProgrammingError:
                raise
            except sqlite3.OperationalError as error:
                log.warning("the build cache could not be used: %s", error)
            except sqlite3.DatabaseError as error:
                if not _damaged(error):
                    raise
                self._database.close()
                self._set_aside(error)
                self._database = self._begin()
            return []

    # ---- steps ---------------------------------------------------------------------------------------

    def get(self, key: str) -> Record | None:
        """The record of a step, and note that it was used."""
        rows = self._ask(f"SELECT {_COLUMNS} FROM steps WHERE key = ?", (key,))
        if not rows:
            return None
        self._ask("UPDATE steps SET used = ?, uses = uses + 1 WHERE key = ?", (_now(), key))
        return _record(rows[0])

    def put(self, record: Record) -> None:
        """Remember a step; an older record of the key is replaced."""
        now = _now()
        layer = json.dumps(record.layer.to_json()) if record.layer else None
        values = (
            record.key, layer, record.diff_id, record.chain, record.created, record.description[:4096], record.size,
            now, now, 0,
        )  # fmt: skip
        self._ask(f"INSERT OR REPLACE INTO steps ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)", values)

    def forget(self, key: str) -> None:
        """Drop a record: what it names is gone."""
        self._ask("DELETE FROM steps WHERE key = ?", (key,))

    def records(self) -> list[Record]:
        """Every step, least recently used first."""
        return [_record(row) for row in self._ask(f"SELECT {_COLUMNS} FROM steps ORDER BY used, key")]

    def claims(self) -> Iterator[str]:
        """Digests of blobs and chain ids of snapshots that collecting garbage must leave alone."""
        for record in self.records():
            yield record.chain
            if record.layer is not None:
                yield str(record.layer.digest)

    # ---- digests of files in snapshots ---------------------------------------------------------------

    def tree(self, key: str) -> str | None:
        """The remembered digest, or None."""
        rows = self._ask("SELECT digest FROM trees WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def put_tree(self, key: str, digest: str) -> None:
        """Remember the digest of files that can no longer change."""
        self._ask("INSERT OR REPLACE INTO trees VALUES (?,?,?)", (key, digest, _now()))

    # ---- cache mounts --------------------------------------------------------------------------------

    def note_mount(self, name: str, description: str) -> None:
        """Note the use of the cache mount kept in the folder `name`."""
        now = _now()
        self._ask(
            "INSERT INTO mounts VALUES (?,?,?,?) ON CONFLICT (name) DO UPDATE SET used = excluded.used",
            (name, description[:4096], now, now),
        )

    def mounts(self) -> list[tuple[str, str, int, int]]:
        """(folder name, description, made, used) of every cache mount, least recently used first."""
        rows = self._ask("SELECT name, description, made, used FROM mounts ORDER BY used")
        return [(str(row[0]), str(row[1]), int(row[2]), int(row[3])) for row in rows]

    def forget_mount(self, name: str) -> None:
        """Drop a cache mount's record."""
        self._ask("DELETE FROM mounts WHERE name = ?", (name,))

    def shrink(self) -> None:
        """Drop the oldest records above the limits."""
        for table, limit in (("steps", MAX_STEPS), ("trees", MAX_TREES)):
            self._ask(
                f"DELETE FROM {table} WHERE key IN (SELECT key FROM {table} ORDER BY used DESC LIMIT -1 OFFSET {limit})"
            )


_COLUMNS = "key, layer, diff_id, chain, created, description, size, made, used, uses"


def _opened(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
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


def _damaged(error: sqlite3.Error) -> bool:
    """Whether the file itself is broken, and not only out of reach or out of room."""
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


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
