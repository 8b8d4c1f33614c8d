"""Starting the daemon on demand, with a program of the test's own in its place."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scow.cli import autostart
from scow.cli.console import Console
from scow.errors import System

READY = """
import os, signal, sys
print("words", sys.argv[1:], flush=True)
os.write(3, b"\\n")
os.close(3)
signal.pause()
"""
BROKEN = "import sys; print('the disk is on fire', file=sys.stderr); sys.exit(1)"


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a program in the daemon's place; returns its log."""

    def put(code: str) -> Path:
        def command(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
            assert module == "scow.daemon.main"
            return [sys.executable, "-I", "-S", "-c", code, *arguments], {}

        monkeypatch.setattr(autostart, "command", command)
        monkeypatch.setattr(autostart, "EXEC_ROOT", str(tmp_path / "run"))
        monkeypatch.setattr(autostart, "LOG", str(tmp_path / "run" / "scowd.log"))
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.delenv("SCOW_AUTOSTART")
        return tmp_path / "run" / "scowd.log"

    return put


def test_it_waits_until_the_daemon_says_so(stand_in: Callable[[str], Path], capfd: pytest.CaptureFixture[str]) -> None:
    log = stand_in(READY)
    assert autostart.start(Console())
    said = capfd.readouterr().err
    pid = int(said.partition("pid ")[2].partition(")")[0])
    try:
        assert said == f"scow: started the engine (scowd, pid {pid}); SCOW_AUTOSTART=0 turns this off\n"
        assert log.read_text() == "words ['--ready-fd', '3']\n"
        assert os.getsid(pid) == pid
        assert not [fd for fd in os.listdir(f"/proc/{pid}/fd") if int(fd) > 3]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_daemon_that_fails_shows_the_end_of_its_log(stand_in: Callable[[str], Path]) -> None:
    log = stand_in(BROKEN)
    log.parent.mkdir()
    log.write_text("of an earlier day\n")
    with pytest.raises(System, match="the disk is on fire") as caught:
        autostart.start(Console())
    assert "earlier day" not in str(caught.value)
    assert str(log) in str(caught.value)


def test_it_is_turned_off_by_the_environment_and_for_others_than_root(
    stand_in: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(READY)
    monkeypatch.setenv("SCOW_AUTOSTART", "0")
    assert not autostart.start(Console())
    monkeypatch.delenv("SCOW_AUTOSTART")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert not autostart.start(Console())
