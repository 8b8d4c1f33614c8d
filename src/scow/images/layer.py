"""Making layer blobs: a tar goes in, digest and diff id come out, in one pass.

gzip is isal's level 1 with no time and no name in its header, so the same tar always gives the same blob.
"""

import hashlib
from types import TracebackType
from typing import Protocol

import zstandard
from isal import isal_zlib

from scow.content.store import ContentStore
from scow.errors import InvalidArgument
from scow.oci.descriptor import Descriptor
from scow.oci.digest import Digest
from scow.oci.mediatypes import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD

EMPTY_DIFF_ID = Digest.parse("sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef")
"""The diff id of a layer in which nothing changed: 1024 zero bytes."""
_PIECE = 512 << 10
_GZIP_LEVEL = 1
_GZIP_WINDOW = 31
_ZSTD_LEVEL = 3
_TYPES = {"gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD, "": OCI_LAYER}


class _Packer(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class LayerWriter:
    """Compresses, hashes and stores what is written; use with ``with`` and end with `commit`."""

    def __init__(self, content: ContentStore, compression: str = "gzip") -> None:
        """Begin a layer; `compression` is "gzip", "zstd" or "" (none).

        Raises:
            InvalidArgument: another compression.
        """
        if compression not in _TYPES:
            raise InvalidArgument(f"layers cannot be compressed with {compression!r}: use gzip or zstd")
        self._media_type = _TYPES[compression]
        self._ingest = content.open_ingest(f"layer of {id(self)}")
        self._ingest.truncate(0)
        self._diff = hashlib.sha256()
        self._pending: list[bytes] = []
        self._waiting = 0
        self.size = 0
        """Bytes written, uncompressed."""
        self._packer: _Packer | None = None
        if compression == "gzip":
            self._packer = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP_WINDOW)
        elif compression == "zstd":
            self._packer = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()

    def write(self, data: bytes) -> None:
        """Append `data` to the tar.

        Raises:
            NoSpace: the disk is full.
        """
        self._pending.append(data)
        self._waiting += len(data)
        if self._waiting >= _PIECE:
            self._flush()

    def commit(self) -> tuple[Descriptor, Digest]:
        """Make the blob visible: its descriptor, and the diff id (digest of the uncompressed tar)."""
        self._flush()
        if self._packer is not None:
            self._ingest.write(self._packer.flush())
        blob = self._ingest.commit()
        return Descriptor(self._media_type, blob.digest, blob.size), Digest.of_hash(self._diff)

    def _flush(self) -> None:
        data = b"".join(self._pending)
        self._pending.clear()
        self._waiting = 0
        self.size += len(data)
        self._diff.update(data)
        self._ingest.write(data if self._packer is None else self._packer.compress(data))

    def __enter__(self) -> "LayerWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ingest.abort()
