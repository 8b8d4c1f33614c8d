"""Digests are checked where they come in."""

import hashlib

import pytest

from scow.errors import InvalidArgument
from scow.oci.digest import Digest, digest_of


def test_of_data() -> None:
    found = digest_of(b"hello")
    assert found == "sha256:" + hashlib.sha256(b"hello").hexdigest()
    assert (found.algorithm, found.hex, found.short) == ("sha256", found[7:], found[7:19])
    assert Digest.parse(str(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "sha256:" + "g" * 64,
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 63,
        "a" * 64,
        "sha512:" + "a" * 128,
        "sha256:" + "a" * 64 + "\n",
        "sha256:../" + "a" * 61,
        None,
        5,
    ],
)
def test_refusals(text: object) -> None:
    with pytest.raises(InvalidArgument, match="invalid digest"):
        Digest.parse(text)
