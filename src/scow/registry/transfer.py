"""Bytes from the network into an ingest, network and disk working at the same time.

Small pieces are gathered to `BATCH`; one batch is hashed and written by a thread while the next one arrives.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

from scow.content.ingest import Ingest

#: Bytes hashed and written at a time: large enough that handing them to a thread costs nothing beside it.
BATCH = 2 << 20


async def receive(
    pieces: AsyncIterator[bytes], ingest: Ingest, arrived: Callable[[int], None] | None = None, limit: int | None = None
) -> bool:
    """Append everything from `pieces` to `ingest`.

    What arrived before a failure is written, so that it can be continued.

    Args:
        arrived: told the ingest's length after every batch.
        limit: length of the ingest at which to stop.

    Returns:
        False when there was more than `limit`.
    """
    gathered: list[bytes] = []
    waiting = 0
    expected = ingest.offset
    writing: asyncio.Task[None] | None = None
    try:
        async for piece in pieces:
            expected += len(piece)
            if limit is not None and expected > limit:
                return False
            gathered.append(piece)
            waiting += len(piece)
            if waiting < BATCH:
                continue
            if writing is not None:
                await asyncio.shield(writing)
            if arrived is not None:
                arrived(ingest.offset)
            writing = asyncio.ensure_future(asyncio.to_thread(ingest.write, b"".join(gathered)))
            gathered, waiting = [], 0
    finally:
        # A thread cannot be cancelled: wait for it, or it would write into a closed file.
        if writing is not None:
            await _outlast(writing)
        if gathered:
            await _outlast(asyncio.ensure_future(asyncio.to_thread(ingest.write, b"".join(gathered))))
    if arrived is not None:
        arrived(ingest.offset)
    return True


async def _outlast(task: "asyncio.Task[None]") -> None:
    """Wait for `task` even when we are cancelled meanwhile; then pass cancellation or its error on."""
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError
