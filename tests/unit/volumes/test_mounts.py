from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scow.errors import InvalidArgument
from scow.volumes.mounts import MountPoint, check_unique, image_volume, parse_bind, parse_mount, parse_tmpfs


def test_binds() -> None:
    bind = parse_bind("/srv/../data/:/var//lib/x/:ro,Z,rslave")
    assert (bind.type, bind.source, bind.destination) == ("bind", "/data", "/var/lib/x")
    assert (bind.readonly, bind.propagation, bind.mode, bind.create_source) == (True, "rslave", "ro,Z,rslave", True)
    assert parse_bind("/a:/b").propagation == "rprivate"


def test_volumes() -> None:
    volume = parse_bind("data:/var/lib/x:nocopy,ro")
    assert (volume.type, volume.name, volume.driver, volume.copy_up, volume.readonly) == (
        "volume", "data", "local", False, True,
    )  # fmt: skip
    anonymous = parse_bind("/var/lib/x")
    assert (anonymous.type, anonymous.name, anonymous.anonymous, anonymous.copy_up) == ("volume", "", True, True)
    assert parse_bind("data:/x", "nfs").driver == "nfs"
    assert image_volume("/x").anonymous


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "invalid volume specification"),
        ("a:b:c:d", "invalid volume specification"),
        ("/a:", "invalid volume specification"),
        (":/a", "invalid volume specification"),
        ("/a:b", "mount path must be absolute"),
        ("/a:/", "destination can't be '/'"),
        ("/a:/..", "destination can't be '/'"),
        ("relative/path:/x", "includes invalid characters for a local volume name"),
        ("../x:/x", "includes invalid characters"),
        ("x:/x", "volume name is too short"),
        ("/a:/b:wrong", "invalid mode: wrong"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("/a:/b:nocopy", "invalid mode: nocopy"),
        ("data:/b:rshared", "invalid mode: rshared"),
        ("/a:/b\0c", "not a valid path"),
    ],
)
def test_what_v_refuses(text: str, wrong: str) -> None:
    with pytest.raises(InvalidArgument, match=wrong):
        parse_bind(text)


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        mount = parse_bind(text)
    except InvalidArgument:
        return
    assert mount.destination.startswith("/")
    assert ".." not in mount.destination.split("/")


def test_mount_objects() -> None:
    bind = parse_mount(
        {
            "Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True,
            "BindOptions": {"Propagation": "shared", "NonRecursive": True, "ReadOnlyForceRecursive": True},
        }
    )  # fmt: skip
    assert bind == MountPoint(
        "bind", "/b", source="/a", readonly=True, propagation="shared", recursive=False, force_recursive_readonly=True
    )
    volume = parse_mount(
        {
            "Type": "volume", "Source": "data", "Target": "/b",
            "VolumeOptions": {"NoCopy": True, "Labels": {"a": "1"}, "Subpath": "x/y", "DriverConfig": {
                "Name": "local", "Options": {"type": "tmpfs"}}},
        }
    )  # fmt: skip
    assert (volume.copy_up, volume.labels, volume.subpath, volume.driver_options) == (
        False, {"a": "1"}, "x/y", {"type": "tmpfs"},
    )  # fmt: skip
    assert parse_mount({"Type": "volume", "Target": "/b"}).anonymous
    options = {"SizeBytes": 1 << 20, "Mode": 0o1777, "Options": [["noexec"], ["uid", "5"]]}
    assert parse_mount({"Type": "tmpfs", "Target": "/t", "TmpfsOptions": options}).options == (
        "size=1048576", "mode=1777", "noexec", "uid=5",
    )  # fmt: skip
    image = parse_mount({"Type": "image", "Source": "alpine", "Target": "/i", "ImageOptions": {"Subpath": "etc"}})
    assert (image.source, image.readonly, image.subpath) == ("alpine", True, "etc")


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ({"Type": "npipe", "Target": "/x"}, "mount type unknown"),
        ({"Type": "bind", "Source": "/a"}, "field Target must not be empty"),
        ({"Type": "bind", "Target": "/a"}, 'invalid mount config for type "bind": field Source must not be empty'),
        ({"Type": "bind", "Source": "a", "Target": "/a"}, "mount path must be absolute"),
        ({"Type": "bind", "Source": "/a", "Target": "/"}, "destination can't be '/'"),
        ({"Type": "bind", "Source": "/a", "Target": "/a", "VolumeOptions": {"NoCopy": True}}, "VolumeOptions must not"),
        ({"Type": "bind", "Source": "/a", "Target": "/a", "BindOptions": {"Propagation": "x"}}, "propagation mode: x"),
        ({"Type": "bind", "Source": "/a", "Target": "/a", "BindOptions": {"ReadOnlyNonRecursive": True}}, "read-only"),
        ({"Type": "bind", "Source": "/a", "Target": "/a", "ReadOnly": "yes"}, "ReadOnly must be true or false"),
        ({"Type": "bind", "Source": 5, "Target": "/a"}, "Source must be a text"),
        ({"Type": "volume", "Source": "a/b", "Target": "/a"}, "includes invalid characters"),
        ({"Type": "volume", "Source": "ab", "Target": "/a", "VolumeOptions": {"Subpath": "../x"}}, "relative path"),
        ({"Type": "volume", "Target": "/a", "VolumeOptions": {"Subpath": "x"}}, "anonymous volume"),
        ({"Type": "tmpfs", "Source": "x", "Target": "/a"}, "field Source must not be specified"),
        ({"Type": "tmpfs", "Target": "/a", "TmpfsOptions": {"Mode": 99999}}, "numbers"),
        ({"Type": "tmpfs", "Target": "/a", "TmpfsOptions": {"Options": [["lowerdir", "/"]]}}, "invalid tmpfs option"),
        ({"Type": "image", "Target": "/a"}, "field Source must not be empty"),
    ],
)
def test_what_mount_objects_refuse(value: Any, wrong: str) -> None:
    with pytest.raises(InvalidArgument, match=wrong):
        parse_mount(value)


def test_tmpfs() -> None:
    assert parse_tmpfs("/run", "size=64m,noexec,ro").readonly
    assert parse_tmpfs("/run", "").options == ()
    for wrong in ("size=x", "size", "upperdir=/x", "noexec=1"):
        with pytest.raises(InvalidArgument, match="invalid"):
            parse_tmpfs("/run", wrong)


def test_duplicates() -> None:
    with pytest.raises(InvalidArgument, match="Duplicate mount point: /x"):
        check_unique([parse_bind("/a:/x"), parse_bind("/b:/x/")])
