"""Columns as Go's text/tabwriter makes them."""

from hypothesis import given
from hypothesis import strategies as st

from scow.cli.tabular import layout


def test_a_table() -> None:
    assert (
        layout("ID\tNAME\tX\nlonger than ten\ta\ty") == "ID                NAME      X\nlonger than ten   a         y"
    )


def test_a_column_lasts_only_as_long_as_lines_have_it() -> None:
    assert layout("a\tb\nplain\nccccccccccccc\td", least=0, padding=1) == "a b\nplain\nccccccccccccc d"


def test_wide_letters_count_as_characters() -> None:
    assert layout("…\tb\nab\tc", least=0, padding=1) == "…  b\nab c"


CELLS = st.text(st.characters(blacklist_characters="\t\n", blacklist_categories=("Cs",)), max_size=12)


@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=6))
def test_every_row_of_a_table_has_its_cells_at_the_same_places(rows: list[list[str]]) -> None:
    lines = layout("\n".join("\t".join(row) for row in rows)).split("\n")
    starts = [max(10, *(len(row[column]) + 3 for row in rows)) for column in range(2)]
    for line, row in zip(lines, rows, strict=True):
        assert line == row[0].ljust(starts[0]) + row[1].ljust(starts[1]) + row[2]
