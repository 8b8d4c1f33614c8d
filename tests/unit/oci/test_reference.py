"""References: Docker's grammar, defaults and refusals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scow.errors import InvalidArgument
from scow.oci.reference import Reference

HEX = "a" * 64


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("docker.io/library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"),
        ("reg.example/a/b/c:t", "reg.example/a/b/c:t", "reg.example/a/b/c:t"),
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        ("Host/x", "Host/x:latest", "Host/x:latest"),
        (f"busybox@sha256:{HEX}", f"docker.io/library/busybox@sha256:{HEX}", f"busybox@sha256:{HEX}"),
        (f"x:1@sha256:{HEX}", f"docker.io/library/x:1@sha256:{HEX}", f"x:1@sha256:{HEX}"),
        ("a__b-c.d---e", "docker.io/library/a__b-c.d---e:latest", "a__b-c.d---e:latest"),
    ],
)
def test_forms(text: str, canonical: str, familiar: str) -> None:
    found = Reference.parse(text)
    assert (str(found), found.familiar()) == (canonical, familiar)
    assert Reference.parse(canonical) == Reference.parse(familiar) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":tag",
        "@",
        "x:",
        "x@",
        "x@sha256:abc",
        f"x@md5:{HEX}",
        "-x",
        "x-",
        "x/",
        "/x",
        "a//b",
        "x..y",
        "x___y",
        "x:-t",
        "x:" + "t" * 129,
        "a b",
        "x\n",
        "http://x/y",
        "x:t:u",
        f"x@sha256:{HEX}@sha256:{HEX}",
        "réf",
        "a/" * 130 + "b",
        "x" * 5000,
        "reg:port/x",
        "[::1/x",
        "_x",
        ".",
    ],
)
def test_refusals(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"invalid reference format|repository name must"):
        Reference.parse(text)


def test_dockers_words_for_the_two_common_mistakes() -> None:
    with pytest.raises(InvalidArgument, match=r"repository name \(library/Foo\) must be lowercase"):
        Reference.parse("Foo")
    with pytest.raises(InvalidArgument, match="cannot specify 64-byte hexadecimal strings"):
        Reference.parse(HEX)


def test_without_default_tag() -> None:
    assert Reference.parse("x", None).tag is None
    assert Reference.parse("x", "v1").tag == "v1"


def test_tags_and_digests_are_exchanged() -> None:
    found = Reference.parse(f"x:1@sha256:{HEX}")
    assert str(found.with_tag("2")) == "docker.io/library/x:2"
    assert found.digest is not None
    assert str(Reference.parse("x:1").with_digest(found.digest)) == f"docker.io/library/x@sha256:{HEX}"
    with pytest.raises(InvalidArgument):
        found.with_tag("no tag")


@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        found = Reference.parse(text)
    except InvalidArgument:
        return
    assert Reference.parse(str(found)) == found
    assert Reference.parse(found.familiar()) == found
