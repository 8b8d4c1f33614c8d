"""Lists as tables, JSON lines or templates: what ``--format`` and ``--quiet`` do, the same for every list.

A `View` says which fields an item has and which make the default table. The template engine is imported only for a
format that needs it: the plain table is the hot path.
"""

from __future__ import annotations

from scow.cli.exits import FAILED, Exit
from scow.cli.tabular import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from scow.cli.session import Session

#: Field → value; values that take arguments (``{{.Label "x"}}``) are callables.
Row = dict[str, "Any"]


class View:
    """How one kind of item is listed.

    Args:
        headings: field → column title.
        columns: fields of the default table.
        name: field that --quiet prints.
    """

    __slots__ = ("columns", "headings", "name")

    def __init__(self, headings: dict[str, str], columns: Sequence[str], name: str) -> None:
        self.headings = headings
        self.columns = columns
        self.name = name


def show(session: Session, view: View, rows: Iterable[Row], form: str, quiet: bool = False) -> None:
    """Write `rows` to stdout.

    Args:
        form: value of --format; "" and "table" mean the default table.
    """
    out = session.console.out
    if quiet and form in ("", "table"):
        for row in rows:
            out(f"{row[view.name]}\n")
    elif form in ("", "table"):
        out(table([view.headings[name] for name in view.columns], ([str(r[n]) for n in view.columns] for r in rows)))
    elif form == "json":
        from scow.cli.template_functions import RowFields, to_json

        for row in rows:
            out(to_json(RowFields(sorted(row.items()))) + "\n")
    else:
        out(templated(view, rows, form))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned columns under their titles, ending in a line break."""
    return layout("\n".join(["\t".join(headings), *("\t".join(row) for row in rows)])) + "\n"


def unescaped(form: str) -> str:
    r"""A list's format as typed in a shell: ``\t`` and ``\n`` stand for what they say."""
    return form.strip(" ").replace("\\t", "\t").replace("\\n", "\n")


def templated(view: View, rows: Iterable[Row], form: str) -> str:
    """The rows through a template, under headings if the format begins with "table".

    Raises:
        Exit: the template is wrong.
    """
    from scow.cli.template import Template
    from scow.cli.template_functions import HEADING_FUNCTIONS, RowFields, TemplateError

    under_headings = form.startswith("table")
    text = unescaped(form.removeprefix("table") if under_headings else form)
    try:
        template = Template(text)
    except TemplateError as error:
        raise Exit(FAILED, f"failed to parse template: {error}") from None
    try:
        body = "".join(template.execute(RowFields(sorted(row.items()))) + "\n" for row in rows)
        if not under_headings:
            return body
        heading = template.execute({**view.headings, "Label": label_heading}, HEADING_FUNCTIONS)
        return layout(heading + "\n" + body)
    except TemplateError as error:
        raise Exit(FAILED, f"failed to execute template: {error}") from None


def label_heading(name: str) -> str:
    """The title of ``{{.Label "com.example.my-name"}}``: "my name"."""
    return name.rpartition(".")[2].replace("-", " ").replace("_", " ")


def one(session: Session, value: Any, form: str) -> None:
    """Write one object through ``--format``, as version and info do.

    Raises:
        Exit: the template is wrong.
    """
    from scow.cli.template import Template
    from scow.cli.template_functions import TemplateError, structure, to_json

    if form == "json":
        session.console.line(to_json(structure(value)))
        return
    try:
        session.console.line(Template(form).execute(structure(value)))
    except TemplateError as error:
        raise Exit(64, f"template parsing error: {error}") from None
