"""Accounts files: every form against hashes other programs made, and files that are wrong."""

import asyncio
import base64
from pathlib import Path

import pytest

from scow.errors import InvalidArgument, System, Unauthorized
from scow.registry.server import htpasswd, shacrypt
from scow.registry.server.htpasswd import Accounts

#: Made by ``openssl passwd`` and ``htpasswd`` for the password "secret".
KNOWN = {
    "apr1": "$apr1$jOcljREd$Lg/4o7mJgcxN/QxstPNjk0",
    "sha": "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
    "bcrypt": "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
}


def header(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("form", KNOWN)
def test_forms(tmp_path: Path, form: str) -> None:
    if form == "bcrypt" and htpasswd._bcrypt() is None:
        pytest.skip("neither the bcrypt package nor a crypt module that knows it is here")
    file = tmp_path / "accounts"
    file.write_text(f"# people\n\nme:{KNOWN[form]}\n")
    accounts = Accounts.read(file)

    async def main() -> None:
        for _ in range(2):  # the second time from memory
            assert await accounts.check(header("me", "secret")) == "me"
            with pytest.raises(Unauthorized):
                await accounts.check(header("me", "Secret"))
            with pytest.raises(Unauthorized):
                await accounts.check(header("you", "secret"))

    asyncio.run(main())


@pytest.mark.parametrize(
    "known",
    [
        # Made by ``openssl passwd -5`` and ``-6`` for "Hello world!".
        "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5",
        "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA",
        "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
    ],
)
def test_sha_crypt(known: str) -> None:
    assert shacrypt.sha_crypt("Hello world!", known) == known
    assert shacrypt.sha_crypt("Hello world?", known) != known


def test_hostile_rounds_are_cut() -> None:
    made = shacrypt.sha_crypt("x", "$5$rounds=1$abc")
    assert made.startswith("$5$rounds=1000$abc$")


@pytest.mark.parametrize(
    "line", ["nobody", ":hash", "me:plaintext", "me:$1$md5$xxx", "me:abDESDESDESDE", "me:$y$yescrypt"]
)
def test_wrong_lines_are_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "accounts"
    file.write_text(f"ok:{KNOWN['sha']}\n{line}\n")
    with pytest.raises(InvalidArgument, match="line 2"):
        Accounts.read(file)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(System, match="cannot read the accounts"):
        Accounts.read(tmp_path / "nothing")


def test_a_name_that_does_not_exist_is_checked_as_slowly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time an answer takes must not tell which names there are."""
    file = tmp_path / "accounts"
    file.write_text("me:" + shacrypt.sha_crypt("secret", "$5$rounds=1000$abc") + "\n")
    accounts = Accounts.read(file)
    checked: list[str] = []
    real = shacrypt.sha_crypt
    monkeypatch.setattr(shacrypt, "sha_crypt", lambda *given: checked.append(given[0]) or real(*given))

    async def main() -> None:
        for user, password in (("me", "wrong"), ("you", "wrong"), ("you", "secret"), ("you", "secret")):
            with pytest.raises(Unauthorized):
                await accounts.check(header(user, password))

    asyncio.run(main())
    assert checked == ["wrong", "wrong", "secret", "secret"]
