"""What of a folder is sent to the builder."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from scow.cli.build_context import OUTSIDE, chosen, is_remote
from scow.errors import InvalidArgument


def names(place: Path | str, dockerfile: str = "") -> list[str]:
    context = chosen(str(place), dockerfile)
    assert context.chunks is not None
    with tarfile.open(fileobj=io.BytesIO(b"".join(context.chunks))) as archive:
        return archive.getnames()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    for name in ("Dockerfile", "a.txt", "a.log", "docs/b.md", "docs/keep.md", "node_modules/x/y.js", "src/m.c"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def test_everything_goes_without_rules(folder: Path) -> None:
    assert "node_modules/x/y.js" in names(folder)


def test_rules_keep_files_at_home(folder: Path) -> None:
    (folder / ".dockerignore").write_text("*.log\nnode_modules\ndocs\n!docs/keep.md\nDockerfile\n.dockerignore\n")
    assert names(folder) == [".dockerignore", "Dockerfile", "a.txt", "docs/keep.md", "src", "src/m.c"]


def test_a_dockerfile_has_rules_of_its_own(folder: Path) -> None:
    (folder / ".dockerignore").write_text("a.txt\n")
    (folder / "Other").write_text("FROM x")
    (folder / "Other.dockerignore").write_text("src\n")
    found = names(folder, str(folder / "Other"))
    assert "a.txt" in found
    assert "src/m.c" not in found


def test_a_dockerfile_from_elsewhere_travels_along(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "Else").write_text("FROM elsewhere")
    context = chosen(str(folder), str(tmp_path / "Else"))
    assert context.dockerfile == OUTSIDE
    assert context.chunks is not None
    with tarfile.open(fileobj=io.BytesIO(b"".join(context.chunks))) as archive:
        content = archive.extractfile(OUTSIDE)
        assert content is not None
        assert content.read() == b"FROM elsewhere"


def test_a_dockerfile_is_found_from_here_and_in_the_context(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "D").write_text("FROM x")
    assert chosen(str(folder), "sub/D").dockerfile == "sub/D"
    monkeypatch.chdir(folder / "sub")
    assert chosen("..", "D").dockerfile == "sub/D"


def test_owners_are_not_sent(folder: Path) -> None:
    context = chosen(str(folder), "")
    assert context.chunks is not None
    with tarfile.open(fileobj=io.BytesIO(b"".join(context.chunks))) as archive:
        assert {(info.uid, info.gid) for info in archive} == {(0, 0)}


def test_links_are_sent_as_links(folder: Path) -> None:
    os.symlink("/etc", folder / "etc")
    assert "etc" in names(folder)
    assert not any(name.startswith("etc/") for name in names(folder))


@pytest.mark.parametrize(
    ("place", "dockerfile", "message"),
    [
        ("nothere", "", 'path "nothere" not found'),
        (".", "nothere", "unable to evaluate symlinks in Dockerfile path"),
        ("-", "-", "can't use stdin for both"),
        ("https://example.com/x.tar", "-", "needs a context that is a folder"),
    ],
)
def test_what_cannot_be_sent(
    place: str, dockerfile: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidArgument, match=message):
        chosen(place, dockerfile)


def test_a_bad_pattern_is_named(folder: Path) -> None:
    (folder / ".dockerignore").write_text("a[\n")
    with pytest.raises(InvalidArgument, match=r"'a\[' in \.dockerignore"):
        chosen(str(folder), "")


def test_what_the_daemon_fetches_itself() -> None:
    assert all(map(is_remote, ("https://h/x.tar", "git@github.com:a/b.git", "github.com/a/b", "git://h/r")))
    assert not any(map(is_remote, (".", "/tmp", "dir")))
    assert chosen("https://h/r.git#main:sub", "D").remote == "https://h/r.git#main:sub"
