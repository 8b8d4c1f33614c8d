"""Users and owners by name, in a root that may be hostile."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from scow.build.users import User, lookup, owner
from scow.errors import InvalidArgument

PASSWD = "# comment\nroot:x:0:0::/root:/bin/sh\nbob:x:1000:1001::/home/bob:/bin/sh\nodd:x:x:y\n2000:x:7:8::/n:\n"
GROUP = "root:x:0:\nbob:x:1001:\nstaff:x:50:al,bob\nwheel:x:10:bob\n"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", User(0, 0, (), "/root")), ("bob", User(1000, 1001, (50, 10), "/home/bob")),
        ("1000", User(1000, 1001, (50, 10), "/home/bob")), ("bob:staff", User(1000, 50, (), "/home/bob")),
        ("bob:77", User(1000, 77, (), "/home/bob")), ("4242", User(4242, 0, (), "/")), ("5:6", User(5, 6, (), "/")),
        ("2000", User(7, 8, (), "/n")),
    ],
)  # fmt: skip
def test_users(root: int, text: str, found: User):
    assert lookup(root, text) == found


@pytest.mark.parametrize(
    ("text", "ids"),
    [("bob", (1000, 1001)), ("1234", (1234, 1234)), ("bob:staff", (1000, 50)), ("5:6", (5, 6)), (":staff", (0, 50))],
)
def test_owners(root: int, text: str, ids: tuple[int, int]):
    assert owner(root, text) == ids


@pytest.mark.parametrize(
    ("text", "words"),
    [("nobody", "unable to find user nobody"), ("bob:nogroup", "unable to find group nogroup"), ("99999999999", "")],
)
def test_users_that_are_refused(root: int, text: str, words: str):
    with pytest.raises(InvalidArgument, match=words or None):
        lookup(root, text)


def test_the_files_are_looked_up_inside_the_root(tmp_path: Path):
    (tmp_path / "etc").symlink_to("/etc")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(InvalidArgument):
            lookup(fd, "root")
        assert lookup(fd, "0") == User(0, 0, (), "/")
    finally:
        os.close(fd)


def test_a_passwd_that_is_no_file(tmp_path: Path):
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/passwd")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert lookup(fd, "3:4") == User(3, 4, (), "/")
    finally:
        os.close(fd)
