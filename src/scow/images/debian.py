"""Debian's packages and base system, through the tools the host has for them.

apt fetches and verifies packages as the host is configured to (mirror, keys, proxy); nothing here knows a mirror's
name.
"""

import contextlib
import glob
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence

from scow.errors import InvalidArgument, NotFound, System
from scow.snapshots.compression import unpacked
from scow.snapshots.tarstream import FILE, TarReader
from scow.snapshots.tree import write_tree

_TIMEOUT = 1800
_APT_TIMEOUT = 300
_MAX_PROGRAM = 64 << 20
_PIECE = 1 << 20
_SUITE = re.compile(r"[a-z][a-z0-9-]{0,39}")
_MIRROR = re.compile(r"(?:https?|file|copy)://?[A-Za-z0-9._~:/%-]{1,400}")
_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60
Output = Callable[[bytes], object]
Tell = Callable[[str], object]


def package_file(package: str, names: Sequence[str]) -> bytes:
    """The first of the files `names` in Debian's `package`, fetched by ``apt-get download`` into a folder of its own.

    Raises:
        NotFound: no apt here, or no such package or file.
    """
    if shutil.which("apt-get") is None:
        raise NotFound(f"this host has no apt to fetch the package {package} with: install {package} another way")
    with tempfile.TemporaryDirectory(prefix="scow-package-") as folder:
        done = subprocess.run(
            ["apt-get", "-q", "download", package], cwd=folder, capture_output=True, timeout=_APT_TIMEOUT, check=False
        )
        packages = glob.glob(os.path.join(folder, "*.deb"))
        if done.returncode or not packages:
            raise NotFound(f"apt cannot fetch the package {package}: {last_words(done.stderr)}")
        with open(packages[0], "rb") as file:
            return file_in_package(file.read(_MAX_PROGRAM), names)


def file_in_package(deb: bytes, names: Sequence[str]) -> bytes:
    """The first of the files `names` in the Debian package `deb`.

    Raises:
        NotFound: none of them is in it.
        InvalidArgument: this is no Debian package.

    Source: deb(5).
    """
    for member, data in ar_members(deb):
        if member.startswith("data.tar"):
            reader = TarReader(unpacked(_Bytes(data)))
            for entry in reader:
                if entry.kind == FILE and entry.name.removeprefix("./") in names:
                    return reader.content(_MAX_PROGRAM)
    raise NotFound(f"the package has none of {', '.join(names)}")


def ar_members(data: bytes) -> list[tuple[str, bytes]]:
    """(name, content) of the members of an ar archive.

    Raises:
        InvalidArgument: this is none, or it is cut off.
    """
    if not data.startswith(_AR_MAGIC):
        raise InvalidArgument("this is no Debian package: it is not an ar archive")
    found: list[tuple[str, bytes]] = []
    position = len(_AR_MAGIC)
    while position + _AR_HEADER <= len(data):
        header = data[position : position + _AR_HEADER]
        size = header[48:58].strip()
        if header[58:] != b"`\n" or not size.isdigit() or position + _AR_HEADER + int(size) > len(data):
            raise InvalidArgument("the Debian package is damaged")
        start = position + _AR_HEADER
        found.append((header[:16].decode("ascii", "replace").strip().rstrip("/"), data[start : start + int(size)]))
        position = start + int(size) + int(size) % 2
    return found


def debian_tar(suite: str, mirror: str | None, out: Output, tell: Tell) -> str:
    """Write a tar of Debian `suite` (essential packages and apt) to `out`; the name of the tool that made it.

    Raises:
        InvalidArgument: suite or mirror cannot be one.
        NotFound: no tool or no mirror; the text says what to do.
        System: the tool failed.
    """
    if not _SUITE.fullmatch(suite):
        raise InvalidArgument(f"{suite[:60]!r} is no name of a Debian suite: give one like stable or trixie")
    if mirror and not _MIRROR.fullmatch(mirror):
        raise InvalidArgument("the mirror must be an http, https, file or copy address")
    source = mirror or host_mirror(suite)
    if source is None:
        raise NotFound("no Debian mirror is configured in the apt sources of this host: give one")
    if shutil.which("mmdebstrap"):
        tell(f"Making Debian {suite} with mmdebstrap")
        _stream(["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=tar", suite, "-", source], out)
        return "mmdebstrap"
    if shutil.which("debootstrap"):
        tell(f"Making Debian {suite} with debootstrap")
        with tempfile.TemporaryDirectory(prefix="scow-debian-") as folder:
            os.chmod(folder, 0o755)
            done = subprocess.run(
                ["debootstrap", "--variant=minbase", suite, folder, source],
                capture_output=True,
                timeout=_TIMEOUT,
                check=False,
            )
            if done.returncode:
                raise System(f"debootstrap failed: {last_words(done.stdout + done.stderr)}")
            root_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                write_tree(root_fd, out)
            finally:
                os.close(root_fd)
        return "debootstrap"
    raise NotFound("making a Debian image needs mmdebstrap or debootstrap: install one of the two packages")


def host_mirror(suite: str, folder: str = "/etc/apt") -> str | None:
    """The address the host's apt sources give for `suite`, else their first one; None without sources."""
    entries: list[tuple[str, list[str]]] = []
    paths = [os.path.join(folder, "sources.list")]
    paths += sorted(glob.glob(os.path.join(folder, "sources.list.d", "*")))
    for path in paths:
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(_PIECE)
            entries += _stanzas(text) if path.endswith(".sources") else _lines(text)
    exact = next((address for address, suites in entries if suite in suites), None)
    return exact or next((address for address, _ in entries), None)


def _lines(text: str) -> list[tuple[str, list[str]]]:
    found = []
    for line in text.splitlines():
        words = re.sub(r"\[[^\]]*\]", " ", line.partition("#")[0]).split()
        if len(words) >= 3 and words[0] == "deb":
            found.append((words[1], [words[2]]))
    return found


def _stanzas(text: str) -> list[tuple[str, list[str]]]:
    found = []
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace():
                fields[key] = fields.get(key, "") + " " + line
            elif ":" in line:
                key, _, value = line.partition(":")
                key = key.lower()
                fields[key] = value
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").strip().lower() != "no":
            found += [(address, fields.get("suites", "").split()) for address in fields.get("uris", "").split()]
    return found


def _stream(command: Sequence[str], out: Output) -> None:
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, stdin=subprocess.DEVNULL)
        assert process.stdout is not None
        try:
            while piece := process.stdout.read(_PIECE):
                out(piece)
        except BaseException:
            process.kill()
            raise
        finally:
            process.stdout.close()
            code = process.wait(_TIMEOUT)
        if code:
            said.seek(0)
            raise System(f"{command[0]} failed: {last_words(said.read(_PIECE))}")


def last_words(output: bytes) -> str:
    """The last two lines of a tool's output that say something."""
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    return "; ".join(lines[-2:])[:500] or "it said nothing"


class _Bytes:
    """Bytes as a stream."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    def read(self, size: int, /) -> bytes:
        piece, self._data = self._data[:size], self._data[size:]
        return bytes(piece)
