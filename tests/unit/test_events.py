import asyncio
import resource
import threading
import time

import pytest

from scow import events
from scow.events import Bus, Event, Journal


def run(coroutine):
    return asyncio.run(coroutine)


async def take(stream, count):
    return [await anext(stream) for _ in range(count)]


def test_times_only_grow():
    bus = Bus()
    times = [bus.publish("container", "start", "a").time for _ in range(100)]
    assert times == sorted(set(times))


def test_legacy_fields():
    event = Event("container", "die", "abc", {"image": "busybox", "exitCode": "3"}, 1_500_000_000_000_000_001)
    assert event.to_json(legacy=True) == {
        "status": "die", "id": "abc", "from": "busybox", "Type": "container", "Action": "die",
        "Actor": {"ID": "abc", "Attributes": {"image": "busybox", "exitCode": "3"}},
        "scope": "local", "time": 1_500_000_000, "timeNano": 1_500_000_000_000_000_001,
    }  # fmt: skip
    assert "status" not in event.to_json()
    assert "status" not in Event("network", "connect", "n", {}, 1).to_json(legacy=True)


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ({}, True),
        ({"type": ["container"]}, True),
        ({"type": ["image"]}, False),
        ({"event": ["health_status"]}, True),
        ({"event": ["health_status: healthy"]}, True),
        ({"event": ["die"]}, False),
        ({"container": ["we"]}, True),
        ({"container": ["abc"]}, True),
        ({"container": ["b"]}, False),
        ({"image": ["reg:5000/app"]}, True),
        ({"image": ["reg:5000/app:1"]}, True),
        ({"label": ["x=1", "y"]}, True),
        ({"label": ["x=2"]}, False),
        ({"network": ["abc"]}, False),
        ({"type": ["container"], "event": ["start", "health_status"]}, True),
    ],
)
def test_filters(filters, passes):
    attributes = {"name": "web", "image": "reg:5000/app:1", "x": "1", "y": ""}
    event = Event("container", "health_status: healthy", "abcdef", attributes, 1)
    assert event.matches(filters) is passes


def test_nothing_is_lost_between_subscribe_and_reading():
    async def main():
        bus = Bus()
        stream = bus.subscribe({})
        bus.publish("container", "create", "a")
        bus.publish("container", "start", "a")
        return [event.action for event in await take(stream, 2)]

    assert run(main()) == ["create", "start"]


def test_since_replays_then_goes_on_and_until_ends():
    async def main():
        bus = Bus()
        bus.publish("container", "old", "a")
        since = bus.publish("container", "create", "a").time
        stream = bus.subscribe({}, since=since, until=time.time_ns() + 200_000_000)
        bus.publish("container", "start", "a")
        return [event.action async for event in stream]

    assert run(main()) == ["create", "start"]


def test_until_in_the_past_replays_only():
    async def main():
        bus = Bus()
        last = bus.publish("container", "create", "a").time
        return [event.action async for event in bus.subscribe({}, since=0, until=last)]

    assert run(main()) == ["create"]


def test_publish_from_a_thread_wakes_the_loop():
    async def main():
        bus = Bus()
        stream = bus.subscribe({"type": ["image"]})
        threading.Thread(target=bus.publish, args=("image", "tag", "i")).start()
        async with asyncio.timeout(5):
            return (await anext(stream)).action

    assert run(main()) == "tag"


def test_a_listener_that_does_not_read_is_ended(monkeypatch):
    monkeypatch.setattr(events, "BACKLOG", 3)

    async def main():
        bus = Bus()
        stream = bus.subscribe({})
        for _ in range(10):
            bus.publish("container", "start", "a")
        return len([event async for event in stream])

    assert run(main()) == 3


def test_a_closed_listener_is_forgotten():
    async def main():
        bus = Bus()
        stream = bus.subscribe({})
        bus.publish("container", "start", "a")
        await anext(stream)
        await stream.aclose()
        return bus._listeners

    assert not run(main())


def test_the_ring_is_bounded():
    bus = Bus(memory=4)
    for number in range(10):
        bus.publish("container", str(number), "a")
    assert [event.action for event in bus.past({}, 0)] == ["6", "7", "8", "9"]


def test_a_journal_outlives_the_bus(tmp_path):
    path = tmp_path / "events.jsonl"
    first = Bus(journal=Journal(path))
    told = [first.publish("container", action, "abc", {"name": "é\n"}) for action in ("create", "start")]
    second = Bus(journal=Journal(path))  # nobody closed the first: it was killed
    assert second.past({}, 0) == told
    assert second.publish("container", "die", "abc").time > told[-1].time
    first.close()
    second.close()


def test_half_a_line_is_cut_off(tmp_path):
    path = tmp_path / "events.jsonl"
    bus = Bus(journal=Journal(path))
    told = bus.publish("image", "tag", "x")
    bus.close()
    path.write_bytes(path.read_bytes() + b'["container","di')
    again = Bus(journal=Journal(path))
    later = again.publish("image", "untag", "x")
    again.close()
    last = Bus(journal=Journal(path))
    assert last.past({}, 0) == [told, later]
    last.close()


def test_a_journal_has_a_bound(tmp_path):
    path = tmp_path / "events.jsonl"
    bus = Bus(journal=Journal(path))
    for _ in range(40):
        bus.publish("container", "start", "a", {"name": "x" * 100_000})
    bus.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["events.jsonl", "events.jsonl.1"]
    assert all(file.stat().st_size <= events.JOURNAL for file in files)
    again = Bus(journal=Journal(path))
    assert len(again.past({}, 0)) > 9
    again.close()


def test_a_full_disk_does_not_end_the_events(tmp_path, caplog):
    bus = Bus(journal=Journal(tmp_path / "events.jsonl"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        assert [bus.publish("container", action, "a").action for action in ("start", "die")] == ["start", "die"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    bus.close()
    assert caplog.text.count("events cannot be kept") == 1


def test_what_was_told_is_known():
    bus = Bus(memory=2)
    start = bus.publish("container", "start", "a")
    assert bus.told("container", "start", "a", start.time)
    assert not bus.untold("container", "start", "a", start.time)
    assert bus.untold("container", "start", "a", start.time + 1)
    assert bus.untold("container", "die", "a", start.time)
    assert not bus.untold("container", "die", "a", 0), "nobody knows what was before"
    bus.publish("container", "die", "b")
    bus.publish("container", "die", "c")
    assert not bus.told("container", "start", "a", start.time)
    assert not bus.untold("container", "start", "a", start.time), "it is forgotten, not missing"


def test_since_when_a_journal_knows_all(tmp_path):
    path = tmp_path / "events.jsonl"
    before = time.time_ns()
    Bus(journal=Journal(path)).close()
    after = time.time_ns()
    bus = Bus(journal=Journal(path))
    assert bus.untold("container", "create", "a", after)
    assert not bus.untold("container", "create", "a", before - 1)
    bus.close()
