"""Which files of a context take no part: moby's examples, what the client asks, and hostile files."""

import pytest

from scow.api.ignore import parse, patterns
from scow.errors import InvalidArgument


@pytest.mark.parametrize(
    ("pattern", "path", "excluded"),
    [
        ("**", "dir/file", True), ("dir/**", "dir/dir2/file", True), ("**/dir", "a/dir", True),
        ("**file", "d/file", True),
        ("**/**/*.txt", "dir/b.txt", True), ("a/*.txt", "a/b/c.txt", False), ("a/**", "a", False),
        ("*.go", "a/main.go", False), ("*.go", "main.go", True), ("/app", "app/x", True), ("app/", "app/x", True),
        ("app", "x/app", False), ("a[b-d]e", "ace", True), ("a[^b-d]e", "ase", True), ("a?c", "a/c", False),
        (r"a\*", "a*", True), (r"a\*", "ab", False), ("abc.def", "abcZdef", False), ("a(b)", "a(b)", True),
        ("**/.foo", "bar.foo", False), ("file", "file/inner/deep", True),
    ],
)  # fmt: skip
def test_single_patterns(pattern: str, path: str, excluded: bool) -> None:
    assert patterns([pattern]).excluded(path) is excluded


def test_the_last_pattern_that_applies_wins() -> None:
    rules = parse(b"\xef\xbb\xbf# comment\n*\n!src\nsrc/*.tmp\n\n!src/keep.tmp\n")
    assert [name for name in ("README", "src/main.c", "src/a.tmp", "src/keep.tmp") if rules.excluded(name)] == [
        "README",
        "src/a.tmp",
    ]
    assert rules.returns
    assert not parse(b"*.md\n").returns


@pytest.mark.parametrize("line", ["!", "a[", "a[b", "[]a]x["])
def test_malformed_patterns_are_named(line: str) -> None:
    with pytest.raises(InvalidArgument, match="pattern"):
        patterns([line])


def test_a_huge_file_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="larger"):
        parse(b"a\n" * (1 << 20))
