"""The copy engine: Docker's rules for targets, and nothing outside the root."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from scow.api import ignore
from scow.build.steps.modes import parse_mode
from scow.build.steps.place import Placement
from scow.build.tree import Tree, digest, select
from scow.errors import InvalidArgument, NotFound

NOTHING = ignore.Ignore()


class Roots:
    """A context to copy from and a root to copy into."""

    def __init__(self, folder: Path) -> None:
        self.context, self.root = folder / "context", folder / "root"
        self.context.mkdir()
        self.root.mkdir()
        self.context_fd = os.open(self.context, os.O_RDONLY)
        self.root_fd = os.open(self.root, os.O_RDONLY)
        self.tree = Tree(self.context_fd, owners=True, context=True)

    def close(self) -> None:
        os.close(self.context_fd)
        os.close(self.root_fd)

    def file(self, path: str, content: str = "", mode: int = 0o644) -> Path:
        made = self.context / path
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(content or path)
        made.chmod(mode)
        os.utime(made, (1000, 2000))
        return made

    def copy(
        self, *sources: str, to: str, parents: bool = False, exclude: tuple[str, ...] = (), chmod: str = ""
    ) -> None:
        excludes = ignore.patterns(exclude)
        matches = [match for source in sources for match in select(self.tree, source, "COPY", excludes, parents)]
        mine = (os.getuid(), os.getgid())
        Placement(self.root_fd, to, mine, parse_mode(chmod), excludes).place(matches, parents)

    def there(self) -> list[str]:
        found = []
        for folder, names, files in os.walk(self.root):
            below = os.path.relpath(folder, self.root)
            found += [os.path.normpath(os.path.join(below, name)) for name in files]
            found += [os.path.normpath(os.path.join(below, name)) + "/" for name in names]
        return sorted(found)

    def digest(self, *sources: str, chowned: bool = True) -> str:
        matches = [match for source in sources for match in select(self.tree, source, "COPY", NOTHING)]
        return digest(matches, NOTHING, chowned)


@pytest.fixture
def roots(tmp_path: Path) -> Iterator[Roots]:
    made = Roots(tmp_path)
    yield made
    made.close()


def test_a_file_becomes_the_target_or_goes_into_it(roots: Roots):
    roots.file("a")
    roots.copy("a", to="/x/y")
    roots.copy("a", to="/d/")
    roots.copy("/a", to="/d/again")
    roots.copy("a", to="/d")
    assert roots.there() == ["d/", "d/a", "d/again", "x/", "x/y"]
    assert (roots.root / "x/y").stat().st_mtime == 2000


def test_of_a_folder_the_content_is_copied(roots: Roots):
    roots.file("src/a")
    roots.file("src/sub/b", mode=0o755)
    (roots.context / "src/link").symlink_to("/etc/passwd")
    roots.copy("src", to="/app")
    assert roots.there() == ["app/", "app/a", "app/link", "app/sub/", "app/sub/b"]
    assert os.readlink(roots.root / "app/link") == "/etc/passwd"
    assert stat.S_IMODE((roots.root / "app/sub/b").stat().st_mode) == 0o755


def test_wildcards_are_go_s(roots: Roots):
    for name in ("a1", "a2", "b1", "sub/a3", "[x]"):
        roots.file(name)
    roots.copy("a*", to="/one/")
    roots.copy("*/a?", to="/two/")
    roots.copy("[^b]1", to="/three/")
    roots.copy("[[]x]", to="/four/")
    assert sorted(os.listdir(roots.root / "one")) == ["a1", "a2"]
    assert os.listdir(roots.root / "two") == ["a3"]
    assert os.listdir(roots.root / "three") == ["a1"]
    assert os.listdir(roots.root / "four") == ["[x]"]
    with pytest.raises(NotFound, match=r"excluded by .dockerignore: stat z\*: file does not exist"):
        roots.copy("z*", to="/five/")
    with pytest.raises(InvalidArgument, match="syntax error in pattern"):
        roots.copy("a[", to="/six/")


def test_sources_cannot_leave_the_context(roots: Roots, tmp_path: Path):
    (tmp_path / "outside").write_text("secret")
    (roots.context / "up").symlink_to("../outside")
    (roots.context / "abs").symlink_to(str(tmp_path / "outside"))
    for source in ("../outside", "up", "abs", "/../../outside"):
        with pytest.raises(NotFound):
            roots.copy(source, to="/x/")


def test_links_inside_the_context_are_followed_at_the_top(roots: Roots):
    roots.file("real/f")
    (roots.context / "link").symlink_to("real")
    (roots.context / "flink").symlink_to("/real/f")
    roots.copy("link", to="/a/")
    roots.copy("flink", to="/b/")
    roots.copy("link/f", to="/c")
    assert roots.there() == ["a/", "a/f", "b/", "b/flink", "c"]


def test_targets_cannot_leave_the_root(roots: Roots, tmp_path: Path):
    roots.file("f")
    outside = tmp_path / "outside"
    outside.mkdir()
    (roots.root / "etc").symlink_to(outside)
    (roots.root / "up").symlink_to("../outside")
    roots.copy("f", to="/etc/f")
    roots.copy("f", to="/up/f")
    roots.copy("f", to="/../../x")
    assert os.listdir(outside) == []


def test_links_in_the_root_are_followed_inside_it(roots: Roots):
    roots.file("src/lib/f")
    (roots.root / "usr/lib").mkdir(parents=True)
    (roots.root / "lib").symlink_to("usr/lib")
    roots.copy("src", to="/")
    roots.copy("src/lib/f", to="/lib/g")
    assert sorted(os.listdir(roots.root / "usr/lib")) == ["f", "g"]
    assert (roots.root / "lib").is_symlink()


def test_what_is_in_the_way(roots: Roots):
    roots.file("file")
    roots.file("d/x")
    roots.file("e/file/y")
    roots.copy("file", to="/target")
    roots.file("file", "new")
    roots.copy("file", to="/target")
    assert (roots.root / "target").read_text() == "new"
    with pytest.raises(InvalidArgument, match="cannot copy to non-directory: /target"):
        roots.copy("d", to="/target")
    with pytest.raises(InvalidArgument):
        roots.copy("file", to="/target/below")
    roots.copy("e", to="/")
    with pytest.raises(InvalidArgument, match="cannot replace the folder"):
        roots.copy("file", to="/")


def test_hard_links_stay_links(roots: Roots):
    roots.file("s/one")
    os.link(roots.context / "s/one", roots.context / "s/two")
    roots.copy("s", to="/d")
    assert (roots.root / "d/one").stat().st_ino == (roots.root / "d/two").stat().st_ino


def test_attributes_are_copied(roots: Roots):
    made = roots.file("f")
    try:
        os.setxattr(made, "user.note", b"v")
    except OSError:
        pytest.skip("the file system has no user attributes")
    roots.copy("f", to="/g")
    assert os.getxattr(roots.root / "g", "user.note") == b"v"


def test_ignored_and_excluded(roots: Roots):
    for name in ("s/a.txt", "s/b.md", "s/sub/c.txt", "s/sub/d.md", "s/out/only.txt", "t.txt"):
        roots.file(name)
    roots.tree.ignore = ignore.patterns(["s/sub", "!s/sub/d.md", "s/out"])
    roots.copy("s", "*.txt", to="/x/", exclude=("*.txt",))
    assert roots.there() == ["x/", "x/b.md", "x/sub/", "x/sub/d.md"]


def test_parents_keep_the_path_from_the_pivot(roots: Roots):
    roots.file("a/b/c/f")
    roots.file("a/b/d/g")
    roots.copy("a/b/c/f", to="/one/", parents=True)
    roots.copy("./a/./b/*/f", to="/two/", parents=True)
    roots.copy("a/b", to="/three/", parents=True)
    assert (roots.root / "one/a/b/c/f").is_file()
    assert (roots.root / "two/b/c/f").is_file()
    assert (roots.root / "three/a/b/d/g").is_file()


@pytest.mark.parametrize(
    ("text", "mode", "folder", "result"),
    [
        ("755", 0o600, False, 0o755), ("0644", 0o755, True, 0o644), ("4755", 0, False, 0o4755),
        ("u=rwX,go=rX", 0o600, False, 0o644), ("u=rwX,go=rX", 0o700, True, 0o755), ("u=rwX,go=rX", 0o711, False, 0o755),
        ("a+x", 0o644, False, 0o755), ("go-rwx", 0o777, False, 0o700), ("+t", 0o755, True, 0o1755),
        ("u+s,g=", 0o755, False, 0o4705),
    ],
)  # fmt: skip
def test_modes(text: str, mode: int, folder: bool, result: int):
    parsed = parse_mode(text)
    assert parsed is not None
    assert oct(parsed.of(mode, folder)) == oct(result)


@pytest.mark.parametrize("text", ["8", "99999", "u=z", "rwx", "u=r,", "10000"])
def test_modes_that_are_refused(text: str):
    with pytest.raises(InvalidArgument, match="invalid chmod parameter"):
        parse_mode(text)


def test_digests_see_content_names_and_modes_but_no_times(roots: Roots):
    made = roots.file("s/f", "content")
    first = roots.digest("s")
    os.utime(made, (5, 5))
    assert roots.digest("s") == first
    made.chmod(0o755)
    second = roots.digest("s")
    assert second != first
    made.write_text("changed")
    third = roots.digest("s")
    made.rename(made.with_name("g"))
    fourth = roots.digest("s")
    made.with_name("g").unlink()
    (roots.context / "s/g").symlink_to("x")
    fifth = roots.digest("s")
    assert len({first, second, third, fourth, fifth}) == 5


def test_the_digest_of_a_folder_does_not_depend_on_where_it_is(roots: Roots):
    roots.file("a/f", "x")
    roots.file("deep/b/f", "x")
    for folder in ("a", "deep/b"):
        (roots.context / folder).chmod(0o755)
    assert roots.digest("a") == roots.digest("deep/b")
    assert roots.digest("a/f") == roots.digest("deep/b/f")
