"""Dockerfile lines: what joins them, what ends them, what is no instruction."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scow.build.dockerfile.lexer import MAX_SIZE, DockerfileError, heredocs_of, lex


def texts(data: bytes) -> list[str]:
    return [line.text for line in lex(data).lines]


def test_continuation_joins_lines_and_skips_comments_and_blanks_between():
    source = b"FROM a\nRUN one \\\n  # a comment\n\n  two \\\n    three\nCMD x\n"
    assert texts(source) == ["FROM a", "RUN one   two     three", "CMD x"]
    assert [line.line for line in lex(source).lines] == [1, 2, 7]


def test_a_trailing_blank_after_the_backslash_still_continues():
    assert texts(b"RUN a \\  \n b") == ["RUN a  b"]


def test_an_escaped_backslash_does_not_continue():
    assert texts(b"RUN a \\\\\nRUN b") == ["RUN a \\\\", "RUN b"]


def test_a_hash_inside_a_line_is_no_comment():
    assert texts(b"RUN echo # hi\n   # real\nRUN b") == ["RUN echo # hi", "RUN b"]


def test_byte_order_mark_and_crlf():
    assert texts(b"\xef\xbb\xbfFROM a\r\nRUN x \\\r\n y\r\n") == ["FROM a", "RUN x  y"]


def test_the_escape_directive_changes_the_continuation():
    source = lex(b"# escape=`\nRUN dir C:\\ `\n  more\n")
    assert source.escape == "`"
    assert [line.text for line in source.lines] == ["RUN dir C:\\   more"]


def test_directives_count_only_at_the_very_top():
    assert lex(b"# syntax=docker/dockerfile:1\n# check=skip=all\nFROM a").syntax == "docker/dockerfile:1"
    assert lex(b"# a comment\n# escape=`\nFROM a").escape == "\\"
    assert lex(b"FROM a\n# escape=`\n").escape == "\\"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"# escape=x\nFROM a", "invalid escape token 'x'"),
        (b"# escape=`\n# escape=`\nFROM a", "only one escape parser directive can be used"),
        (b"", "file with no instructions"),
        (b"# nothing\n\n", "file with no instructions"),
        (b"RUN <<EOF\nno end", "unterminated heredoc"),
        (b"#" * (MAX_SIZE + 1), "larger than"),
    ],
)
def test_refusals(source: bytes, words: str):
    with pytest.raises(DockerfileError, match=words):
        lex(source)


def test_heredoc_content_keeps_comments_blanks_and_carriage_returns():
    (line,) = lex(b"RUN <<EOF\n# not a comment\n\n  x \\\r\nEOF\n").lines
    assert line.heredocs[0].content == "# not a comment\n\n  x \\\r\n"
    assert line.end == 5


def test_dash_strips_tabs_of_content_and_terminator():
    (line,) = lex(b"COPY <<-EOF /x\n\t\ta\n\t b\n\t\tEOF\n").lines
    assert line.heredocs[0].text() == "a\n b\n"
    assert line.heredocs[0].content == "\t\ta\n\t b\n"


def test_several_heredocs_on_one_line_follow_in_order():
    one, two = lex(b"COPY <<A <<'B' /d/\n1\nA\n2\nB\nRUN x").lines
    assert [(here.name, here.content, here.expand) for here in one.heredocs] == [
        ("A", "1\n", True),
        ("B", "2\n", False),
    ]
    assert two.text == "RUN x"


@pytest.mark.parametrize("line", ["CMD <<EOF", 'RUN ["cat", "<<EOF"]', "RUN echo $((1<<2))", "ENV a=<<EOF"])
def test_what_is_no_heredoc(line: str):
    assert texts(f"{line}\nRUN b".encode())[1] == "RUN b"


def test_heredocs_after_onbuild_and_flags():
    assert lex(b"ONBUILD RUN --network=none <<E\nx\nE\n").lines[0].heredocs[0].content == "x\n"


def test_redirections_around_a_heredoc():
    assert heredocs_of("RUN cat <<EOF > /x 3<<-'Y'") == [("EOF", True, False), ("Y", False, True)]
    assert heredocs_of("RUN cat <<<word << EOF") == []


@given(st.binary(max_size=300))
def test_any_bytes_lex_or_are_refused(data: bytes):
    try:
        source = lex(data)
    except DockerfileError:
        return
    assert all(line.text.strip() for line in source.lines)
    assert [line.line for line in source.lines] == sorted(line.line for line in source.lines)


@given(st.lists(st.text(alphabet="abc \\#\"'<E\n\t", max_size=20), max_size=10))
def test_lines_never_overlap(parts: list[str]):
    data = "\n".join(["RUN x", *parts]).encode()
    try:
        lines = lex(data).lines
    except DockerfileError:
        return
    for before, after in itertools.pairwise(lines):
        assert before.end < after.line
