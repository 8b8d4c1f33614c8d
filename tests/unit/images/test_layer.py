"""Layer blobs: one pass, the same bytes every time."""

import gzip
from pathlib import Path

import pytest
import zstandard

from scow.content.store import ContentStore
from scow.errors import InvalidArgument
from scow.images.layer import EMPTY_DIFF_ID, LayerWriter
from scow.oci.digest import digest_of

DATA = b"some layer " * 100_000


def packed(store: ContentStore, compression: str, step: int) -> bytes:
    with LayerWriter(store, compression) as writer:
        for start in range(0, len(DATA), step):
            writer.write(DATA[start : start + step])
        layer, diff_id = writer.commit()
    assert diff_id == digest_of(DATA)
    blob = store.read(layer.digest)
    assert len(blob) == layer.size
    return blob


def test_digest_and_diff_id(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    assert gzip.decompress(packed(store, "gzip", 1 << 16)) == DATA
    assert zstandard.ZstdDecompressor().decompressobj().decompress(packed(store, "zstd", 1 << 16)) == DATA
    assert packed(store, "", 1 << 16) == DATA


def test_the_same_tar_gives_the_same_blob_however_it_comes(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    assert len({packed(store, "gzip", step) for step in (len(DATA), 1 << 19)}) == 1
    assert packed(store, "gzip", 1 << 20)[4:8] == bytes(4), "no time in the header"


def test_leaving_without_commit_leaves_nothing(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    with LayerWriter(store) as writer:
        writer.write(DATA)
    assert list(store.walk()) == []
    assert list((tmp_path / "ingest").iterdir()) == []


def test_an_unknown_compression(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="use gzip or zstd"):
        LayerWriter(ContentStore(tmp_path), "lzw")


def test_the_layer_in_which_nothing_changed() -> None:
    assert digest_of(bytes(1024)) == EMPTY_DIFF_ID
