"""Choosing a driver, and what the shim pays for it."""

import os
import subprocess
import sys

import pytest

import scow
from scow.errors import InvalidArgument
from scow.logs.driver import FILES, LogConfig, open_writer


@pytest.mark.parametrize("driver", [*FILES, "none"])
def test_every_driver_takes_output(driver, tmp_path):
    writer = open_writer(LogConfig(driver=driver, path=str(tmp_path / "log"), options={}))
    writer.write(1, b"hello\n", 1)
    writer.close()
    assert writer.dropped == 0
    assert (tmp_path / "log").exists() == (driver != "none")


def test_unknown_drivers_are_refused_in_dockers_words():
    with pytest.raises(InvalidArgument, match="logger: no log driver named 'pigeon' is registered"):
        open_writer(LogConfig("pigeon", "/nowhere/log"))


def test_options_are_checked_before_a_file_is_made(tmp_path):
    for driver in ("local", "json-file"):
        with pytest.raises(InvalidArgument, match="unknown log opt 'max-sise'"):
            open_writer(LogConfig(driver, str(tmp_path / "log"), {"max-sise": "1m"}))
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("driver", [*FILES, "none"])
def test_the_shim_imports_little(driver, tmp_path):
    program = (
        f"import sys; sys.path.insert(0, {os.path.dirname(scow.__path__[0])!r}); import contextlib, os, fcntl\n"
        "before = set(sys.modules)\n"
        "from scow.logs.driver import LogConfig, open_writer\n"
        f"open_writer(LogConfig({driver!r}, {str(tmp_path / 'log')!r})).write(1, b'x', 1)\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    told = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, check=True, text=True)
    loaded = set(told.stdout.split())
    assert not loaded & {"re", "json", "zlib", "ctypes", "typing", "enum", "dataclasses", "pathlib", "threading"}
    assert not [name for name in loaded if name.startswith("scow.logs.") and "reader" in name]
    assert len(loaded) <= 12
