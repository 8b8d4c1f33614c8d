"""Reading a tree that a running program changes meanwhile."""

import os
from pathlib import Path

import pytest

from scow.snapshots.tarwriter import TarWriter
from scow.snapshots.tree import add_at, entry_at


@pytest.mark.parametrize("instead", ["pipe", "link", "folder"])
def test_a_file_exchanged_for_something_else_is_not_opened(tmp_path: Path, instead: str) -> None:
    """It could as well be a device, which its owner may make but not open: the engine must not in its place."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10)
    folder_fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    written: list[bytes] = []
    try:
        info = os.stat("file", dir_fd=folder_fd)
        entry = entry_at(folder_fd, "file", "file", info, {})
        assert entry is not None
        path.unlink()
        if instead == "pipe":
            os.mkfifo(path)
        elif instead == "link":
            path.symlink_to("/etc/passwd")
        else:
            path.mkdir()
        with pytest.raises(FileNotFoundError):  # what callers take for "gone meanwhile"
            add_at(TarWriter(written.append), folder_fd, "file", entry, info)
    finally:
        os.close(folder_fd)
    assert not written


def test_a_link_exchanged_for_a_file_counts_as_gone(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("elsewhere")
    folder_fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        info = os.stat("link", dir_fd=folder_fd, follow_symlinks=False)
        (tmp_path / "link").unlink()
        (tmp_path / "link").touch()
        with pytest.raises(FileNotFoundError):
            entry_at(folder_fd, "link", "link", info, {})
    finally:
        os.close(folder_fd)
