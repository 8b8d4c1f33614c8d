"""What is allowed when: the states of a container and the verbs each state admits. One table, one function.

::

    created ──start──▶ running ──exit──▶ exited ──start──▶ running
                        │   ▲               │
                   pause│   │unpause        │ restart policy
                        ▼   │               ▼
                       paused           restarting ──timer──▶ running
    created, exited, dead ──remove──▶ removing ──▶ (gone)        removing that failed ──▶ dead
"""

from enum import StrEnum

from scow.errors import Conflict, NotModified


class State(StrEnum):
    """The words of the API's ``State.Status``."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


START = "start"
STOP = "stop"
KILL = "kill"
PAUSE = "pause"
UNPAUSE = "unpause"
EXEC = "exec"
ATTACH = "attach"
RESIZE = "resize"
TOP = "top"
REMOVE = "remove"
RENAME = "rename"
UPDATE = "update"
COMMIT = "commit"

ALLOWED: dict[str, frozenset[State]] = {
    START: frozenset({State.CREATED, State.EXITED, State.RESTARTING}),
    STOP: frozenset({State.RUNNING, State.PAUSED, State.RESTARTING}),
    KILL: frozenset({State.RUNNING, State.PAUSED, State.RESTARTING}),
    PAUSE: frozenset({State.RUNNING}),
    UNPAUSE: frozenset({State.PAUSED}),
    EXEC: frozenset({State.RUNNING}),
    ATTACH: frozenset({State.CREATED, State.RUNNING, State.RESTARTING, State.EXITED}),
    RESIZE: frozenset({State.RUNNING, State.PAUSED}),
    TOP: frozenset({State.RUNNING, State.PAUSED}),
    REMOVE: frozenset({State.CREATED, State.EXITED, State.DEAD}),
    RENAME: frozenset({State.CREATED, State.RUNNING, State.PAUSED, State.RESTARTING, State.EXITED}),
    UPDATE: frozenset({State.CREATED, State.RUNNING, State.PAUSED, State.RESTARTING, State.EXITED}),
    COMMIT: frozenset({State.CREATED, State.RUNNING, State.PAUSED, State.RESTARTING, State.EXITED}),
}
ALREADY: dict[str, frozenset[State]] = {
    START: frozenset({State.RUNNING}),
    STOP: frozenset({State.CREATED, State.EXITED, State.DEAD}),
}

#: Docker's sentences where clients or people know them; {name} and {id} are filled in. The state alone decides which.
SENTENCES: dict[tuple[str, State], str] = {
    (START, State.PAUSED): "cannot start a paused container, try unpause instead",
    (START, State.DEAD): "container is marked for removal and cannot be started",
    (START, State.REMOVING): "container is marked for removal and cannot be started",
    (PAUSE, State.PAUSED): "container {id} is already paused",
    (PAUSE, State.RESTARTING): "container {id} is restarting, wait until the container is running",
    (EXEC, State.PAUSED): "container {id} is paused, unpause the container before exec",
    (EXEC, State.RESTARTING): "container {id} is restarting, wait until the container is running",
    (ATTACH, State.PAUSED): "container {id} is paused, unpause the container before attach",
    (TOP, State.RESTARTING): "container {id} is restarting, wait until the container is running",
    (REMOVE, State.RUNNING): (
        'cannot remove container "/{name}": container is running: stop the container before removing or force remove'
    ),
    (REMOVE, State.PAUSED): (
        'cannot remove container "/{name}": container is paused and must be unpaused first: unpause or force remove'
    ),
    (REMOVE, State.RESTARTING): (
        'cannot remove container "/{name}": container is restarting: stop the container before removing or force remove'
    ),
    (REMOVE, State.REMOVING): "removal of container {id} is already in progress",
}
DEFAULT_SENTENCES = {
    KILL: "cannot kill container: {name}: container {id} is not running",
    UNPAUSE: "container {id} is not paused",
    ATTACH: "container {id} is {state}: it cannot be attached to",
}


def require(verb: str, state: State, name: str, id: str) -> None:  # noqa: A002 - the API's word
    """Raise unless `verb` may be applied to a container in `state`.

    Raises:
        NotModified: it is so already (start when running, stop when stopped).
        Conflict: Docker's sentence for this verb in this state.
    """
    if state in ALLOWED[verb]:
        return
    if state in ALREADY.get(verb, ()):
        raise NotModified(f"container {name} is already {state}")
    sentence = SENTENCES.get((verb, state)) or DEFAULT_SENTENCES.get(verb, "container {id} is not running")
    raise Conflict(sentence.format(name=name, id=id, state=state))
