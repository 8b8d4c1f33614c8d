"""The reading side of COPY and ADD: source trees, which of their files a pattern selects, and their digests.

A tree (build context, another stage, an image, downloads) is a directory descriptor; its owner may have filled it with
symlinks, so every path is opened by openat2 below that root. Digests cover names, kinds, modes, contents and, where the
copy keeps them, owners; never times, so that touching a file does not invalidate the cache. Blocking; no asyncio.
"""

import contextlib
import hashlib
import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from scow.api.glob import PatternError, file_match, has_wildcards
from scow.api.ignore import Ignore
from scow.errors import InvalidArgument, NotFound
from scow.linux.fds import open_in_root
from scow.snapshots.copyup import xattrs_of

_BUFFER = 1 << 20

#: Matches one pattern may have, and folders a walk goes down.
MAX_MATCHES = 100_000
MAX_DEPTH = 300


@dataclass(slots=True)
class Tree:
    """A root to copy from.

    Attributes:
        root_fd: O_PATH or readable directory; the maker closes it.
        ignore: what is hidden (.dockerignore); empty for stages and images.
        owners: whether owners are kept (False: everything comes out as 0:0), as for the build context.
        context: whether it is the build context, for the words of errors.
    """

    root_fd: int
    ignore: Ignore = field(default_factory=Ignore)
    owners: bool = True
    context: bool = False

    def real_path(self, fd: int) -> str:
        """Where `fd` lies below the root, symlinks resolved: "" for the root itself."""
        root = os.readlink(f"/proc/self/fd/{self.root_fd}").rstrip("/")
        return os.readlink(f"/proc/self/fd/{fd}").removeprefix(root).strip("/")


@dataclass(frozen=True, slots=True)
class Match:
    """One selected source: its path as written (for the target's name), where it really is, and for --parents the
    path to keep.
    """

    tree: Tree
    written: str
    real: str
    info: os.stat_result
    kept: str = ""

    @property
    def name(self) -> str:
        """The last part of the path as written; "" for the root."""
        return posixpath.basename(self.written.rstrip("/"))

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.info.st_mode)


def select(tree: Tree, source: str, keyword: str, excludes: Ignore, parents: bool = False) -> list[Match]:
    """What one COPY source selects, in order of name.

    With `parents`, the path from the pivot ``/./`` on (or all of it) is kept in `Match.kept`.

    Raises:
        NotFound: nothing there; Docker's sentence, naming the path.
        InvalidArgument: malformed pattern.
    """
    above, pivot, _ = source[1:].partition("/./") if parents else ("", "", "")
    dropped = len(clean(source[0] + above).split("/")) if pivot and clean(source[0] + above) else 0
    path = clean(source)
    found = _matches(tree, path, keyword) if has_wildcards(path) else [_match(tree, path, keyword)]
    if parents:
        found = [replace(match, kept="/".join(match.written.split("/")[dropped:])) for match in found]
    return [match for match in found if match.is_folder or not excludes.excluded(match.kept or match.name)]


def clean(source: str) -> str:
    """A source relative to the tree's root: no leading slash, no ".."."""
    return posixpath.normpath("/" + source).lstrip("/")


def _matches(tree: Tree, pattern: str, keyword: str) -> list[Match]:
    try:
        names = sorted(_expand(tree, pattern))
    except PatternError as error:
        raise InvalidArgument(f"{keyword} failed: {pattern!r}: {error}") from None
    found = []
    for name in names:
        with contextlib.suppress(NotFound):
            found.append(_match(tree, name, keyword))
    if not found:
        raise _missing(tree, pattern, keyword)
    return found


def _missing(tree: Tree, path: str, keyword: str) -> NotFound:
    where = "file not found in build context or excluded by .dockerignore: " if tree.context else ""
    return NotFound(f"{keyword} failed: {where}stat {path}: file does not exist")


def _match(tree: Tree, path: str, keyword: str) -> Match:
    try:
        fd = open_in_root(tree.root_fd, path or ".", os.O_PATH)
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(tree, path, keyword) from None
    except OSError as error:
        raise InvalidArgument(f"{keyword} failed: cannot open {path}: {error.strerror}") from None
    try:
        real = tree.real_path(fd)
        info = os.fstat(fd)
    finally:
        os.close(fd)
    hidden = tree.ignore.excluded(real) and not (stat.S_ISDIR(info.st_mode) and not tree.ignore.prunes(real))
    if hidden:
        raise _missing(tree, path, keyword)
    return Match(tree, path, real, info)


def _expand(tree: Tree, pattern: str) -> list[str]:
    """The paths a pattern with wildcards stands for, one component at a time; folders that are links are entered."""
    found = [""]
    for part in pattern.split("/"):
        following: list[str] = []
        for folder in found:
            if not has_wildcards(part):
                following.append(posixpath.join(folder, part.replace("\\", "")))
                continue
            for name in _names(tree, folder):
                if file_match(part, name):
                    following.append(posixpath.join(folder, name))
                    if len(following) > MAX_MATCHES:
                        raise InvalidArgument(f"the pattern {pattern!r} matches more than {MAX_MATCHES} files")
        found = following
    return found


