"""One call for each name on the command line: print what was done, report what failed, go on."""

from __future__ import annotations

from scow.cli.exits import FAILED, Exit, sentence
from scow.client.http import CannotConnect
from scow.errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from scow.cli.session import Session


def each(
    session: Session,
    names: Sequence[str],
    call: Callable[[str], Any],
    *,
    show: Callable[[str, Any], str] | None = None,
    failed: str = "",
) -> int:
    """Call `call` for every name in order.

    Args:
        show: what to print for a name and its answer; the name itself by default. "" prints nothing.
        failed: sentence for the end when something failed, followed by the names.

    Returns:
        0, or 1 if any call failed. A daemon that is not there ends the loop at once.
    """
    lost = []
    for name in names:
        try:
            answer = call(name)
        except CannotConnect:
            raise
        except EngineError as error:
            session.console.error(sentence(error))
            lost.append(name)
            continue
        text = show(name, answer) if show else name
        if text:
            session.console.line(text)
    if lost and failed:
        raise Exit(FAILED, f"{failed}: {', '.join(lost)}")
    return FAILED if lost else 0
