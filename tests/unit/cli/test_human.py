"""Sizes, times and ids as lists print them."""

import pytest

from scow.cli import human, timestamps
from scow.cli.commands.ps import ports_text
from scow.errors import InvalidArgument


def test_sizes_have_three_digits() -> None:
    assert [human.size(value) for value in (0, 999, 1000, 12345, 187654321, 10**13)] == [
        "0B", "999B", "1kB", "12.3kB", "188MB", "10TB",
    ]  # fmt: skip


def test_ids_and_long_words_are_cut() -> None:
    assert human.short("sha256:" + "a" * 64) == "a" * 12
    assert human.short("<missing>") == "<missing>"
    assert human.ellipsis("abcdef", 4) == "abc…"
    assert human.ellipsis("abcd", 4) == "abcd"
    assert human.labels_text({"b": "2", "a": "1"}) == "a=1,b=2"


def test_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    assert human.moment(1767323045 * 10**9) == "2026-01-02 03:04:05 +0000 UTC"
    assert human.moment_nanoseconds(1767323045_120000000) == "2026-01-02 03:04:05.12 +0000 UTC"
    assert human.local_rfc3339(1767323045_000000006) == "2026-01-02T03:04:05.000000006Z"


def test_points_in_time() -> None:
    assert timestamps.wire("2026-01-02T03:04:05.5Z") == "1767323045.500000000"
    assert timestamps.wire("1767323045") == "1767323045.000000000"
    assert timestamps.wire("") == ""
    with pytest.raises(InvalidArgument, match="not a time"):
        timestamps.wire("yesterday")


def test_ports_are_joined_to_ranges() -> None:
    def port(private: int, public: int = 0, address: str = "") -> dict[str, object]:
        return {"PrivatePort": private, "PublicPort": public, "IP": address, "Type": "tcp"}

    assert ports_text([port(1), port(2), port(4)]) == "1-2/tcp, 4/tcp"
    assert ports_text([port(80, 80, "0.0.0.0"), port(81, 81, "0.0.0.0")]) == "0.0.0.0:80-81->80-81/tcp"
    assert ports_text([port(80, 8080, "::")]) == "[::]:8080->80/tcp"
    assert ports_text([]) == ""