def _names(tree: Tree, folder: str) -> list[str]:
    try:
        fd = open_in_root(tree.root_fd, folder or ".", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return []
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


# ---- walking ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Filter:
    """What a walk leaves out: the tree's ignore file (by real path) and ``--exclude`` (by path below the source)."""

    ignore: Ignore
    excludes: Ignore

    def leaves_out(self, real: str, below: str, folder: bool) -> bool:
        """Whether the entry and everything below it is out."""
        return any(
            rules.excluded(path) and (not folder or rules.prunes(path))
            for rules, path in ((self.ignore, real), (self.excludes, below))
            if rules
        )

    def only_way(self, real: str, below: str) -> bool:
        """Whether a folder is out itself but something below it may be in."""
        return self.ignore.excluded(real) or self.excludes.excluded(below)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, folder or link of a walk. `parent_fd` is open only until the next entry is asked for."""

    parent_fd: int
    name: str
    below: str  # path below the walk's root
    info: os.stat_result
    optional: bool  # a folder that is only made for something in it
    leaving: bool = False  # the second visit of a folder, after everything in it


def walk(match: Match, excludes: Ignore) -> Iterator[Entry]:
    """Everything below a matched folder, sorted by name within a folder; folders come before and after their content.

    Raises:
        InvalidArgument: deeper than `MAX_DEPTH`.
    """
    rules = Filter(match.tree.ignore, excludes)
    fd = open_in_root(match.tree.root_fd, match.real or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield from _walk(fd, match.real, "", rules, 0)
    finally:
        os.close(fd)


def _walk(folder_fd: int, real: str, below: str, rules: Filter, depth: int) -> Iterator[Entry]:
    if depth > MAX_DEPTH:
        raise InvalidArgument(f"folders are nested deeper than {MAX_DEPTH}: {below[:100]}…")
    for name in sorted(os.listdir(folder_fd)):
        inner_real = f"{real}/{name}" if real else name
        inner = f"{below}/{name}" if below else name
        info = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        is_folder = stat.S_ISDIR(info.st_mode)
        if rules.leaves_out(inner_real, inner, is_folder) or stat.S_ISSOCK(info.st_mode):
            continue
        optional = is_folder and rules.only_way(inner_real, inner)
        yield Entry(folder_fd, name, inner, info, optional)
        if is_folder:
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
            try:
                yield from _walk(fd, inner_real, inner, rules, depth + 1)
            finally:
                os.close(fd)
            yield Entry(folder_fd, name, inner, info, optional, leaving=True)


# ---- digests --------------------------------------------------------------------------------------------


def digest(matches: Sequence[Match], excludes: Ignore, chowned: bool) -> str:
    """A digest of everything a COPY would bring in; owners count where they reach the image (not with --chown, not
    from the build context).
    """
    whole = hashlib.sha256()
    for match in matches:
        owners = match.tree.owners and not chowned
        name = match.kept or match.name
        if match.is_folder:
            if match.real:
                _add(whole, "D", match.kept, match.info, owners)
            optional: list[Entry] = []
            for entry in walk(match, excludes):
                if entry.leaving:
                    if optional and optional[-1].below == entry.below:
                        optional.pop()
                    continue
                if entry.optional:
                    optional.append(entry)
                    continue
                for folder in optional:
                    _add(whole, "D", folder.below, folder.info, owners)
                optional.clear()
                _add_entry(whole, entry, owners)
        else:
            parent_fd = open_in_root(match.tree.root_fd, posixpath.dirname(match.real) or ".", os.O_PATH)
            try:
                entry = Entry(parent_fd, posixpath.basename(match.real), name, match.info, False)
                _add_entry(whole, entry, owners)
            finally:
                os.close(parent_fd)
    return whole.hexdigest()


def _add(whole: "hashlib._Hash", kind: str, name: str, info: os.stat_result, owners: bool) -> None:
    owner = f"{info.st_uid}:{info.st_gid}" if owners else ""
    record = f"{kind}\0{name}\0{stat.S_IMODE(info.st_mode):o}\0{owner}\0"
    whole.update(record.encode("utf-8", "surrogateescape"))


def _add_entry(whole: "hashlib._Hash", entry: Entry, owners: bool) -> None:
    mode = entry.info.st_mode
    if stat.S_ISREG(mode):
        _add(whole, "F", entry.below, entry.info, owners)
        fd = os.open(entry.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=entry.parent_fd)
        try:
            whole.update(_content(fd, entry.info.st_size))
            _add_xattrs(whole, fd)
        finally:
            os.close(fd)
    elif stat.S_ISLNK(mode):
        _add(whole, "L", entry.below, entry.info, owners)
        whole.update(os.fsencode(os.readlink(entry.name, dir_fd=entry.parent_fd)) + b"\0")
    elif stat.S_ISDIR(mode):
        _add(whole, "D", entry.below, entry.info, owners)
    else:
        _add(whole, f"S{stat.S_IFMT(mode):o}:{entry.info.st_rdev}", entry.below, entry.info, owners)


def _content(fd: int, size: int) -> bytes:
    """The sha256 of a file's bytes; small files, the usual case, in one read."""
    if size < _BUFFER:
        data = os.read(fd, _BUFFER)
        if len(data) < _BUFFER:
            return hashlib.sha256(data).digest()
        os.lseek(fd, 0, os.SEEK_SET)
    content = hashlib.sha256()
    buffer = memoryview(bytearray(_BUFFER))
    while count := os.readv(fd, [buffer]):
        content.update(buffer[:count])
    return content.digest()


def _add_xattrs(whole: "hashlib._Hash", fd: int) -> None:
    found = xattrs_of(fd)
    for key in sorted(found):
        whole.update(key.encode() + b"\0" + hashlib.sha256(found[key]).digest())
