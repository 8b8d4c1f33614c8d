"""What every snapshotter promises: one suite, both implementations."""

import io
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scow.errors import AlreadyExists, Conflict, NotFound
from scow.snapshots.apply import apply
from scow.snapshots.diff import ADDED, DELETED, MODIFIED, Change, changes, write_diff
from scow.snapshots.overlay import OverlaySnapshotter, supported
from scow.snapshots.plain import PlainSnapshotter
from scow.snapshots.snapshotter import Snapshotter
from scow.snapshots.tarstream import TarReader
from scow.snapshots.tree import walk
from support.tars import tar

pytestmark = pytest.mark.root
KINDS = {"overlay": OverlaySnapshotter, "plain": PlainSnapshotter}


class World:
    """A snapshotter, and the few verbs the tests are written in."""

    def __init__(self, make: Callable[[Path], Snapshotter], root: Path) -> None:
        self._make = make
        self.root = root
        self.snapshots = make(root)

    def reopen(self) -> None:
        self.snapshots = self._make(self.root)

    def layer(self, name: str, parent: str | None, stream: io.BytesIO) -> None:
        """Apply `stream` on `parent` and commit it as `name`."""
        snapshots = self.snapshots
        snapshots.prepare("unpacking", parent)
        fd = os.open(snapshots.upper("unpacking"), os.O_RDONLY)
        lower = snapshots.mount(parent, readonly=True) if parent and not snapshots.merged else None
        try:
            apply(stream, fd, whiteouts=True, merged=snapshots.merged, lower_fd=lower)
        finally:
            os.close(fd)
            if lower is not None:
                os.close(lower)
        snapshots.commit(name, "unpacking")

    def tree(self, name: str) -> dict[str, tuple[object, ...]]:
        """Path → what can be seen of it."""
        fd = self.snapshots.mount(name, readonly=True)
        try:
            return {path: look(folder, entry, info) for folder, entry, path, info in walk(fd)}
        finally:
            os.close(fd)

    def write(self, key: str, work: Callable[[Path], object]) -> None:
        """Let `work` change the mounted tree of `key`, as a container would."""
        fd = self.snapshots.mount(key)
        try:
            work(Path(f"/proc/self/fd/{fd}"))
        finally:
            os.close(fd)

    def diff(self, key: str) -> io.BytesIO:
        out = io.BytesIO()
        write_diff(self.snapshots, key, out.write)
        out.seek(0)
        return out


