"""A machine of its own: Debian's stock kernel under emulation, with this interpreter and Scow in its memory.

For what the test's own host cannot show: a pure cgroup v2 hierarchy, and a kernel of another age. Packages are fetched
by apt into a cache and unpacked there; nothing is installed. `python tests/support/guest.py [CHECK…]` boots by hand.
"""

import contextlib
import glob
import hashlib
import importlib.util
import io
import marshal
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(TESTS))

import scow  # noqa: E402
from scow.errors import EngineError  # noqa: E402
from scow.images.selection import Selection  # noqa: E402
from scow.snapshots.tarwriter import TarWriter  # noqa: E402
from support import cpio  # noqa: E402 – run by hand, the line above makes `support` importable
from support.cpio import Archive, Modules  # noqa: E402

CACHE = Path(sys.prefix) / "guest"
KERNEL = "linux-image-cloud-amd64"
EMULATOR = "qemu-system-x86"
MODULES = (
    "overlay", "veth", "bridge", "dummy", "macvlan", "ipvlan", "nf_tables", "nft_chain_nat", "nft_nat", "nft_masq",
    "nft_redir", "nft_ct", "nft_fib", "nft_fib_inet", "nft_fib_ipv4", "nft_fib_ipv6", "nft_reject", "nft_reject_inet",
    "nft_reject_ipv4", "nft_reject_ipv6", "nft_compat", "nft_numgen", "nft_counter", "nft_limit", "nft_log",
    "nf_conntrack_netlink", "br_netfilter", "iptable_nat", "loop",
)  # fmt: skip
#: What Scow imports beside the standard library.
PACKAGES = ("h11", "isal", "msgspec", "zstandard")
_USELESS = (
    "config-3",
    "pydoc_data",
    "lib2to3",
    "distutils",
    "_tkinter",
    "libX",
    "libtcl",
    "libtk",
    "libxcb",
    "_cffi",
    "__pycache__",
    "libfreetype",
)
#: Where Scow lies in the guest.
_HOME = "usr/lib/scow"
_MEMORY = "1536"
_TIMEOUT = 240
#: Kernel's words that make no sense to wait after.
_PANIC = "Kernel panic"


class Unavailable(Exception):
    """The machine cannot be had here; the text says why."""


