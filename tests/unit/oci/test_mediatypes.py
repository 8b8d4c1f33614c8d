"""What a media type says about bytes."""

from scow.oci import mediatypes as types


def test_layers_say_how_they_are_packed() -> None:
    assert [types.compression_of(kind) for kind in (types.OCI_LAYER, types.OCI_LAYER_GZIP, types.OCI_LAYER_ZSTD)] == [
        "",
        "gzip",
        "zstd",
    ]
    assert types.compression_of(types.DOCKER_LAYER) == "gzip"
    assert types.compression_of("text/plain") == ""
    assert types.is_layer(types.OCI_LAYER)
    assert not types.is_layer(types.OCI_CONFIG)


def test_foreign_layers_are_layers_that_are_not_pushed() -> None:
    assert types.is_foreign(types.DOCKER_LAYER_FOREIGN)
    assert types.is_layer(types.DOCKER_LAYER_FOREIGN)
    assert not types.is_foreign(types.OCI_LAYER_GZIP)


def test_manifests_and_indexes() -> None:
    assert types.is_manifest(types.OCI_MANIFEST)
    assert types.is_manifest(types.DOCKER_MANIFEST)
    assert types.is_index(types.OCI_INDEX)
    assert types.is_index(types.DOCKER_LIST)
    assert not types.is_index(types.OCI_MANIFEST)
