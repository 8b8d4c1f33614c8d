"""Manifests and indexes from outside, and choosing from them."""

import json
from typing import Any

import pytest

from scow.errors import InvalidArgument, NotFound, Unsupported
from scow.oci.descriptor import Descriptor
from scow.oci.digest import digest_of
from scow.oci.manifest import ATTESTATION, Index, Manifest, sniff
from scow.oci.mediatypes import DOCKER_LIST, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST
from scow.oci.platform import Platform

CONFIG = Descriptor(OCI_CONFIG, digest_of(b"config"), 6)
LAYER = Descriptor(OCI_LAYER_GZIP, digest_of(b"layer"), 5)


def encoded(**changes: Any) -> bytes:
    found = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG.to_json(), "layers": [LAYER.to_json()]}
    return json.dumps({key: value for key, value in (found | changes).items() if value is not ...}).encode()


def test_round_trip() -> None:
    manifest = Manifest(OCI_MANIFEST, CONFIG, (LAYER, LAYER), {"a": "b"}, subject=CONFIG, artifact_type="x/y")
    assert Manifest.parse(manifest.to_bytes()) == manifest
    index = Index(
        OCI_INDEX,
        (Descriptor(OCI_MANIFEST, digest_of(b"m"), 1, Platform("linux", "arm", "v7"), {"k": "v"}),),
        {"a": "b"},
    )
    assert Index.parse(index.to_bytes()) == index


def test_the_type_comes_from_the_document_the_server_or_the_fields() -> None:
    assert sniff(encoded(mediaType=...)) == OCI_MANIFEST
    assert sniff(encoded(mediaType=...), DOCKER_MANIFEST) == DOCKER_MANIFEST
    assert sniff(encoded(), "application/octet-stream") == OCI_MANIFEST
    assert sniff(b'{"schemaVersion":2,"manifests":[]}') == OCI_INDEX
    assert sniff(b'{"schemaVersion":2,"manifests":[]}', DOCKER_LIST) == DOCKER_LIST


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"a":NaN}',
        b"[" * 100_000,
        b"\xff\xfe",
        encoded(config=None),
        encoded(config=...),
        encoded(layers="x"),
        encoded(layers=[1]),
        encoded(layers=[{}]),
        encoded(manifests=[]),
        encoded(mediaType=OCI_INDEX),
        encoded(mediaType="x/y"),
        encoded(mediaType=7),
        encoded(layers=[LAYER.to_json() | {"size": -1}]),
        encoded(layers=[LAYER.to_json() | {"size": True}]),
        encoded(layers=[LAYER.to_json() | {"size": 1 << 63}]),
        encoded(layers=[LAYER.to_json() | {"digest": "sha256:../../etc"}]),
        encoded(layers=[LAYER.to_json()] * 2000),
        encoded(annotations={"a": 1}),
        encoded(config=CONFIG.to_json() | {"urls": [1]}),
        b" " * (5 << 20),
    ],
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        Manifest.parse(data)


def test_a_manifest_is_not_an_index_and_the_reverse() -> None:
    with pytest.raises(InvalidArgument, match="choose a platform"):
        Manifest.parse(b'{"schemaVersion":2,"manifests":[]}')
    with pytest.raises(InvalidArgument):
        Index.parse(encoded())


def test_a_type_that_was_announced_differently() -> None:
    with pytest.raises(InvalidArgument, match="announced"):
        Manifest.parse(encoded(), DOCKER_MANIFEST)


def test_schema_1_is_said_to_be_gone() -> None:
    with pytest.raises(Unsupported, match="schema 1"):
        Manifest.parse(b'{"schemaVersion":1,"fsLayers":[]}')


def entry(text: str | None, **notes: str) -> Descriptor:
    platform = Platform.parse(text) if text else None
    return Descriptor(OCI_MANIFEST, digest_of(repr((text, notes)).encode()), 1, platform, notes)


@pytest.mark.parametrize(
    ("there", "wanted", "chosen"),
    [
        (["linux/amd64", "linux/arm64/v8"], "linux/arm64", 1),
        (["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"], "linux/arm/v7", 1),
        (["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", 1),
        (["windows/amd64", "linux/amd64"], "linux/amd64", 1),
        (["linux/amd64/v2", "linux/amd64"], "linux/amd64", 1),
        ([None], "linux/amd64", 0),
    ],
)
def test_choosing(there: list[str | None], wanted: str, chosen: int) -> None:
    entries = tuple(entry(text) for text in there)
    assert Index(OCI_INDEX, entries).choose(Platform.parse(wanted)) == entries[chosen]


def test_nothing_to_choose_says_what_there_is() -> None:
    statement = entry("unknown/unknown", **{ATTESTATION: "attestation-manifest"})
    index = Index(OCI_INDEX, (entry("linux/s390x"), entry("linux/arm/v7"), statement))
    with pytest.raises(NotFound, match=r"no matching manifest for linux/arm/v6 .* there is linux/arm/v7, linux/s390x$"):
        index.choose(Platform.parse("linux/arm/v6"))
    assert len(index.images()) == 2
