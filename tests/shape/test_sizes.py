"""No file past 600 lines, no function past 60: the tail separates the code people like from the code they endure."""

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "scow"
FILE_LINES = 600
FUNCTION_LINES = 60

#: name → lines allowed. May only shrink.
EXCEPTIONS: dict[str, int] = {}


def functions(path: Path) -> list[tuple[str, int]]:
    tree = ast.parse(path.read_text())
    return [
        (f"{path.relative_to(SOURCE)}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_files_stay_readable() -> None:
    long = {str(path.relative_to(SOURCE)): len(path.read_text().splitlines()) for path in SOURCE.rglob("*.py")}
    assert {name: lines for name, lines in long.items() if lines > EXCEPTIONS.get(name, FILE_LINES)} == {}


def test_functions_stay_readable() -> None:
    long = dict(pair for path in SOURCE.rglob("*.py") for pair in functions(path))
    assert {name: lines for name, lines in long.items() if lines > EXCEPTIONS.get(name, FUNCTION_LINES)} == {}


def test_exceptions_are_still_needed() -> None:
    lines = {str(path.relative_to(SOURCE)): len(path.read_text().splitlines()) for path in SOURCE.rglob("*.py")}
    lines |= dict(pair for path in SOURCE.rglob("*.py") for pair in functions(path))
    limit = {name: FILE_LINES if name.endswith(".py") else FUNCTION_LINES for name in EXCEPTIONS}
    assert [name for name in EXCEPTIONS if lines.get(name, 0) <= limit[name]] == []
