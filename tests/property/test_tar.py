"""Round trips: a tree written and read is the same tree; whatever bytes come, nothing but our own errors."""

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scow.errors import EngineError
from scow.snapshots.apply import apply
from scow.snapshots.diff import DELETED, changes, write_diff
from scow.snapshots.overlay import OverlaySnapshotter
from scow.snapshots.removal import remove_at
from scow.snapshots.tarstream import BLOCK_DEVICE, CHAR, DIRECTORY, FIFO, FILE, HARDLINK, SYMLINK, Entry, TarReader
from scow.snapshots.tarwriter import TarWriter
from scow.snapshots.tree import walk, write_tree

NAMES = st.binary(min_size=1, max_size=40).filter(
    lambda name: b"\0" not in name and b"/" not in name and name not in (b".", b"..")
)
PATHS = st.lists(NAMES, min_size=1, max_size=12).map(lambda parts: b"/".join(parts).decode("utf-8", "surrogateescape"))
TIMES = st.integers(-(10**18), 10**19 // 2)
IDS = st.integers(0, 2**32 - 2)
XATTRS = st.dictionaries(
    st.text("abcdefgh.é ", min_size=1, max_size=20).map(lambda name: f"user.{name}"), st.binary(max_size=80), max_size=3
)


@st.composite
def members(draw: st.DrawFn) -> tuple[Entry, bytes]:
    kind = draw(st.sampled_from([FILE, DIRECTORY, SYMLINK, HARDLINK, CHAR, BLOCK_DEVICE, FIFO]))
    entry = Entry(
        draw(PATHS), kind, draw(st.integers(0, 0o7777)), draw(IDS), draw(IDS), mtime_ns=draw(TIMES), xattrs=draw(XATTRS)
    )
    content = b""
    if kind == FILE:
        content = draw(st.binary(max_size=1500))
        entry.size = len(content)
        if content and draw(st.booleans()):
            gap = draw(st.integers(0, 10**12))
            entry.segments = [(gap, len(content))]
            entry.size += gap + draw(st.integers(0, 10**6))
    elif kind in (SYMLINK, HARDLINK):
        entry.link = draw(PATHS)
    elif kind in (CHAR, BLOCK_DEVICE):
        entry.device = (draw(st.integers(0, 4095)), draw(st.integers(0, 2**20 - 1)))
    return entry, content


def seen(entry: Entry) -> tuple[object, ...]:
    return tuple(getattr(entry, field) for field in entry.__slots__)


@given(st.lists(members(), max_size=6))
def test_the_reader_reads_what_the_writer_writes(archive: list[tuple[Entry, bytes]]) -> None:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    for entry, content in archive:
        writer.add(entry, content)
    writer.close()
    assert len(out.getvalue()) % 512 == 0
    reader = TarReader(io.BytesIO(out.getvalue()))
    found = [(seen(entry), b"".join(bytes(piece) for piece in reader.chunks())) for entry in reader]
    assert found == [(seen(entry), content) for entry, content in archive]


@given(st.lists(members(), min_size=1, max_size=4), st.data())
def test_damage_is_found_or_harmless_and_never_an_accident(
    archive: list[tuple[Entry, bytes]], data: st.DataObject
) -> None:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    for entry, content in archive:
        writer.add(entry, content)
    writer.close()
    broken = bytearray(out.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    del broken[data.draw(st.integers(0, len(broken))) :]
    reader = TarReader(io.BytesIO(bytes(broken)))
    with contextlib.suppress(EngineError):
        for _ in reader:
            for _ in reader.chunks():
                pass


# ── trees ──

WORDS = st.sampled_from(["a", "b", "c", "bin", "lib", "é", "x y"])
PLACES = st.lists(WORDS, min_size=1, max_size=4).map("/".join)


@st.composite
def nodes(draw: st.DrawFn) -> tuple[str, Entry, bytes]:
    kind = draw(st.sampled_from([FILE, FILE, DIRECTORY, SYMLINK, HARDLINK]))
    entry = Entry(draw(PLACES), kind, draw(st.sampled_from([0o644, 0o755, 0o600, 0o4755, 0o2750, 0o1777])))
    entry.uid, entry.gid = draw(st.sampled_from([(0, 0), (1000, 50)]))
    entry.mtime_ns = draw(st.integers(0, 2 * 10**9)) * 10**9
    content = draw(st.binary(max_size=300)) if kind == FILE else b""
    entry.size = len(content)
    if kind in (SYMLINK, HARDLINK):
        entry.link = draw(PLACES)
    return entry.name, entry, content


def look(fd: int) -> dict[str, tuple[object, ...]]:
    found = {}
    for folder, name, path, info in walk(fd):
        place = f"/proc/self/fd/{folder}/{name}"
        content: object = None
        if os.path.islink(place):
            content = os.readlink(place)
        elif os.path.isfile(place):
            content = (Path(place).read_bytes(), info.st_nlink)
        found[path] = (info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns, content)
    return found


@pytest.mark.root
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(st.lists(nodes(), max_size=12))
def test_a_tree_written_and_applied_is_the_same_tree(archive: list[tuple[str, Entry, bytes]]) -> None:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    for _, entry, content in archive:
        writer.add(entry, content)
    writer.close()
    base = tempfile.mkdtemp(prefix="scow-tar-")
    fds = []
    try:
        for name in ("one", "two"):
            os.mkdir(f"{base}/{name}")
            fds.append(os.open(f"{base}/{name}", os.O_RDONLY))
        with contextlib.suppress(EngineError):  # links to nothing: what came before them is a tree all the same
            apply(io.BytesIO(out.getvalue()), fds[0], whiteouts=True)
        assert sorted(os.listdir(base)) == ["one", "two"]
        again = io.BytesIO()
        write_tree(fds[0], again.write)
        again.seek(0)
        apply(again, fds[1], whiteouts=True)
        one, two = look(fds[0]), look(fds[1])
        if one != two:  # an archive cut short by a refused entry leaves folders with the present time in nanoseconds
            assert {p: v[:3] + v[4:] for p, v in one.items()} == {p: v[:3] + v[4:] for p, v in two.items()}
    finally:
        for fd in fds:
            os.close(fd)
        shutil.rmtree(base)


@pytest.mark.root
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(st.lists(nodes(), max_size=10), st.lists(st.one_of(PLACES, nodes()), max_size=10))
def test_a_layer_made_of_changes_makes_the_changed_tree(
    base: list[tuple[str, Entry, bytes]], work: list[str | tuple[str, Entry, bytes]]
) -> None:
    """Whatever was removed, replaced and added in a container: apply(diff) on its parent gives its tree."""
    folder = tempfile.mkdtemp(prefix="scow-diff-")
    try:
        snapshots = OverlaySnapshotter(Path(folder))
        snapshots.prepare("k", None)
        unpack(snapshots, "k", archive_of(base), whiteouts=True)
        snapshots.commit("base", "k")
        snapshots.prepare("work", "base")
        for step in work:
            if isinstance(step, str):
                with mounted(snapshots, "work") as fd, contextlib.suppress(OSError):
                    remove(fd, step)
            else:
                unpack(snapshots, "work", archive_of([step]), whiteouts=False, through_mount=True)
        layer = io.BytesIO()
        write_diff(snapshots, "work", layer.write)
        layer.seek(0)
        snapshots.prepare("copy", "base")
        unpack(snapshots, "copy", layer, whiteouts=True)
        trees = []
        for key in ("work", "copy"):
            with mounted(snapshots, key) as fd:
                trees.append({path: (*seen[:3], seen[4]) for path, seen in look(fd).items()})
        assert trees[0] == trees[1]
        told = {change.path[1:]: change.kind for change in changes(snapshots, "work")}
        with mounted(snapshots, "base") as fd:
            before = set(look(fd))
        assert {path for path in trees[0] if path not in before} <= set(told)
        assert all(told[path] == DELETED for path in told if path in before and path not in trees[0])
    finally:
        shutil.rmtree(folder)


def archive_of(members: list[tuple[str, Entry, bytes]]) -> io.BytesIO:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    for _, entry, content in members:
        writer.add(entry, content)
    writer.close()
    out.seek(0)
    return out


@contextlib.contextmanager
def mounted(snapshots: OverlaySnapshotter, key: str) -> Iterator[int]:
    fd = snapshots.mount(key)
    try:
        yield fd
    finally:
        os.close(fd)


def remove(root_fd: int, path: str) -> None:
    """Remove `path`, never through a symlink."""
    with contextlib.ExitStack() as opened:
        fd = root_fd
        for part in path.split("/")[:-1]:
            fd = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            opened.callback(os.close, fd)
        remove_at(fd, path.rpartition("/")[2])


def unpack(
    snapshots: OverlaySnapshotter, key: str, stream: io.BytesIO, whiteouts: bool, through_mount: bool = False
) -> None:
    """Apply as far as it goes: links to nothing end an archive."""
    fd = snapshots.mount(key) if through_mount else os.open(snapshots.upper(key), os.O_RDONLY)
    try:
        with contextlib.suppress(EngineError):
            apply(stream, fd, whiteouts=whiteouts)
    finally:
        os.close(fd)
