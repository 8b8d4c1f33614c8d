"""The tar reader: every format GNU tar writes, and archives that lie."""

import io
import os
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest

from scow.errors import DataLoss, InvalidArgument
from scow.snapshots.tarstream import BLOCK, Entry, TarReader, copy_data, split_name
from support.tars import tar


def entries(data: bytes) -> list[Entry]:
    return list(TarReader(io.BytesIO(data)))


def contents(data: bytes) -> dict[str, bytes]:
    reader = TarReader(io.BytesIO(data))
    return {entry.name: reader.content(1 << 20) for entry in reader if entry.kind == "file"}


def checked(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def header_of(*members: tuple[object, ...]) -> bytearray:
    return bytearray(tar(*members).getvalue()[:BLOCK])


class Trickle:
    """A stream that gives a few bytes at a time, as sockets do."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data = io.BytesIO(data)
        self._step = step

    def read(self, size: int, /) -> bytes:
        return self._data.read(min(size, self._step))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tree")
    (path / "file").write_text("hello")
    (path / "empty").touch()
    (path / ("n" * 180)).write_text("long")
    (path / "deep" / ("d" * 120)).mkdir(parents=True)
    (path / "deep" / ("d" * 120) / ("f" * 150)).write_text("deep")
    (path / "link").symlink_to("t" * 160)
    os.link(path / "file", path / "hard")
    os.mkfifo(path / "pipe")
    (path / "caf\udce9").write_text("no utf-8")
    return path


def gnu_tar(tree: Path, *options: str) -> bytes:
    return subprocess.run(["tar", "-C", tree, "-cf", "-", *options, "."], capture_output=True, check=True).stdout


@pytest.mark.parametrize("form", ["gnu", "oldgnu", "posix"])
def test_what_gnu_tar_writes(tree: Path, form: str) -> None:
    found = {entry.name.removeprefix("./"): entry for entry in entries(gnu_tar(tree, f"--format={form}"))}
    assert {path.relative_to(tree).as_posix() for path in tree.rglob("*")} | {"."} == set(found)
    assert found["link"].link == "t" * 160
    assert found["pipe"].kind == "fifo"
    assert {found["file"].kind, found["hard"].kind} == {"file", "hardlink"}
    stated = (tree / "file").stat()
    assert (found["file"].uid, found["file"].mode) == (stated.st_uid, stated.st_mode & 0o7777) or found["hard"].uid == 0
    if form == "posix":
        assert found["empty"].mtime_ns == (tree / "empty").stat().st_mtime_ns


@pytest.mark.parametrize("form", ["v7", "ustar"])
def test_old_formats_of_what_they_can_hold(tmp_path: Path, form: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("x")
    found = {entry.name: entry.kind for entry in entries(gnu_tar(tmp_path, f"--format={form}"))}
    assert found == {".": "dir", "./d": "dir", "./d/f": "file"}


SPARSE = (
    ["--format=gnu"],
    ["--format=oldgnu"],
    *(["--format=posix", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0")),
)


@pytest.mark.parametrize("options", SPARSE, ids=lambda options: options[-1])
@pytest.mark.parametrize("runs", [0, 1, 3, 40])
def test_sparse_files_of_every_kind(tmp_path: Path, options: list[str], runs: int) -> None:
    source = tmp_path / "in"
    source.mkdir()
    with open(source / "sparse", "wb") as file:
        for index in range(runs):
            file.seek(index * 100_000)
            file.write(b"%d" % index * 50)
        file.truncate(runs * 100_000 + 1_000_000)
    reader = TarReader(io.BytesIO(gnu_tar(source, "-S", *options)))
    entry = next(entry for entry in reader if entry.kind == "file")
    assert entry.name == "./sparse"
    assert entry.size == runs * 100_000 + 1_000_000
    fd = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    copy_data(reader, entry, fd)
    os.close(fd)
    assert (tmp_path / "out").read_bytes() == (source / "sparse").read_bytes()
    assert (tmp_path / "out").stat().st_blocks * 512 < 1_000_000
    assert reader.next() is None


@pytest.mark.parametrize("step", [1, 7, 512, 513])
def test_any_size_of_reads(step: int) -> None:
    data = tar(("a", b"x" * 700), ("d", "dir"), ("n" * 200, b"y" * 512)).getvalue()
    reader = TarReader(Trickle(data, step))
    assert [(entry.name, reader.content(1 << 20)) for entry in reader if entry.kind == "file"] == [
        ("a", b"x" * 700),
        ("n" * 200, b"y" * 512),
    ]


def test_data_nobody_read_is_skipped() -> None:
    assert [entry.name for entry in entries(tar(("a", bytes(3_000_000)), ("b", b"")).getvalue())] == ["a", "b"]


def test_numbers_in_base_256_and_pax_sizes() -> None:
    big = tar(("f", b"", {"uid": 3_000_000, "gid": 4_000_000_000}), form=tarfile.GNU_FORMAT).getvalue()
    assert [(entry.uid, entry.gid) for entry in entries(big)] == [(3_000_000, 4_000_000_000)]
    negative = tar(("f", b"", {"mtime": -5}), form=tarfile.GNU_FORMAT).getvalue()
    assert entries(negative)[0].mtime_ns == -5 * 10**9


def test_libarchive_attributes() -> None:
    records = {"LIBARCHIVE.xattr.user.a%20b": "aGVsbG8"}
    assert entries(tar(("f", b"", {"pax_headers": records})).getvalue())[0].xattrs == {"user.a b": b"hello"}


def test_global_records_apply_until_overridden() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"mtime": "7"}) as archive:
        for name, own in (("a", {}), ("b", {"mtime": "9"})):
            info = tarfile.TarInfo(name)
            info.pax_headers = own
            archive.addfile(info)
    assert [entry.mtime_ns for entry in entries(out.getvalue())] == [7 * 10**9, 9 * 10**9]


def test_one_zero_block_or_none_ends_the_archive_too() -> None:
    data = tar(("a", b"x"), end=False).getvalue()
    assert [entry.name for entry in entries(data)] == ["a"]
    assert [entry.name for entry in entries(data + bytes(BLOCK))] == ["a"]
    assert entries(b"") == []


def test_the_last_files_padding_may_be_missing() -> None:
    assert contents(tar(("a", b"xyz"), end=False).getvalue()[: BLOCK + 3]) == {"a": b"xyz"}


def test_links_and_folders_have_no_data_whatever_their_size_says() -> None:
    header = header_of(("l", "->t"))
    header[124:136] = b"00000001000\0"
    assert [entry.name for entry in entries(checked(header) + tar(("after", b"")).getvalue())] == ["l", "after"]


def test_a_v7_folder_is_known_by_its_slash() -> None:
    header = header_of(("d", b""))
    header[0:2] = b"d/"
    header[156] = 0
    assert [(entry.name, entry.kind) for entry in entries(checked(header))] == [("d", "dir")]


def test_signed_checksums_of_old_writers() -> None:
    header = header_of(("cafe", b""))
    header[0:4] = b"caf\xe9"
    header[148:156] = b" " * 8
    signed = sum(byte - 256 if byte > 127 else byte for byte in header)
    header[148:156] = b"%06o\0 " % signed
    assert entries(bytes(header))[0].name == "caf\udce9"


# ── archives that lie ──


@pytest.mark.parametrize("data", [b"x" * 512, b"\x1f\x8b" + bytes(510), b"PK\x03\x04" + bytes(508), os.urandom(1024)])
def test_what_is_no_tar_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(InvalidArgument, match="not a tar archive"):
        entries(data)


@pytest.mark.parametrize("cut", [1, 100, 511, 513, 1023])
def test_cut_off_archives_are_data_loss(cut: int) -> None:
    data = tar(("f", b"x" * 512)).getvalue()
    with pytest.raises(DataLoss, match="cut off"):
        contents(data[:cut])


def test_data_after_the_end_marker() -> None:
    with pytest.raises(InvalidArgument, match="end marker"):
        entries(tar(("a", b""), end=False).getvalue() + bytes(BLOCK) + b"x" * BLOCK)


def test_a_flipped_bit_in_a_header_is_found() -> None:
    header = header_of(("f", b""))
    for position in [position for position in range(0, BLOCK, 37) if not 148 <= position < 156]:
        broken = bytearray(header)
        broken[position] ^= 0x10
        with pytest.raises(InvalidArgument):
            entries(bytes(broken))


@pytest.mark.parametrize(
    ("start", "field"),
    [
        (124, b"\xff" * 12),
        (124, b"-0000000001\0"),
        (108, b"\xff" * 8),
        (124, b"\x80" + b"\xff" * 11),
        (100, b"9999999\0"),
        (108, b"\x80\0\0\0\xff\xff\xff\xff"),
    ],
)
def test_numbers_that_cannot_be(start: int, field: bytes) -> None:
    header = header_of(("f", b""))
    header[start : start + len(field)] = field
    with pytest.raises(InvalidArgument):
        entries(checked(header))


def test_an_unknown_type() -> None:
    header = header_of(("f", b""))
    header[156:157] = b"Z"
    with pytest.raises(InvalidArgument, match="unknown type"):
        entries(checked(header))


@pytest.mark.parametrize("flag", [b"L", b"K", b"x", b"g"])
def test_long_headers_are_bounded(flag: bytes) -> None:
    header = header_of(("f", b""))
    header[156:157] = flag
    header[124:136] = b"77777777777\0"
    with pytest.raises(InvalidArgument, match="extended header of"):
        entries(checked(header))


def pax(body: bytes) -> bytes:
    header = header_of(("x", b""))
    header[156:157] = b"x"
    header[124:136] = b"%011o\0" % len(body)
    return checked(header) + body + bytes(-len(body) % BLOCK) + tar(("f", b"")).getvalue()


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        b"99 path=x\n",
        b"5 a=b\n",
        b"6 path\n",
        b"11 path=x\0y\n",
        b"15 size=-00001\n",
        b"29 size=99999999999999999999\n",
        b"18 uid=4294967295\n",
        b"12 mtime=x\n",
        b"37 mtime=99999999999999999999999999\n",
        b"21 GNU.sparse.map=1\n",
        b"32 LIBARCHIVE.xattr.user.a=!!!!\n",
    ],
)
def test_broken_extended_headers(body: bytes) -> None:
    with pytest.raises(InvalidArgument):
        entries(pax(body))


def test_a_name_with_a_nul_in_it() -> None:
    with pytest.raises(InvalidArgument):
        entries(pax(b"12 path=x\0y\n"))


@pytest.mark.parametrize(
    ("table", "size"),
    [("0,5,3,5", 100), ("0,200", 100), ("90,20", 100), ("0,5", 100), ("5,0,0,0", 100)],
    ids=["overlap", "beyond", "across", "stores-less", "unsorted"],
)
def test_sparse_maps_that_lie(table: str, size: int) -> None:
    records = {"GNU.sparse.map": table, "GNU.sparse.size": str(size), "GNU.sparse.name": "s"}
    with pytest.raises(InvalidArgument, match="sparse"):
        entries(tar(("f", b"1234567", {"pax_headers": records})).getvalue())


@pytest.mark.parametrize("lines", ["999999999\n", "2\n0\n5\n", "x\n", "1" * 600])
def test_sparse_maps_in_the_data_that_lie(lines: str) -> None:
    records = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "10", "GNU.sparse.name": "s"}
    body = lines.encode().ljust(BLOCK, b"\0")
    with pytest.raises((InvalidArgument, DataLoss)):
        entries(tar(("f", body, {"pax_headers": records})).getvalue())


def test_times_beyond_what_files_have_are_bounded() -> None:
    header = header_of(("f", b""))
    header[136:148] = b"\x80" + struct.pack(">Q", 1 << 60).rjust(11, b"\0")
    assert entries(checked(header))[0].mtime_ns == (1 << 63) - 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b", ("a", "b")),
        ("/a", ("", "a")),
        ("./a/./b//c", ("a/b", "c")),
        ("a/../b", ("", "b")),
        (".", ("", "")),
        ("/", ("", "")),
    ],
)
def test_split_name(name: str, expected: tuple[str, str]) -> None:
    assert split_name(name) == expected