def look(folder: int, name: str, info: os.stat_result) -> tuple[object, ...]:
    found: list[object] = [stat.filemode(info.st_mode), info.st_uid, info.st_gid, info.st_mtime_ns // 10**9]
    path = f"/proc/self/fd/{folder}/{name}"
    if stat.S_ISREG(info.st_mode):
        found.append(Path(path).read_bytes())
    elif stat.S_ISLNK(info.st_mode):
        found.append(os.readlink(path))
    elif stat.S_ISCHR(info.st_mode):
        found.append(info.st_rdev)
    names = [key for key in os.listxattr(path, follow_symlinks=False) if key.startswith(("user.", "security.cap"))]
    return (*found, *((key, os.getxattr(path, key, follow_symlinks=False)) for key in names))


@pytest.fixture(params=sorted(KINDS))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    before = mounts()
    yield World(KINDS[request.param], tmp_path / "snapshots")
    assert mounts() == before


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


BASE = [
    ("a", "dir", {"mode": 0o750, "uid": 5}),
    ("a/one", b"1"),
    ("a/two", b"2", {"mode": 0o4755, "uid": 7}),
    ("b/deep/three", b"3"),
    ("link", "->a/one"),
    ("c/x", b"x"),
    ("c/y", b"y"),
]


# ── life ──


def test_a_snapshot_is_prepared_committed_and_removed(world: World) -> None:
    snapshots = world.snapshots
    snapshots.prepare("k", None)
    assert (snapshots.info("k").kind, snapshots.info("k").parent) == ("active", None)
    snapshots.commit("base", "k")
    assert (snapshots.info("base").kind, snapshots.exists("k")) == ("committed", False)
    snapshots.prepare("child", "base")
    assert [info.name for info in snapshots.walk()] == ["base", "child"]
    snapshots.remove("child")
    snapshots.remove("base")
    assert list(snapshots.walk()) == []
    assert [path.name for path in world.root.iterdir()] == []


def test_unknown_names(world: World) -> None:
    for call in (
        lambda: world.snapshots.info("x"),
        lambda: world.snapshots.mount("x"),
        lambda: world.snapshots.remove("x"),
        lambda: world.snapshots.upper("x"),
        lambda: world.snapshots.usage("x"),
        lambda: world.snapshots.commit("y", "x"),
        lambda: world.snapshots.prepare("k", "x"),
        lambda: world.snapshots.details("x"),
    ):
        with pytest.raises(NotFound, match="snapshot x"):
            call()
    assert list(world.snapshots.walk()) == []


def test_a_key_is_taken_once(world: World) -> None:
    world.snapshots.prepare("k", None)
    with pytest.raises(AlreadyExists):
        world.snapshots.prepare("k", None)


def test_an_active_snapshot_carries_nothing(world: World) -> None:
    world.snapshots.prepare("k", None)
    with pytest.raises(NotFound, match="not committed"):
        world.snapshots.prepare("child", "k")


def test_what_carries_something_stays(world: World) -> None:
    world.layer("base", None, tar(*BASE))
    world.snapshots.prepare("k", "base")
    with pytest.raises(Conflict, match="in use"):
        world.snapshots.remove("base")
    world.snapshots.remove("k")
    world.snapshots.remove("base")


def test_committing_a_taken_name_removes_the_key(world: World) -> None:
    world.layer("base", None, tar(*BASE))
    world.snapshots.prepare("k", None)
    with pytest.raises(AlreadyExists):
        world.snapshots.commit("base", "k")
    assert not world.snapshots.exists("k")
    assert world.tree("base")["a/one"][-1] == b"1"


def test_a_failed_prepare_leaves_the_parent_free(world: World) -> None:
    world.layer("base", None, tar(*BASE))
    world.snapshots.prepare("k", "base")
    with pytest.raises(AlreadyExists):
        world.snapshots.prepare("k", "base")
    world.snapshots.remove("k")
    world.snapshots.remove("base")


def test_everything_is_there_after_reopening(world: World) -> None:
    world.layer("base", None, tar(*BASE))
    world.snapshots.prepare("k", "base")
    world.write("k", lambda root: (root / "new").write_text("n"))
    before = list(world.snapshots.walk())
    world.reopen()
    assert list(world.snapshots.walk()) == before
    assert "new" in world.tree("k")
    with pytest.raises(Conflict):
        world.snapshots.remove("base")


def test_half_made_and_half_removed_are_swept_and_damaged_ones_set_aside(world: World) -> None:
    world.layer("base", None, tar(*BASE))
    for name in ("new-7", "rm-8", "9"):
        (world.root / name / "fs").mkdir(parents=True)
        (world.root / name / "fs" / "file").touch()
    (world.root / "11").mkdir()
    (world.root / "11" / "meta.json").write_text('{"name": "torn')
    world.reopen()
    assert [info.name for info in world.snapshots.walk()] == ["base"]
    left = {path.name for path in world.root.iterdir()}
    assert {name for name in left if not name.isdigit()} == {"damaged-9", "damaged-11"}
    assert len(left) == 3


def test_a_child_without_its_parent_is_swept(world: World) -> None:
    world.layer("base", None, tar(*BASE))
    world.snapshots.prepare("k", "base")
    meta = next(path for path in world.root.glob("*/meta.json") if json.loads(path.read_text())["name"] == "base")
    meta.unlink()
    world.reopen()
    assert list(world.snapshots.walk()) == []


def test_a_process_killed_at_any_moment_leaves_a_store_that_opens(world: World) -> None:
    kind = type(world.snapshots)
    code = f"""
import sys
from pathlib import Path
from {kind.__module__} import {kind.__name__}
store = {kind.__name__}(Path({str(world.root)!r}))
print("ready", flush=True)
n = 0
while True:
    n += 1
    store.prepare("k", None); (store.upper("k") / "f").write_text(str(n)); store.commit(f"c{{n}}", "k")
    store.prepare("child", f"c{{n}}"); store.remove("child")
    if n > 3: store.remove(f"c{{n - 3}}")
"""
    for delay in (0.02, 0.05, 0.09):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        threading.Event().wait(delay)
        process.kill()
        process.wait()
        process.stdout.close()
        world.reopen()
        # What is being written first: it may stand upon one of the others.
        for info in sorted(world.snapshots.walk(), key=lambda info: info.kind == "committed"):
            if info.kind == "committed":
                assert world.tree(info.name)["f"][-1] == info.name[1:].encode()
            world.snapshots.remove(info.name)
        assert list(world.root.iterdir()) == []


def test_many_threads(world: World) -> None:
    world.layer("base", None, tar(*BASE))
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            for turn in range(5):
                key = f"{number}-{turn}"
                world.snapshots.prepare(key, "base")
                world.write(key, lambda root: (root / "mine").write_text(str(number)))
                world.snapshots.commit(f"done-{key}", key)
                world.snapshots.remove(f"done-{key}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [info.name for info in world.snapshots.walk()] == ["base"]


# ── trees ──


def test_a_layer_hides_and_adds(world: World) -> None:
    world.layer("base", None, tar(*BASE))
    upper = [("a/.wh.one", b""), ("c", "dir"), ("c/.wh..wh..opq", b""), ("c/z", b"z"), (".wh.b", b""), ("new", b"n")]
    world.layer("top", "base", tar(*upper))
    assert sorted(world.tree("top")) == ["a", "a/two", "c", "c/z", "link", "new"]
    assert sorted(world.tree("base")) == [
        "a",
        "a/one",
        "a/two",
        "b",
        "b/deep",
        "b/deep/three",
        "c",
        "c/x",
        "c/y",
        "link",
    ]


def test_a_layer_replaces_folders_by_files_and_the_reverse(world: World) -> None:
    world.layer("base", None, tar(*BASE))
    world.layer("top", "base", tar(("a", b"file now"), ("link", "dir"), ("link/in", b"x")))
    tree = world.tree("top")
    assert tree["a"][-1] == b"file now"
    assert "a/one" not in tree
    assert tree["link/in"][-1] == b"x"


def test_a_hard_link_into_a_lower_layer(world: World) -> None:
    world.layer("base", None, tar(*BASE))
    world.layer("top", "base", tar(("b/copy", "=a/two"), ("a/again", "=b/copy")))
    tree = world.tree("top")
    assert tree["b/copy"][:3] == ("-rwsr-xr-x", 7, 0)
    assert tree["b/copy"][-1] == tree["a/two"][-1] == tree["a/again"][-1] == b"2"
    assert tree["a"][:2] == ("drwxr-x---", 5)


def test_a_committed_snapshot_is_mounted_read_only(world: World) -> None:
    world.layer("base", None, tar(*BASE))
    world.layer("top", "base", tar(("new", b"")))
    for name in ("base", "top"):
        fd = world.snapshots.mount(name)
        with pytest.raises(OSError, match="Read-only"):
            Path(f"/proc/self/fd/{fd}/x").touch()
        assert os.get_inheritable(fd) is False
        os.close(fd)


def test_writing_leaves_the_parent_alone(world: World) -> None:
    world.layer("base", None, tar(*BASE))
    before = world.tree("base")
    world.snapshots.prepare("k", "base")
    world.write("k", lambda root: ((root / "a/one").write_text("changed"), (root / "c/x").unlink()))
    assert world.tree("base") == before
    assert world.tree("k")["a/one"][-1] == b"changed"


def test_the_root_keeps_owner_and_mode(world: World) -> None:
    world.layer("base", None, tar(("./", "dir", {"mode": 0o711, "uid": 9}), ("./f", b"")))
    world.snapshots.prepare("k", "base")
    fd = world.snapshots.mount("k")
    info = os.stat(f"/proc/self/fd/{fd}/.")
    os.close(fd)
    assert (stat.S_IMODE(info.st_mode), info.st_uid) == (0o711, 9)


def test_usage_counts_what_is_its_own(world: World) -> None:
    world.layer("base", None, tar(("big", os.urandom(300_000)), ("same", "=big")))
    measured = world.snapshots.usage("base")
    assert 300_000 <= measured < 330_000
    world.reopen()
    assert world.snapshots.usage("base") == measured
    if not world.snapshots.merged:
        world.layer("top", "base", tar(("small", b"1")))
        assert world.snapshots.usage("top") < 30_000


# ── differences ──


def test_nothing_changed(world: World) -> None:
    world.layer("base", None, tar(*BASE))
    world.snapshots.prepare("k", "base")
    assert changes(world.snapshots, "k") == []
    assert world.diff("k").getvalue() == bytes(1024)


def mess(root: Path) -> None:
    """Every kind of change there is."""
    (root / "a/one").write_text("changed")
    (root / "c/x").unlink()
    (root / "b/deep/three").unlink()
    (root / "b/deep").rmdir()
    (root / "n/m").mkdir(parents=True)
    (root / "n/m/file").write_text("new")
    os.link(root / "n/m/file", root / "n/hard")
    os.setxattr(root / "n/m/file", "user.k", b"v")
    os.chmod(root / "n/m", 0o2770)
    os.mkfifo(root / "n/pipe")
    os.mknod(root / "n/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (root / "link").unlink()
    (root / "link").mkdir()
    (root / "link/in").touch()
    os.chown(root / "a/two", 42, 43)
    os.chmod(root / "a/two", 0o600)


MESS = [
    Change("/a", MODIFIED),
    Change("/a/one", MODIFIED),
    Change("/a/two", MODIFIED),
    Change("/b", MODIFIED),
    Change("/b/deep", DELETED),
    Change("/c", MODIFIED),
    Change("/c/x", DELETED),
    Change("/link", MODIFIED),
    Change("/link/in", ADDED),
    Change("/n", ADDED),
    Change("/n/hard", ADDED),
    Change("/n/m", ADDED),
    Change("/n/m/file", ADDED),
    Change("/n/null", ADDED),
    Change("/n/pipe", ADDED),
]


def test_every_kind_of_change_is_told(world: World) -> None:
    world.layer("base", None, tar(*BASE))
    world.snapshots.prepare("k", "base")
    world.write("k", mess)
    assert changes(world.snapshots, "k") == MESS


def test_a_layer_made_of_changes_makes_the_same_tree(world: World) -> None:
    world.layer("base", None, tar(*BASE))
    world.snapshots.prepare("k", "base")
    world.write("k", mess)
    world.layer("copy", "base", world.diff("k"))
    assert world.tree("copy") == world.tree("k")


def test_a_removed_and_remade_folder_shows_nothing_of_the_old(world: World) -> None:
    world.layer("base", None, tar(*BASE))
    world.snapshots.prepare("k", "base")

    def remake(root: Path) -> None:
        for name in ("x", "y"):
            (root / "c" / name).unlink()
        (root / "c").rmdir()
        (root / "c").mkdir()
        (root / "c/x").write_text("again")

    world.write("k", remake)
    world.layer("copy", "base", world.diff("k"))
    assert sorted(path for path in world.tree("copy") if path.startswith("c")) == ["c", "c/x"]
    found = {change.path: change.kind for change in changes(world.snapshots, "k")}
    assert found["/c"] == MODIFIED
    assert found["/c/y"] == DELETED


def test_a_renamed_folder_is_whole_in_the_layer(world: World) -> None:
    world.layer("base", None, tar(*BASE))
    world.snapshots.prepare("k", "base")
    world.write("k", lambda root: shutil.move(root / "b", root / "moved"))
    world.layer("copy", "base", world.diff("k"))
    assert world.tree("copy")["moved/deep/three"][-1] == b"3"
    assert "b" not in world.tree("copy")


def test_layers_are_deterministic_and_plain_where_they_can_be(world: World) -> None:
    world.layer("base", None, tar(*BASE))
    streams = []
    for key in ("one", "two"):
        world.snapshots.prepare(key, "base")

        def work(root: Path) -> None:
            for name in ("z", "m", "a2"):
                (root / name).write_text(name)
                os.utime(root / name, ns=(5, 1_700_000_000_123_456_789))
            os.utime(root, (1, 1))

        world.write(key, work)
        streams.append(world.diff(key).getvalue())
    assert streams[0] == streams[1]
    assert [entry.name for entry in TarReader(io.BytesIO(streams[0]))] == ["a2", "m", "z"]
    assert b"PaxHeaders" not in streams[0]


def test_sockets_and_overlays_own_attributes_stay_out(world: World) -> None:
    import socket

    world.snapshots.prepare("k", None)
    listener = socket.socket(socket.AF_UNIX)
    fd = os.open(world.snapshots.upper("k"), os.O_RDONLY)
    listener.bind(f"/proc/self/fd/{fd}/sock")
    listener.close()
    os.close(fd)
    (world.snapshots.upper("k") / "d").mkdir()
    os.setxattr(world.snapshots.upper("k") / "d", "trusted.overlay.opaque", b"y")
    data = world.diff("k").getvalue()
    assert b"trusted.overlay" not in data
    assert b"sock" not in data


def test_a_huge_sparse_file_stays_small(world: World) -> None:
    world.layer("base", None, tar(*BASE))
    world.snapshots.prepare("k", "base")

    def work(root: Path) -> None:
        with open(root / "disk.img", "wb") as file:
            file.write(b"head")
            file.truncate(5 << 30)
            file.seek(4 << 30)
            file.write(b"tail")

    world.write("k", work)
    layer = world.diff("k")
    assert len(layer.getvalue()) < 100_000
    world.layer("copy", "base", layer)
    fd = world.snapshots.mount("copy", readonly=True)
    with open(f"/proc/self/fd/{fd}/disk.img", "rb") as file:
        file.seek(4 << 30)
        assert file.read(4) == b"tail"
        assert os.fstat(file.fileno()).st_size == 5 << 30
    os.close(fd)


# ── the overlay alone ──


def test_more_than_a_hundred_layers(tmp_path: Path) -> None:
    world = World(OverlaySnapshotter, tmp_path)
    parent = None
    for number in range(140):
        world.layer(f"l{number}", parent, tar((f"file{number}", b"%d" % number)))
        parent = f"l{number}"
    world.snapshots.prepare("k", parent)
    world.write("k", lambda root: (root / "new").touch())
    assert len(world.tree("k")) == 141


def test_the_drivers_words_about_an_overlay(tmp_path: Path) -> None:
    world = World(OverlaySnapshotter, tmp_path)
    world.layer("base", None, tar(*BASE))
    world.snapshots.prepare("k", "base")
    details = world.snapshots.details("k")
    assert sorted(details) == ["LowerDir", "UpperDir", "WorkDir"]
    assert details["LowerDir"] == str(world.snapshots.upper("base"))


def test_support_is_found_out_and_leaves_nothing(tmp_path: Path) -> None:
    assert supported(tmp_path)
    assert list(tmp_path.iterdir()) == []
