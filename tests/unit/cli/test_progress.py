"""Progress messages on a pipe and on a terminal."""

import os
import pty
from typing import Any

import pytest

from scow.cli.progress import StreamError, progress_bar, show

MESSAGES: list[dict[str, Any]] = [
    {"status": "Pulling from library/x", "id": "latest"},
    {"status": "Waiting", "progressDetail": {}, "id": "aaa"},
    {"status": "Waiting", "progressDetail": {}, "id": "bbb"},
    {"status": "Downloading", "progressDetail": {"current": 500, "total": 1000}, "id": "aaa"},
    {"status": "Done", "progressDetail": {}, "id": "aaa"},
    {"status": "Status: Downloaded newer image"},
]


def everything(leader: int, follower: int) -> str:
    """What was written to a terminal that is closed now."""
    os.close(follower)
    found = b""
    while True:
        try:
            found += os.read(leader, 65536)
        except OSError:
            os.close(leader)
            return found.decode().replace("\r\n", "\n")


def test_a_pipe_gets_a_line_for_each_step_and_no_bars() -> None:
    reader, writer = os.pipe()
    show(MESSAGES, writer)
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        assert file.read() == (
            "latest: Pulling from library/x\naaa: Waiting\nbbb: Waiting\naaa: Done\nStatus: Downloaded newer image\n"
        )


def test_a_terminal_has_its_lines_rewritten() -> None:
    leader, follower = pty.openpty()
    show(MESSAGES, follower)
    text = everything(leader, follower)
    assert "\x1b[2A\x1b[2K\raaa: Downloading     500B/1kB\x1b[2B" in text
    assert "\x1b[2A\x1b[2K\raaa: Done\x1b[2B" in text
    assert text.endswith("Status: Downloaded newer image\n")


def test_plain_lines_on_a_terminal_when_asked() -> None:
    leader, follower = pty.openpty()
    show(MESSAGES, follower, plain=True)
    assert "\x1b" not in everything(leader, follower)


def test_a_failure_ends_it_with_its_code() -> None:
    with pytest.raises(StreamError, match="no luck") as caught:
        show([{"errorDetail": {"code": 3, "message": "no luck"}, "error": "no luck"}], os.open(os.devnull, os.O_WRONLY))
    assert caught.value.code == 3


def test_aux_values_are_handed_over_and_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    found: list[Any] = []
    show([{"aux": {"ID": "x"}}, {"stream": "text\n"}], 1, aux=found.append)
    assert (found, capfd.readouterr().out) == ([{"ID": "x"}], "text\n")


@pytest.mark.parametrize(
    ("detail", "width", "expected"),
    [
        ({}, 200, ""),
        ({"current": 500}, 200, "    500B"),
        ({"current": 500, "total": 1000}, 100, "    500B/1kB"),
        ({"current": 500, "total": 1000}, 200, f"[{'=' * 25}>{' ' * 25}]      500B/1kB"),
        ({"current": 1000, "total": 1000}, 200, f"[{'=' * 50}>]       1kB/1kB"),
        ({"current": 5, "total": 9, "units": "items"}, 100, "5/9 items"),
        ({"current": 20, "total": 10}, 100, "     20B"),
    ],
)
def test_bars(detail: dict[str, Any], width: int, expected: str) -> None:
    assert progress_bar(detail, width) == expected
