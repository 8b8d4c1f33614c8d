"""Progress streams: lines from any thread, folding for slow readers, statuses for early failures."""

import asyncio
import json
import threading
from typing import Any

import pytest

from scow.errors import NotFound
from scow.oci.digest import digest_of
from scow.web.jsonlines import FOLD_ABOVE, JsonLines
from scow.web.progress import Report, begun, progress_response
from scow.web.response import Response


async def collected(response: Response) -> list[dict[str, Any]]:
    assert not isinstance(response.body, bytes)
    data = b"".join([piece async for piece in response.body])
    assert data.endswith(b"\r\n")
    return [json.loads(line) for line in data.split(b"\r\n")[:-1]]


def test_lines_from_threads_arrive_in_order() -> None:
    async def main() -> None:
        lines = JsonLines()

        def work() -> None:
            for number in range(1000):
                lines.put({"n": number, "digest": digest_of(b"x")})
            lines.close()

        thread = threading.Thread(target=work)
        thread.start()
        data = b"".join([piece async for piece in lines])
        thread.join()
        found = [json.loads(line) for line in data.split(b"\r\n")[:-1]]
        assert [value["n"] for value in found] == list(range(1000))
        assert found[0]["digest"] == str(digest_of(b"x"))

    asyncio.run(main())


def test_progress_folds_while_nobody_reads() -> None:
    async def main() -> None:
        lines = JsonLines()
        for number in range(100_000):
            lines.put({"id": "layer", "status": "Downloading", "progressDetail": {"current": number}})
        lines.put({"status": "done"})
        lines.close()
        data = b"".join([piece async for piece in lines])
        found = [json.loads(line) for line in data.split(b"\r\n")[:-1]]
        assert len(found) <= FOLD_ABOVE + 1
        assert found[-1] == {"status": "done"}
        assert {"id": "layer", "status": "Downloading", "progressDetail": {"current": 99_999}} in found

    asyncio.run(main())


def test_failure_before_the_first_line_is_raised() -> None:
    async def work(report: Report) -> None:
        await asyncio.sleep(0)
        raise NotFound("manifest unknown")

    with pytest.raises(NotFound, match="manifest unknown"):
        asyncio.run(progress_response(work))  # type: ignore[arg-type]


def test_failure_after_the_first_line_is_the_last_line() -> None:
    async def main() -> None:
        async def work(report: Report) -> None:
            report({"status": "begun"})
            raise NotFound("layer is gone")

        assert await collected(await progress_response(work)) == [
            {"status": "begun"},
            {"errorDetail": {"message": "layer is gone"}, "error": "layer is gone"},
        ]

    asyncio.run(main())


def test_work_without_words_is_an_empty_body() -> None:
    async def main() -> None:
        async def work(report: Report) -> None:
            return

        response = await progress_response(work)
        assert not isinstance(response.body, bytes)
        assert [piece async for piece in response.body] == []

    asyncio.run(main())


def test_closing_the_body_cancels_the_work_even_before_it_was_read() -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def work(report: Report) -> None:
            report({"status": "begun"})
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        response = await progress_response(work)
        await response.body.aclose()  # type: ignore[union-attr]
        assert ended.is_set()

    asyncio.run(main())


def test_begun_raises_early_and_loses_nothing() -> None:
    async def main() -> None:
        async def pieces(fail: bool) -> Any:
            if fail:
                raise NotFound("nothing to save")
            yield b"a"
            yield b"b"

        assert [piece async for piece in await begun(pieces(False))] == [b"a", b"b"]
        with pytest.raises(NotFound):
            await begun(pieces(True))

    asyncio.run(main())
