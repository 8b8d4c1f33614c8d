"""Waiting for a container: registered when asked, answered when the condition is met."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from scow.containers.container import Container
from scow.containers.context import Context
from scow.containers.state import State
from scow.errors import InvalidArgument

NOT_RUNNING, NEXT_EXIT, REMOVED = "not-running", "next-exit", "removed"
#: States in which Docker calls a container running.
ALIVE = (State.RUNNING, State.PAUSED, State.RESTARTING)


def begin(context: Context, ref: str, condition: str) -> Awaitable[dict[str, Any]]:
    """Start waiting at once; await the result for the API's ContainerWaitResponse.

    An exit between this call and the await is not missed.

    Raises:
        NoSuchContainer, InvalidArgument: before any waiting.
    """
    container = context.get(ref)
    condition = condition or NOT_RUNNING
    exits = container.exits
    if condition == NOT_RUNNING:
        alive = container.state in ALIVE

        def met() -> bool:
            return not alive or container.exits > exits or container.removed

    elif condition == NEXT_EXIT:

        def met() -> bool:
            return container.exits > exits or container.removed

    elif condition == REMOVED:

        def met() -> bool:
            return container.removed

    else:
        raise InvalidArgument(f'invalid condition: "{condition[:40]}"')
    return Waiting(container, met)


class Waiting:
    """A registered wait; await it for the answer, or forget it."""

    def __init__(self, container: Container, met: Callable[[], bool]) -> None:
        self._container = container
        self._met = met

    def __await__(self) -> Generator[Any, None, dict[str, Any]]:
        return self._answer().__await__()

    async def _answer(self) -> dict[str, Any]:
        await self._container.until(self._met)
        answer: dict[str, Any] = {"StatusCode": self._container.record.exit_code}
        if self._container.removal_error:
            answer["Error"] = {"Message": self._container.removal_error}
        return answer


async def until_stopped(container: Container, seconds: float | None) -> bool:
    """Return True once the container has ended, False after `seconds` (None: never)."""
    exits = container.exits
    if container.state not in ALIVE:
        return True
    try:
        async with asyncio.timeout(seconds):
            await container.until(lambda: container.exits > exits or container.state not in ALIVE)
    except TimeoutError:
        return False
    return True
