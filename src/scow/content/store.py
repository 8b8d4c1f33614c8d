"""The content store: blobs by digest, in an OCI image layout other tools can read.

::

    <root>/oci-layout            {"imageLayoutVersion":"1.0.0"}
    <root>/index.json            names → descriptors; belongs to scow.images
    <root>/blobs/sha256/<hex>    whole and verified, or absent
    <root>/ingest/<name>.part    on the way in; resumable by ref

The file system is the only state, so the store opens after ``kill -9`` at any moment: an ingest is renamed into place
only when its bytes are on the disk and hash to its name. Every method blocks and may be called from any thread.
"""

import contextlib
import hashlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from scow.content.ingest import Ingest, lock_partial
from scow.content.leases import Leases
from scow.errors import DataLoss, InvalidArgument, NotFound
from scow.fileio import atomic_write, sweep_temporaries
from scow.oci.descriptor import Descriptor
from scow.oci.digest import ALGORITHM, Digest, digest_of

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
READ_LIMIT = 8 << 20
_PARTIAL = ".part"
_PRIVATE = ".own" + _PARTIAL
_ABANDONED = 7 * 24 * 3600
"""Seconds after which a partial download nobody continued is dropped when the store is opened."""


class ContentStore:
    """Blobs by digest under `root`, which is made if it does not exist."""

    def __init__(self, root: Path) -> None:
        """Open the store, dropping partial files that nobody will continue.

        Raises:
            InvalidArgument: `root` is a layout of another version.
            OSError: the folders cannot be made.
        """
        self.root = root
        self.leases = Leases()
        self._blobs = os.path.join(root, "blobs", ALGORITHM)
        self._ingests = os.path.join(root, "ingest")
        self._serial = itertools.count()
        self._lock = threading.Lock()
        os.makedirs(self._blobs, mode=0o700, exist_ok=True)
        os.makedirs(self._ingests, mode=0o700, exist_ok=True)
        self._check_layout()
        self._sweep()

    def open_ingest(self, ref: str) -> Ingest:
        """Begin or continue writing a blob; `ingest.offset` says how much is already there.

        Args:
            ref: any text that names this transfer, the same one when it is tried again.

        A ref somebody is writing under at this moment gives a second, independent ingest from offset 0.
        """
        name = hashlib.sha256(ref.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        path = os.path.join(self._ingests, name + _PARTIAL)
        fd = lock_partial(path)
        if fd is not None:
            return Ingest(path, fd, self._blobs, self.leases.touch, keep=True)
        return self._private_ingest()

    def open(self, digest: Digest) -> BinaryIO:
        """The blob as an open file; not verified (it was when it came in), the caller closes it.

        An open blob may be removed: its reader goes on undisturbed.

        Raises:
            NotFound: no such blob.
        """
        try:
            return open(self.path(digest), "rb")
        except FileNotFoundError:
            raise _missing(digest) from None

    def path(self, digest: Digest) -> str:
        """Where the blob is or would be."""
        return os.path.join(self._blobs, digest.hex)

    def size(self, digest: Digest) -> int:
        """Bytes of the blob.

        Raises:
            NotFound: no such blob.
        """
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError:
            raise _missing(digest) from None

    def has(self, digest: Digest) -> bool:
        """Whether the blob is here; if so it stays for the caller to use (see `Leases`)."""
        with self._lock:
            if not os.path.exists(self.path(digest)):
                return False
            self.leases.touch(digest)
            return True

    def read(self, digest: Digest, limit: int = READ_LIMIT) -> bytes:
        """The whole blob, verified.

        Raises:
            NotFound: no such blob.
            InvalidArgument: it is larger than `limit` bytes.
            DataLoss: its bytes are not what they were.
        """
        with self.open(digest) as blob:
            size = os.fstat(blob.fileno()).st_size
            if size > limit:
                raise InvalidArgument(f"blob {digest} is {size} bytes where at most {limit} are expected")
            data = bytearray()
            while chunk := blob.read(size - len(data) + 1):
                data += chunk
        found = bytes(data)
        if digest_of(found) != digest:
            raise DataLoss(f"blob {digest} is damaged on disk: remove the image and pull it again")
        return found

    def write(self, data: bytes, media_type: str = "") -> Descriptor:
        """Store `data` (a document; big blobs go through `open_ingest`).

        Raises:
            NoSpace: the disk is full; nothing was stored.
        """
        descriptor = Descriptor(media_type, digest_of(data), len(data))
        if not (self.has(descriptor.digest) and self.size(descriptor.digest) == len(data)):
            with self._private_ingest() as ingest:
                ingest.write(data)
                ingest.commit(descriptor.digest)
        return descriptor

    def delete(self, digest: Digest) -> None:
        """Remove the blob, whoever needs it; `collect` is the careful way.

        Raises:
            NotFound: no such blob.
        """
        try:
            os.unlink(self.path(digest))
        except FileNotFoundError:
            raise _missing(digest) from None

    def collect(self, digest: Digest) -> int:
        """Remove the blob unless work under way counts on it; the bytes freed, 0 when it stays or is not there."""
        with self._lock:
            if self.leases.protected(digest):
                return 0
            try:
                size = os.stat(self.path(digest)).st_size
                os.unlink(self.path(digest))
            except FileNotFoundError:
                return 0
            return size

    def walk(self) -> Iterator[tuple[Digest, int]]:
        """Every blob with its size, in no order; blobs that come or go meanwhile may be missed."""
        with os.scandir(self._blobs) as entries:
            for entry in entries:
                try:
                    digest = Digest.parse(f"{ALGORITHM}:{entry.name}")
                    yield digest, entry.stat(follow_symlinks=False).st_size
                except (InvalidArgument, FileNotFoundError):
                    continue

    def _private_ingest(self) -> Ingest:
        while True:
            name = f"{os.getpid()}-{next(self._serial)}-{os.urandom(4).hex()}{_PRIVATE}"
            path = os.path.join(self._ingests, name)
            fd = lock_partial(path)
            if fd is not None:
                return Ingest(path, fd, self._blobs, self.leases.touch, keep=False)

    def _check_layout(self) -> None:
        path = os.path.join(self.root, "oci-layout")
        try:
            with open(path, "rb") as file:
                found = file.read(4096)
        except FileNotFoundError:
            atomic_write(path, LAYOUT, mode=0o644)
            return
        if b'"1.0.0"' not in found:
            raise InvalidArgument(f"{self.root} is not an OCI image layout 1.0.0: choose an empty folder")

    def _sweep(self) -> None:
        """Drop partial files of dead processes that cannot be continued, and those nobody came back for."""
        now = time.time()
        sweep_temporaries(self.root)
        self._drop(
            lambda entry: entry.name.endswith(_PRIVATE) or now - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED
        )

    def drop_partials(self) -> None:
        """Remove every partial download nobody is writing at this moment; the next attempt begins anew."""
        self._drop(lambda _: True)

    def _drop(self, chosen: Callable[[os.DirEntry[str]], bool]) -> None:
        with os.scandir(self._ingests) as entries:
            found = list(entries)
        for entry in found:
            if not entry.name.endswith(_PARTIAL):
                continue
            with contextlib.suppress(FileNotFoundError):
                if not chosen(entry):
                    continue
                fd = lock_partial(entry.path)
                if fd is not None:
                    os.unlink(entry.path)
                    os.close(fd)


def _missing(digest: Digest) -> NotFound:
    return NotFound(f"blob {digest} is not in the content store: pull or load the image again")
