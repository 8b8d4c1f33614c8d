"""Work that reports while it runs: JSON lines as the response, its failures where the client looks for them.

`progress_response` starts the work and waits for its first message. A failure before that has a status of its own
(the exception is raised, so "no such image" is a 404); a later one ends the stream with Docker's ``{"errorDetail",
"error"}``. When the client goes away the work is cancelled and waited for.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

from scow.errors import EngineError
from scow.web.jsonlines import JsonLines
from scow.web.response import Response

#: Takes one progress message; safe from any thread, never blocks.
Report: TypeAlias = Callable[[dict[str, Any]], object]
Work: TypeAlias = Callable[[Report], Awaitable[object]]


async def progress_response(work: Work) -> Response:
    """Run `work(report)` and answer with what it reports.

    Raises:
        EngineError: the work failed before it reported anything.
    """
    body = _Body(work)
    await body.begun()
    return Response(200, body)


async def begun(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """`pieces` with the first one made already: what fails before there is anything to send is raised here."""
    body = _Begun(pieces)
    await body.begin()
    return body


class _Begun:
    """An iterator whose first piece was taken in advance; closing it closes the one below, begun or not."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._first: bytes | None = None

    async def begin(self) -> None:
        self._first = await anext(self._pieces, None)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return await anext(self._pieces)

    async def aclose(self) -> None:
        """Close the iterator below."""
        close = getattr(self._pieces, "aclose", None)
        if close is not None:
            await close()


class _Body:
    """The lines, and the task that makes them; closing it ends the task."""

    def __init__(self, work: Work) -> None:
        self._lines = JsonLines()
        self._task = asyncio.get_running_loop().create_task(self._run(work))
        self._pieces = self._lines.__aiter__()
        self._error: EngineError | None = None

    async def _run(self, work: Work) -> None:
        try:
            await work(self._lines.put)
        except EngineError as error:
            self._error = error
            if self._lines.used:
                self._lines.error(str(error))
        finally:
            self._lines.close()

    async def begun(self) -> None:
        """Wait for the first message, or the end."""
        try:
            await self._lines.wait()
        except asyncio.CancelledError:
            await self.aclose()
            raise
        if not self._lines.used:
            await asyncio.wait({self._task})
            self._task.result()
            if self._error is not None:
                raise self._error

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._pieces)
        except StopAsyncIteration:
            await asyncio.wait({self._task})
            self._task.result()
            raise

    async def aclose(self) -> None:
        """Cancel what still runs and wait for it."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
