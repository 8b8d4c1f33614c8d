"""Paths below a root that somebody else filled."""

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scow.linux.fds import RESOLVE_NO_SYMLINKS, close_all_but, create_in_root, open_in_root, open_regular


@pytest.fixture
def root(tmp_path):
    inside = tmp_path / "root"
    inside.mkdir()
    fd = os.open(inside, os.O_PATH | os.O_DIRECTORY)
    yield fd, inside
    os.close(fd)


def where(fd: int) -> str:
    path = os.readlink(f"/proc/self/fd/{fd}")
    os.close(fd)
    return path


@pytest.mark.parametrize("path", ["/a/b", "a/b", "//a/./b/", "/../../a/b", "x/../a/b"])
def test_missing_folders_are_made(root, path):
    fd, inside = root
    (inside / "x").mkdir()
    assert where(create_in_root(fd, path, directory=True)) == f"{inside}/a/b"
    assert (inside / "a/b").is_dir()


def test_a_missing_file_is_made_empty_with_its_mode(root):
    fd, inside = root
    assert where(create_in_root(fd, "/etc/hosts", directory=False, mode=0o644)) == f"{inside}/etc/hosts"
    status = (inside / "etc/hosts").stat()
    assert stat.S_ISREG(status.st_mode)
    assert status.st_size == 0


@pytest.mark.parametrize("target", ["/deep/down", "../../../../deep/down", "deep/down", "/../deep/down"])
def test_dangling_links_are_followed_inside(root, target):
    fd, inside = root
    (inside / "link").symlink_to(target)
    assert where(create_in_root(fd, "link", directory=False)) == f"{inside}/deep/down"


def test_links_to_the_outside_stay_inside(root, tmp_path):
    fd, inside = root
    (tmp_path / "secret").write_text("outside")
    (inside / "up").symlink_to("../secret")
    (inside / "absolute").symlink_to(str(tmp_path / "secret"))
    with pytest.raises(FileNotFoundError):
        open_in_root(fd, "up", os.O_RDONLY)
    with pytest.raises(FileNotFoundError):
        open_in_root(fd, "absolute", os.O_RDONLY)
    assert where(create_in_root(fd, "up/x", directory=True)) == f"{inside}/secret/x"


def test_magic_links_are_refused(root):
    fd, inside = root
    (inside / "magic").symlink_to(f"/proc/self/fd/{fd}")
    with pytest.raises(OSError):
        open_in_root(fd, "magic", os.O_RDONLY)


def test_endless_links_and_files_on_the_way_are_refused(root):
    fd, inside = root
    (inside / "a").symlink_to("b/x")
    (inside / "b").symlink_to("a/x")
    (inside / "file").write_text("")
    with pytest.raises(OSError, match="levels of symbolic links"):
        create_in_root(fd, "a/c", directory=True)
    with pytest.raises(NotADirectoryError):
        create_in_root(fd, "file/x/y", directory=True)


names = st.sampled_from(["a", "b", "c", ".", "..", "l1", "l2", ""])


@given(st.lists(names, max_size=8), st.lists(names, max_size=5), st.lists(names, max_size=5))
def test_no_path_and_no_links_lead_out(tmp_path_factory, path, first, second):
    base = tmp_path_factory.mktemp("walk")
    inside = base / "root"
    (inside / "a").mkdir(parents=True)
    (inside / "a/l2").symlink_to("/".join(first) or ".")
    (inside / "l1").symlink_to("/" + "/".join(second))
    fd = os.open(inside, os.O_PATH | os.O_DIRECTORY)
    try:
        found = where(create_in_root(fd, "/".join(path) or ".", directory=True))
    except OSError:
        found = str(inside)
    finally:
        os.close(fd)
    assert found == str(inside) or found.startswith(f"{inside}/")
    assert sorted(entry.name for entry in base.iterdir()) == ["root"]


def test_closing_all_but_some():
    if (pid := os.fork()) == 0:
        kept = os.open("/", os.O_PATH)
        for _ in range(5):
            os.open("/", os.O_PATH)
        close_all_but({kept})
        probe = os.open("/proc/self/fd", os.O_RDONLY)
        left = {int(name) for name in os.listdir(probe)}
        # kept, probe, and the copy of probe that listdir works on
        os._exit(0 if kept in left and len([fd for fd in left if fd > 2]) == 3 else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_only_a_regular_file_is_opened(tmp_path):
    """Opening is what does the harm: a FIFO waits, a device acts."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "out").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        for name in ("file", "link", "/file"):
            with os.fdopen(open_regular(root, name)) as file:
                assert file.read() == "x"
        for name in ("pipe", ".", "out", "/etc/passwd"):
            with pytest.raises(OSError):
                open_regular(root, name)
        with pytest.raises(OSError):
            open_regular(root, "link", RESOLVE_NO_SYMLINKS)
    finally:
        os.close(root)
