"""Layers in directories: what hostile archives must not reach, and what honest ones must look like."""

import io
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scow.errors import DataLoss, InvalidArgument, NoSpace
from scow.snapshots.apply import OPAQUE_XATTR, Limits, apply
from support.tars import tar

pytestmark = pytest.mark.root


class Root:
    """A directory to unpack into, with something beside it that must stay untouched."""

    def __init__(self, path: Path) -> None:
        self.path = path / "root"
        self.outside = path / "outside"
        self.path.mkdir(mode=0o755)
        self.outside.mkdir()
        (self.outside / "secret").write_text("untouched")
        os.chmod(self.outside / "secret", 0o600)
        self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        self.before = self._outside()

    def apply(self, stream: Any, **options: Any) -> int:
        options.setdefault("whiteouts", True)
        return apply(stream, self.fd, **options)

    def _outside(self) -> list[tuple[Any, ...]]:
        found = []
        for path in sorted(self.outside.rglob("*")):
            info = path.lstat()
            found.append((str(path), info.st_mode, info.st_uid, info.st_mtime_ns, info.st_nlink))
        return [*found, self.outside.stat().st_mtime_ns]  # type: ignore[list-item]

    def assert_contained(self) -> None:
        assert self._outside() == self.before
        assert sorted(path.name for path in self.path.parent.iterdir()) == ["outside", "root"]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    made = Root(tmp_path)
    yield made
    os.close(made.fd)


def whiteout(path: Path) -> bool:
    info = path.lstat()
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


# ── escapes ──


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/../evil", "./../evil", "a/b/../../../evil"])
def test_names_that_climb_out_are_refused(root: Root, name: str) -> None:
    with pytest.raises(InvalidArgument, match="outside its root"):
        root.apply(tar((name, b"x")))
    root.assert_contained()


def test_absolute_names_are_taken_from_the_root(root: Root) -> None:
    root.apply(tar(("/etc/file", b"x")))
    assert (root.path / "etc/file").read_bytes() == b"x"


def test_dots_inside_names_are_cleaned(root: Root) -> None:
    root.apply(tar(("./a//b/./../c", b"x")))
    assert (root.path / "a/c").read_bytes() == b"x"


@pytest.mark.parametrize("target", ["{outside}", "../outside", "/../../../../../../{outside}"])
def test_a_symlink_does_not_lead_writes_out(root: Root, target: str) -> None:
    link = target.format(outside=root.outside)
    with pytest.raises(InvalidArgument):
        root.apply(tar(("link", f"->{link}"), ("link/secret", b"overwritten"), ("link/new", b"x")))
    root.assert_contained()


def test_an_absolute_symlink_is_followed_inside_the_root(root: Root) -> None:
    root.apply(tar(("usr/lib", "dir"), ("lib", "->/usr/lib"), ("lib/libc.so", b"x")))
    assert (root.path / "usr/lib/libc.so").read_bytes() == b"x"
    assert os.readlink(root.path / "lib") == "/usr/lib"


def test_a_file_over_a_symlink_replaces_the_symlink(root: Root) -> None:
    root.apply(tar(("link", f"->{root.outside}/secret"), ("link", b"mine")))
    assert (root.path / "link").read_bytes() == b"mine"
    root.assert_contained()


def test_a_directory_over_a_symlink_replaces_the_symlink(root: Root) -> None:
    root.apply(tar(("link", f"->{root.outside}"), ("link", "dir", {"mode": 0o777, "uid": 5}), ("link/f", b"x")))
    assert (root.path / "link").is_dir()
    assert not (root.path / "link").is_symlink()
    root.assert_contained()


@pytest.mark.parametrize("target", ["../outside/secret", "{outside}/secret", "/../outside/secret"])
def test_a_hard_link_reaches_nothing_outside(root: Root, target: str) -> None:
    with pytest.raises(InvalidArgument):
        root.apply(tar(("link", f"={target.format(outside=root.outside)}")))
    root.assert_contained()


def test_a_hard_link_through_a_symlink_reaches_nothing_outside(root: Root) -> None:
    with pytest.raises(InvalidArgument):
        root.apply(tar(("out", f"->{root.outside}"), ("link", "=out/secret")))
    root.assert_contained()


def test_a_hard_link_to_a_symlink_links_the_symlink(root: Root) -> None:
    root.apply(tar(("sym", f"->{root.outside}/secret"), ("hard", "=sym"), ("hard", b"new")))
    assert (root.path / "hard").read_bytes() == b"new"
    root.assert_contained()


