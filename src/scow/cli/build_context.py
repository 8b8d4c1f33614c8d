"""Where a build's files come from, and the tar stream they are sent as."""

import os
from collections.abc import Iterator

from scow.api import ignore
from scow.cli.packing import END, Packed, member, stream
from scow.cli.progress import source
from scow.errors import InvalidArgument

DOCKERFILE = "Dockerfile"
IGNORE = ".dockerignore"
#: Name in the archive of a Dockerfile that is not in the context.
OUTSIDE = ".dockerfile.scow"
MAX_DOCKERFILE = 4 << 20
#: How archives begin: gzip, bzip2, xz, zstd; a tar has its own mark at byte 257.
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
_SNIFFED = 512


class Context:
    """What to send. `chunks` is None when the daemon fetches `remote` itself; `dockerfile` is the name inside."""

    __slots__ = ("chunks", "dockerfile", "remote")

    def __init__(self, dockerfile: str, chunks: Iterator[bytes] | None = None, remote: str = "") -> None:
        self.dockerfile = dockerfile
        self.chunks = chunks
        self.remote = remote


def chosen(place: str, dockerfile: str) -> Context:
    """The context for ``PATH | URL | -`` and -f.

    Raises:
        InvalidArgument: no such folder, no Dockerfile, both from stdin.
    """
    if place == "-":
        if dockerfile == "-":
            raise InvalidArgument("invalid argument: can't use stdin for both build context and dockerfile")
        return _from_stdin(dockerfile)
    if is_remote(place):
        if dockerfile == "-":
            raise InvalidArgument(
                "a Dockerfile from stdin needs a context that is a folder: clone or download it first"
            )
        return Context(dockerfile, remote=place)
    return _from_folder(place, dockerfile)


def is_remote(place: str) -> bool:
    """Whether the daemon is to fetch `place`: a URL or a git repository."""
    return place.startswith(("http://", "https://", "git://", "git@", "ssh://", "github.com/")) and not os.path.isdir(
        place
    )


def _from_stdin(dockerfile: str) -> Context:
    """Stdin is an archive, or else the Dockerfile itself."""
    first = b""
    while len(first) < _SNIFFED and (data := os.read(0, _SNIFFED - len(first))):
        first += data
    if first[257:262] == b"ustar" or first.startswith(_PACKED):
        return Context(dockerfile or DOCKERFILE, _joined(first))
    if dockerfile:
        raise InvalidArgument("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
    text = b"".join(_joined(first))
    return Context(DOCKERFILE, iter([member(DOCKERFILE, text), END]))


def _joined(first: bytes) -> Iterator[bytes]:
    yield first
    yield from source("-")


def _from_folder(place: str, dockerfile: str) -> Context:
    if not os.path.isdir(place):
        raise InvalidArgument(f'unable to prepare context: path "{place}" not found')
    root = os.path.realpath(place)
    outside = b""
    name = DOCKERFILE
    if dockerfile == "-":
        name, outside = OUTSIDE, b"".join(source("-"))
        rules = _rules(root, "")
    else:
        path = _dockerfile(root, dockerfile)
        rules = _rules(root, path)
        name = os.path.relpath(path, root)
        if name == ".." or name.startswith("../"):
            name, outside = OUTSIDE, _read(path)
    return Context(name, _packed(root, rules, name, outside))


def _dockerfile(root: str, given: str) -> str:
    """Absolute path of the Dockerfile: as given from here, else within the context."""
    if not given:
        found = os.path.join(root, DOCKERFILE)
    else:
        found = os.path.abspath(given)
        if not os.path.isfile(found):
            found = os.path.join(root, given)
    folder = os.path.realpath(os.path.dirname(found))
    found = os.path.join(folder, os.path.basename(found))
    if not os.path.isfile(found):
        raise InvalidArgument(
            f"unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat {found}: "
            "no such file or directory"
        )
    return found


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_DOCKERFILE + 1)
    except OSError as error:
        raise InvalidArgument(f"open {path}: {error.strerror}") from None
    if len(data) > MAX_DOCKERFILE:
        raise InvalidArgument(f"{path} is longer than {MAX_DOCKERFILE >> 20} MiB")
    return data


def _rules(root: str, dockerfile: str) -> ignore.Ignore:
    """``<Dockerfile>.dockerignore`` where there is one, else the context's own."""
    for path in ([f"{dockerfile}.dockerignore"] if dockerfile else []) + [os.path.join(root, IGNORE)]:
        if os.path.isfile(path):
            return ignore.parse(_read(path))
    return ignore.Ignore(())


def _packed(root: str, rules: ignore.Ignore, dockerfile: str, outside: bytes) -> Iterator[bytes]:
    if dockerfile == OUTSIDE:
        yield member(OUTSIDE, outside)
    yield from stream(_entries(root, "", rules, {dockerfile, IGNORE}))


def _entries(root: str, folder: str, rules: ignore.Ignore, needed: set[str]) -> Iterator[Packed]:
    """What is sent of one folder, in order. Owners are left out: they are the sender's and would spoil the cache."""
    with os.scandir(os.path.join(root, folder)) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        name = f"{folder}/{entry.name}" if folder else entry.name
        out = name not in needed and rules.excluded(name)
        below = entry.is_dir(follow_symlinks=False)
        if not out:
            yield Packed(entry.path, name, owner=(0, 0))
        if below and (not out or rules.returns or any(item.startswith(f"{name}/") for item in needed)):
            yield from _entries(root, name, rules, needed)
