"""Layers into snapshots: decompress, prove the diff id, apply, commit under the chain id.

A layer whose snapshot is there already costs nothing. Inflating and hashing run in a thread beside the one that
writes files: both release the interpreter, so a pull uses two processors. Nothing is committed before its diff id is
proved.
"""

import contextlib
import hashlib
import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import BinaryIO

from scow.content.store import ContentStore
from scow.errors import AlreadyExists, DigestMismatch, EngineError, InvalidArgument, NotFound
from scow.oci.descriptor import Descriptor
from scow.oci.digest import Digest
from scow.oci.mediatypes import is_layer
from scow.snapshots.apply import apply
from scow.snapshots.compression import unpacked
from scow.snapshots.layers import chain_ids
from scow.snapshots.snapshotter import ACTIVE, Snapshotter
from scow.snapshots.tarstream import Readable

KEY = "unpack-"
"""What the keys of snapshots being unpacked begin with; any that exist at start belong to a dead process."""
_PIECE = 1 << 20
_AHEAD = 8

Progress = Callable[[int, int, int], None]
"""Called with (index of the layer, bytes of it read, bytes it has)."""


def unpack(
    content: ContentStore,
    snapshots: Snapshotter,
    layers: Sequence[Descriptor],
    diff_ids: Sequence[Digest],
    progress: Progress | None = None,
) -> str | None:
    """Make the snapshots of a stack of layers; the chain id of the top, None for no layers.

    Raises:
        NotFound: a layer blob is missing.
        DigestMismatch: a layer is not what the config says.
        InvalidArgument: a layer of a type this engine does not know, or a hostile one.
        NoSpace: the disk is full; snapshots of finished layers stay.

    Blocking; two callers may unpack the same layers at once.
    """
    chain = chain_ids(diff_ids)
    start = next((height + 1 for height in reversed(range(len(chain))) if snapshots.exists(chain[height])), 0)
    for height in range(start, len(chain)):
        layer = layers[height]
        if layer.media_type and not is_layer(layer.media_type):
            raise InvalidArgument(
                f"layer {height + 1} is of type {layer.media_type[:100]!r}, which is no filesystem layer"
            )
        parent = chain[height - 1] if height else None
        unpack_one(content, snapshots, layer, diff_ids[height], chain[height], parent, height, progress)
    return chain[-1] if chain else None


def sweep(snapshots: Snapshotter) -> None:
    """Remove what a dead process was unpacking."""
    for info in list(snapshots.walk()):
        if info.kind == ACTIVE and info.name.startswith(KEY):
            with contextlib.suppress(NotFound):
                snapshots.remove(info.name)


def unpack_one(
    content: ContentStore,
    snapshots: Snapshotter,
    layer: Descriptor,
    diff_id: Digest,
    name: str,
    parent: str | None,
    height: int = 0,
    progress: Progress | None = None,
) -> None:
    """Make the snapshot `name` (a chain id) of one layer on `parent`, unless it is there already.

    `height` is the index `progress` is told. Raises as `unpack`.
    """
    if snapshots.exists(name):
        return
    key = f"{KEY}{name[-12:]}-{os.urandom(6).hex()}"
    snapshots.prepare(key, parent)
    try:
        with content.open(layer.digest) as blob:
            size = os.fstat(blob.fileno()).st_size
            watched = _Watched(blob, (lambda done: progress(height, done, size)) if progress else None)
            apply_layer(snapshots, key, parent, watched, diff_id)
        snapshots.commit(name, key)
    except AlreadyExists:
        return  # somebody else was faster; commit has removed ours
    except BaseException:
        with contextlib.suppress(NotFound):
            snapshots.remove(key)
        raise


def apply_layer(
    snapshots: Snapshotter, key: str, parent: str | None, packed: Readable, diff_id: Digest | None
) -> Digest:
    """Apply the layer `packed` (compressed or not) to the empty active snapshot `key`; the diff id it proved to have.

    Raises:
        DigestMismatch: it is not `diff_id`; the snapshot's content is worthless.
    """
    root_fd = os.open(snapshots.upper(key), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    lower_fd = None
    try:
        if parent is not None and not snapshots.merged:
            lower_fd = snapshots.mount(parent, readonly=True)
        with Ahead(packed) as stream:
            apply(stream, root_fd, whiteouts=True, merged=snapshots.merged, lower_fd=lower_fd)
            found = stream.digest()
    finally:
        os.close(root_fd)
        if lower_fd is not None:
            os.close(lower_fd)
    if diff_id is not None and found != diff_id:
        raise DigestMismatch(diff_id, found, "the unpacked layer")
    return found


class Ahead:
    """Reads, inflates and hashes a packed stream in a thread of its own, a few pieces ahead; use with ``with``."""

    def __init__(self, packed: Readable) -> None:
        self._packed = packed
        self._hash = hashlib.sha256()
        self._queue: queue.Queue[bytes | BaseException] = queue.Queue(_AHEAD)
        self._stopped = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="inflate", daemon=True)

    def read(self, _size: int = -1) -> bytes:
        """The next piece, whatever its size; empty at the end. Errors of the stream are raised here."""
        if self._ended:
            return b""
        piece = self._queue.get()
        if isinstance(piece, BaseException):
            self._ended = True
            raise piece
        self._ended = not piece
        return piece

    def digest(self) -> Digest:
        """The digest of everything; call it when `read` has come to the end."""
        self._thread.join()
        return Digest.of_hash(self._hash)

    def __enter__(self) -> "Ahead":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        while not self._ended:  # the thread may be waiting for room; its last piece is empty or an error
            with contextlib.suppress(EngineError, OSError):
                self.read()
        self._thread.join()

    def _run(self) -> None:
        try:
            plain = unpacked(self._packed)
            while not self._stopped and (piece := plain.read(_PIECE)):
                self._hash.update(piece)
                self._queue.put(piece)
            self._queue.put(b"")
        except BaseException as error:  # handed to the reader, who raises it
            self._queue.put(error)


class _Watched:
    """A blob that tells how much of it was read."""

    def __init__(self, blob: BinaryIO, tell: Callable[[int], None] | None) -> None:
        self._blob = blob
        self._tell = tell
        self._done = 0

    def read(self, size: int = -1) -> bytes:
        data = self._blob.read(size)
        self._done += len(data)
        if self._tell is not None:
            self._tell(self._done)
        return data
