"""Reading ELF files: this host's, and damaged ones."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from scow.images.elf import linker_cache, read


def test_what_ldd_says() -> None:
    found = read(os.path.realpath(shutil.which("ls") or "/bin/ls"))
    assert found is not None
    assert found.interpreter is not None
    assert not found.static
    if shutil.which("ldd"):
        said = subprocess.run(["ldd", shutil.which("ls") or ""], capture_output=True, text=True, check=True).stdout
        assert all(name in said for name in found.needed)


def test_a_script_is_none(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n")
    assert read(str(tmp_path / "script")) is None


def test_any_damage_is_no_accident(tmp_path: Path) -> None:
    data = Path(os.path.realpath(shutil.which("ls") or "/bin/ls")).read_bytes()
    path = tmp_path / "broken"
    for size in (4, 16, 40, 64, 100, 500, 1000, len(data) // 2):
        path.write_bytes(data[:size])
        read(str(path))
    for position in range(4, 1000, 7):
        broken = bytearray(data[:200_000])
        broken[position] ^= 0xFF
        path.write_bytes(broken)
        read(str(path))


def test_the_linkers_cache_knows_the_c_library() -> None:
    if not os.path.exists("/etc/ld.so.cache"):
        pytest.skip("this host has no ld.so.cache")
    assert any(os.path.exists(path) for path in linker_cache().get("libc.so.6", []))


def test_a_cache_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"glibc-ld.so.cache1.1" + b"\xff" * 60)
    assert linker_cache(str(tmp_path / "cache")) == {}
    assert linker_cache(str(tmp_path / "missing")) == {}
