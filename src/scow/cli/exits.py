"""How a command ends other than well: a sentence for stderr and an exit code.

1 the request failed · 125 the command line or the engine refused ``run`` · 126, 127 the program cannot be run or
found · anything else is the container's own code (Docker's convention).
"""

from scow.errors import EngineError

FAILED = 1
REFUSED = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127
INTERRUPTED = 130


class Exit(Exception):
    """End with `code` after writing `message` (nothing when empty) to stderr."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code = code


def sentence(error: EngineError) -> str:
    """The words for an error: what the daemon said is marked as such."""
    from scow.client.http import ApiError

    return f"Error response from daemon: {error}" if isinstance(error, ApiError) else str(error)
