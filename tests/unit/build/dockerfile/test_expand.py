"""Variables in Dockerfiles, against the reference's tables and a shell."""

import contextlib
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scow.build.dockerfile.expand import ExpansionError, document, word, words

V = {"a": "1", "empty": "", "path": "/usr/local/lib/x.tar.gz", "two": "x y", "_b9": "z"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$a", "1"), ("${a}", "1"), ("$a$a", "11"), ("x${a}y", "x1y"), ("$_b9", "z"), ("$missing", ""), ("$", "$"),
        ("a$", "a$"), ("$.x", "$.x"), (r"\$a", "$a"), (r"\\$a", r"\1"), ("'$a'", "$a"), ('"$a"', "1"), (r'"\$a"', "$a"),
        (r'"\n"', r"\n"), (r"\n", "n"), ('"it\'s"', "it's"), ("'a\"b'", 'a"b'), ('x"y z"w', "xy zw"), ("$two", "x y"),
        ("${missing:-d}", "d"), ("${empty:-d}", "d"), ("${empty-d}", ""), ("${missing-d}", "d"), ("${a:-d}", "1"),
        ("${a:+d}", "d"), ("${empty:+d}", ""), ("${empty+d}", "d"), ("${missing+d}", ""), ("${missing:-$a}", "1"),
        ("${missing:-${a:+${_b9}}}", "z"), ("${missing:-'q q'}", "q q"), ("${a:?no}", "1"), ("${empty?no}", ""),
        ("${path#*/}", "usr/local/lib/x.tar.gz"), ("${path##*/}", "x.tar.gz"), ("${path%.*}", "/usr/local/lib/x.tar"),
        ("${path%%.*}", "/usr/local/lib/x"), ("${path/l/L}", "/usr/Local/lib/x.tar.gz"),
        ("${path//l/L}", "/usr/LocaL/Lib/x.tar.gz"), ("${path//l/}", "/usr/oca/ib/x.tar.gz"),
        ("${path#?usr}", "/local/lib/x.tar.gz"), ("${path#nothing}", "/usr/local/lib/x.tar.gz"), ("$1", ""), ("$@", ""),
    ],
)  # fmt: skip
def test_one_word(text: str, value: str):
    assert word(text, V) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$two", ["x", "y"]),
        ('"$two"', ["x y"]),
        ("a b", ["a", "b"]),
        ("'' b", ["", "b"]),
        ("$missing", []),
        ("8$two", ["8x", "y"]),
    ],
)
def test_words_are_split_after_expansion(text: str, value: list[str]):
    assert words(text, V) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${a", "syntax error: missing '}'"),
        ("${a:-", "syntax error: missing '}'"),
        ("${}", "bad substitution"),
        ("${a:}", r"unsupported modifier \(:}\)"),
        ("${a!x}", r"unsupported modifier \(!\)"),
        ("${missing:?give it}", "missing: give it"),
        ("${missing?}", "missing: is not allowed to be unset"),
        ("${empty:?}", "empty: is not allowed to be empty"),
        ("'x", "single-quote"),
        ('"x', "double-quote"),
        ("${a:-" * 60 + "}" * 60, "nested deeper"),
    ],
)
def test_refusals(text: str, message: str):
    with pytest.raises(ExpansionError, match=message):
        word(text, V)


def test_the_backtick_can_be_the_escape():
    assert word("C:\\dir`$a$a", V, "`") == "C:\\dir$a1"


def test_doubling_variables_is_stopped():
    value = "x" * 1000
    with pytest.raises(ExpansionError, match="longer than"):
        word("$v" * 2000, {"v": value})
    with pytest.raises(ExpansionError, match="longer than"):
        word("${v//x/" + "y" * 2000 + "}", {"v": value})


def test_documents_keep_quotes_and_other_escapes():
    assert document("\"$a\" '$a' \\$a \\n \\\\ it's ${missing:-d}\n", V) == "\"1\" '1' $a \\n \\ it's d\n"


def test_hostile_patterns_take_no_time():
    assert word("${v##" + "*a" * 100 + "b}", {"v": "a" * 10_000}) == "a" * 10_000


@settings(max_examples=40, deadline=None)
@given(
    st.text(alphabet="ab./", max_size=8),
    st.sampled_from(["#", "##", "%", "%%"]),
    st.text(alphabet="ab./*?", min_size=1, max_size=4).filter(lambda text: "//" not in text),
)
def test_prefix_and_suffix_removal_agree_with_sh(value: str, sign: str, pattern: str):
    text = "${v" + sign + pattern + "}"
    said = subprocess.run(["/bin/sh", "-c", f'printf %s "{text}"'], env={"v": value}, capture_output=True, check=True)
    assert word(text, {"v": value}) == said.stdout.decode()


@given(st.text(alphabet="ab$ {}:-+#%/?'\"\\*_1", max_size=30))
def test_any_text_expands_or_is_refused(text: str):
    for expand in (word, words):
        with contextlib.suppress(ExpansionError):
            expand(text, V)


@given(st.text(alphabet=st.characters(exclude_characters="$\\'\"", exclude_categories=("Cs",)), max_size=50))
def test_text_without_signs_stays_as_it_is(text: str):
    assert word(text, V) == text
    assert document(text, V) == text
