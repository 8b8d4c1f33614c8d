import pytest

from scow.containers import state
from scow.containers.state import ALLOWED, State, require
from scow.errors import Conflict, NotModified


def test_every_verb_and_state_has_an_answer():
    for verb, allowed in ALLOWED.items():
        for each in State:
            if each in allowed:
                require(verb, each, "web", "abc")
            else:
                with pytest.raises((Conflict, NotModified)):
                    require(verb, each, "web", "abc")


def test_already():
    with pytest.raises(NotModified):
        require(state.START, State.RUNNING, "web", "abc")
    with pytest.raises(NotModified):
        require(state.STOP, State.EXITED, "web", "abc")


def test_sentences_clients_search_for():
    with pytest.raises(Conflict, match=r'cannot remove container "/web": container is running: stop the container'):
        require(state.REMOVE, State.RUNNING, "web", "abc")
    with pytest.raises(Conflict, match="container abc is not running"):
        require(state.EXEC, State.EXITED, "web", "abc")
    with pytest.raises(Conflict, match="cannot kill container: web: container abc is not running"):
        require(state.KILL, State.CREATED, "web", "abc")