def test_times_and_modes_never_follow_a_folder_that_became_a_symlink(root: Root) -> None:
    members = [
        ("a", "dir", {"mtime": 1}),
        ("a/b", "dir", {"mtime": 1, "mode": 0o700}),
        ("a", f"->{root.outside.parent}"),
        ("c", "dir"),
    ]
    root.apply(tar(*members))
    root.assert_contained()


def test_cached_folders_are_forgotten_when_replaced(root: Root) -> None:
    root.apply(tar(("d", "dir"), ("d/one", b"1"), ("d", "->e"), ("e", "dir"), ("d/two", b"2")))
    assert sorted(path.name for path in (root.path / "e").iterdir()) == ["two"]


def test_a_name_with_a_newline_or_no_utf8_survives(root: Root) -> None:
    raw = tar(("x\ny", b"1"), (b"caf\xe9".decode("utf-8", "surrogateescape"), b"2"))
    root.apply(raw)
    assert sorted(os.listdir(os.fsencode(root.path))) == [b"caf\xe9", b"x\ny"]


@pytest.mark.parametrize("name", ["n" * 256, "/".join(["d"] * 600), "a" * 200 + "/" + "b" * 300])
def test_names_no_file_system_has_are_the_archives_fault(root: Root, name: str) -> None:
    with pytest.raises(InvalidArgument):
        root.apply(tar((name, b"x")))


def test_a_link_loop_is_the_archives_fault(root: Root) -> None:
    with pytest.raises(InvalidArgument, match=r"symbolic links|cannot unpack"):
        root.apply(tar(("a", "->b"), ("b", "->a"), ("a/x", b"1")))


# ── bombs ──


def test_too_many_entries(root: Root) -> None:
    with pytest.raises(InvalidArgument, match="more entries"):
        root.apply(tar(*[(f"f{i}", b"") for i in range(11)]), limits=Limits(entries=10))


def test_too_many_bytes(root: Root) -> None:
    with pytest.raises(InvalidArgument, match="allowed size"):
        root.apply(tar(("a", bytes(600)), ("b", bytes(600))), limits=Limits(size=1000))


def test_more_than_the_disk_has_free_is_refused_before_writing(root: Root) -> None:
    header = bytearray(tar(("big", b"")).getvalue()[:512])
    header[124:136] = b"\x80" + struct.pack(">Q", 1 << 60).rjust(11, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(NoSpace, match="no space left on the disk"):
        root.apply(io.BytesIO(bytes(header)))
    assert list(root.path.iterdir()) == []


def test_depth_is_bounded(root: Root) -> None:
    with pytest.raises(InvalidArgument, match="too deep"):
        root.apply(tar(("a/b/c/d/e", b"x")), limits=Limits(depth=3))


def test_devices_can_be_forbidden(root: Root) -> None:
    with pytest.raises(InvalidArgument, match="device node"):
        root.apply(tar(("null", "char", {"devmajor": 1, "devminor": 3})), devices=False)


@pytest.mark.parametrize("cut", [100, 511, 700, 1025])
def test_a_cut_off_archive_is_data_loss(root: Root, cut: int) -> None:
    with pytest.raises(DataLoss, match="cut off"):
        root.apply(io.BytesIO(tar(("f", bytes(2000))).getvalue()[:cut]))


def test_the_stream_is_read_to_its_end(root: Root) -> None:
    stream = io.BytesIO(tar(("f", b"x")).getvalue() + bytes(100_000))
    root.apply(stream)
    assert stream.read() == b""


# ── metadata ──


def test_owner_mode_times_and_kinds(root: Root) -> None:
    root.apply(
        tar(
            ("d", "dir", {"mode": 0o1777, "uid": 7, "gid": 8, "mtime": 1000}),
            ("d/f", b"abc", {"mode": 0o4755, "uid": 1000, "gid": 1001, "mtime": 2000}),
            ("p", "fifo", {"mode": 0o620}),
            ("null", "char", {"mode": 0o666, "devmajor": 1, "devminor": 3}),
            ("s", "->nowhere", {"uid": 9}),
        )
    )
    folder, file = (root.path / "d").stat(), (root.path / "d/f").stat()
    assert (stat.S_IMODE(folder.st_mode), folder.st_uid, folder.st_gid, folder.st_mtime) == (0o1777, 7, 8, 1000)
    assert (stat.S_IMODE(file.st_mode), file.st_uid, file.st_gid, file.st_mtime) == (0o4755, 1000, 1001, 2000)
    assert stat.filemode((root.path / "p").lstat().st_mode) == "prw--w----"
    device = (root.path / "null").lstat()
    assert (stat.filemode(device.st_mode), device.st_rdev) == ("crw-rw-rw-", os.makedev(1, 3))
    assert (root.path / "s").lstat().st_uid == 9


def test_nanoseconds_and_attributes(root: Root) -> None:
    capability = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    records = {
        "mtime": "1700000000.123456789",
        "SCHILY.xattr.user.note": "one\ntwo=three",
        "SCHILY.xattr.security.capability": capability.decode("latin-1"),
    }
    root.apply(tar(("f", b"x", {"uid": 5, "pax_headers": records})))
    assert (root.path / "f").stat().st_mtime_ns == 1700000000123456789
    assert os.getxattr(root.path / "f", "user.note") == b"one\ntwo=three"
    assert os.getxattr(root.path / "f", "security.capability")


def test_overlays_own_attributes_are_never_taken_from_an_archive(root: Root) -> None:
    records = {"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.trusted.overlay.opaque": "y"}
    root.apply(tar(("d", "dir", {"pax_headers": records})))
    assert os.listxattr(root.path / "d") == []


def test_the_root_entry_sets_the_root(root: Root) -> None:
    root.apply(tar(("./", "dir", {"mode": 0o700, "uid": 3, "mtime": 77}), ("./a", b"")))
    info = root.path.stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_mtime) == (0o700, 3, 77)


