"""The cache's records, and what becomes of a database that is no longer one."""

from pathlib import Path

from scow.build.cache import Cache, Record
from scow.oci.descriptor import Descriptor
from scow.oci.digest import digest_of
from scow.oci.mediatypes import OCI_LAYER_GZIP

LAYER = Descriptor(OCI_LAYER_GZIP, digest_of(b"layer"), 5)


def test_what_is_put_is_got(tmp_path: Path):
    cache = Cache(tmp_path / "cache.db")
    record = Record("k", LAYER, digest_of(b"diff"), "sha256:chain", "2026-01-01T00:00:00Z", "RUN x", 5)
    cache.put(record)
    cache.put(Record("empty", None, None, "sha256:chain", "2026-01-01T00:00:00Z"))
    found = cache.get("k")
    assert found is not None
    assert (found.layer, found.diff_id, found.chain, found.created) == (
        LAYER,
        digest_of(b"diff"),
        record.chain,
        record.created,
    )
    assert cache.get("k").uses == 1  # type: ignore[union-attr]
    assert cache.get("empty").layer is None  # type: ignore[union-attr]
    assert set(cache.claims()) == {"sha256:chain", str(LAYER.digest)}
    cache.forget("k")
    assert cache.get("k") is None
    cache.close()


def test_records_outlive_the_process(tmp_path: Path):
    cache = Cache(tmp_path / "cache.db")
    cache.put(Record("k", None, None, "", "2026-01-01T00:00:00Z"))
    cache.put_tree("t", "digest")
    cache.note_mount("m", "what")
    again = Cache(tmp_path / "cache.db")
    assert again.get("k") is not None
    assert again.tree("t") == "digest"
    assert again.tree("other") is None
    assert [row[:2] for row in again.mounts()] == [("m", "what")]
    again.forget_mount("m")
    assert again.mounts() == []
    cache.close()
    again.close()


def test_a_damaged_database_is_put_aside(tmp_path: Path):
    path = tmp_path / "cache.db"
    path.write_bytes(b"this is no database, " * 100)
    cache = Cache(path)
    cache.put(Record("k", None, None, "", "2026-01-01T00:00:00Z"))
    assert cache.get("k") is not None
    assert (tmp_path / "cache.db.damaged").read_bytes().startswith(b"this is no")
    cache.close()


def test_a_database_of_another_version_is_emptied(tmp_path: Path):
    import sqlite3

    database = sqlite3.connect(tmp_path / "cache.db")
    database.executescript("CREATE TABLE steps (old TEXT); PRAGMA user_version = 99;")
    database.close()
    cache = Cache(tmp_path / "cache.db")
    cache.put(Record("k", None, None, "", "2026-01-01T00:00:00Z"))
    assert [record.key for record in cache.records()] == ["k"]
    cache.close()


def test_shrinking_drops_the_oldest(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("scow.build.cache.MAX_STEPS", 2)
    cache = Cache(tmp_path / "cache.db")
    for number, when in enumerate((3, 1, 2)):
        monkeypatch.setattr("scow.build.cache._now", lambda when=when: when)
        cache.put(Record(f"k{number}", None, None, "", "2026-01-01T00:00:00Z"))
    cache.shrink()
    assert sorted(record.key for record in cache.records()) == ["k0", "k2"]
    cache.close()
