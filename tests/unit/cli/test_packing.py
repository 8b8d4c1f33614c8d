"""Files → tar → files, and archives that mean harm."""

import io
import os
import socket
import tarfile
from pathlib import Path

import pytest

from scow.cli.packing import Packed, member, stream, tree
from scow.cli.unpacking import unpack
from scow.errors import EngineError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "src"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "a.txt").write_text("hello")
    (root / "sub" / ("n" * 200)).write_bytes(os.urandom(700_000))
    (root / "sub" / "ünï").write_text("x")
    (root / "link").symlink_to("a.txt")
    os.mkfifo(root / "pipe")
    os.chmod(root / "a.txt", 0o640)
    os.utime(root / "a.txt", (1_000_000, 1_000_000))
    return root


def test_what_is_packed_is_a_tar(folder: Path) -> None:
    data = b"".join(stream(tree(str(folder), "top")))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == [
            "top", "top/a.txt", "top/link", "top/pipe", "top/sub", "top/sub/deep",
            f"top/sub/{'n' * 200}", "top/sub/ünï",
        ]  # fmt: skip
        info = archive.getmember("top/a.txt")
        assert (info.mode, info.mtime, info.uid) == (0o640, 1_000_000, os.getuid())
        content = archive.extractfile(f"top/sub/{'n' * 200}")
        assert content is not None
        assert content.read() == (folder / "sub" / ("n" * 200)).read_bytes()


def test_there_and_back(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    unpack(stream(tree(str(folder), "top")), str(target), "copy", owners=False)
    for name in ("a.txt", f"sub/{'n' * 200}", "sub/ünï"):
        assert (target / "copy" / name).read_bytes() == (folder / name).read_bytes()
    assert os.readlink(target / "copy" / "link") == "a.txt"
    assert os.stat(target / "copy" / "a.txt").st_mtime == 1_000_000
    assert os.stat(target / "copy" / "a.txt").st_mode & 0o7777 == 0o640
    unpack(stream(tree(str(folder), ".")), str(target / "copy"), ".", owners=False)
    assert not (target / "copy" / "src").exists()


def test_a_file_that_shrinks_does_not_break_the_archive(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 1_000_000)
    pieces = stream([Packed(str(path), "f"), Packed(str(tmp_path), "after")])
    data = next(pieces) + next(pieces)
    path.write_bytes(b"")
    data += b"".join(pieces)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [(info.name, info.size) for info in archive] == [("f", 1_000_000), ("after", 0)]


def test_sockets_are_left_out_and_missing_files_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        assert b"".join(stream([Packed(str(tmp_path / "s"), "s")])) == bytes(1024)
    with pytest.raises(EngineError, match="nothere"):
        b"".join(stream([Packed(str(tmp_path / "nothere"), "x")]))


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"") -> bytes:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    info.size = len(data)
    return info.tobuf() + data + bytes(-len(data) % 512)


@pytest.mark.parametrize(
    "entries",
    [
        [entry("top", tarfile.DIRTYPE), entry("top/../../evil", data=b"x")],
        [entry("../evil", data=b"x")],
        [entry("top", tarfile.DIRTYPE), entry("top/l", tarfile.SYMTYPE, "/outside"), entry("top/l/evil", data=b"x")],
        [entry("top", tarfile.SYMTYPE, "../.."), entry("top/evil", data=b"x")],
        [entry("top", tarfile.DIRTYPE), entry("top/h", tarfile.LNKTYPE, "../../secret")],
        [
            entry("top", tarfile.DIRTYPE),
            entry("top/l", tarfile.SYMTYPE, ".."),
            entry("top/h", tarfile.LNKTYPE, "top/l/x"),
        ],
        [b"\xff" * 512],
        [entry("top/f", data=b"x" * 1000)[:700]],
    ],
)
def test_nothing_is_written_outside(tmp_path: Path, entries: list[bytes]) -> None:
    target = tmp_path / "jail" / "inner"
    target.mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "jail" / "x").write_text("secret")
    with pytest.raises(EngineError):
        unpack(iter([*entries, bytes(1024)]), str(target), "copy", owners=False)
    assert sorted(path.name for path in tmp_path.rglob("evil")) == []
    assert {path.name for path in target.iterdir()} <= {"copy"}


def test_a_link_in_the_way_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    target = tmp_path / "out"
    target.mkdir()
    (target / "copy").symlink_to(victim)
    unpack(iter([entry("f", data=b"theirs"), bytes(1024)]), str(target), "copy", owners=False)
    assert (victim.read_text(), (target / "copy").read_text()) == ("mine", "theirs")


def test_an_entry_of_bytes() -> None:
    with tarfile.open(fileobj=io.BytesIO(member("Dockerfile", b"FROM x") + bytes(1024))) as archive:
        assert archive.getnames() == ["Dockerfile"]
