"""COPY and ADD: gather what is to be copied, digest it for the cache, put it in place."""

import asyncio
import os
import posixpath
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from scow.api import ignore
from scow.build import archives, users
from scow.build.cachekey import tree_key
from scow.build.graph import CONTEXT, CopyOp
from scow.build.steps import source
from scow.build.steps.modes import parse_mode
from scow.build.steps.place import Placement, open_folder
from scow.build.tree import Match, Tree, digest, select
from scow.build.workplace import Workplace
from scow.errors import InvalidArgument
from scow.linux.fds import open_in_root
from scow.snapshots.apply import apply
from scow.snapshots.compression import unpacked


@dataclass(slots=True)
class Gathered:
    """Everything one COPY or ADD brings in; `close` lets go of the trees."""

    matches: list[Match] = field(default_factory=list)
    fetched: set[int] = field(default_factory=set)  # positions of matches that came from the network
    _fds: list[int] = field(default_factory=list)

    def hold(self, fd: int) -> int:
        """Take over a descriptor."""
        self._fds.append(fd)
        return fd

    def close(self) -> None:
        """Close every tree."""
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()


def keyword(op: CopyOp) -> str:
    """What the instruction is called in errors."""
    return "ADD" if op.add else "COPY"


async def fingerprint(work: Workplace, op: CopyOp, chain: str) -> tuple[str, Gathered | None]:
    """The digest of what `op` would bring in, and the gathered files if they had to be looked at.

    Files of a snapshot never change, so their digest is remembered and the snapshot is not even mounted.

    Args:
        chain: chain id of the stage or image copied from; unused for the context.
    """
    remembered = ""
    if op.origin != CONTEXT:
        remembered = tree_key(chain, [*op.sources, str(op.parents)], op.excludes, bool(op.chown))
        found = work.cache.tree(remembered)
        if found is not None:
            return _with_files(found, op), None
    gathered = await gather(work, op, chain)
    try:
        found = await asyncio.to_thread(digest, gathered.matches, ignore.patterns(op.excludes), bool(op.chown))
    except BaseException:
        gathered.close()
        raise
    if remembered:
        work.cache.put_tree(remembered, found)
    return _with_files(found, op), gathered


def _with_files(found: str, op: CopyOp) -> str:
    return "\0".join((found, *(part for file in op.files for part in file)))


async def gather(work: Workplace, op: CopyOp, chain: str) -> Gathered:
    """Find every source; what is on the network is fetched into the build's folder.

    Raises:
        NotFound: a source is not there, in Docker's words.
    """
    gathered = Gathered()
    excludes = ignore.patterns(op.excludes)
    try:
        tree = await asyncio.to_thread(_tree, work, gathered, op, chain)
        for text in op.sources:
            if op.add and source.is_git(text):
                found = await source.clone(text, work.new_folder("git"), op.keep_git_dir)
                gathered.matches.append(_whole(gathered, found))
            elif op.add and source.is_url(text):
                download = await source.download(text, work.new_folder("download"), op.checksum)
                gathered.fetched.add(len(gathered.matches))
                gathered.matches.append(_file(gathered, download.path))
            else:
                gathered.matches += await asyncio.to_thread(select, tree, text, keyword(op), excludes, op.parents)
        if len(gathered.matches) + len(op.files) > 1 and not op.target.endswith("/"):
            raise InvalidArgument(
                f"When using {keyword(op)} with more than one source file, the destination must be a directory "
                "and end with a /"
            )
    except BaseException:
        gathered.close()
        raise
    return gathered


def _tree(work: Workplace, gathered: Gathered, op: CopyOp, chain: str) -> Tree:
    if op.origin == CONTEXT:
        return work.context.tree
    return stage_tree(work, gathered, chain)


def stage_tree(work: Workplace, gathered: Gathered, chain: str) -> Tree:
    """The files of a stage or image, read-only; nothing for one that has no layers."""
    if chain:
        return Tree(gathered.hold(work.snapshots.mount(chain, readonly=True)))
    return Tree(gathered.hold(_open(work.new_folder("scratch"))))


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _whole(gathered: Gathered, folder: Path) -> Match:
    """All of a folder, as if it were the context."""
    tree = Tree(gathered.hold(_open(folder)), owners=False)
    return Match(tree, "", "", os.fstat(tree.root_fd))


def _file(gathered: Gathered, path: Path) -> Match:
    """One file of the build's own."""
    tree = Tree(gathered.hold(_open(path.parent)), owners=False)
    return Match(tree, path.name, path.name, path.lstat())


def put(work: Workplace, op: CopyOp, gathered: Gathered, root_fd: int) -> None:
    """Copy what was gathered into the root file system. Blocking.

    Raises:
        InvalidArgument: the target is in the way, an unknown owner, a malformed mode.
        NoSpace: the disk is full.
    """
    owner = users.owner(root_fd, op.chown) if op.chown else None
    mode = parse_mode(op.chmod)
    excludes = ignore.patterns(op.excludes)
    _put_matches(op, gathered, Placement(root_fd, op.target, owner, mode, excludes))
    if op.files:
        _put_files(work, op, gathered, Placement(root_fd, op.target, owner, mode))


def _put_matches(op: CopyOp, gathered: Gathered, placement: Placement) -> None:
    plain: list[Match] = []
    for position, match in enumerate(gathered.matches):
        if op.add and _is_unpacked(op, match, position in gathered.fetched):
            placement.place(plain, op.parents)
            plain = []
            _unpack(match, placement)
        else:
            plain.append(match)
    placement.place(plain, op.parents)


def _is_unpacked(op: CopyOp, match: Match, fetched: bool) -> bool:
    """ADD unpacks local archives; those from the network only when told to."""
    if match.is_folder or not stat.S_ISREG(match.info.st_mode):
        return False
    if op.unpack is False or (fetched and op.unpack is None):
        return False
    with _reading(match) as file:
        return archives.is_archive(file)


def _reading(match: Match) -> BinaryIO:
    return cast("BinaryIO", os.fdopen(open_in_root(match.tree.root_fd, match.real, os.O_RDONLY), "rb"))


def _unpack(match: Match, placement: Placement) -> None:
    target_fd, _ = open_folder(placement.root_fd, placement.target, placement.owner or (0, 0))
    try:
        with _reading(match) as file:
            apply(cast("BinaryIO", unpacked(file)), target_fd, whiteouts=False, owner=placement.owner)
    finally:
        os.close(target_fd)


def _put_files(work: Workplace, op: CopyOp, gathered: Gathered, placement: Placement) -> None:
    """Here-documents are files of the build's own."""
    folder = work.new_folder("documents")
    matches: list[Match] = []
    for name, content in op.files:
        path = folder / posixpath.basename(name)
        path.write_bytes(content.encode())
        path.chmod(0o644)
        matches.append(_file(gathered, path))
    placement.place(matches)


def folder_missing(root_fd: int, path: str) -> bool:
    """Whether WORKDIR has a folder to make.

    Raises:
        InvalidArgument: a file stands there.
    """
    try:
        fd = open_in_root(root_fd, path, os.O_PATH)
    except (FileNotFoundError, NotADirectoryError):
        return True
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise InvalidArgument(f"cannot use {path} as working directory: it is not a directory")
    finally:
        os.close(fd)
    return False


def make_folder(root_fd: int, path: str) -> None:
    """WORKDIR: make the folder; root's, mode 0755."""
    os.close(open_folder(root_fd, path, (0, 0))[0])