def test_files_in_a_setgid_folder_have_the_archives_group(root: Root) -> None:
    root.apply(tar(("d", "dir", {"mode": 0o2755, "gid": 50}), ("d/f", b"", {"gid": 0}), ("d/e", "dir", {"gid": 0})))
    assert (root.path / "d/f").stat().st_gid == 0
    assert stat.S_IMODE((root.path / "d/e").stat().st_mode) == 0o755


def test_an_owner_for_everything(root: Root) -> None:
    root.apply(tar(("d", "dir", {"uid": 4}), ("d/f", b"", {"uid": 5}), ("s", "->x")), owner=(42, 43), whiteouts=False)
    assert {path.lstat().st_uid for path in root.path.rglob("*")} == {42}


def test_hard_links_share_the_file(root: Root) -> None:
    root.apply(tar(("a/f", b"x"), ("b/g", "=a/f"), ("b/g", "=./a/f"), ("h", "=/b/g")))
    assert (root.path / "h").stat().st_nlink == 3


# ── replacing ──


def test_later_entries_win_whatever_they_are(root: Root) -> None:
    root.apply(
        tar(
            ("x", "dir"),
            ("x/y", b"1"),
            ("x", b"file"),
            ("z", b"file"),
            ("z", "dir"),
            ("z/in", b"2"),
            ("w", b"1"),
            ("w", b"2"),
        )
    )
    assert (root.path / "x").read_bytes() == b"file"
    assert (root.path / "z/in").read_bytes() == b"2"
    assert (root.path / "w").read_bytes() == b"2"


def test_a_replaced_file_does_not_change_its_other_names(root: Root) -> None:
    root.apply(tar(("a", b"old"), ("b", "=a"), ("a", b"new")))
    assert (root.path / "b").read_bytes() == b"old"


def test_kinds_can_be_kept(root: Root) -> None:
    (root.path / "d").mkdir()
    (root.path / "f").touch()
    with pytest.raises(InvalidArgument, match="cannot overwrite directory 'd' with non-directory"):
        root.apply(tar(("d", b"x")), whiteouts=False, keep_kinds=True)
    with pytest.raises(InvalidArgument, match="cannot overwrite non-directory 'f' with directory"):
        root.apply(tar(("f", "dir")), whiteouts=False, keep_kinds=True)
    assert (root.path / "d").is_dir()


