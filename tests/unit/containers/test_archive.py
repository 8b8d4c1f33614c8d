"""Paths of a stopped container: what is found, what is packed, where an archive may be unpacked."""

import base64
import contextlib
import io
import json
import os
import tarfile

import pytest

from scow.api.containers import CreateBody, HostConfig
from scow.containers import archive
from scow.errors import Forbidden, InvalidArgument, NotFound
from support.fake_rooms import House


@pytest.fixture
def house(tmp_path):
    import asyncio

    async def main():
        made = House(tmp_path)
        (tmp_path / "bound").mkdir()
        (tmp_path / "bound/inside").write_text("bound")
        host = HostConfig(binds=["data:/data", f"{tmp_path}/bound:/ro:ro"])
        await made.containers.create("web", CreateBody(image="busybox", host_config=host))
        frozen = HostConfig(readonly_rootfs=True)
        await made.containers.create("frozen", CreateBody(image="busybox", host_config=frozen))
        return made

    made = asyncio.run(main())
    made.context = made.containers._context
    made.rootfs = made.snapshots.root / made.containers.get("web").id
    (made.rootfs / "srv").mkdir()
    (made.rootfs / "srv/file").write_text("hello")
    (made.rootfs / "srv/link").symlink_to("/etc/passwd")
    (made.rootfs / "escape").symlink_to("../../../../../../etc")
    (made.rootfs / "to-data").symlink_to("/data")
    (tmp_path / "volumes/data/_data/kept").write_text("volume")
    yield made
    assert not made.leaked()


def packed(house, path):
    out = io.BytesIO()
    archive.pack(house.context, "web", path, out.write)
    return tarfile.open(fileobj=io.BytesIO(out.getvalue()))


def tar(*entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(content)
            info.uid, info.gid = os.geteuid(), os.getegid()
            made.addfile(info, io.BytesIO(content or b""))
    out.seek(0)
    return out


def test_stat(house):
    found = archive.stat_path(house.context, "web", "srv/file")
    assert (found["name"], found["size"], found["mode"], found["linkTarget"]) == ("file", 5, 0o644, "")
    folder = archive.stat_path(house.context, "web", "/srv/")
    assert folder["mode"] & 1 << 31
    link = archive.stat_path(house.context, "web", "/srv/link")
    assert link["mode"] & 1 << 27
    assert link["linkTarget"] == "/etc/passwd"
    header = archive.stat_header(found)
    assert json.loads(base64.b64decode(header)) == found


@pytest.mark.parametrize("path", ["/nope", "/srv/file/below", "/srv/nope/x", "/escape/hostname"])
def test_missing(house, path):
    with pytest.raises(NotFound, match=f"Could not find the file {path} in container"):
        archive.stat_path(house.context, "web", path)


def test_links_stay_inside(house):
    assert archive.stat_path(house.context, "web", "/escape/passwd")["size"] == len(
        (house.rootfs / "etc/passwd").read_bytes()
    )
    with pytest.raises(InvalidArgument):
        archive.stat_path(house.context, "web", "")


def test_pack(house):
    with packed(house, "/srv") as found:
        assert found.getnames() == ["srv", "srv/file", "srv/link"]
        assert found.extractfile("srv/file").read() == b"hello"
    with packed(house, "/srv/.") as found:
        assert found.getnames()[0] in (".", "")
        assert "./file" in found.getnames()
    with packed(house, "/srv/link") as found:
        assert found.getmembers()[0].issym()
    with packed(house, "/srv/file") as found:
        assert found.getnames() == ["file"]


@pytest.mark.parametrize("path", ["/data/kept", "/to-data/kept", "data/../data/kept"])
def test_volumes_are_looked_into(house, path):
    assert archive.stat_path(house.context, "web", path)["size"] == 6
    with packed(house, path) as found:
        assert found.extractfile("kept").read() == b"volume"


def test_unpack(house, tmp_path):
    archive.unpack(house.context, "web", "/srv", tar(("new", b"1"), ("dir", None), ("dir/x", b"2")))
    assert (house.rootfs / "srv/dir/x").read_bytes() == b"2"
    archive.unpack(house.context, "web", "/data", tar(("fresh", b"3")))
    assert (tmp_path / "volumes/data/_data/fresh").read_bytes() == b"3"
    archive.unpack(house.context, "web", "/escape", tar(("evil", b"4")))
    assert (house.rootfs / "etc/evil").read_bytes() == b"4"


def test_unpack_compressed(house):
    import gzip

    archive.unpack(house.context, "web", "/srv", io.BytesIO(gzip.compress(tar(("z", b"1")).getvalue())))
    assert (house.rootfs / "srv/z").exists()


@pytest.mark.parametrize(
    ("ref", "path", "kind", "sentence"),
    [
        ("web", "/srv/file", InvalidArgument, "not a directory"),
        ("web", "/nope", NotFound, "Could not find the file"),
        ("web", "/ro", Forbidden, "mounted volume is marked read-only"),
        ("frozen", "/etc", Forbidden, "container rootfs is marked read-only"),
    ],
)
def test_where_nothing_may_be_put(house, ref, path, kind, sentence):
    with pytest.raises(kind, match=sentence):
        archive.unpack(house.context, ref, path, tar(("x", b"1")))


def test_kinds_are_kept_when_asked(house):
    with pytest.raises(InvalidArgument):
        archive.unpack(house.context, "web", "/", tar(("srv", b"a file")), keep_kinds=True)
    assert (house.rootfs / "srv/file").exists()


def test_hostile_archives(house):
    for name in ("../../../../tmp/scow-escape", "/tmp/scow-escape", "escape/../../scow-escape"):
        with contextlib.suppress(InvalidArgument):
            archive.unpack(house.context, "web", "/srv", tar((name, b"x")))
        assert not os.path.exists("/tmp/scow-escape")
    with pytest.raises(InvalidArgument):
        archive.unpack(house.context, "web", "/srv", io.BytesIO(b"no archive at all" * 100))


def test_loops_end(house):
    (house.rootfs / "one").symlink_to("/two")
    (house.rootfs / "two").symlink_to("/one")
    with pytest.raises(InvalidArgument):
        archive.stat_path(house.context, "web", "/one/x")


def test_export(house):
    out = io.BytesIO()
    archive.export(house.context, "web", out.write)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as found:
        names = found.getnames()
    assert "srv/file" in names
    assert "etc/passwd" in names
    assert "." not in names
