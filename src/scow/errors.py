"""The errors of every room, classed by what the caller should do next.

::

    EngineError
    ├── InvalidArgument        fix the request
    ├── Unauthorized           log in
    ├── Forbidden              give up
    ├── NotFound               name something else
    │   ├── NoSuchContainer · NoSuchImage · NoSuchNetwork · NoSuchVolume · NoSuchExec
    ├── NotModified            nothing to do
    ├── Conflict               change the state, then retry
    │   └── AlreadyExists
    ├── Unsupported            another engine or version does this
    ├── Unavailable            retry later
    ├── Cancelled              –
    └── System                 read the log
        ├── NoSpace            make room
        └── DataLoss           restore
            ├── CutOff         send it again, whole
            └── DigestMismatch

``str(error)`` is the sentence a person reads and Docker's own clients search for words in ("No such container: x").
Numbers do not live here: HTTP statuses are in ``daemon/status.py``, the registry's codes in ``registry/codes.py``.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to import, and every command imports this
if TYPE_CHECKING:
    from collections.abc import Iterator


class EngineError(Exception):
    """Any failure that was raised on purpose; its text is one sentence for the user."""


class InvalidArgument(EngineError):
    """The request itself is wrong."""


class Unauthorized(EngineError):
    """Credentials are missing or were refused."""


class Forbidden(EngineError):
    """Understood and refused for good."""


class NotFound(EngineError):
    """Nothing goes by that name."""


class NoSuchContainer(NotFound):
    def __init__(self, ref: str) -> None:
        super().__init__(f"No such container: {ref}")


class NoSuchImage(NotFound):
    def __init__(self, ref: str) -> None:
        super().__init__(f"No such image: {ref}")


class NoSuchNetwork(NotFound):
    def __init__(self, ref: str) -> None:
        super().__init__(f"network {ref} not found")


class NoSuchVolume(NotFound):
    def __init__(self, ref: str) -> None:
        super().__init__(f"get {ref}: no such volume")


class NoSuchExec(NotFound):
    def __init__(self, ref: str) -> None:
        super().__init__(f"No such exec instance: {ref}")


class NotModified(EngineError):
    """Already so; nothing was done."""


class Conflict(EngineError):
    """The thing's present state forbids it."""


class AlreadyExists(Conflict):
    """The name is taken."""


class Unsupported(EngineError):
    """This engine does not do that, and says so instead of half doing it."""


class Unavailable(EngineError):
    """Not now: starting up, shutting down, or a peer is away."""


class Cancelled(EngineError):
    """The caller went away."""


class System(EngineError):
    """The kernel or a peer failed; the text says which operation and why."""


class NoSpace(System):
    """A write met a full disk or quota; what was half written is gone."""


class DataLoss(System):
    """Stored bytes are not what they were."""


class CutOff(DataLoss):
    """An archive or compressed data ends in the middle."""


class DigestMismatch(DataLoss):
    def __init__(self, expected: str, actual: str, what: str = "content") -> None:
        super().__init__(f"{what} has digest {actual}, expected {expected}: it was altered or truncated on the way")


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What ended a task group, for who wants one error: the first raised on purpose, else the first failure at all.

    Not ``except*``: until Python 3.11.4 what is raised inside it comes out wrapped in a group again.
    """
    leaves = list(_leaves(group))
    for kind in (EngineError, Exception):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0]


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for failure in group.exceptions:
        if isinstance(failure, BaseExceptionGroup):
            yield from _leaves(failure)
        else:
            yield failure
