"""How another program of Scow is started: the same interpreter, the same copy of the package."""

import os
import sys


def command(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """(argument list, environment) that run `module` as a program.

    ``-P`` keeps the caller's folder off the path modules are found on: what is started may be root.
    """
    folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return [sys.executable, "-P", "-m", module, *arguments], {**os.environ, "PYTHONPATH": folder}