class Guest:
    """Kernel, emulator and the constant part of the first file system, in `cache`."""

    def __init__(self, cache: Path = CACHE) -> None:
        self._cache = cache
        self._unpacked = cache / "unpacked"
        self._base = Path()

    def prepare(self) -> None:
        """Fetch and unpack what is not there yet.

        Raises:
            Unavailable: apt is missing, or does not have the packages.
        """
        if os.uname().machine != "x86_64":
            raise Unavailable("the guest's kernel and emulator are those of x86_64")
        if shutil.which("busybox") is None:
            raise Unavailable("the guest's first process needs busybox: install busybox-static")
        if not (self._cache / "fetched").exists():
            self._fetch()
        base = self._cache / f"base-{_fingerprint()}.cpio"
        if not base.exists():
            for older in self._cache.glob("base-*"):
                older.unlink()
            with (self._cache / "base.partial").open("wb") as file:
                self._write_base(Archive(file))
            (self._cache / "base.partial").rename(base)
        self._base = base

    def _fetch(self) -> None:
        """Fill the cache with the unpacked packages; nothing is installed."""
        shutil.rmtree(self._cache, ignore_errors=True)
        archives = self._cache / "archives"
        (archives / "partial").mkdir(parents=True)
        words = _apt("apt-cache", "depends", KERNEL).split()
        kernel = next((word for word in words if word.startswith("linux-image-") and word != KERNEL), None)
        if kernel is None:
            raise Unavailable(f"apt knows no package {KERNEL}")
        # With what it depends on, but for what this host has already.
        _apt("apt-get", "install", "-y", "--no-install-recommends", "--download-only", "--reinstall",
             "-o", f"Dir::Cache::archives={archives}", EMULATOR)  # fmt: skip
        _apt("apt-get", "download", kernel, cwd=archives)
        for package in sorted(archives.glob("*.deb")):
            subprocess.run(["dpkg", "-x", str(package), str(self._unpacked)], check=True)
            package.unlink()
        (self._cache / "fetched").touch()

    def _write_base(self, archive: Archive) -> None:
        """This interpreter with its library, busybox, kernel modules and what Scow needs of other people."""
        selection = Selection(lambda _: None)
        selection.program(os.path.realpath(sys.executable))
        selection.data(os.path.realpath(shutil.which("busybox") or ""))
        for name in ("libnftables.so.1", "libseccomp.so.2"):
            for path in glob.glob(f"/usr/lib/*/{name}"):
                selection.data(path)
        homes = {}
        for name in PACKAGES:
            found = importlib.util.find_spec(name)
            assert found is not None
            assert found.origin is not None
            homes[os.path.dirname(found.origin)] = f"{_HOME}/{name}"
            selection.data(os.path.dirname(found.origin))
        _copy(selection, archive, homes)
        (modules,) = (self._unpacked / "lib/modules").iterdir()
        Modules(modules).add(archive, MODULES)
        archive.file("bin/busybox", Path(shutil.which("busybox") or "").read_bytes(), 0o755)
        archive.link("bin/sh", "busybox")
        for folder in ("bound", "dev", "proc", "root", "run", "sys", "tmp", "var/lib"):
            archive.folder(folder)
        archive.device("dev/console", 5, 1)
        archive.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        archive.file("etc/group", b"root:x:0:\n")
        archive.file("etc/hosts", b"127.0.0.1 localhost\n")
        archive.end()

    def run(
        self, program: str, tell: Callable[[str], object], checks: Sequence[str] = (), timeout: float = _TIMEOUT
    ) -> list[str]:
        """Boot, run tests/guest/`program` in the guest and return the console's lines once it is powered off.

        Args:
            tell: hears every line as it comes.
            checks: names of those to run; all if there are none.
            timeout: seconds until the guest is stopped the hard way.
        """
        lines: list[str] = []
        with self._booted(program, checks) as process, contextlib.ExitStack() as stack:
            timer = threading.Timer(timeout, process.kill)
            timer.start()
            stack.callback(timer.cancel)
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line.decode("utf-8", "replace").rstrip())
                tell(lines[-1])
                if _PANIC in lines[-1]:
                    process.kill()
        return lines

    @contextlib.contextmanager
    def _booted(self, program: str, checks: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
        (kernel,) = (self._unpacked / "boot").glob("vmlinuz-*")
        with tempfile.TemporaryDirectory(prefix="scow-guest-") as folder:
            image = Path(folder) / "initrd"
            with image.open("wb") as file:
                with self._base.open("rb") as base:
                    shutil.copyfileobj(base, file, 1 << 20)
                _own(Archive(file))
            command = self._command(kernel, image, program, checks)
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, env=self._environment())  # fmt: skip
            try:
                yield process
            finally:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()

    def _command(self, kernel: Path, image: Path, program: str, checks: Sequence[str]) -> list[str]:
        own = self._unpacked / "usr/bin/qemu-system-x86_64"
        emulator = str(own) if own.exists() else EMULATOR + "_64"
        words = (
            "console=ttyS0 quiet panic=-1 tsc=reliable mitigations=off",
            f"SCOW_PYTHON={os.path.realpath(sys.executable)} SCOW_PROGRAM={program} SCOW_CHECKS={','.join(checks)}",
        )
        return [
            emulator, "-L", str(self._unpacked / "usr/share/seabios"), "-L", str(self._unpacked / "usr/share/qemu"),
            "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", _MEMORY,
            "-nodefaults", "-no-user-config", "-nic", "none", "-no-reboot", "-display", "none", "-serial", "stdio",
            "-kernel", str(kernel), "-initrd", str(image), "-append", " ".join(words),
        ]  # fmt: skip

    def _environment(self) -> dict[str, str]:
        folders = [*self._unpacked.glob("usr/lib/*-linux-gnu"), *self._unpacked.glob("lib/*-linux-gnu")]
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, folders))}


