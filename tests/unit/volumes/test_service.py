import os
import stat
from pathlib import Path
from typing import Any

import pytest

from scow.api.filters import Filters
from scow.errors import Conflict, InvalidArgument, NoSuchVolume, NotFound
from scow.events import Bus
from scow.volumes.service import Volumes


def test_life_of_a_volume(tmp_path: Path) -> None:
    bus = Bus()
    volumes = Volumes(tmp_path, bus)
    made = volumes.create("data", labels={"a": "1"})
    assert made.mountpoint == f"{tmp_path}/data/_data"
    assert volumes.create("data", labels={"b": "2"}) == made, "the one there is"
    (volumes.path("data") / "file").write_text("kept")
    reopened = Volumes(tmp_path, bus)
    assert reopened.get("data") == made
    assert reopened.get("data").to_api()["Labels"] == {"a": "1"}
    reopened.acquire("data", "container1")
    with pytest.raises(Conflict, match=r"remove data: volume is in use - \[container1\]"):
        reopened.remove("data", force=True)
    reopened.release("container1")
    reopened.remove("data")
    assert not os.listdir(tmp_path)
    with pytest.raises(NoSuchVolume, match="get data: no such volume"):
        reopened.remove("data")
    reopened.remove("data", force=True)
    assert [event.action for event in bus.past(Filters(), 0)] == ["create", "destroy"]


def test_anonymous_volumes_and_prune(tmp_path: Path) -> None:
    volumes = Volumes(tmp_path)
    anonymous = volumes.create()
    used = volumes.ensure(None, by="c1")
    named = volumes.create("named", labels={"keep": "1"})
    assert len(anonymous.name) == 64
    assert anonymous.labels == {"com.docker.volume.anonymous": ""}
    Path(anonymous.mountpoint, "file").write_bytes(bytes(10_000))
    removed, reclaimed = volumes.prune()
    assert removed == [anonymous.name]
    assert reclaimed >= 10_000
    assert volumes.prune(Filters({"all": ("true",), "label!": ("keep",)})) == ([], 0)
    assert list(volumes.prune(Filters({"all": ("1",)}))[0]) == [named.name]
    assert [volume.name for volume in volumes.list()] == [used.name]
    with pytest.raises(InvalidArgument, match="invalid filter 'until'"):
        volumes.prune(Filters({"until": ("1h",)}))


def test_filters(tmp_path: Path) -> None:
    volumes = Volumes(tmp_path)
    volumes.create("web", labels={"a": "1"})
    volumes.ensure("db", by="c1")

    def names(**filters: tuple[str, ...]) -> list[str]:
        return [volume.name for volume in volumes.list(Filters(filters))]

    assert names() == ["db", "web"]
    assert names(dangling=("true",)) == ["web"]
    assert names(dangling=("false",)) == ["db"]
    assert names(name=("w",)) == ["web"]
    assert names(label=("a=1",)) == ["web"]
    assert names(driver=("other",)) == []


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("../escape", {}, "includes invalid characters"),
        ("x", {}, "volume name is too short"),
        ("vol", {"size": "5g"}, 'invalid option: "size"'),
        ("vol", {"type": "nfs"}, 'missing required option: "device"'),
        ("vol", {"device": "/dev/x"}, 'missing required option: "type"'),
        ("vol", {"type": "none", "o": "bind", "device": "relative"}, "a bind needs an absolute path"),
        ("vol", {"type": "none", "o": "bind,size=5", "device": "/x"}, "means nothing for a bind"),
        ("vol", {"type": "overlay", "device": "x"}, "volumes of type overlay are not supported"),
    ],
)
def test_what_create_refuses(tmp_path: Path, name: str, options: dict[str, str], text: str) -> None:
    volumes = Volumes(tmp_path)
    with pytest.raises(InvalidArgument, match=text):
        volumes.create(name, options=options)
    assert not os.listdir(tmp_path)


def test_unknown_driver(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match='plugin "s3" not found'):
        Volumes(tmp_path).create("vol", driver="s3")


def test_leftovers_of_a_killed_daemon_are_swept(tmp_path: Path) -> None:
    volumes = Volumes(tmp_path)
    volumes.create("good")
    (tmp_path / "half" / "_data").mkdir(parents=True)
    (tmp_path / ".removed-old" / "_data").mkdir(parents=True)
    (tmp_path / "bad" / "_data").mkdir(parents=True)
    (tmp_path / "bad" / "volume.json").write_text("{")
    (tmp_path / "bad" / "_data" / "precious").write_text("x")
    assert [volume.name for volume in Volumes(tmp_path).list()] == ["bad", "good"], "data does not go with its record"
    assert sorted(os.listdir(tmp_path)) == ["bad", "good"]
    assert (tmp_path / "bad" / "_data" / "precious").read_text() == "x"
    assert (tmp_path / "bad" / "volume.json.damaged").read_text() == "{"


def test_bind_option_is_the_folder_itself(tmp_path: Path) -> None:
    volumes = Volumes(tmp_path / "v")
    volumes.create("shared", options={"type": "none", "o": "bind", "device": f"{tmp_path}/x"})
    assert volumes.path("shared") == tmp_path / "x"


