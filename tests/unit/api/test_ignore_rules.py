"""The meaning of .dockerignore patterns, by moby's own examples."""

import pytest

from scow.api.ignore import parse, patterns
from scow.errors import InvalidArgument


@pytest.mark.parametrize(
    ("pattern", "path", "excluded"),
    [
        ("**", "file", True), ("**", "dir/file", True), ("**/", "file", True), ("**/", "dir/file", True),
        ("**/**", "dir/file", True), ("dir/**", "dir/file", True), ("dir/**", "dir/dir2/file", True),
        ("**/dir", "dir", True), ("**/dir", "a/dir", True), ("**/dir2/*", "dir/dir2/file", True),
        ("**/dir2/*", "dir/dir2/dir2/file", True), ("**/dir2/**", "dir/dir2/dir2/file", True),
        ("**file", "file", True), ("**file", "dir/file", True), ("**/file", "dir/dir/file", True),
        ("**/file*", "dir/dir/file.txt", True), ("**/file*txt", "dir/dir/file.txt", True),
        ("**/file*.txt*", "dir/dir/file.txt", True), ("**/*.txt", "a.txt", True), ("**/**/*.txt", "dir/b.txt", True),
        ("**/**/*.txt2", "dir/b.txt", False), ("a**/*.txt", "abc/d.txt", True), ("a/*.txt", "a/b.txt", True),
        ("a/*.txt", "a/b/c.txt", False), ("a/**", "a", False), ("*.go", "a/main.go", False), ("*.go", "main.go", True),
        ("/app", "app/x", True), ("app/", "app/x", True), ("./app", "app", True), ("app", "x/app", False),
        ("a[b-d]e", "ace", True), ("a[b-d]e", "ase", False), ("a[^b-d]e", "ase", True), ("a?c", "abc", True),
        ("a?c", "a/c", False), (r"a\*", "a*", True), (r"a\*", "ab", False), ("abc.def", "abcZdef", False),
        ("*/*.md", "x/y.md", True), (".*", ".git", True), (".*", "x/.git", False), ("file", "file/inner/deep", True),
        ("a(b)", "a(b)", True), ("**/.foo", "bar/.foo", True), ("**/.foo", "bar.foo", False),
    ],
)  # fmt: skip
def test_single_patterns(pattern: str, path: str, excluded: bool):
    assert patterns([pattern]).excluded(path) is excluded


def test_the_last_pattern_that_applies_wins():
    rules = parse(b"\xef\xbb\xbf# comment\n*\n!src\nsrc/*.tmp\n\n!src/keep.tmp\n")
    assert rules.excluded("README")
    assert not rules.excluded("src/main.c")
    assert rules.excluded("src/a.tmp")
    assert not rules.excluded("src/keep.tmp")


def test_a_folder_is_pruned_only_when_nothing_can_come_back():
    assert patterns(["build"]).prunes("build")
    assert not patterns(["build", "!build/keep"]).prunes("build")


def test_the_root_is_never_excluded():
    assert not patterns(["*"]).excluded(".")


@pytest.mark.parametrize("line", ["!", "a[", "a[]", "a\\", "x" * 2000])
def test_malformed_patterns_are_refused(line: str):
    with pytest.raises(InvalidArgument):
        patterns([line])


def test_hostile_patterns_take_no_time():
    rules = patterns(["**/" + "*a" * 200 + "b"])
    assert not rules.excluded("a" * 250 + "/" + "a" * 250)
