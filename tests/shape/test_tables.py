"""Tables that must stay complete: every error has a status, every refusal its reason."""

from scow import errors
from scow.daemon.status import STATUS, status_of


def engine_errors() -> list[type[BaseException]]:
    return [
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.EngineError)
    ]


def test_every_error_has_a_status() -> None:
    without = [kind for kind in engine_errors() if not any(base in STATUS for base in kind.__mro__)]
    assert without == []


def test_unknown_errors_are_server_errors() -> None:
    assert status_of(ZeroDivisionError()) == 500


def test_the_tree_in_the_docstring_names_every_class() -> None:
    assert errors.__doc__ is not None
    assert [kind.__name__ for kind in engine_errors() if kind.__name__ not in errors.__doc__] == []
