"""Columns of text as Go's ``text/tabwriter`` lays them out: cells end in tabs, a column is as wide as its widest cell.

Pure. Widths count characters. A column lasts for as many lines in a row as have it; the last cell of a line is in no
column.
"""


def layout(text: str, least: int = 10, padding: int = 3) -> str:
    """`text` (lines of cells) with its columns aligned by blanks.

    Args:
        least: smallest width of a column, its padding included.
        padding: blanks after the widest cell.
    """
    lines = [line.split("\t") for line in text.split("\n")]
    widths: list[list[int]] = [[0] * (len(cells) - 1) for cells in lines]
    _measure(lines, widths, 0, len(lines), 0, least, padding)
    return "\n".join(
        "".join(cell.ljust(width) for cell, width in zip(cells, width_row, strict=False)) + cells[-1]
        for cells, width_row in zip(lines, widths, strict=True)
    )


def _measure(
    lines: list[list[str]], widths: list[list[int]], first: int, last: int, column: int, least: int, padding: int
) -> None:
    """Set the widths of `column` and those right of it for the lines from `first` up to `last`."""
    at = first
    while at < last:
        if column >= len(lines[at]) - 1:
            at += 1
            continue
        end = at
        widest = least
        empty = True
        while end < last and column < len(lines[end]) - 1:
            cell = lines[end][column]
            widest = max(widest, len(cell) + padding)
            empty = empty and not cell
            end += 1
        for index in range(at, end):
            widths[index][column] = widest
        _measure(lines, widths, at, end, column + 1, least, padding)
        at = end
