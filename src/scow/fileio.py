"""Files that are whole or absent: atomic writes, durable folders, lock files.

Standard library only and no pathlib: the keeper and the shims import this room.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator

from scow.errors import NoSpace, System, Unavailable

StrPath = str | os.PathLike[str]


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write every byte of `data` to `fd`, however many calls it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def fsync_dir(path: StrPath) -> None:
    """Make the names inside `path` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def atomic_write(path: StrPath, data: bytes, mode: int = 0o600, durable: bool = True) -> None:
    """Replace the file at `path` by `data`: a reader sees the old bytes or the new ones, also after a power cut.

    Args:
        durable: fsync file and folder; False where the file only has to survive this process (tmpfs).

    Raises:
        NoSpace: the disk is full; the old file is untouched.
        OSError: the folder is missing or not writable.
    """
    path = os.fspath(path)
    temporary = f"{path}.{os.getpid()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        try:
            write_all(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise no_space(error, path) from error
    if durable:
        fsync_dir(os.path.dirname(path) or ".")


def write_new(path: StrPath, data: bytes, mode: int = 0o600, durable: bool = True) -> None:
    """Make a file in a folder that nobody knows of yet, so that it need not appear at once.

    Args:
        durable: fsync it; its name is durable with the folder's, which is the caller's business.

    Raises:
        NoSpace: the disk is full.
        OSError: it exists, or the folder is missing or not writable.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            if mode != 0o600:
                os.fchmod(fd, mode)  # whatever the umask
            write_all(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise no_space(error, path) from error


def sync_file(path: StrPath) -> None:
    """Make what was written to the file at `path` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sweep_temporaries(folder: StrPath) -> None:
    """Remove what an `atomic_write` into `folder` left whose process was killed; only for the folder's one owner."""
    for name in os.listdir(folder):
        stem, _, last = name.rpartition(".")
        if last == "tmp" and stem.rpartition(".")[2].isdecimal():
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(os.path.join(folder, name))


def no_space(error: OSError, path: StrPath) -> Exception:
    """`error` itself, or the `NoSpace` it stands for, naming the place to clean."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"no space left on the disk that holds {os.fspath(path)}: remove images or containers and retry")
    return error


@contextlib.contextmanager
def lock_file(path: StrPath, purpose: str) -> Iterator[int]:
    """Hold the exclusive lock at `path` for as long as the block runs; the kernel drops it with the process.

    Raises:
        Unavailable: another process holds it; the sentence gives its pid.
        System: the file cannot be made.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise System(f"cannot open the lock file {os.fspath(path)}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 32).decode("ascii", "replace").strip() or "another process"
            raise Unavailable(f"{purpose} is already in use by process {holder}: stop it or choose another") from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield fd
    finally:
        os.close(fd)