def _fingerprint() -> str:
    """Changes whenever the constant part of the first file system has to be made anew."""
    facts = [sys.version.encode(), os.path.realpath(sys.executable).encode()]
    facts += [Path(__file__).read_bytes(), Path(cpio.__file__).read_bytes()]
    return hashlib.sha256(b"\0".join(facts)).hexdigest()[:16]


def _own(archive: Archive) -> None:
    """The part of the first file system that changes with every edit: Scow, and what runs in the guest."""
    package = Path(scow.__file__).parent
    for path in sorted(package.rglob("*.py")):
        _python(archive, f"{_HOME}/scow/{path.relative_to(package)}", path.read_bytes())
    for path in sorted((TESTS / "guest").glob("*.py")):
        archive.file(f"{_HOME}/guest/{path.name}", path.read_bytes())
    archive.file("init", (TESTS / "guest/init").read_bytes(), 0o755)
    archive.end()


def _copy(selection: Selection, archive: Archive, homes: Mapping[str, str]) -> None:
    """Add what was selected; `homes`: folder here → folder in the guest, for what does not keep its place."""
    with tempfile.TemporaryFile() as file:
        writer = TarWriter(file.write)
        selection.write(writer, {}, {})
        writer.close()
        file.seek(0)
        with tarfile.open(fileobj=file) as tar:
            for member in tar:
                path = _place(member.name, homes)
                if path is None:
                    continue
                content = (tar.extractfile(member) or io.BytesIO()).read() if member.isreg() else b""
                if member.isdir():
                    archive.folder(path)
                elif member.issym():
                    archive.link(path, member.linkname)
                elif path.endswith(".py"):
                    _python(archive, path, content)
                elif member.isreg():
                    archive.file(path, content, member.mode)


def _place(path: str, homes: Mapping[str, str]) -> str | None:
    """Where `path` goes, or None for what a guest has no use for: windows, other interpreters, static libraries."""
    home = next((folder for folder in homes if f"/{path}/".startswith(f"{folder}/")), None)
    parts = path.split("/")
    if any(part.startswith(_USELESS) for part in parts) or path.endswith((".a", ".pyi", ".h", ".c", ".typed")):
        return None
    if home is not None:
        return homes[home] + f"/{path}".removeprefix(home)
    ours = "/" + path in sys.base_prefix or f"/{path}".startswith(os.path.realpath(sys.base_prefix) + "/")
    return path if ours or "python3" not in path or parts[-1].startswith("libpython") else None


def _python(archive: Archive, path: str, source: bytes) -> None:
    """A module with its bytecode, which is marked as good whatever the file's time: compiling is slow in a guest."""
    archive.file(path, source)
    try:
        code = marshal.dumps(compile(source, "/" + path, "exec", dont_inherit=True))
    except (SyntaxError, ValueError):
        return  # templates of the standard library's own tools
    unchecked = (1).to_bytes(4, "little") + bytes(8)
    archive.file(importlib.util.cache_from_source(path), importlib.util.MAGIC_NUMBER + unchecked + code)


def _apt(*command: str, cwd: Path | None = None) -> str:
    if shutil.which(command[0]) is None:
        raise Unavailable(f"this host has no {command[0]}")
    done = subprocess.run([*command], cwd=cwd, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    if done.returncode:
        raise Unavailable(f"{' '.join(command[:2])} failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return done.stdout


if __name__ == "__main__":
    try:
        guest = Guest()
        guest.prepare()
        guest.run("checks.py", lambda line: print(line, flush=True), sys.argv[1:])
    except (Unavailable, EngineError) as error:
        sys.exit(f"guest: {error}")
