"""Filling a volume that a running program has mounted too: what was just made may be a link already."""

import os
from pathlib import Path

import pytest

from scow.volumes import copyup


def test_the_mode_of_a_pipe_is_not_set_on_what_a_link_in_its_place_leads_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, victim = tmp_path / "source", tmp_path / "target", tmp_path / "victim"
    source.mkdir()
    target.mkdir()
    os.mkfifo(source / "pipe")
    (source / "pipe").chmod(0o777)
    victim.write_text("of the host")
    victim.chmod(0o600)
    real = os.chown

    def chown(name, *given, **options):  # the moment between making the pipe and setting its mode
        real(name, *given, **options)
        if name == "pipe":
            (target / "pipe").unlink()
            (target / "pipe").symlink_to(victim)

    monkeypatch.setattr(copyup.os, "chown", chown)
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (source, target)]
    try:
        copyup.copy_tree(*fds)
    finally:
        for fd in fds:
            os.close(fd)
    assert (target / "pipe").is_symlink()
    assert victim.stat().st_mode & 0o777 == 0o600
