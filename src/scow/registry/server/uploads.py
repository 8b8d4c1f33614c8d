"""Uploads: blobs on their way into a repository, in as many requests as the client likes.

An upload is a record ``<root>/uploads/<id>`` (the repository it belongs to) and an ingest of the content store under
the same id, so it outlives a crash of either side: what was received is there, and GET says how much. While the
server runs, the ingest stays open between requests, or every chunk would cost hashing all chunks before it again.
"""

import asyncio
import contextlib
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path

from scow.content.ingest import Ingest
from scow.content.store import ContentStore
from scow.errors import DigestMismatch, System
from scow.fileio import atomic_write
from scow.oci.digest import Digest
from scow.registry.codes import RegistryError
from scow.registry.transfer import receive

#: Ingests kept open between requests; the least recently used ones are closed (and hashed again when continued).
MAX_OPEN = 256
#: Seconds after which an upload nobody continued is forgotten.
MAX_AGE = 7 * 24 * 3600
#: Seconds a request waits for another one that writes the same upload (a dead connection the server has not noticed).
BUSY_TIMEOUT = 30.0

_ID = re.compile(r"[0-9a-f-]{36}")
_RANGE = re.compile(r"(?:bytes )?([0-9]{1,18})-([0-9]{1,18})(?:/.*)?")


class Uploads:
    """All uploads under `root`."""

    def __init__(self, root: Path, content: ContentStore) -> None:
        self._folder = root / "uploads"
        self._content = content
        self._open: OrderedDict[str, Ingest] = OrderedDict()
        self._locks: dict[str, asyncio.Lock] = {}
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweep()

    def start(self, repository: str) -> str:
        """Begin an upload into `repository`; the id. Blocking."""
        identity = str(uuid.uuid4())
        atomic_write(self._folder / identity, repository.encode("ascii"))
        return identity

    def check(self, repository: str, identity: str) -> None:
        """Raise BLOB_UPLOAD_UNKNOWN unless `identity` is an upload into `repository`. Blocking."""
        with contextlib.suppress(FileNotFoundError):
            if _ID.fullmatch(identity) and (self._folder / identity).read_text("ascii") == repository:
                return
        raise RegistryError("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry", {"id": identity[:64]})

    async def size(self, identity: str) -> int:
        """Bytes received so far."""
        async with self._exclusive(identity) as ingest:
            return ingest.offset

    async def append(
        self, identity: str, pieces: AsyncIterator[bytes], content_range: str = "", length: str = ""
    ) -> int:
        """Add a chunk; the bytes received so far. What came before the client broke off is kept.

        Args:
            content_range: ``<first>-<last>`` as the client states it; it must begin where the upload stands.
            length: the Content-Length, which must agree with the range.

        Raises:
            RegistryError: RANGE_INVALID for a chunk out of order, SIZE_INVALID for a length that disagrees with its
                range.
        """
        async with self._exclusive(identity) as ingest:
            if content_range:
                _check_range(content_range, length, ingest.offset)
            await self._receive(identity, ingest, pieces)
            return ingest.offset

    async def commit(
        self, identity: str, pieces: AsyncIterator[bytes], expected: Digest, content_range: str = ""
    ) -> int:
        """Add the last chunk and make the blob visible; its size. The upload is over, also when the digest is wrong.

        Raises:
            RegistryError: DIGEST_INVALID, RANGE_INVALID.
        """
        async with self._exclusive(identity) as ingest:
            if content_range:
                _check_range(content_range, "", ingest.offset)
            await self._receive(identity, ingest, pieces)
            try:
                descriptor = await asyncio.to_thread(ingest.commit, expected)
            except DigestMismatch as error:
                raise RegistryError("DIGEST_INVALID", str(error), {"digest": expected}) from None
            finally:
                self._forget(identity)
        return descriptor.size

    async def cancel(self, identity: str) -> None:
        """Drop the upload and its bytes."""
        async with self._exclusive(identity) as ingest:
            ingest.abort()
            self._forget(identity)

    async def _receive(self, identity: str, ingest: Ingest, pieces: AsyncIterator[bytes]) -> None:
        try:
            await receive(pieces, ingest)
        except System:  # the disk is full or failing: the bytes are gone already
            self._forget(identity)
            raise

    @contextlib.asynccontextmanager
    async def _exclusive(self, identity: str) -> AsyncIterator[Ingest]:
        """The upload's ingest, for one request at a time."""
        lock = self._locks.setdefault(identity, asyncio.Lock())
        try:
            async with asyncio.timeout(BUSY_TIMEOUT):
                await lock.acquire()
        except TimeoutError:
            raise RegistryError("BLOB_UPLOAD_INVALID", "another request is writing this upload: retry later") from None
        try:
            ingest = self._open.pop(identity, None)
            if ingest is None:
                if not (self._folder / identity).exists():
                    raise RegistryError("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry", {"id": identity})
                ingest = await asyncio.to_thread(self._content.open_ingest, f"upload {identity}")
            self._open[identity] = ingest
            yield ingest
        finally:
            lock.release()
            self._close_oldest()

    def _forget(self, identity: str) -> None:
        (self._folder / identity).unlink(missing_ok=True)
        self._open.pop(identity, None)
        self._locks.pop(identity, None)

    def _close_oldest(self) -> None:
        for identity in list(self._open):
            if len(self._open) <= MAX_OPEN:
                return
            if not self._locks[identity].locked():
                self._open.pop(identity).close()
                del self._locks[identity]

    def close(self) -> None:
        """Close every open ingest, keeping its bytes for later."""
        for ingest in self._open.values():
            ingest.close()
        self._open.clear()

    def _sweep(self) -> None:
        limit = time.time() - MAX_AGE
        for record in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if record.stat().st_mtime < limit:
                    record.unlink()


def _check_range(content_range: str, length: str, offset: int) -> None:
    match = _RANGE.fullmatch(content_range.strip())
    if match is None:
        raise RegistryError("RANGE_INVALID", f"invalid Content-Range {content_range[:100]!r}: expected <first>-<last>")
    first, last = int(match[1]), int(match[2])
    if first != offset:
        raise RegistryError(
            "RANGE_INVALID", f"the next chunk must begin at {offset}, not at {first}", {"offset": offset}
        )
    if length.isdigit() and int(length) != last - first + 1:
        raise RegistryError("SIZE_INVALID", f"Content-Range names {last - first + 1} bytes, Content-Length {length}")
