"""ELF files: what a program needs from the dynamic linker, read without running anything.

Only the program headers and the dynamic section are looked at (ELF gABI chapter 5). Every offset is checked: a
damaged file is "no ELF file".
"""

import os
import struct
from dataclasses import dataclass

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 10, 15, 29
_MAX_HEADERS = 512
_MAX_DYNAMIC = 1 << 20
_MAX_STRINGS = 64 << 20
_CACHE_MAGIC = b"glibc-ld.so.cache1.1"


@dataclass(frozen=True, slots=True)
class Elf:
    """One program or library.

    Attributes:
        bits, machine: 32 or 64 and e_machine; what is loaded together has both the same.
        interpreter: the dynamic linker's path, None if it needs none.
        needed: names of the libraries it needs.
        rpath, runpath: folders to look in, with ``$ORIGIN`` unexpanded.
        dynamic: whether it has a dynamic section.
    """

    bits: int
    machine: int
    interpreter: str | None
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]
    dynamic: bool

    @property
    def static(self) -> bool:
        """Whether it runs with nothing else in the file system."""
        return self.interpreter is None and not self.needed


def read(path: str) -> Elf | None:
    """The ELF file at `path`; None if it is none."""
    with open(path, "rb") as file:
        if file.read(4) != b"\x7fELF":
            return None
        try:
            return _Reader(file.fileno()).read()
        except (struct.error, ValueError, IndexError, OverflowError):
            return None


class _Reader:
    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = os.fstat(fd).st_size
        ident = self._at(0, 16)
        if ident[4] not in (1, 2) or ident[5] not in (1, 2):
            raise ValueError("unknown class or byte order")
        self._wide = ident[4] == 2
        self._order = "<" if ident[5] == 1 else ">"
        self._loads: list[tuple[int, int, int]] = []

    def read(self) -> Elf:
        (machine,) = self._unpack("H", 18)
        form = "QQQ" if self._wide else "III"
        _, table, _ = self._unpack(form, 24)
        entry_size, count = self._unpack("HH", 54 if self._wide else 42)
        interpreter, dynamic = None, None
        if count > _MAX_HEADERS:
            raise ValueError("too many program headers")
        for index in range(count):
            kind, offset, address, size = self._header(table + index * entry_size)
            if kind == _PT_LOAD:
                self._loads.append((address, size, offset))
            elif kind == _PT_INTERP:
                interpreter = os.fsdecode(self._at(offset, min(size, 4096)).rstrip(b"\0"))
            elif kind == _PT_DYNAMIC:
                dynamic = (offset, size)
        needed: list[str] = []
        rpath: list[str] = []
        runpath: list[str] = []
        if dynamic is not None:
            needed, rpath, runpath = self._dynamic(*dynamic)
        return Elf(
            64 if self._wide else 32,
            machine,
            interpreter,
            tuple(needed),
            tuple(rpath),
            tuple(runpath),
            dynamic is not None,
        )

    def _header(self, at: int) -> tuple[int, int, int, int]:
        """(type, file offset, address, bytes in the file) of a program header."""
        if self._wide:
            kind, _, offset, address, _, size = self._unpack("IIQQQQ", at)
        else:
            kind, offset, address, _, size = self._unpack("IIIII", at)
        return kind, offset, address, size

    def _dynamic(self, offset: int, size: int) -> tuple[list[str], list[str], list[str]]:
        if size > _MAX_DYNAMIC:
            raise ValueError("dynamic section too big")
        width = 16 if self._wide else 8
        tags: list[tuple[int, int]] = []
        for index in range(size // width):
            tag, value = self._unpack("QQ" if self._wide else "II", offset + index * width)
            if tag == _DT_NULL:
                break
            tags.append((tag, value))
        table = dict(tags)
        if _DT_STRTAB not in table or not 0 < table.get(_DT_STRSZ, 0) <= _MAX_STRINGS:
            return [], [], []
        strings = self._at(self._offset(table[_DT_STRTAB]), table[_DT_STRSZ])

        def named(wanted: int) -> list[str]:
            return [os.fsdecode(strings[value : strings.index(b"\0", value)]) for tag, value in tags if tag == wanted]

        def folders(wanted: int) -> list[str]:
            return [part for text in named(wanted) for part in text.split(":") if part]

        return named(_DT_NEEDED), folders(_DT_RPATH), folders(_DT_RUNPATH)

    def _offset(self, address: int) -> int:
        for start, size, offset in self._loads:
            if start <= address < start + size:
                return address - start + offset
        raise ValueError("address outside of the file")

    def _unpack(self, form: str, at: int) -> tuple[int, ...]:
        form = self._order + form
        return struct.unpack(form, self._at(at, struct.calcsize(form)))

    def _at(self, offset: int, size: int) -> bytes:
        if not 0 <= offset <= self._size - size:
            raise ValueError("outside of the file")
        return os.pread(self._fd, size, offset)


def linker_cache(path: str = "/etc/ld.so.cache") -> dict[str, list[str]]:
    """The dynamic linker's cache: library name → paths, best first; empty if there is none or it is another format.

    Source: glibc's sysdeps/generic/dl-cache.h describes the format (48 bytes of header, 24 an entry).
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return {}
    start = data.find(_CACHE_MAGIC)
    if start < 0 or len(data) < start + 48:
        return {}
    (count,) = struct.unpack_from("=I", data, start + 20)
    found: dict[str, list[str]] = {}
    for index in range(min(count, (len(data) - start - 48) // 24)):
        _, key, value = struct.unpack_from("=iII", data, start + 48 + index * 24)
        names = []
        for offset in (start + key, start + value):
            end = data.find(b"\0", offset)
            names.append(os.fsdecode(data[offset:end]) if 0 < offset < end else "")
        if all(names):
            found.setdefault(names[0], []).append(names[1])
    return found
