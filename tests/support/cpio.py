"""Initial file systems for a kernel: cpio archives of the "newc" form, and a kernel's modules among them.

Source: kernel Documentation/driver-api/early-userspace/buffer-format; modules.dep(5).
"""

import lzma
import stat
from pathlib import Path
from typing import BinaryIO

import zstandard

_MAGIC = "070701"
_END = "TRAILER!!!"


class Archive:
    """Writes one archive to `out`; folders on the way to a path are made by themselves, links in the root are followed.

    The kernel takes several archives one after the other and keeps the last file of a name.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._number = 0
        self._made: set[str] = set()
        self._links: dict[str, str] = {}

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self._entry(path, stat.S_IFREG | mode, data)

    def link(self, path: str, target: str) -> None:
        self._links[path.strip("/")] = target.strip("/")
        self._entry(path, stat.S_IFLNK | 0o777, target.encode())

    def folder(self, path: str, mode: int = 0o755) -> None:
        name = path.strip("/")
        if name and name not in self._made and name not in self._links:
            self._made.add(name)
            self._entry(name, stat.S_IFDIR | mode, b"")

    def device(self, path: str, major: int, minor: int) -> None:
        self._entry(path, stat.S_IFCHR | 0o600, b"", (major, minor))

    def end(self) -> None:
        self._write(_END, 0, b"", (0, 0))

    def _entry(self, path: str, mode: int, data: bytes, device: tuple[int, int] = (0, 0)) -> None:
        name = path.strip("/")
        first, slash, rest = name.partition("/")
        if slash and first in self._links:  # "lib" on most hosts: a folder of that name would take the link's place
            name = f"{self._links[first]}/{rest}"
        self.folder(name.rpartition("/")[0])
        self._number += 1
        self._write(name, mode, data, device)

    def _write(self, name: str, mode: int, data: bytes, device: tuple[int, int]) -> None:
        # inode mode uid gid links mtime size, device of the file system, device it stands for, length of the name, sum
        fields = (self._number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name.encode()) + 1, 0)
        header = (_MAGIC + "".join(f"{field:08x}" for field in fields)).encode() + name.encode() + b"\0"
        self._out.write(header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4))


class Modules:
    """The modules of one kernel, `folder` being its lib/modules/<release>."""

    def __init__(self, folder: Path) -> None:
        self.release = folder.name
        self._folder = folder
        self._paths = {path.name.partition(".ko")[0].replace("-", "_"): path for path in folder.rglob("*.ko*")}

    def add(self, archive: Archive, wanted: tuple[str, ...]) -> None:
        """Add the modules `wanted` and those they need, with the tables modprobe reads; built-in ones are left out."""
        found: dict[str, tuple[str, list[str]]] = {}
        aliases: list[str] = []
        todo = [name for name in wanted if name in self._paths]
        while todo:
            name = todo.pop()
            if name in found:
                continue
            data = _uncompressed(self._paths[name])
            needs = [each.replace("-", "_") for text in _told(data, b"depends") for each in text.split(",") if each]
            aliases += [f"alias {text} {name}" for text in _told(data, b"alias")]
            found[name] = (f"kernel/{name}.ko", needs)
            todo += needs
            archive.file(f"lib/modules/{self.release}/kernel/{name}.ko", data)
        lines = [f"{path}: " + " ".join(found[each][0] for each in self._closure(needs, found))
                 for path, needs in found.values()]  # fmt: skip
        archive.file(f"lib/modules/{self.release}/modules.dep", "".join(f"{line}\n" for line in lines).encode())
        archive.file(f"lib/modules/{self.release}/modules.alias", "".join(f"{line}\n" for line in aliases).encode())

    def _closure(self, needs: list[str], found: dict[str, tuple[str, list[str]]]) -> list[str]:
        """`needs` and what they need, every module before those it stands on, as modules.dep wants it."""
        order: list[str] = []
        for name in needs:
            for each in (name, *self._closure(found[name][1], found)):
                if each in order:
                    order.remove(each)
                order.append(each)
        return order


def _uncompressed(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".zst":
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data


def _told(module: bytes, key: bytes) -> list[str]:
    """The values of `key` in the module's .modinfo: strings "key=value" that end with a zero byte."""
    return [part.partition(b"\0")[0].decode() for part in module.split(b"\0" + key + b"=")[1:]]
