"""``RUN --mount``: where the files of each mount are on this machine, as OCI mounts.

bind: files of the context, a stage or an image. A context on disk is bound as it is if nothing in it is ignored;
everything else is copied into a folder of the build first, which is also where writes to a ``rw`` mount end.
cache: a folder that stays, under `<root>/build/cachemounts`; ``locked`` and ``private`` are kept among the builds of
this daemon. tmpfs: memory. secret and ssh come from the client's session, which ``POST /build`` does not have.
"""

import asyncio
import contextlib
import os
import posixpath
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from scow.api import ignore
from scow.build.cachekey import tree_key
from scow.build.dockerfile.mounts import Mount
from scow.build.graph import CONTEXT, PlannedMount, RunOp
from scow.build.steps.copy import Gathered, stage_tree
from scow.build.steps.place import Placement
from scow.build.tree import Tree, digest, select
from scow.build.workplace import Workplace
from scow.errors import InvalidArgument, Unsupported
from scow.linux.fds import open_in_root
from scow.runtime.rootfs import INSIDE

_NOTHING = ignore.Ignore()


async def fingerprints(work: Workplace, op: RunOp, chains: Mapping[int, str]) -> list[str]:
    """The digests of what the bind mounts show, in order, for the cache key."""
    found: list[str] = []
    for planned in op.mounts:
        if planned.mount.type != "bind" or planned.origin is None:
            continue
        chain = chains.get(planned.origin, "")
        source = planned.mount.source
        key = tree_key(chain, [source, "mount"], [], False) if planned.origin != CONTEXT else ""
        known = work.cache.tree(key) if key else None
        if known is None:
            known = await asyncio.to_thread(_digest, work, planned, chain)
            if key:
                work.cache.put_tree(key, known)
        found.append(known)
    return found


def _digest(work: Workplace, planned: PlannedMount, chain: str) -> str:
    gathered = Gathered()
    try:
        tree = _tree(work, gathered, planned, chain)
        return digest(select(tree, planned.mount.source or "/", "RUN", _NOTHING), _NOTHING, False)
    finally:
        gathered.close()


def _tree(work: Workplace, gathered: Gathered, planned: PlannedMount, chain: str) -> Tree:
    return work.context.tree if planned.origin == CONTEXT else stage_tree(work, gathered, chain)


@contextlib.asynccontextmanager
async def opened(work: Workplace, op: RunOp, chains: Mapping[int, str]) -> AsyncIterator[list[dict[str, Any]]]:
    """The mounts of a command as OCI mounts, for as long as it runs.

    Raises:
        Unsupported: a secret or ssh mount.
        NotFound: a source that is not there.
    """
    async with contextlib.AsyncExitStack() as stack:
        mounts: list[dict[str, Any]] = []
        for planned in op.mounts:
            mount = planned.mount
            if mount.type == "bind":
                chain = chains.get(planned.origin, "") if planned.origin is not None else ""
                source = await asyncio.to_thread(_bound, work, planned, chain)
                mounts.append(_bind(str(source), mount.target, mount.readonly))
            elif mount.type == "cache":
                folder = await stack.enter_async_context(_cache(work, planned, chains))
                # What is below the folder belongs to every build that has it mounted now: who mounts it looks it up.
                below = mount.source if planned.origin is None else ""
                mounts.append(_bind(str(folder), mount.target, mount.readonly) | ({INSIDE: below} if below else {}))
            elif mount.type == "tmpfs":
                mounts.append(_tmpfs(mount))
            elif mount.type == "secret" and not mount.required:
                raise Unsupported(
                    f"secret {mount.id or mount.target}: secrets come from the client's BuildKit session, which this "
                    "build request does not have"
                )
            else:
                raise Unsupported(
                    f"RUN --mount=type={mount.type} needs the client's BuildKit session, which this build request "
                    "does not have"
                )
        yield mounts


def _bind(source: str, target: str, readonly: bool) -> dict[str, Any]:
    options = ["rbind", "rprivate", "ro" if readonly else "rw"]
    return {"destination": target, "type": "bind", "source": source, "options": options}


def _tmpfs(mount: Mount) -> dict[str, Any]:
    options = ["nosuid", "nodev", "mode=1777", *([f"size={mount.size}"] if mount.size else [])]
    return {"destination": mount.target, "type": "tmpfs", "source": "tmpfs", "options": options}


def _bound(work: Workplace, planned: PlannedMount, chain: str) -> Path:
    """A path of this machine that shows what a bind mount asks for."""
    mount = planned.mount
    folder = work.context.folder
    if planned.origin == CONTEXT and mount.readonly and folder is not None and not work.context.tree.ignore:
        found = select(work.context.tree, mount.source or "/", "RUN", _NOTHING)
        return folder / found[0].real
    gathered = Gathered()
    try:
        tree = _tree(work, gathered, planned, chain)
        return _copied(tree, mount.source or "/", work.new_folder("bind"))
    finally:
        gathered.close()


def _copied(tree: Tree, source: str, folder: Path) -> Path:
    """A copy of `source`, a folder or a file, in the empty `folder`."""
    found = select(tree, source, "RUN", _NOTHING)[0]
    root_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        name = "content" if found.is_folder else posixpath.basename(found.real)
        Placement(root_fd, f"/{name}").place([found])
    finally:
        os.close(root_fd)
    return folder / name


# ---- cache mounts -------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _cache(work: Workplace, planned: PlannedMount, chains: Mapping[int, str]) -> AsyncIterator[Path]:
    """A cache mount's folder, made on first use and kept; locked or private as asked."""
    mount = planned.mount
    folders = work.mounts
    identity = f"{mount.id or mount.target}\0{mount.source}"
    name = folders.name_of(identity)
    copies = 0
    while mount.sharing == "private" and folders.users.get(name):
        copies += 1
        name = folders.name_of(f"{identity}\0{copies}")
    lock = folders.locks.setdefault(name, asyncio.Lock())
    async with contextlib.AsyncExitStack() as stack:
        if mount.sharing == "locked":
            await stack.enter_async_context(lock)
        folders.users[name] = folders.users.get(name, 0) + 1
        try:
            description = f"cached mount {mount.target} from exec with id {mount.id or mount.target}"
            work.cache.note_mount(name, description)
            chain = chains.get(planned.origin, "") if planned.origin is not None else None
            async with folders.making:
                path = await asyncio.to_thread(_cache_folder, work, mount, folders.root / name, chain)
            yield path
        finally:
            folders.users[name] -= 1


def _cache_folder(work: Workplace, mount: Mount, folder: Path, chain: str | None) -> Path:
    """The folder; filled from a stage when it is new and `from` was given."""
    if not folder.is_dir():
        if chain is not None:
            gathered = Gathered()
            try:
                made = _copied(stage_tree(work, gathered, chain), mount.source or "/", work.new_folder("cache"))
            finally:
                gathered.close()
            if not made.is_dir():
                raise InvalidArgument(f"the source {mount.source} of a cache mount must be a directory")
            made.rename(folder)
        else:
            folder.mkdir()
        os.chown(folder, mount.uid, mount.gid)
        folder.chmod(0o755 if mount.mode is None else mount.mode)
    if chain is None and mount.source:
        _require_folder(folder, mount.source)
    return folder


def _require_folder(folder: Path, source: str) -> None:
    """Raise `InvalidArgument` unless the cache mount has the folder `source` (``source=`` without ``from=``)."""
    root_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(open_in_root(root_fd, source, os.O_PATH | os.O_DIRECTORY))
    except FileNotFoundError:
        raise InvalidArgument(f"there is no directory {source} in the cache mount") from None
    finally:
        os.close(root_fd)
