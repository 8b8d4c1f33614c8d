"""Debian packages and the host's apt sources."""

import io
import lzma
from pathlib import Path

import pytest

from scow.errors import InvalidArgument, NotFound
from scow.images.debian import ar_members, debian_tar, file_in_package, host_mirror
from support.tars import tar


def ar(*members: tuple[str, bytes]) -> bytes:
    out = io.BytesIO(b"!<arch>\n")
    out.seek(0, io.SEEK_END)
    for name, data in members:
        out.write(
            f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
        )
    return out.getvalue()


def test_a_file_of_a_package() -> None:
    data = lzma.compress(tar(("./bin/busybox", b"program", {"mode": 0o755})).getvalue())
    deb = ar(("debian-binary", b"2.0\n"), ("control.tar.xz", b"x"), ("data.tar.xz", data))
    assert file_in_package(deb, ("usr/bin/busybox", "bin/busybox")) == b"program"
    with pytest.raises(NotFound, match="none of bin/other"):
        file_in_package(deb, ("bin/other",))


@pytest.mark.parametrize("data", [b"", b"PK", ar(("a", b"12345"))[:-3], b"!<arch>\n" + b"x" * 60])
def test_what_is_no_package(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        ar_members(data)


SOURCES = """
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main

# a second one
Types: deb deb-src
URIs:
  https://other.example/debian
Suites: trixie
Enabled: no
"""


LINES = """
# a comment
deb-src http://src.example x main
deb [arch=amd64 x=y] http://old.example/debian sid main
"""


def test_the_mirror_of_the_host(tmp_path: Path) -> None:
    assert host_mirror("trixie", str(tmp_path)) is None
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/debian.sources").write_text(SOURCES)
    assert host_mirror("bookworm", str(tmp_path)) == "http://mirror.example/debian"
    (tmp_path / "sources.list").write_text(
        "# x\ndeb-src http://src.example x main\ndeb [arch=amd64 x=y] http://old.example/debian sid main\n"
    )
    assert host_mirror("sid", str(tmp_path)) == "http://old.example/debian"
    assert host_mirror("bookworm", str(tmp_path)) == "http://mirror.example/debian"
    assert host_mirror("other", str(tmp_path)) == "http://old.example/debian"


@pytest.mark.parametrize(
    ("suite", "mirror"), [("--help", None), ("a b", None), ("", None), ("stable", "-oProxy=x"), ("stable", "ftp://x")]
)
def test_names_that_would_be_options_are_refused(suite: str, mirror: str | None) -> None:
    with pytest.raises(InvalidArgument):
        debian_tar(suite, mirror, lambda _: None, lambda _: None)
