"""The keeper's fingerprint."""

import os

from scow.keeper import protocol


def test_code_changes_with_the_files(tmp_path, monkeypatch):
    before = protocol.code()
    assert before == protocol.code()
    for room in ("keeper", "shim", "runtime", "logs", "linux"):
        (tmp_path / "scow" / room).mkdir(parents=True)
        (tmp_path / "scow" / room / "x.py").write_text("")
    monkeypatch.setattr(protocol, "package_folder", lambda: str(tmp_path))
    first = protocol.code()
    os.utime(tmp_path / "scow/shim/x.py", ns=(1, 2**62))
    assert protocol.code() != first


def test_the_package_folder_holds_the_package():
    assert os.path.isfile(f"{protocol.package_folder()}/scow/errors.py")
