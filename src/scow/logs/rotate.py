"""Files of one log in order of age, and how they move up: ``x`` (being written), ``x.1``, ``x.2.gz``, …

The writer rotates under an exclusive flock of the folder, readers open their set of files under a shared one, so a
reader sees every file once. Old files are compressed by a child of the writer: the log goes on at full speed, and is at
most `max_file` files whatever happens to the child.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from scow.logs.options import Limits

_CHUNK = 1 << 20
_GZIP = 31  # zlib's window bits for a gzip header
_LEVEL = 1


@contextlib.contextmanager
def folder_lock(path: str, exclusive: bool) -> Iterator[int]:
    """Hold the lock on the set of files the log at `path` consists of; gives the folder's descriptor."""
    folder_fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder_fd, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield folder_fd
    finally:
        os.close(folder_fd)


def remove_files(path: str) -> None:
    """Remove every file of the log at `path`; whoever holds one open keeps what it holds.

    Raises:
        OSError: one cannot be removed.
    """
    with folder_lock(path, exclusive=True) as folder_fd:
        stem = os.path.basename(path)
        for name in os.listdir(folder_fd):
            number = name.removeprefix(f"{stem}.").removesuffix(".gz")
            if name == stem or (name.startswith(f"{stem}.") and number.isdecimal()):
                os.unlink(name, dir_fd=folder_fd)


