from threading import Thread

import pytest

from scow.errors import System
from scow.linux import nftables
from scow.linux.namespaces import CLONE_NEWNET, unshare


def test_missing_nftables_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nftables, "_library", lambda: None)
    monkeypatch.setattr(nftables, "find_program", lambda: "")
    missing = nftables.available()
    assert missing is not None
    assert "install the package nftables" in missing


def test_error_is_one_line() -> None:
    error = b"/dev/stdin:1:1-3: Error: syntax error\nfoo bar\n^^^\n"
    assert nftables._first_error(error) == "/dev/stdin:1:1-3: Error: syntax error"
    assert nftables._first_error(None)


@pytest.mark.root
@pytest.mark.parametrize("program", [False, True])
def test_one_text_is_one_transaction(monkeypatch: pytest.MonkeyPatch, program: bool) -> None:
    if program:
        monkeypatch.setattr(nftables, "_library", lambda: None)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            unshare(CLONE_NEWNET)
            assert nftables.available() is None
            with nftables.Nft() as nft:
                nft.run("add table ip kept")
                with pytest.raises(System, match="nftables refused the rules"):
                    nft.run("add table ip lost\nadd rule ip nowhere chain accept\n")
                assert nft.run("list tables").strip() == "table ip kept"
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