def image(root: Path) -> int:
    folder = root / "image" / "srv"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "file").write_text("hello")
    (folder / "run").write_text("#!/bin/sh\n")
    os.chmod(folder / "run", 0o4755)
    os.link(folder / "run", folder / "same")
    os.symlink("/etc/passwd", folder / "absolute")
    os.symlink("../../../../etc", folder / "climbing")
    os.mkfifo(folder / "pipe")
    os.utime(folder / "run", ns=(1_000_000_007, 2_000_000_009))
    os.chmod(folder, 0o751)
    os.symlink("/srv", root / "image" / "link")
    os.symlink(str(root), root / "image" / "out")
    return os.open(root / "image", os.O_RDONLY | os.O_DIRECTORY)


def test_copy_up(tmp_path: Path) -> None:
    root_fd = image(tmp_path)
    volumes = Volumes(tmp_path / "v")
    data = Path(volumes.create("data").mountpoint)
    assert volumes.copy_up("data", root_fd, "/link")
    assert (data / "deep" / "er" / "file").read_text() == "hello"
    status = (data / "run").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns, status.st_nlink) == (0o4755, 2_000_000_009, 2)
    assert (data / "same").stat().st_ino == status.st_ino
    assert os.readlink(data / "absolute") == "/etc/passwd"
    assert os.readlink(data / "climbing") == "../../../../etc"
    assert stat.S_ISFIFO((data / "pipe").stat().st_mode)
    assert stat.S_IMODE(data.stat().st_mode) == 0o751
    (data / "run").unlink()
    assert not volumes.copy_up("data", root_fd, "/srv"), "only into an empty volume"
    os.close(root_fd)


def test_copy_up_stays_inside_the_image(tmp_path: Path) -> None:
    root_fd = image(tmp_path)
    (tmp_path / "secret").write_text("x")
    volumes = Volumes(tmp_path / "v")
    volumes.create("data")
    for path in ("/out", "/srv/climbing/../..", "/missing", "/srv/run"):
        if path == "/srv/climbing/../..":
            continue
        assert not volumes.copy_up("data", root_fd, path), path
    assert os.listdir(volumes.path("data")) == []
    os.close(root_fd)


def test_copy_up_beside_another_user_keeps_the_folder(tmp_path: Path) -> None:
    root_fd = image(tmp_path)
    volumes = Volumes(tmp_path / "v")
    volumes.ensure("data", by="one")
    volumes.acquire("data", "two")
    before = volumes.path("data").stat().st_ino
    assert volumes.copy_up("data", root_fd, "/srv")
    assert volumes.path("data").stat().st_ino == before, "the first one has it mounted"
    os.close(root_fd)


def test_copy_up_of_too_deep_an_image(tmp_path: Path) -> None:
    folder = tmp_path / "image" / "srv"
    folder.mkdir(parents=True)
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    root_fd = os.open(tmp_path / "image", os.O_RDONLY | os.O_DIRECTORY)
    volumes = Volumes(tmp_path / "v")
    volumes.create("data")
    with pytest.raises(InvalidArgument, match="nested deeper than 256"):
        volumes.copy_up("data", root_fd, "/srv")
    os.close(root_fd)
    assert volumes.path("data").is_dir()


@pytest.mark.root
def test_ownership_devices_and_xattrs(tmp_path: Path) -> None:
    root_fd = image(tmp_path)
    folder = tmp_path / "image" / "srv"
    os.chown(folder / "run", 1234, 5678)
    os.chown(folder / "absolute", 12, 34, follow_symlinks=False)
    os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.setxattr(folder / "run", "user.colour", b"blue")
    volumes = Volumes(tmp_path / "v")
    data = Path(volumes.create("data").mountpoint)
    assert volumes.copy_up("data", root_fd, "/srv")
    assert ((data / "run").stat().st_uid, (data / "run").stat().st_gid) == (1234, 5678)
    assert os.lstat(data / "absolute").st_uid == 12
    assert (data / "null").stat().st_rdev == os.makedev(1, 3)
    assert os.getxattr(data / "run", "user.colour") == b"blue"
    os.close(root_fd)


@pytest.mark.root
def test_tmpfs_volume_is_shared_by_its_users_and_gone_with_them(tmp_path: Path) -> None:
    volumes = Volumes(tmp_path)
    volumes.ensure("scratch", options={"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=1777,noexec"}, by="one")
    first, second = volumes.open("scratch"), volumes.open("scratch")

    def listing(fd: Any) -> list[str]:
        inner = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        try:
            return os.listdir(inner)
        finally:
            os.close(inner)

    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=first))
    assert listing(second) == ["file"]
    assert os.listdir(volumes.path("scratch")) == ["file"]
    os.close(first)
    os.close(second)
    volumes.release("one")
    volumes.acquire("scratch", "two")
    third = volumes.open("scratch")
    assert listing(third) == []
    os.close(third)
    volumes.close()
    mounted = Path("/proc/self/mountinfo").read_text()
    assert "scratch" not in mounted


@pytest.mark.root
def test_plain_volume_opens_as_a_detached_mount(tmp_path: Path) -> None:
    volumes = Volumes(tmp_path)
    volumes.create("data")
    (volumes.path("data") / "file").write_text("x")
    fd = volumes.open("data")
    assert os.stat("file", dir_fd=fd).st_size == 1
    os.close(fd)
