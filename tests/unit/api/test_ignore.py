"""The client's reader of .dockerignore: moby's examples, and agreement with the builder's own reader."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scow.api.ignore import Ignore, parse
from scow.build.ignore import patterns
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
    assert Ignore([pattern]).excludes(path) is excluded


def test_the_last_pattern_that_applies_wins() -> None:
    rules = parse(b"\xef\xbb\xbf# comment\n*\n!src\nsrc/*.tmp\n\n!src/keep.tmp\n")
    assert [name for name in ("README", "src/main.c", "src/a.tmp", "src/keep.tmp") if rules.excludes(name)] == [
        "README",
        "src/a.tmp",
    ]
    assert rules.returns
    assert not parse(b"*.md\n").returns


@pytest.mark.parametrize("line", ["!", "a[", "a[b", "[]a]x["])
def test_malformed_patterns_are_named(line: str) -> None:
    with pytest.raises(InvalidArgument, match="pattern"):
        Ignore([line])


def test_a_huge_file_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="larger"):
        parse(b"a\n" * (1 << 20))


NAMES = st.lists(st.sampled_from(["a", "b", "ab", ".c", "a.txt", "x"]), min_size=1, max_size=4).map("/".join)
PIECES = st.lists(
    st.sampled_from([*string.ascii_lowercase[:3], "*", "**", "/", "?", "!", ".", "x", "[ab]"]), max_size=7
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES.map("".join), max_size=4), NAMES)
def test_the_client_and_the_builder_agree(lines: list[str], path: str) -> None:
    try:
        theirs = patterns(lines)
    except InvalidArgument:
        with pytest.raises(InvalidArgument):
            Ignore(lines)
        return
    assert Ignore(lines).excludes(path) is theirs.excluded(path)
