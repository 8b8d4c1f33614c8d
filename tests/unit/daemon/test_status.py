"""What a client is told when something goes wrong."""

import json

from scow.daemon.status import answer_to
from scow.errors import Conflict, InvalidArgument, NoSuchContainer, NotModified, Unavailable


def test_the_most_specific_class_decides() -> None:
    assert answer_to(NoSuchContainer("web")) == (404, b'{"message": "No such container: web"}\n')
    assert answer_to(Conflict("in use"))[0] == 409
    assert answer_to(InvalidArgument("no"))[0] == 400
    assert answer_to(Unavailable("later"))[0] == 503


def test_not_modified_has_no_body() -> None:
    assert answer_to(NotModified("already so")) == (304, b"")


def test_a_bug_is_a_500_that_names_itself() -> None:
    status, body = answer_to(ZeroDivisionError("division by zero"))
    assert status == 500
    assert "ZeroDivisionError" in json.loads(body)["message"]
