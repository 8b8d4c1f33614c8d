import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scow.containers.users import Identity, look_up, resolve
from scow.errors import InvalidArgument

PASSWD = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\nbroken\nodd:x:abc:1::/:\n"
GROUP = b"root:x:0:\napp:x:1000:\nwheel:x:10:app,root\ndocker:x:999:app\n"


@pytest.mark.parametrize(
    ("user", "identity"),
    [
        ("", Identity(0, 0, (0, 10), "/root")),
        ("root", Identity(0, 0, (0, 10), "/root")),
        ("app", Identity(1000, 1000, (1000, 10, 999), "/home/app")),
        ("1000", Identity(1000, 1000, (1000, 10, 999), "/home/app")),
        ("1234", Identity(1234, 0, (0,), "")),
        ("1234:55", Identity(1234, 55, (55,), "")),
        ("app:wheel", Identity(1000, 10, (10,), "/home/app")),
        ("app:10", Identity(1000, 10, (10,), "/home/app")),
    ],
)
def test_users(user, identity):
    assert resolve(user, [], PASSWD, GROUP) == identity


def test_added_groups():
    assert resolve("1234", ["wheel", "77"], PASSWD, GROUP).groups == (0, 10, 77)
    with pytest.raises(InvalidArgument, match="unable to find group nope: no matching entries in group file"):
        resolve("", ["nope"], PASSWD, GROUP)


@pytest.mark.parametrize(
    ("user", "sentence"),
    [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("app:nope", "unable to find group nope"),
        ("99999999999", "must be in range"),
        ("2147483648", "must be in range"),
        ("-1", "unable to find user -1"),
    ],
)
def test_unknown(user, sentence):
    with pytest.raises(InvalidArgument, match=sentence):
        resolve(user, [], PASSWD, GROUP)


@given(st.binary(max_size=300), st.binary(max_size=300), st.text(max_size=20))
def test_hostile_files_never_crash(passwd, group, user):
    try:
        found = resolve(user, [], passwd, group)
    except InvalidArgument:
        return
    assert 0 <= found.uid < 2**31
    assert 0 <= found.gid < 2**31


def test_files_are_read_inside_the_root_only(tmp_path):
    (tmp_path / "secret").write_text("evil:x:666:666::/:\n")
    root = tmp_path / "rootfs"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").symlink_to("../../secret")
    os.mkfifo(root / "etc/group")
    fd = os.open(root, os.O_PATH)
    try:
        with pytest.raises(InvalidArgument):
            look_up(fd, "evil")
        assert look_up(fd, "5").uid == 5
    finally:
        os.close(fd)
