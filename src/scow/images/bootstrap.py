"""Base images without a registry: made of what this host has or its package mirror gives.

Each is one layer with a config that says where it came from (labels ``scow.origin``…). What goes in is sorted and has
fixed owners and times where they carry no meaning, so the same host makes the same image twice.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from scow.api.units import SECOND, rfc3339
from scow.errors import System, Unavailable
from scow.fileio import write_all
from scow.images import elf
from scow.images.debian import debian_tar, package_file
from scow.images.image import Image
from scow.images.layer import LayerWriter
from scow.images.selection import Selection
from scow.images.store import Images
from scow.oci.config import History, ImageConfig
from scow.oci.digest import Digest
from scow.oci.platform import host_platform
from scow.oci.reference import Reference
from scow.snapshots.tarstream import DIRECTORY, FILE, HARDLINK, Entry
from scow.snapshots.tarwriter import TarWriter

Progress = Callable[[dict[str, Any]], object]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEBIAN_SUITE = "stable"
_BUSYBOX = ("/bin/busybox", "/usr/bin/busybox", "/usr/local/bin/busybox")
_PACKAGE = "busybox-static"
_LIST_TIMEOUT = 20
_PASSWD = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n"
_GROUP = b"root:x:0:\nnogroup:x:65534:\n"
_NSSWITCH = b"passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nprotocols: files\nservices: files\n"
_FOLDERS = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "proc": 0o755, "root": 0o700, "run": 0o755, "sys": 0o755,
    "tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755, "usr/sbin": 0o755, "var": 0o755, "var/log": 0o755, "var/tmp": 0o1777,
}  # fmt: skip
_FILES = {
    "etc/group": (0o644, _GROUP),
    "etc/nsswitch.conf": (0o644, _NSSWITCH),
    "etc/passwd": (0o644, _PASSWD),
    "etc/shadow": (0o640, b"root:*:::::::\nnobody:*:::::::\n"),
}


def quiet(_: dict[str, Any]) -> None:
    """Progress for nobody."""


def bootstrap_busybox(images: Images, name: Reference, progress: Progress = quiet) -> Image:
    """An image of one static busybox and a link for each of its commands.

    The binary is the host's, else the one in Debian's package busybox-static, fetched by apt.

    Raises:
        NotFound: neither is to be had; the text says what to install.
        System: the binary does not run here.
    """
    progress({"status": "Looking for a static busybox"})
    found = next((path for path in _BUSYBOX if _is_static(path)), None)
    if found is not None:
        with open(found, "rb") as file:
            program, made = file.read(), os.fstat(file.fileno()).st_mtime
        origin = found
    else:
        progress({"status": f"Fetching the package {_PACKAGE}"})
        program, origin = package_file(_PACKAGE, ("bin/busybox", "usr/bin/busybox")), f"package {_PACKAGE}"
        made = time.time()
    applets = _applets(program)
    progress({"status": f"Packing busybox with {len(applets)} commands"})

    def write(writer: TarWriter) -> None:
        for folder in sorted({os.path.dirname(applet) for applet in applets} | set(_FOLDERS)):
            if folder:
                writer.add(Entry(folder, DIRECTORY, _FOLDERS.get(folder, 0o755)))
        for path, (mode, data) in sorted(_FILES.items()):
            writer.add(Entry(path, FILE, mode, size=len(data)), data)
        writer.add(Entry("bin/busybox", FILE, 0o755, size=len(program)), program)
        for applet in applets:
            if applet != "bin/busybox":
                writer.add(Entry(applet, HARDLINK, 0o755, link="bin/busybox"))

    config = {"Cmd": ["sh"], "Env": [f"PATH={PATH}"], "Labels": _labels("busybox", origin)}
    return _build(images, name, write, config, f"busybox from {origin}", made)


def bootstrap_debian(
    images: Images, suite: str, name: Reference, mirror: str | None = None, progress: Progress = quiet
) -> Image:
    """A minimal Debian: its essential packages and apt, from the mirror in the host's apt sources (or `mirror`).

    Raises:
        InvalidArgument: the suite's or mirror's name cannot be one.
        NotFound: no mmdebstrap or debootstrap here, or no mirror configured; the text says what to do.
        System: the tool failed; its last words are in the text.
    """
    suite = suite or DEBIAN_SUITE
    with images.content.leases.hold(), LayerWriter(images.content) as writer:
        tool = debian_tar(suite, mirror, writer.write, lambda text: progress({"status": text}))
        layer, diff_id = writer.commit()
        labels = _labels("debian", f"{suite} by {tool}")
        settings = {"Cmd": ["bash"], "Env": [f"PATH={PATH}"], "Labels": labels}
        config = _config(settings, f"debian {suite} by {tool}", time.time())
        return images.add(_with_layer(config, diff_id), [layer], name)


def from_host(
    images: Images,
    name: Reference,
    programs: Iterable[str],
    include: Iterable[str] = (),
    certificates: bool = True,
    progress: Progress = quiet,
) -> Image:
    """An image of host programs with everything they need: shared libraries, script interpreters, Python's library.

    Args:
        programs: names found on PATH, or absolute paths; the first becomes the command.
        include: further files and folders, by absolute path.
        certificates: whether the host's CA certificates come along, if it has any.

    Raises:
        NotFound: a program, library or file is not on this host.
        InvalidArgument: no programs were given, or a path is not absolute.
    """
    selection = Selection(lambda text: progress({"status": text}))
    paths = [selection.program(program) for program in programs]
    for path in include:
        selection.data(path)
    selection.name_services()
    if certificates:
        selection.certificates()
    selection.check(paths)

    def write(writer: TarWriter) -> None:
        folders = {folder: mode for folder, mode in _FOLDERS.items() if not selection.has("/" + folder)}
        files = {path: entry for path, entry in _FILES.items() if not selection.has("/" + path)}
        selection.write(writer, folders, files)

    config = {"Cmd": [paths[0]], "Env": [f"PATH={PATH}"], "Labels": _labels("host", " ".join(paths))}
    return _build(images, name, write, config, f"programs of the host: {' '.join(paths)}", selection.newest)


# ── inside ──


def _build(
    images: Images,
    name: Reference,
    write: Callable[[TarWriter], None],
    config: Mapping[str, Any],
    origin: str,
    made: float,
) -> Image:
    with images.content.leases.hold(), LayerWriter(images.content) as layer_writer:
        writer = TarWriter(layer_writer.write)
        write(writer)
        writer.close()
        layer, diff_id = layer_writer.commit()
        return images.add(_with_layer(_config(config, origin, made), diff_id), [layer], name)


def _config(config: Mapping[str, Any], origin: str, made: float) -> ImageConfig:
    """A config as old as the newest file it is made of (seconds since 1970), so that it is the same each time."""
    platform = host_platform()
    created = rfc3339(int(made) * SECOND)
    step = History(created=created, created_by=f"scow image bootstrap: {origin}")
    return ImageConfig(
        platform.architecture, platform.os, platform.variant, created, config=dict(config), history=(step,)
    )


def _with_layer(config: ImageConfig, diff_id: Digest) -> ImageConfig:
    return replace(config, diff_ids=(diff_id,))


def _labels(kind: str, origin: str) -> dict[str, str]:
    return {"scow.origin": kind, "scow.origin.source": origin}


def _is_static(path: str) -> bool:
    try:
        found = elf.read(path)
    except OSError:
        return False
    return found is not None and found.static


def _applets(program: bytes) -> list[str]:
    """The paths busybox wants its commands at, by its own list.

    Raises:
        System: it does not run here.
    """
    fd = os.memfd_create("busybox", 0)  # a temporary folder may be mounted noexec
    try:
        write_all(fd, program)
        done = subprocess.run(
            ["busybox", "--list-full"],
            executable=f"/proc/self/fd/{fd}",
            pass_fds=[fd],
            capture_output=True,
            timeout=_LIST_TIMEOUT,
            check=True,
            env={},
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise System(f"the busybox of this host does not list its commands: {error}") from error
    finally:
        os.close(fd)
    found = sorted({line.strip().lstrip("/") for line in done.stdout.decode("utf-8", "replace").splitlines()} - {""})
    if len(found) < 10:
        raise Unavailable("the busybox of this host has hardly any commands: install the package busybox-static")
    return found
