"""What a content store promises: whole and verified blobs or none, whatever happens on the way."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from scow.content.store import ContentStore
from scow.errors import DataLoss, DigestMismatch, InvalidArgument, NoSpace, NotFound
from scow.oci.digest import Digest, digest_of

DATA = os.urandom(300_000)
DIGEST = digest_of(DATA)


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "content")


def ingests(store: ContentStore) -> list[str]:
    return sorted(os.listdir(store.root / "ingest"))


def put(store: ContentStore, data: bytes, ref: str = "r") -> Digest:
    with store.open_ingest(ref) as ingest:
        ingest.write(data)
        return ingest.commit().digest


def test_a_blob_goes_in_and_comes_out(store: ContentStore) -> None:
    with store.open_ingest("r") as ingest:
        ingest.write(DATA[:1000])
        ingest.write(memoryview(DATA)[1000:])
        assert ingest.digest() == DIGEST
        found = ingest.commit(DIGEST, len(DATA))
    assert (found.digest, found.size) == (DIGEST, len(DATA))
    assert store.read(DIGEST) == DATA
    assert (store.has(DIGEST), store.size(DIGEST), list(store.walk())) == (True, len(DATA), [(DIGEST, len(DATA))])
    with store.open(DIGEST) as blob:
        assert os.fstat(blob.fileno()).st_size == len(DATA)
    assert ingests(store) == []


def test_nothing_is_visible_before_the_commit(store: ContentStore) -> None:
    with store.open_ingest("r") as ingest:
        ingest.write(DATA)
        assert list(store.walk()) == []
        assert not store.has(DIGEST)


def test_a_wrong_digest_leaves_nothing(store: ContentStore) -> None:
    with store.open_ingest("r") as ingest:
        ingest.write(DATA)
        with pytest.raises(DigestMismatch, match=digest_of(b"other")):
            ingest.commit(digest_of(b"other"))
    assert (list(store.walk()), ingests(store)) == ([], [])


def test_what_was_cut_off_goes_on_where_it_stopped(store: ContentStore) -> None:
    with store.open_ingest("r") as ingest:
        ingest.write(DATA[:100_000])
        with pytest.raises(DataLoss, match="100000 of 300000"):
            ingest.commit(DIGEST, len(DATA))
    store = ContentStore(store.root)
    with store.open_ingest("r") as ingest:
        assert ingest.offset == 100_000
        ingest.write(DATA[100_000:])
        ingest.commit(DIGEST, len(DATA))
    assert store.read(DIGEST) == DATA


def test_too_many_bytes_are_not_kept(store: ContentStore) -> None:
    with store.open_ingest("r") as ingest:
        ingest.write(DATA + b"more")
        with pytest.raises(DataLoss):
            ingest.commit(DIGEST, len(DATA))
    assert ingests(store) == []


def test_leaving_without_commit_keeps_the_bytes_and_abort_does_not(store: ContentStore) -> None:
    with store.open_ingest("r") as ingest:
        ingest.write(b"half")
    assert store.open_ingest("r").offset == 4
    with store.open_ingest("r") as ingest:
        ingest.abort()
    with store.open_ingest("r") as ingest:
        assert ingest.offset == 0


def test_other_refs_know_nothing_of_it(store: ContentStore) -> None:
    with store.open_ingest("one") as ingest:
        ingest.write(b"half")
    with store.open_ingest("two") as ingest:
        assert ingest.offset == 0


def test_truncating_hashes_what_is_left(store: ContentStore) -> None:
    with store.open_ingest("r") as ingest:
        ingest.write(DATA + b"wrong")
        ingest.truncate(len(DATA))
        assert ingest.offset == len(DATA)
        ingest.commit(DIGEST)
        with pytest.raises(InvalidArgument):
            store.open_ingest("x").truncate(1)


def test_two_writers_of_one_ref_do_not_meet(store: ContentStore) -> None:
    with store.open_ingest("r") as first, store.open_ingest("r") as second:
        first.write(DATA[:1000])
        second.write(DATA)
        second.commit(DIGEST)
        first.write(DATA[1000:])
        first.commit(DIGEST)
    assert store.read(DIGEST) == DATA
    assert ingests(store) == []


def test_many_threads_bring_the_same_blob(store: ContentStore) -> None:
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            for _ in range(5):
                assert put(store, DATA, f"r{number % 2}") == DIGEST
                assert store.read(DIGEST) == DATA
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert ingests(store) == []


def test_writing_twice_is_one_blob(store: ContentStore) -> None:
    first = store.write(b"{}", "text/plain")
    assert store.write(b"{}", "text/plain") == first
    assert (first.media_type, first.size) == ("text/plain", 2)
    assert len(list(store.walk())) == 1


def test_missing_blobs(store: ContentStore) -> None:
    for call in (store.open, store.read, store.size, store.delete):
        with pytest.raises(NotFound, match="not in the content store"):
            call(DIGEST)
    assert store.has(DIGEST) is False
    assert store.collect(DIGEST) == 0


def test_a_damaged_blob_is_noticed(store: ContentStore) -> None:
    put(store, DATA)
    path = Path(store.path(DIGEST))
    os.chmod(path, 0o600)
    path.write_bytes(DATA[:-1] + b"!")
    with pytest.raises(DataLoss, match="damaged"):
        store.read(DIGEST)


def test_reading_is_bounded(store: ContentStore) -> None:
    put(store, DATA)
    with pytest.raises(InvalidArgument, match="at most 1000"):
        store.read(DIGEST, 1000)


def test_an_open_blob_survives_its_removal(store: ContentStore) -> None:
    put(store, DATA)
    with store.open(DIGEST) as blob:
        store.delete(DIGEST)
        assert blob.read() == DATA


def test_names_that_are_no_digests_are_ignored(store: ContentStore) -> None:
    (store.root / "blobs/sha256/README").touch()
    assert list(store.walk()) == []


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion":"9.0.0"}')
    with pytest.raises(InvalidArgument, match=r"1\.0\.0"):
        ContentStore(tmp_path)


def test_abandoned_and_private_leftovers_are_swept_but_not_those_in_use(store: ContentStore) -> None:
    with store.open_ingest("old") as ingest:
        ingest.write(b"x")
    [name] = ingests(store)
    old = time.time() - 30 * 24 * 3600
    os.utime(store.root / "ingest" / name, (old, old))
    (store.root / "ingest" / "1-0-abcd.own.part").write_bytes(b"y")
    with store.open_ingest("fresh") as ingest:
        ingest.write(b"z")
    with store.open_ingest("a"), store.open_ingest("a") as private:
        private.write(b"in use")
        again = ContentStore(store.root)
        assert len(ingests(again)) == 3
        private.commit()
    with again.open_ingest("fresh") as ingest:
        assert ingest.offset == 1


def test_a_full_disk_is_no_space_and_leaves_nothing(store: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with store.open_ingest("r") as ingest:
        ingest.write(b"some")
        monkeypatch.setattr("scow.content.ingest.write_all", full)
        with pytest.raises(NoSpace, match="no space left"):
            ingest.write(DATA)
    assert (list(store.walk()), ingests(store)) == ([], [])


@pytest.mark.root
def test_a_really_full_disk(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from scow.content.store import ContentStore
from scow.errors import NoSpace
from scow.linux.mount import mount, umount2
from scow.linux.namespaces import CLONE_NEWNS, unshare
unshare(CLONE_NEWNS)
mount(None, "/", None, 0x44000)
mount("tmpfs", sys.argv[1], "tmpfs", 0, "size=1m")
store = ContentStore(Path(sys.argv[1]))
try:
    with store.open_ingest("r") as ingest:
        for _ in range(100):
            ingest.write(bytes(100_000))
        ingest.commit()
except NoSpace as error:
    print("NoSpace", list(store.walk()), store.write(b"small").size)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "NoSpace [] 5\n"


def test_a_killed_writer_leaves_whole_blobs_and_a_part_to_continue(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from scow.content.store import ContentStore
store = ContentStore(Path({str(tmp_path)!r}))
n = 0
while True:
    n += 1
    with store.open_ingest("same") as ingest:
        ingest.truncate(0)
        for part in range(20):
            ingest.write(b"%d" % n * 1000)
            if n == 1 and part == 0: print("ready", flush=True)
        ingest.commit()
"""
    for delay in (0.01, 0.03, 0.06):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        threading.Event().wait(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        store = ContentStore(tmp_path)
        for digest, size in store.walk():
            data = store.read(digest)
            assert len(data) == size
        with store.open_ingest("same") as ingest:
            there = (tmp_path / "ingest" / ingests(store)[0]).read_bytes()
            assert ingest.offset == len(there)
            assert ingest.digest().hex == hashlib.sha256(there).hexdigest()


def test_collecting_spares_what_work_under_way_counts_on(store: ContentStore) -> None:
    digest = put(store, DATA)
    assert store.collect(digest) == 0
    store.leases.settle([digest])
    with store.leases.hold():
        assert store.has(digest)
        assert store.collect(digest) == 0
        store.leases.settle([digest])
        assert store.collect(digest) == 0
    assert store.collect(digest) == len(DATA)
    assert not store.has(digest)