class Rotation:
    """Moves the files of one log; owned by its writer."""

    __slots__ = ("_compressing", "_limits", "_path")

    def __init__(self, path: str, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._compressing = -1

    @property
    def max_size(self) -> int:
        """Bytes after which to rotate; 0 for never."""
        return self._limits.max_size

    def rotate(self) -> None:
        """Make room for a new file at the path: each older one moves up, the oldest goes.

        Raises:
            OSError: a file cannot be moved; some may have been.
        """
        oldest = self._limits.max_file - 1
        with folder_lock(self._path, exclusive=True):
            # Only up to the first number that is free: what a killed rotation left open is closed by the next one.
            taken = _numbers(self._path)
            free = next((number for number in range(1, oldest) if number not in taken), oldest)
            for suffix in ("", ".gz"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{self._path}.{free}{suffix}" if free else self._path + suffix)
            for number in range(free - 1, -1, -1):
                for suffix in ("", ".gz") if number else ("",):
                    source = f"{self._path}.{number}{suffix}" if number else self._path
                    with contextlib.suppress(FileNotFoundError):
                        os.rename(source, f"{self._path}.{number + 1}{suffix}")
        if self._limits.compress and not self._busy():
            self._start_compressing()

    def _busy(self) -> bool:
        """Whether a child is still compressing: it holds the other end of a pipe until it ends.

        (Waiting for its pid could take the exit status of another child that got the number after it.)
        """
        if self._compressing < 0:
            return False
        try:
            os.read(self._compressing, 1)
        except BlockingIOError:
            return True
        os.close(self._compressing)
        self._compressing = -1
        return False

    def _start_compressing(self) -> None:
        """Fork the child; if that is impossible the files stay as they are and the next rotation tries again."""
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            pid = os.fork()
        except OSError:
            os.close(reading)
            os.close(writing)
            return
        if pid == 0:
            try:
                # Nothing of the writer's may stay open: pipes of the container, sockets of those attached.
                os.dup2(writing, 0)
                os.closerange(1, 1 << 20)
                with contextlib.suppress(OSError):
                    os.nice(10)
                compress_old(self._path, self._limits.max_file, 0)
            finally:
                os._exit(0)
        os.close(writing)
        self._compressing = reading

    def close(self) -> None:
        """Forget a child that is still at work; it ends by itself."""
        if self._compressing >= 0:
            os.close(self._compressing)
            self._compressing = -1


def compress_old(path: str, max_file: int, token_fd: int) -> None:
    """Compress every older file of the log at `path` that is not compressed, oldest first.

    `token_fd` is closed at the moment there is none left, under the lock: a rotation comes either before, and its file
    is seen, or after, and finds nobody at work.
    """
    while True:
        with folder_lock(path, exclusive=False):
            number = next((n for n in range(max_file - 1, 0, -1) if os.path.exists(f"{path}.{n}")), 0)
            if not number:
                os.close(token_fd)
                return
            source_fd = os.open(f"{path}.{number}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            packed_fd = _packed(source_fd, os.path.dirname(path) or ".")
            told = os.fstat(source_fd)
        finally:
            os.close(source_fd)
        try:
            # The time tells a reader that held the old file open which one this was.
            os.utime(packed_fd, ns=(told.st_atime_ns, told.st_mtime_ns))
            _replace(path, max_file, told.st_ino, packed_fd)
        finally:
            os.close(packed_fd)


def _packed(source_fd: int, folder: str) -> int:
    """A nameless file in `folder` (a child that dies leaves nothing) with the compressed content of `source_fd`."""
    import zlib

    from scow.fileio import write_all

    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    packed_fd = os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o640)
    try:
        while chunk := os.read(source_fd, _CHUNK):
            write_all(packed_fd, packer.compress(chunk))
        write_all(packed_fd, packer.flush())
    except BaseException:
        os.close(packed_fd)
        raise
    return packed_fd


def _replace(path: str, max_file: int, inode: int, packed_fd: int) -> None:
    """Put the compressed file in the place of the plain one, wherever rotations have moved it; it may be gone."""
    with folder_lock(path, exclusive=True) as folder_fd:
        for number in range(1, max_file):
            name = f"{path}.{number}"
            try:
                if os.stat(name).st_ino != inode:
                    continue
            except FileNotFoundError:
                continue
            with contextlib.suppress(FileExistsError):  # made by another child, which died before it could unlink
                # A folder's descriptor, needless beside an absolute path, makes Python follow the link (linkat).
                os.link(f"/proc/self/fd/{packed_fd}", name + ".gz", src_dir_fd=folder_fd, follow_symlinks=True)
            os.unlink(name)
            return


class Part:
    """One file of a log, held open; `plain` unpacks it when it is needed."""

    __slots__ = ("_fd", "_folder", "_packed")

    def __init__(self, fd: int, packed: bool, folder: str) -> None:
        self._fd = fd
        self._packed = packed
        self._folder = folder

    def plain(self) -> int:
        """The descriptor to read from, owned by this object; a damaged compressed file counts as far as it goes."""
        if self._packed:
            packed_fd, self._fd = self._fd, -1
            self._fd = _unpacked(packed_fd, self._folder)
            self._packed = False
        return self._fd

    def take(self) -> int:
        """`plain`, owned by the caller from now on."""
        fd, self._fd = self.plain(), -1
        return fd

    def close(self) -> None:
        """Let the file go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_parts(path: str, newer_than: int | None = None) -> list[Part]:
    """Every file of the log, oldest first; the caller closes them.

    Args:
        newer_than: a descriptor of one of its files, to have only those begun after it.

    Raises:
        FileNotFoundError: the folder is gone.
    """
    known = None if newer_than is None else os.fstat(newer_than)
    folder = os.path.dirname(path) or "."
    found: list[Part] = []
    with folder_lock(path, exclusive=False):
        for number in (0, *sorted(_numbers(path))):
            name = f"{path}.{number}" if number else path
            packed = False
            try:
                fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                if not number:
                    continue  # in the moment between moving the files and making a new one
                fd = os.open(name + ".gz", os.O_RDONLY | os.O_CLOEXEC)
                packed = True
            if known is not None and _same(fd, packed, known):
                os.close(fd)
                break
            found.append(Part(fd, packed, folder))
    return found[::-1]


def _numbers(path: str) -> set[int]:
    """The numbers of the older files there are, compressed or not; a killed rotation leaves one out."""
    folder, name = os.path.split(path)
    found = set()
    for entry in os.listdir(folder or "."):
        number = entry[len(name) + 1 :].removesuffix(".gz")
        if entry.startswith(f"{name}.") and number.isdecimal():
            found.add(int(number))
    return found


def _same(fd: int, packed: bool, known: os.stat_result) -> bool:
    """Whether `fd` is the file `known` tells of, or was compressed from it: same time, same length inside."""
    told = os.fstat(fd)
    if not packed:
        return (told.st_dev, told.st_ino) == (known.st_dev, known.st_ino)
    length = os.pread(fd, 4, max(0, told.st_size - 4))
    return told.st_mtime_ns == known.st_mtime_ns and int.from_bytes(length, "little") == known.st_size & 0xFFFFFFFF


def _unpacked(packed_fd: int, folder: str) -> int:
    """A nameless file holding what `packed_fd` does, unpacked; closes `packed_fd`."""
    import zlib

    from scow.fileio import write_all

    plain_fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        unpacker = zlib.decompressobj(_GZIP)
        with contextlib.suppress(zlib.error):
            while chunk := os.read(packed_fd, _CHUNK):
                while chunk:
                    write_all(plain_fd, unpacker.decompress(chunk, _CHUNK))
                    chunk = unpacker.unconsumed_tail
    except OSError:
        os.close(plain_fd)
        raise
    finally:
        os.close(packed_fd)
    return plain_fd
