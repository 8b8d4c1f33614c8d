"""The parameters of a request, typed on demand."""

import os

import pytest

from scow.errors import InvalidArgument
from scow.web.request import Query


def test_a_value_that_is_not_utf8_is_refused_except_as_a_path() -> None:
    query = Query.parse("name=%ff&path=/x/%ff&names=a&names=%ff")
    with pytest.raises(InvalidArgument, match="'name': it is not UTF-8"):
        query.text("name")
    with pytest.raises(InvalidArgument, match="UTF-8"):
        query.all("names")
    assert os.fsencode(query.path("path")) == b"/x/\xff"
    assert query.path("absent") == ""


def test_truth_and_numbers() -> None:
    query = Query.parse("a=1&b=false&c=&d=maybe&n=-5&big=99999999999999999999")
    assert [query.boolean(key) for key in "abcde"] == [True, False, False, True, False]
    assert query.integer("n") == -5
    assert query.integer("c", 7) == 7
    with pytest.raises(InvalidArgument, match="expected a number"):
        query.integer("big")
