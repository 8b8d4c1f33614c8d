"""What the registry's handlers share, and the checks every request passes.

`App` is the first argument of every handler. `guarded` wraps a table of routes so that nothing is served without the
credentials the registry asks for.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlencode

from scow.content.store import ContentStore
from scow.errors import Unauthorized
from scow.registry.codes import RegistryError, errors_body
from scow.registry.server.htpasswd import Accounts
from scow.registry.server.repositories import Repositories, Repository
from scow.registry.server.uploads import Uploads
from scow.web.request import Request
from scow.web.response import Response
from scow.web.router import Handler, Routes

T = TypeVar("T")

#: Entries of one page of a list when the client names no number, and the most it may name.
PAGE = 1000
MAX_PAGE = 10_000
REALM = "scow-registry"


@dataclass
class App:
    """One registry, opened on a folder."""

    content: ContentStore
    repositories: Repositories
    uploads: Uploads
    accounts: Accounts | None
    deletable: bool

    @classmethod
    def open(cls, root: Path, accounts: Accounts | None = None, *, deletable: bool = True) -> "App":
        """The registry kept under `root`, which is made if it does not exist.

        Raises:
            OSError: the folder cannot be made.
        """
        content = ContentStore(root / "content")
        return cls(content, Repositories(root, content), Uploads(root, content), accounts, deletable)

    def repository(self, request: Request) -> Repository:
        """The repository the path names; NAME_INVALID otherwise."""
        return self.repositories.get(request.path["name"])

    def require_deletable(self) -> None:
        """Raise UNSUPPORTED where deleting was switched off."""
        if not self.deletable:
            raise RegistryError("UNSUPPORTED", "this registry deletes nothing: it was started with --no-delete")

    def close(self) -> None:
        """Let go of open files."""
        self.uploads.close()


async def blocking(function: Callable[[], T]) -> T:
    """Run `function` in a thread: everything below the handlers blocks."""
    return await asyncio.to_thread(function)


def guarded(routes: Routes) -> Routes:
    """The same routes behind HTTP Basic authentication where the app has accounts."""
    result = Routes()
    for method, path, handler in routes.table():
        result.add(method, path, _guard(handler))
    return result


def _guard(handler: Handler) -> Handler:
    async def checked(app: App, request: Request) -> Response:
        if app.accounts is not None:
            try:
                await app.accounts.check(request.headers.get("authorization", ""))
            except Unauthorized as error:
                challenge = {"WWW-Authenticate": f'Basic realm="{REALM}"'}
                return Response(401, errors_body("UNAUTHORIZED", str(error)), challenge)
        return await handler(app, request)

    return checked


def page(request: Request, names: list[str]) -> tuple[list[str], dict[str, str]]:
    """The part of the sorted `names` a request asks for by ``n`` and ``last``, and the Link header to the next part.

    Raises:
        RegistryError: PAGINATION_NUMBER_INVALID.
    """
    text = request.query.text("n")
    if text and not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise RegistryError("PAGINATION_NUMBER_INVALID", f"invalid number of results {text[:40]!r}", {"n": text[:40]})
    size = min(int(text), MAX_PAGE) if text else PAGE
    last = request.query.text("last")
    rest = [name for name in names if name > last] if last else names
    part = rest[:size]
    if len(rest) <= size or not part:
        return part, {}
    others = [("n", str(size)), ("last", part[-1])]
    others += [(key, value) for key in ("artifactType",) for value in request.query.all(key)]
    path = quote(request.target.partition("?")[0], safe="/%:")
    return part, {"Link": f'<{path}?{urlencode(others)}>; rel="next"'}
