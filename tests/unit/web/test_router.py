"""Which template serves which path."""

import pytest

from scow.errors import NotFound
from scow.web.request import Query, Request
from scow.web.response import NO_CONTENT, Refusal, Response
from scow.web.router import Handler, Routes


def table(*entries: str) -> Routes:
    """Routes whose handlers are told apart by identity."""
    routes = Routes()
    for entry in entries:
        method, path = entry.split()
        routes.add(method, path, handler())
    return routes


def handler() -> Handler:
    async def answer(app: object, request: Request) -> Response:
        return NO_CONTENT

    return answer


IMAGES = (
    "GET /images/json",
    "GET /images/get",
    "GET /images/{name:path}/json",
    "GET /images/{name:path}/get",
    "GET /images/{name:path}/history",
    "POST /images/{name:path}/push",
    "DELETE /images/{name:path}",
)


@pytest.mark.parametrize(
    ("method", "path", "template", "parameters"),
    [
        ("GET", "/images/json", "/images/json", {}),
        ("GET", "/images/a/json", "/images/{name:path}/json", {"name": "a"}),
        ("GET", "/images/a/b/c/json", "/images/{name:path}/json", {"name": "a/b/c"}),
        ("GET", "/images/json/json", "/images/{name:path}/json", {"name": "json"}),
        ("GET", "/images/x%3A5000%2Fa%40b/history", "/images/{name:path}/history", {"name": "x:5000/a@b"}),
        ("DELETE", "/images/a/json", "/images/{name:path}", {"name": "a/json"}),
        ("DELETE", "/images/localhost:5000/a:v1", "/images/{name:path}", {"name": "localhost:5000/a:v1"}),
    ],
)
def test_image_paths(method: str, path: str, template: str, parameters: dict[str, str]) -> None:
    routes = table(*IMAGES)
    wanted = next(known for verb, text, known in routes.table() if (verb, text) == (method, template))
    assert routes.match(method, path) == (wanted, parameters)


def test_single_segments_win_over_paths() -> None:
    routes = table("GET /v2/{name:path}/blobs/{digest}", "GET /v2/{name:path}/blobs/uploads/{upload}")
    assert routes.match("GET", "/v2/a/b/blobs/x")[1] == {"name": "a/b", "digest": "x"}
    assert routes.match("GET", "/v2/a/blobs/uploads/x")[1] == {"name": "a", "upload": "x"}


def test_quoted_slashes_do_not_split_a_segment() -> None:
    routes = table("GET /containers/{id}/json")
    assert routes.match("GET", "/containers/a%2Fb/json")[1] == {"id": "a/b"}
    with pytest.raises(NotFound):
        routes.match("GET", "/containers/a/b/json")


def test_wrong_method_names_the_right_ones() -> None:
    with pytest.raises(Refusal) as caught:
        table(*IMAGES).match("PUT", "/images/a/json")
    assert (caught.value.status, caught.value.headers["Allow"]) == (405, "DELETE, GET")


@pytest.mark.parametrize("path", ["", "/", "/image", "/images", "/images/", "//images/json", "/images/json/", "*"])
def test_unknown_paths(path: str) -> None:
    with pytest.raises(NotFound, match="page not found"):
        table("GET /images/json", "GET /images/{id}").match("GET", path)


def test_two_handlers_for_one_place_are_a_mistake() -> None:
    routes = table("GET /a")
    with pytest.raises(ValueError, match="two handlers"):
        routes.merge(table("GET /a"))


def test_query() -> None:
    query = Query.parse("a=1&a=2&b=&c=%2F+x&t=TRUE&f=False&n=-5")
    assert (query.text("a"), query.all("a"), query.text("c"), query.text("z", "d")) == ("1", ["1", "2"], "/ x", "d")
    assert (query.boolean("t"), query.boolean("f"), query.boolean("b", True), query.boolean("z", True)) == (
        True,
        False,
        False,
        True,
    )
    assert (query.integer("n"), query.integer("b"), query.integer("z", 7)) == (-5, None, 7)
    assert "b" in query
    assert "z" not in query


@pytest.mark.parametrize("text", ["n=x", "n=1.5", "n=--1", "n=" + "9" * 30, "n=²"])
def test_numbers_that_are_none(text: str) -> None:
    with pytest.raises(Exception, match="expected a number"):
        Query.parse(text).integer("n")


def test_hostile_queries_are_refused() -> None:
    with pytest.raises(Exception, match="invalid query"):
        Query.parse("&".join(f"a{number}=1" for number in range(5000)))
