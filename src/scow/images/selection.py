"""A part of the host's file system, closed under what programs need to start.

A program brings its dynamic linker and libraries (and theirs), a script its interpreter, Python its standard library.
Every path is added component by
component: a symlink on the way (``/lib`` → ``usr/lib``) is taken as it is and followed on the host, so paths mean the
same in the image.
"""

import contextlib
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Mapping, Sequence

from scow.errors import InvalidArgument, NotFound
from scow.images import elf
from scow.snapshots.copyup import xattrs_of
from scow.snapshots.tarstream import DIRECTORY, FILE, SYMLINK, Entry
from scow.snapshots.tarwriter import TarWriter

_LIBRARY_FOLDERS = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")
_PROGRAM_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_NAME_SERVICES = ("libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2")
_CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_PYTHON_QUESTION = (
    "import sysconfig, sys; p = sysconfig.get_paths(); print(p['stdlib']); print(p['platstdlib']); print(sys.prefix)"
)
_PYTHON_SKIPPED = frozenset(
    {"test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "site-packages", "dist-packages", "__pycache__"}
)
_MAX_LINKS = 40
_MAX_SHEBANG = 256
_TIMEOUT = 30


def which(name: str, folders: Sequence[str] | None = None) -> str | None:
    """The path of the program `name`: the first real binary on PATH, else the first script that is no version
    manager's shim."""
    if folders is None:
        folders = [*os.environ.get("PATH", "").split(":"), *_PROGRAM_FOLDERS]
    found = [path for folder in dict.fromkeys(folders) if folder and (path := shutil.which(name, path=folder))]
    binary = next((path for path in found if elf.read(path) is not None), None)
    script = next((path for path in found if os.path.basename(os.path.dirname(path)) != "shims"), None)
    return binary or script


class Selection:
    """The paths to take; `tell` hears what is added on whose behalf."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell
        self._paths: dict[str, os.stat_result] = {}
        self._done: set[str] = set()
        self._cache = elf.linker_cache()

    @property
    def newest(self) -> float:
        """When the youngest of the chosen files was changed, in seconds since 1970; folders do not count."""
        return max((info.st_mtime for info in self._paths.values() if not stat.S_ISDIR(info.st_mode)), default=0.0)

    def program(self, name: str) -> str:
        """Add a program by name or absolute path, with what it needs to start; its path.

        Raises:
            NotFound: it or something it needs is not on this host.
        """
        path = name if name.startswith("/") else which(name)
        if path is None or not os.path.exists(path):
            raise NotFound(f"there is no program {name} on this host: give its full path or install it")
        if path not in self._paths:
            self._tell(f"Adding {path}")
        self._executable(path)
        return path

    def data(self, path: str) -> None:
        """Add a file, or a folder with all that is in it; programs and libraries among it bring what they need.

        Raises:
            InvalidArgument: the path is not absolute.
            NotFound: there is no such file.
        """
        if not path.startswith("/"):
            raise InvalidArgument(f"{path} is not an absolute path: write it from /")
        real = self._add(path)
        if os.path.isdir(real):
            self._folder(real, frozenset())
        else:
            self._needs(real)

    def name_services(self) -> None:
        """Add the libraries glibc loads for looking up users and hosts, if this host keeps them apart."""
        for name in _NAME_SERVICES:
            for path in self._cache.get(name, ())[:1]:
                self._executable(path)

    def certificates(self) -> None:
        """Add the CA certificates, if there are any."""
        for path in _CERTIFICATES:
            if os.path.isfile(path):
                self._add(path)
                return

    def check(self, programs: Sequence[str]) -> None:
        """Refuse an empty selection.

        Raises:
            InvalidArgument: no programs.
        """
        if not programs:
            raise InvalidArgument("name at least one program to make an image of")

    def has(self, path: str) -> bool:
        """Whether `path` was added."""
        return path in self._paths

    def write(self, writer: TarWriter, folders: Mapping[str, int], files: Mapping[str, tuple[int, bytes]]) -> None:
        """Write everything, with `folders` (path → mode) and `files` (path → mode and content) beside it, in path
        order.

        Folders get no time: the host's changes with every installation.
        """
        own = {"/" + path for path in folders} | {"/" + path for path in files}
        links = {path for path, info in self._paths.items() if stat.S_ISLNK(info.st_mode)}
        for path in sorted(own | set(self._paths)):
            relative = path[1:]
            if path in self._paths:
                self._write_one(writer, path, relative)
            elif any(path.startswith(link + "/") for link in links):
                continue
            elif relative in folders:
                writer.add(Entry(relative, DIRECTORY, folders[relative]))
            else:
                mode, content = files[relative]
                writer.add(Entry(relative, FILE, mode, size=len(content)), content)

    def _write_one(self, writer: TarWriter, path: str, relative: str) -> None:
        info = self._paths[path]
        entry = Entry(relative, FILE, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)
        entry.xattrs = {key: value for key, value in xattrs_of(path).items() if key == "security.capability"}
        if stat.S_ISDIR(info.st_mode):
            entry.kind = DIRECTORY
            writer.add(entry)
        elif stat.S_ISLNK(info.st_mode):
            entry.kind, entry.mode, entry.link = SYMLINK, 0o777, os.readlink(path)
            writer.add(entry)
        else:
            entry.size = info.st_size
            entry.mtime_ns = info.st_mtime_ns // 10**9 * 10**9
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                writer.add_file(entry, fd)
            finally:
                os.close(fd)

    # ── closing ──

    def _executable(self, path: str) -> None:
        self._needs(self._add(path))

    def _needs(self, real: str) -> None:
        """Add what the file at `real` (no symlink) needs to start."""
        if real in self._done or not os.path.isfile(real):
            return
        self._done.add(real)
        found = elf.read(real)
        if found is None:
            self._script(real)
            return
        if found.interpreter is not None:
            self._executable(found.interpreter)
        for name in found.needed:
            self._executable(self._library(name, found, real))
        if os.path.basename(real).startswith("python3"):
            self._python(real)

    def _script(self, real: str) -> None:
        with open(real, "rb") as file:
            line = file.read(_MAX_SHEBANG).partition(b"\n")[0]
        if not line.startswith(b"#!"):
            return
        words = os.fsdecode(line[2:]).split()
        if not words:
            return
        self.program(words[0])
        if os.path.basename(words[0]) == "env":
            program = next((word for word in words[1:] if not word.startswith("-") and "=" not in word), None)
            if program is not None:
                self.program(program)

    def _library(self, name: str, user: elf.Elf, path: str) -> str:
        """Where the dynamic linker finds `name` for the file `user` at `path`."""
        if "/" in name:
            return name
        origin = os.path.dirname(path)
        told = user.runpath or user.rpath
        folders = [folder.replace("$ORIGIN", origin).replace("${ORIGIN}", origin) for folder in told]
        candidates = [os.path.join(folder, name) for folder in folders]
        candidates += self._cache.get(name, [])
        candidates += [os.path.join(folder, name) for folder in _LIBRARY_FOLDERS]
        for candidate in candidates:
            if os.path.isfile(candidate):
                found = elf.read(candidate)
                if found is not None and (found.bits, found.machine) == (user.bits, user.machine):
                    return candidate
        raise NotFound(f"{path} needs the library {name}, which is not on this host: install its package")

    def _python(self, real: str) -> None:
        """Add the standard library of a Python interpreter, without its tests and installed packages."""
        try:
            done = subprocess.run(
                [real, "-I", "-S", "-c", _PYTHON_QUESTION], capture_output=True, timeout=_TIMEOUT, check=True, text=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise NotFound(f"{real} does not say where its standard library is: {error}") from error
        for folder in dict.fromkeys(done.stdout.split("\n")[:2]):
            if folder.startswith("/"):
                self._tell(f"Adding Python's library {folder}")
                self._folder(self._add(folder), _PYTHON_SKIPPED)

    def _folder(self, real: str, skipped: frozenset[str]) -> None:
        """Add everything in the folder `real` (no symlink) but the names `skipped`; links that lead nowhere stay so."""
        for name in sorted(os.listdir(real)):
            path = os.path.join(real, name)
            if name in skipped:
                continue
            if not os.path.exists(path):
                if os.path.islink(path):
                    self._paths[path] = os.lstat(path)
                continue
            found = self._add(path)
            if os.path.isdir(path) and not os.path.islink(path):
                self._folder(found, skipped)
            elif stat.S_ISREG(os.stat(path).st_mode) and (
                name.endswith(".so") or ".so." in name or os.access(path, os.X_OK)
            ):
                # What merely lies in a folder may lack something here, and does on the host too.
                with contextlib.suppress(NotFound):
                    self._needs(found)

    def _add(self, path: str) -> str:
        """Add `path` and the folders and symlinks it leads through; where it ends, free of symlinks.

        Raises:
            NotFound: there is no such file.
        """
        todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        real = ""
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                real = os.path.dirname(real) if real else ""
                continue
            here = f"{real}/{part}"
            try:
                info = os.lstat(here)
            except OSError as error:
                raise NotFound(f"there is no file {path} on this host: {error.strerror}") from None
            self._paths[here] = info
            if not stat.S_ISLNK(info.st_mode):
                real = here
                continue
            links += 1
            if links > _MAX_LINKS:
                raise NotFound(f"{path} is a loop of symlinks on this host")
            target = os.readlink(here)
            if target.startswith("/"):
                real = ""
            todo += [part for part in reversed(target.split("/")) if part not in ("", ".")]
        return real or "/"
