import posixpath

from hypothesis import given
from hypothesis import strategies as st

from scow.containers.paths import below, clean, rests_on, split


@given(st.text(alphabet="a./", max_size=20))
def test_clean_is_gos_join(path):
    assert clean(path) == "/" + posixpath.normpath("/" + path).lstrip("/")


def test_below():
    assert below("/a/b", "/a") == "b"
    assert below("/a", "/a") == ""
    assert below("/ab", "/a") is None
    assert below("/a/b", "/") == "a/b"
    assert below("/", "/") == ""


def test_split_and_rest():
    assert split("/a/b") == ("/a", "b")
    assert split("/a") == ("/", "a")
    assert split("/") == ("/", "/")
    assert rests_on("a/.")
    assert rests_on("a/")
    assert not rests_on("a")
