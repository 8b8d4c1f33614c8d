"""Ingests: blobs on their way in.

An ingest is one file under ``<root>/ingest``. Its name follows from the ref, so a download that was cut off (or whose
process was killed) goes on where it stopped: the bytes there are hashed again when it is opened. The exclusive lock on
the file belongs to one `Ingest`; somebody else writing under the same ref at the same time gets a file of its own.
Nothing is visible before `commit` proved the digest.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Callable
from types import TracebackType

from scow.errors import DataLoss, DigestMismatch, InvalidArgument, System
from scow.fileio import fsync_dir, no_space, write_all
from scow.oci.descriptor import Descriptor
from scow.oci.digest import Digest

_CHUNK = 1 << 20


class Ingest:
    """One blob being written; use with ``with``. Not for two threads at once.

    Leaving the block without `commit` keeps what was written, for the next `open_ingest` of the same ref.
    """

    def __init__(self, path: str, fd: int, blobs: str, committed: Callable[[Digest], None], keep: bool) -> None:
        """Take over `fd`, the locked file at `path`; `blobs` is the folder to commit into.

        Args:
            committed: told the digest just before the blob becomes visible.
            keep: whether closing without a commit leaves the file for later.
        """
        self._path = path
        self._fd = fd
        self._blobs = blobs
        self._committed = committed
        self._keep = keep
        self.offset = 0
        self._hash = hashlib.sha256()
        self._rehash(os.fstat(fd).st_size)

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`.

        Raises:
            NoSpace: the disk is full; the ingest is gone.
            System: the disk failed.
        """
        try:
            write_all(self._fd, data)
        except OSError as error:
            raise self._failed(error) from error
        self._hash.update(data)
        self.offset += len(data)

    def digest(self) -> Digest:
        """The digest of what was written so far."""
        return Digest.of_hash(self._hash)

    def truncate(self, offset: int) -> None:
        """Forget what was written after `offset` bytes; costs reading the rest again.

        Raises:
            InvalidArgument: `offset` is beyond what was written.
        """
        if not 0 <= offset <= self.offset:
            raise InvalidArgument(f"cannot cut {self.offset} bytes back to {offset}")
        os.ftruncate(self._fd, offset)
        self._rehash(offset)

    def commit(self, expected: Digest | None = None, size: int | None = None) -> Descriptor:
        """Make the blob visible under its digest.

        The file is fsynced, then renamed to ``blobs/sha256/<64 hex>``: a reader sees nothing or the whole blob.
        Committing what is already there is not an error. The ingest is closed on return and on error.

        Args:
            expected: digest the bytes must have, or None to accept any.
            size: number of bytes there must be, or None.

        Returns:
            Descriptor with digest and size; the media type is empty.

        Raises:
            DataLoss: there are fewer bytes than `size` (they are kept, to be continued) or more (they are gone).
            DigestMismatch: the bytes hash to something else; the ingest is gone.
            NoSpace: the disk is full; the ingest is gone.

        Source: image-spec 1.1 descriptor.md "Verification".
        """
        try:
            if size is not None and self.offset != size:
                if self.offset > size:
                    self.abort()
                raise DataLoss(f"received {self.offset} of {size} bytes: the transfer was cut off, retry it")
            digest = self.digest()
            if expected is not None and digest != expected:
                self.abort()
                raise DigestMismatch(expected, digest)
            self._publish(digest)
            return Descriptor("", digest, self.offset)
        finally:
            self.close()

    def abort(self) -> None:
        """Drop the ingest and its bytes; harmless after close."""
        if self._fd >= 0:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
            self._shut()

    def close(self) -> None:
        """Let go of the file, keeping it for later when it may be continued; harmless when already closed."""
        if self._fd >= 0 and self._keep and self.offset:
            self._shut()
        else:
            self.abort()

    def _publish(self, digest: Digest) -> None:
        try:
            os.fchmod(self._fd, 0o444)
            os.fsync(self._fd)
            self._committed(digest)
            os.rename(self._path, os.path.join(self._blobs, digest.hex))
            fsync_dir(self._blobs)
        except OSError as error:
            raise self._failed(error) from error
        self._shut()

    def _rehash(self, length: int) -> None:
        self._hash = hashlib.sha256()
        done = 0
        while done < length:
            data = os.pread(self._fd, min(_CHUNK, length - done), done)
            if not data:
                break
            self._hash.update(data)
            done += len(data)
        self.offset = done
        os.lseek(self._fd, done, os.SEEK_SET)

    def _failed(self, error: OSError) -> Exception:
        self.abort()
        if error.errno == errno.EIO:
            return System(f"the disk failed while a blob was written to {self._path}: {error.strerror}")
        return no_space(error, self._path)

    def _shut(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> "Ingest":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def lock_partial(path: str) -> int | None:
    """The locked descriptor of the partial file at `path`, made if absent; None while somebody else writes it.

    A file renamed away (committed) between opening and locking is not ours: then the name is opened anew.
    """
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        mine = os.fstat(fd)
        try:
            there: os.stat_result | None = os.stat(path, follow_symlinks=False)
        except FileNotFoundError:
            there = None
        if there is not None and (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
            return fd
        os.close(fd)
