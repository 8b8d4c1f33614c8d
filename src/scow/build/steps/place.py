"""The writing side of COPY and ADD: selected files into a root file system, by Docker's rules for targets.

The root belongs to an image and may hold any symlink: every target folder is opened below the root, every last
component is made by its folder's descriptor and never followed. What is in the way of a file is replaced, a folder is
never replaced by a file nor a file by a folder. Modification times are kept. Blocking; no asyncio.
"""

import contextlib
import errno
import os
import posixpath
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field

from scow.api.ignore import Ignore
from scow.build.steps.modes import Mode
from scow.build.tree import Entry, Match, walk
from scow.errors import EngineError, InvalidArgument, System
from scow.fileio import no_space
from scow.linux.fds import create_in_root, open_in_root
from scow.snapshots.copyup import chmod_at, copy_content, set_xattr, xattrs_of

_FOLDER = os.O_PATH | os.O_DIRECTORY


@dataclass(slots=True)
class Placement:
    """Where files go and as whose.

    Attributes:
        root_fd: the root file system, writable.
        target: absolute path; a trailing slash says it is a folder.
        owner: (uid, gid) for everything, None to keep what the tree says.
        mode: ``--chmod``.
    """

    root_fd: int
    target: str
    owner: tuple[int, int] | None = None
    mode: Mode | None = None
    excludes: Ignore = field(default_factory=Ignore)
    _links: dict[tuple[int, int], tuple[int, str]] = field(default_factory=dict)
    _held: list[int] = field(default_factory=list)

    def place(self, matches: Sequence[Match], parents: bool = False) -> None:
        """Copy every match.

        Raises:
            InvalidArgument: the target is in the way (a file where a folder is needed, or the other way round).
            NoSpace: the disk is full.
            System: the kernel refused for another reason.
        """
        name = ""
        try:
            for match in matches:
                name = match.written
                if match.is_folder:
                    self._folder(match, posixpath.join(self.target, match.kept) if parents else self.target)
                else:
                    folder = posixpath.dirname(match.kept) if parents else ""
                    self._file(match, posixpath.join(self.target, folder, "") if parents else self.target)
        except EngineError:
            raise
        except OSError as error:
            raise meaning(error, name) from error
        finally:
            for fd in self._held:
                os.close(fd)
            self._held.clear()
            self._links.clear()

    # ---- the two kinds of sources --------------------------------------------------------------------

    def _folder(self, match: Match, target: str) -> None:
        """The content of a folder goes into the target folder, which gets its mode when it is new."""
        fd, made = open_folder(self.root_fd, target, self._new_owner())
        try:
            self._content(match, fd)
            if made:
                there = f"/proc/self/fd/{fd}"
                owner = self._owner_of(match.info, match.tree.owners)
                os.chown(there, *owner)
                mode = stat.S_IMODE(match.info.st_mode) if match.real else 0o755
                os.chmod(there, self.mode.of(mode, True) if self.mode else mode)
                if match.real:
                    os.utime(there, ns=(match.info.st_atime_ns, match.info.st_mtime_ns))
        finally:
            os.close(fd)

    def _file(self, match: Match, target: str) -> None:
        """A file goes into the target if that is a folder, else becomes it."""
        folder_fd, name = self._file_target(match, target)
        parent_fd = open_in_root(match.tree.root_fd, posixpath.dirname(match.real) or ".", _FOLDER)
        try:
            entry = Entry(parent_fd, posixpath.basename(match.real), name, match.info, False)
            self._put(entry, folder_fd, name, match.tree.owners)
        finally:
            os.close(parent_fd)
            os.close(folder_fd)

    def _file_target(self, match: Match, target: str) -> tuple[int, str]:
        """The folder's descriptor and the name in it."""
        if not target.endswith("/"):
            try:
                fd = open_in_root(self.root_fd, target, os.O_PATH)
            except FileNotFoundError:
                folder, name = posixpath.split(target)
                return open_folder(self.root_fd, folder, self._new_owner())[0], name
            except NotADirectoryError:
                raise InvalidArgument(f"cannot copy to {target}: a file stands where a folder is needed") from None
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                return fd, match.name
            # A link to a file: the file it leads to is replaced, as Docker does.
            root = os.readlink(f"/proc/self/fd/{self.root_fd}").rstrip("/")
            real = os.readlink(f"/proc/self/fd/{fd}").removeprefix(root)
            os.close(fd)
            folder, name = posixpath.split(real)
            return open_folder(self.root_fd, folder, self._new_owner())[0], name
        return open_folder(self.root_fd, target, self._new_owner())[0], match.name

    # ---- everything below a folder -------------------------------------------------------------------

    def _content(self, match: Match, target_fd: int) -> None:
        stack: list[tuple[Entry, int]] = []  # the folders being filled; -1: not made yet
        try:
            for entry in walk(match, self.excludes):
                if entry.leaving:
                    folder, fd = stack.pop()
                    if fd >= 0:
                        try:
                            self._finish(folder, fd)
                        finally:
                            os.close(fd)
                elif stat.S_ISDIR(entry.info.st_mode):
                    stack.append((entry, -1))
                    if not entry.optional:
                        self._make(stack, target_fd, match.tree.owners)
                else:
                    parent_fd = self._make(stack, target_fd, match.tree.owners)
                    self._put(entry, parent_fd, entry.name, match.tree.owners)
        finally:
            for _, fd in stack:
                if fd >= 0:
                    os.close(fd)

    def _make(self, stack: list[tuple[Entry, int]], target_fd: int, owners: bool) -> int:
        """Make the folders of `stack` that are still missing; the innermost's descriptor."""
        above = target_fd
        for position, (entry, fd) in enumerate(stack):
            if fd < 0:
                fd = self._enter(above, entry)
                stack[position] = (entry, fd)
                path = f"/proc/self/fd/{fd}"
                os.chown(path, *self._owner_of(entry.info, owners))
                mode = stat.S_IMODE(entry.info.st_mode)
                os.chmod(path, self.mode.of(mode, True) if self.mode else mode)
            above = fd
        return above

    def _enter(self, parent_fd: int, entry: Entry) -> int:
        """The folder of the entry's name in the target, made or there already (also through a link in the root)."""
        try:
            os.mkdir(entry.name, 0o700, dir_fd=parent_fd)
        except FileExistsError:
            root = os.readlink(f"/proc/self/fd/{self.root_fd}").rstrip("/")
            path = os.readlink(f"/proc/self/fd/{parent_fd}").removeprefix(root)
            try:
                return open_in_root(self.root_fd, posixpath.join("/", path, entry.name), _FOLDER)
            except (NotADirectoryError, FileNotFoundError):
                raise InvalidArgument(f"cannot copy to non-directory: {path}/{entry.name}") from None
        return os.open(entry.name, _FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)

    def _finish(self, entry: Entry, fd: int) -> None:
        """A folder's time, which filling it has changed."""
        os.utime(f"/proc/self/fd/{fd}", ns=(entry.info.st_atime_ns, entry.info.st_mtime_ns))

    # ---- one file ------------------------------------------------------------------------------------

    def _put(self, entry: Entry, parent_fd: int, name: str, owners: bool) -> None:
        """Make one file, link or device in the target folder."""
        make_way(parent_fd, name)
        info = entry.info
        key = (info.st_dev, info.st_ino)
        if info.st_nlink > 1 and key in self._links:
            first_fd, first = self._links[key]
            os.link(first, name, src_dir_fd=first_fd, dst_dir_fd=parent_fd, follow_symlinks=False)
            return
        if stat.S_ISREG(info.st_mode):
            self._copy(entry, parent_fd, name, owners)
        else:
            self._special(entry, parent_fd, name, owners)
        if info.st_nlink > 1:
            held = os.dup(parent_fd)
            self._held.append(held)
            self._links[key] = (held, name)

    def _copy(self, entry: Entry, parent_fd: int, name: str, owners: bool) -> None:
        info = entry.info
        source_fd = os.open(entry.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=entry.parent_fd)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            target_fd = os.open(name, flags, 0o600, dir_fd=parent_fd)
            try:
                copy_content(source_fd, target_fd, info.st_size)
                os.fchown(target_fd, *self._owner_of(info, owners))
                mode = stat.S_IMODE(info.st_mode)
                os.fchmod(target_fd, self.mode.of(mode, False) if self.mode else mode)
                for key, value in xattrs_of(source_fd).items():
                    set_xattr(target_fd, key, value)
                os.utime(target_fd, ns=(info.st_atime_ns, info.st_mtime_ns))
            finally:
                os.close(target_fd)
        finally:
            os.close(source_fd)

    def _special(self, entry: Entry, parent_fd: int, name: str, owners: bool) -> None:
        info = entry.info
        if stat.S_ISLNK(info.st_mode):
            os.symlink(os.readlink(entry.name, dir_fd=entry.parent_fd), name, dir_fd=parent_fd)
        else:
            os.mknod(name, stat.S_IFMT(info.st_mode) | 0o600, info.st_rdev, dir_fd=parent_fd)
        os.chown(name, *self._owner_of(info, owners), dir_fd=parent_fd, follow_symlinks=False)
        if not stat.S_ISLNK(info.st_mode):
            mode = stat.S_IMODE(info.st_mode)
            chmod_at(parent_fd, name, self.mode.of(mode, False) if self.mode else mode)
        os.utime(name, ns=(info.st_atime_ns, info.st_mtime_ns), dir_fd=parent_fd, follow_symlinks=False)

    def _owner_of(self, info: os.stat_result, owners: bool) -> tuple[int, int]:
        if self.owner is not None:
            return self.owner
        return (info.st_uid, info.st_gid) if owners else (0, 0)

    def _new_owner(self) -> tuple[int, int]:
        return self.owner or (0, 0)


