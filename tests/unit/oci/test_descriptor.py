"""Descriptors there and back."""

import pytest

from scow.errors import InvalidArgument
from scow.oci.descriptor import Descriptor
from scow.oci.digest import digest_of
from scow.oci.platform import Platform


def test_every_field_goes_there_and_back() -> None:
    full = Descriptor("a/b", digest_of(b"x"), 5, Platform("linux", "arm", "v6"), {"k": "v"}, ("https://host/x",), "c/d")
    assert Descriptor.from_json(full.to_json()) == full
    assert full.to_json().keys() == {"mediaType", "digest", "size", "platform", "annotations", "urls", "artifactType"}
    assert full.bare().to_json().keys() == {"mediaType", "digest", "size"}


@pytest.mark.parametrize(
    "value", [None, [], "x", {}, {"digest": "x", "size": 1}, {"digest": digest_of(b""), "size": "1"}]
)
def test_refusals(value: object) -> None:
    with pytest.raises(InvalidArgument):
        Descriptor.from_json(value)
