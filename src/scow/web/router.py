"""Which handler serves a path: a table of templates, nothing else.

A template's ``{id}`` stands for one path segment, ``{name:path}`` for one or more. Where several templates fit, a
literal path wins over parameters, single segments win over ``:path``, and the longest literal end wins among those, so
``/images/{name:path}/json`` serves ``/images/a/b/json`` although ``/images/{name:path}`` fits too. Templates are
matched against the path as sent; parameters are unquoted afterwards, so a quoted slash never splits a segment.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias
from urllib.parse import unquote

from scow.errors import NotFound
from scow.web.request import Request
from scow.web.response import Refusal, Response

#: ``async def handler(app, request) -> Response``
Handler: TypeAlias = Callable[[Any, Request], Awaitable[Response]]

_PARAMETER = re.compile(r"\{([a-z_]+)(:path)?\}")


class _Template:
    """One path template and its handlers by method."""

    __slots__ = ("handlers", "literal", "pattern", "rank", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.handlers: dict[str, Handler] = {}
        parts: list[str] = []
        end = 0
        last_literal = text
        for match in _PARAMETER.finditer(text):
            parts.append(re.escape(text[end : match.start()]))
            parts.append(f"(?P<{match[1]}>.+)" if match[2] else f"(?P<{match[1]}>[^/]+)")
            end = match.end()
            last_literal = text[end:]
        parts.append(re.escape(text[end:]))
        self.literal = len(parts) == 1
        self.pattern = re.compile("".join(parts))
        literals = _PARAMETER.sub("", text)
        # Smaller ranks are tried first.
        self.rank = (":path}" in text, -len(last_literal), -len(literals))


class Routes:
    """A table of routes; each room's routes file makes one, and the server is given the merged one."""

    def __init__(self) -> None:
        self._templates: dict[str, _Template] = {}
        self._literal: dict[str, _Template] = {}
        self._ranked: dict[str, list[_Template]] = {}

    def add(self, method: str, path: str, handler: Handler) -> None:
        """Serve `method` on the template `path` by `handler`; a second handler for the same place is an error."""
        template = self._templates.get(path)
        if template is None:
            template = self._templates[path] = _Template(path)
            if template.literal:
                self._literal[path] = template
            else:
                group = self._ranked.setdefault(_first_segment(path), [])
                group.append(template)
                group.sort(key=lambda item: item.rank)
        if method in template.handlers:
            raise ValueError(f"{method} {path} has two handlers")
        template.handlers[method] = handler

    def _decorator(self, method: str, path: str) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            self.add(method, path, handler)
            return handler

        return register

    def get(self, path: str) -> Callable[[Handler], Handler]:
        """Decorator: serve GET on `path`."""
        return self._decorator("GET", path)

    def head(self, path: str) -> Callable[[Handler], Handler]:
        """Decorator: serve HEAD on `path`; its body is not sent, its content-length is."""
        return self._decorator("HEAD", path)

    def post(self, path: str) -> Callable[[Handler], Handler]:
        """Decorator: serve POST on `path`."""
        return self._decorator("POST", path)

    def put(self, path: str) -> Callable[[Handler], Handler]:
        """Decorator: serve PUT on `path`."""
        return self._decorator("PUT", path)

    def patch(self, path: str) -> Callable[[Handler], Handler]:
        """Decorator: serve PATCH on `path`."""
        return self._decorator("PATCH", path)

    def delete(self, path: str) -> Callable[[Handler], Handler]:
        """Decorator: serve DELETE on `path`."""
        return self._decorator("DELETE", path)

    def merge(self, other: "Routes") -> None:
        """Take over every route of `other`."""
        for method, path, handler in other.table():
            self.add(method, path, handler)

    def table(self) -> list[tuple[str, str, Handler]]:
        """Every (method, template, handler), for merging, documentation and tests."""
        return [
            (method, path, handler)
            for path, template in self._templates.items()
            for method, handler in template.handlers.items()
        ]

    def match(self, method: str, path: str) -> tuple[Handler, dict[str, str]]:
        """The handler for `method` on the (still quoted) `path`, and the unquoted path parameters.

        Raises:
            NotFound: no template fits the path.
            Refusal: 405 with ``Allow``, when the path exists for other methods.
        """
        allowed: set[str] = set()
        template = self._literal.get(path)
        if template is not None:
            if method in template.handlers:
                return template.handlers[method], {}
            allowed.update(template.handlers)
        for template in self._ranked.get(_first_segment(path), ()):
            found = template.pattern.fullmatch(path)
            if found is None:
                continue
            if method in template.handlers:
                return template.handlers[method], {key: unquote(value) for key, value in found.groupdict().items()}
            allowed.update(template.handlers)
        if allowed:
            raise Refusal(405, f"method {method} not allowed here", {"Allow": ", ".join(sorted(allowed))})
        raise NotFound("page not found")


def _first_segment(path: str) -> str:
    segment = path[1:].partition("/")[0]
    return "" if "{" in segment else segment