def test_a_folder_over_a_deep_tree(root: Root) -> None:
    deep = root.path
    fd = os.open(deep, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    root.apply(tar(("d", b"flat")))
    assert (root.path / "d").read_bytes() == b"flat"
    assert [path.name for path in root.path.iterdir()] == ["d"]


# ── whiteouts ──


def test_whiteouts_become_overlays(root: Root) -> None:
    root.apply(tar(("d", "dir"), ("d/.wh.gone", b""), (".wh.top", b""), ("e/.wh..wh..opq", b"")))
    assert whiteout(root.path / "d/gone")
    assert whiteout(root.path / "top")
    assert os.getxattr(root.path / "e", OPAQUE_XATTR) == b"y"


@pytest.mark.parametrize("name", [".wh...", ".wh..", "d/.wh...", ".wh."])
def test_whiteouts_that_climb_are_refused(root: Root, name: str) -> None:
    with pytest.raises(InvalidArgument, match="whiteout"):
        root.apply(tar((name, b"")))
    root.assert_contained()


def test_a_whiteout_hides_lower_layers_not_this_one(root: Root) -> None:
    root.apply(tar(("f", b"new"), (".wh.f", b""), ("d", "dir"), ("d/x", b"1"), (".wh.d", b"")))
    assert (root.path / "f").read_bytes() == b"new"
    assert (root.path / "d/x").read_bytes() == b"1"
    assert os.getxattr(root.path / "d", OPAQUE_XATTR) == b"y"


def test_what_follows_its_own_whiteout_is_there_and_nothing_below_it_shines_through(root: Root) -> None:
    root.apply(tar((".wh.f", b""), ("f", b"new"), (".wh.d", b""), ("d", "dir"), (".wh.e", b""), ("e/x", b"1")))
    assert (root.path / "f").read_bytes() == b"new"
    assert os.getxattr(root.path / "d", OPAQUE_XATTR) == b"y"
    assert os.getxattr(root.path / "e", OPAQUE_XATTR) == b"y"


def test_the_opaque_marker_follows_symlinks_inside_the_root(root: Root) -> None:
    root.apply(tar(("usr/lib", "dir"), ("lib", "->usr/lib"), ("lib/.wh..wh..opq", b"")))
    assert os.getxattr(root.path / "usr/lib", OPAQUE_XATTR) == b"y"


def test_aufs_folders_are_ignored(root: Root) -> None:
    root.apply(tar((".wh..wh.plnk", "dir"), (".wh..wh.aufs", b"")))
    assert list(root.path.iterdir()) == []


def test_without_whiteouts_the_names_are_ordinary(root: Root) -> None:
    root.apply(tar((".wh.f", b"x"), (".wh..wh..opq", b"")), whiteouts=False)
    assert (root.path / ".wh.f").read_bytes() == b"x"


def test_in_a_merged_tree_whiteouts_delete_what_was_there_before(root: Root) -> None:
    for name in ("keep", "gone", "d/old", "o/old", "o/deep/old"):
        (root.path / name).parent.mkdir(parents=True, exist_ok=True)
        (root.path / name).touch()
    root.apply(
        tar((".wh.gone", b""), ("d", "dir"), ("d/new", b""), (".wh.d", b""), ("o/new", b""), ("o/.wh..wh..opq", b"")),
        merged=True,
    )
    assert sorted(str(path.relative_to(root.path)) for path in root.path.rglob("*")) == [
        "d",
        "d/new",
        "keep",
        "o",
        "o/new",
    ]


# ── lower layers ──


@pytest.fixture
def lower(root: Root) -> Iterator[int]:
    path = root.path.parent / "root" / ".." / "lower"
    path.mkdir()
    (path / "etc").mkdir(mode=0o750)
    os.chown(path / "etc", 11, 12)
    (path / "etc/passwd").write_text("root")
    os.chmod(path / "etc/passwd", 0o640)
    os.setxattr(path / "etc/passwd", "user.k", b"v")
    (path / "usr/lib").mkdir(parents=True)
    (path / "lib").symlink_to("usr/lib")
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    root.before = root._outside()
    yield fd
    os.close(fd)


def test_a_hard_link_to_a_lower_file_brings_it_up(root: Root, lower: int) -> None:
    root.apply(tar(("copy", "=etc/passwd")), lower_fd=lower)
    file = root.path / "copy"
    assert file.read_text() == "root"
    assert (file.stat().st_ino, stat.S_IMODE(file.stat().st_mode)) == ((root.path / "etc/passwd").stat().st_ino, 0o640)
    assert os.getxattr(file, "user.k") == b"v"
    assert (root.path / "etc").stat().st_uid == 11


def test_folders_on_the_way_look_like_the_lower_ones(root: Root, lower: int) -> None:
    root.apply(tar(("etc/new", b"x")), lower_fd=lower)
    info = (root.path / "etc").stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o750, 11, 12)


def test_a_lower_symlink_on_the_way_is_kept(root: Root, lower: int) -> None:
    root.apply(tar(("lib/new.so", b"x")), lower_fd=lower)
    assert (root.path / "usr/lib/new.so").read_bytes() == b"x"
    assert not (root.path / "lib").exists()
