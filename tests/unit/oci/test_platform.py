"""Platforms: one machine, many spellings."""

import pytest

from scow.errors import InvalidArgument
from scow.oci.platform import Platform, host_platform


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("Linux/AMD64", "linux/amd64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_spellings(text: str, shown: str) -> None:
    assert str(Platform.parse(text)) == shown


def test_half_a_platform_is_completed_by_the_host() -> None:
    host = host_platform()
    assert Platform.parse("linux") == Platform("linux", host.architecture, host.variant)
    assert Platform.parse("s390x") == Platform(host.os, "s390x")


@pytest.mark.parametrize("text", ["", "/", "a/b/c/d", "linux/", "linux/am d64", "linux/../x", "x" * 100])
def test_refusals(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid platform"):
        Platform.parse(text)


def test_matching_ignores_spelling_but_not_the_machine() -> None:
    assert Platform("linux", "arm64").matches(Platform("linux", "aarch64", "v8"))
    assert not Platform("linux", "arm", "v7").matches(Platform("linux", "arm", "v6"))
    assert not Platform("linux", "amd64").matches(Platform("windows", "amd64"))
    assert not Platform("windows", "amd64", os_version="10.1").matches(Platform("windows", "amd64", os_version="10.2"))


def test_json_goes_back_as_it_came() -> None:
    value = {"architecture": "arm64", "os": "linux", "os.version": "1", "variant": "v8"}
    assert Platform.from_json(value).to_json() == value
