import asyncio
import logging
import threading

from scow.containers.background import Background, to_the_end


def test_a_cancelled_caller_waits_for_its_thread():
    began, go, done = threading.Event(), threading.Event(), []

    def work():
        began.set()
        go.wait(5)
        done.append(True)

    async def main():
        caller = asyncio.ensure_future(to_the_end(work))
        await asyncio.to_thread(began.wait, 5)
        caller.cancel()
        await asyncio.sleep(0)
        assert not caller.done()
        go.set()
        await asyncio.wait({caller})
        assert caller.cancelled()
        assert done == [True]
        assert await to_the_end(lambda: 5) == 5

    asyncio.run(main())


def test_failures_are_logged_and_close_ends_everything(caplog):
    async def broken():
        raise ValueError("oops")

    async def endless():
        await asyncio.Event().wait()

    async def main():
        background = Background()
        failing = background.start(broken(), "work one")
        lasting = background.start(endless(), "work two")
        await asyncio.wait({failing})
        await background.close()
        assert lasting.cancelled()
        assert background.start(endless(), "late") is None

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert "work one failed" in caplog.text
