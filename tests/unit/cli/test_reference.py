"""docs/cli.md is what the tables say."""

from pathlib import Path

from scow.cli.reference import document

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == document(), "run: python -m scow.cli.reference > docs/cli.md"


def test_it_names_every_flag_of_run() -> None:
    text = document()
    for flag in ("--volume", "--publish", "--cap-add", "--health-cmd", "--cgroupns"):
        assert f"`{flag}`" in text
    assert "--kernel-memory" not in text