def make_way(parent_fd: int, name: str) -> None:
    """Remove what stands where a file is to be made.

    Raises:
        InvalidArgument: it is a folder.
    """
    try:
        os.unlink(name, dir_fd=parent_fd)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        path = os.readlink(f"/proc/self/fd/{parent_fd}")
        raise InvalidArgument(f"cannot replace the folder {path.rstrip('/')}/{name} by a file") from None


def open_folder(root_fd: int, path: str, owner: tuple[int, int]) -> tuple[int, bool]:
    """An O_PATH descriptor of the folder `path` below the root, and whether it was made.

    Missing folders get mode 0755 and `owner`.

    Raises:
        InvalidArgument: a file is in the way.
    """
    path = posixpath.normpath("/" + path.lstrip("/"))
    with contextlib.suppress(FileNotFoundError):
        return _as_folder(root_fd, path), False
    missing = []
    above = path
    while above != "/":
        try:
            os.close(open_in_root(root_fd, above, os.O_PATH))
            break
        except FileNotFoundError:
            missing.append(above)
            above = posixpath.dirname(above)
        except OSError as error:
            raise _in_the_way(path, error) from None
    try:
        fd = create_in_root(root_fd, path, True)
    except OSError as error:
        raise _in_the_way(path, error) from None
    try:
        for folder in missing:
            made_fd = _as_folder(root_fd, folder)
            try:
                os.chown(f"/proc/self/fd/{made_fd}", *owner)
                os.chmod(f"/proc/self/fd/{made_fd}", 0o755)
            finally:
                os.close(made_fd)
    except BaseException:
        os.close(fd)
        raise
    return fd, True


def _as_folder(root_fd: int, path: str) -> int:
    try:
        return open_in_root(root_fd, path, _FOLDER)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _in_the_way(path, error) from None


def _in_the_way(path: str, error: OSError) -> Exception:
    if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.EEXIST):
        return InvalidArgument(f"cannot copy to non-directory: {path}")
    return meaning(error, path)


def meaning(error: OSError, path: str) -> Exception:
    """An `OSError` of copying `path` as the error the user should see."""
    found = no_space(error, "the images")
    if found is not error:
        return found
    return System(f"cannot copy {path}: {error.strerror or error}")
