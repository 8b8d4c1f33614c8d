"""Leases: who protects what, and for how long."""

import asyncio

from scow.content.leases import GRACE, Leases
from scow.oci.digest import digest_of

ONE, TWO = digest_of(b"1"), digest_of(b"2")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_touched_blob_has_an_hour() -> None:
    clock = Clock()
    leases = Leases(clock)
    assert not leases.protected(ONE)
    leases.touch(ONE)
    clock.now += GRACE - 1
    assert leases.protected(ONE)
    clock.now += 2
    assert not leases.protected(ONE)


def test_a_lease_protects_as_long_as_it_takes() -> None:
    clock = Clock()
    leases = Leases(clock)
    with leases.hold():
        leases.touch(ONE)
        clock.now += 10 * GRACE
        assert leases.protected(ONE)
    assert leases.protected(ONE), "a failed pull's blobs wait for the next attempt"
    clock.now += GRACE + 1
    assert not leases.protected(ONE)


def test_adopted_blobs_are_free_when_the_lease_ends() -> None:
    leases = Leases()
    with leases.hold():
        leases.touch(ONE)
        leases.touch(TWO)
        leases.settle([ONE])
        assert leases.protected(ONE)
    assert not leases.protected(ONE)
    assert leases.protected(TWO)


def test_touching_again_after_adoption_counts() -> None:
    leases = Leases()
    with leases.hold():
        leases.settle([ONE])
        leases.touch(ONE)
    assert leases.protected(ONE)


def test_nested_leases_end_one_by_one() -> None:
    leases = Leases()
    with leases.hold():
        with leases.hold():
            leases.touch(ONE)
            leases.settle([ONE])
        assert leases.protected(ONE)
    assert not leases.protected(ONE)


def test_somebody_elses_settling_does_not_end_my_protection() -> None:
    leases = Leases()

    async def holder(ready: asyncio.Event, done: asyncio.Event) -> None:
        with leases.hold():
            await asyncio.to_thread(leases.touch, ONE)
            ready.set()
            await done.wait()

    async def scenario() -> None:
        ready, done = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(holder(ready, done))
        await ready.wait()
        leases.settle([ONE])
        assert leases.protected(ONE)
        done.set()
        await task

    asyncio.run(scenario())
