"""A daemon that comes back: what ran goes on, exits are recorded once, half-made and half-removed things are gone."""

import asyncio

import pytest

from scow.api.containers import CreateBody, HostConfig, RestartPolicy
from scow.containers.state import State
from scow.errors import NoSuchContainer
from support.fake_rooms import House


def story_with(tmp_path, story):
    async def main():
        house = House(tmp_path)
        async with asyncio.timeout(20):
            await story(house)
        await house.containers.close(timeout=1)

    asyncio.run(main())


async def begin(house, name="web", **host):
    id_, _ = await house.containers.create(name, CreateBody(image="busybox", host_config=HostConfig(**host)))
    await house.containers.start(name)
    return id_


async def crash(house):
    """The daemon dies without a word and a new one comes up."""
    await house.die()
    house.reopen()
    await house.containers.open()


def test_what_runs_goes_on(tmp_path):
    async def story(house):
        id_ = await begin(house, binds=["data:/data"])
        await crash(house)
        container = house.containers.get("web")
        assert container.state is State.RUNNING
        assert house.volumes.users("data") == {id_}
        house.tasks.known[id_].end(6)
        await container.until(lambda: container.state is State.EXITED)
        assert container.record.exit_code == 6
        assert house.told() == ["die"]

    story_with(tmp_path, story)


def test_an_exit_meanwhile_is_recorded_once(tmp_path):
    async def story(house):
        id_ = await begin(house)
        await house.die()
        house.tasks.known[id_].end(5)
        await crash(house)
        container = house.containers.get(id_)
        assert (container.state, container.record.exit_code) == (State.EXITED, 5)
        assert house.told() == ["die"]
        assert house.tasks.known == {}
        await crash(house)
        assert house.told() == []

    story_with(tmp_path, story)


def test_a_container_lost_with_the_machine(tmp_path):
    async def story(house):
        id_ = await begin(house)
        await house.saved()
        house.tasks.known.clear()
        await crash(house)
        assert house.containers.get(id_).record.exit_code == 255

    story_with(tmp_path, story)


@pytest.mark.parametrize(
    ("policy", "by_user", "runs"),
    [
        ("always", True, True),
        ("always", False, True),
        ("unless-stopped", False, True),
        ("unless-stopped", True, False),
        ("no", False, False),
    ],
)
def test_policies_at_boot(tmp_path, policy, by_user, runs):
    async def story(house):
        id_ = await begin(house, restart_policy=RestartPolicy(name=policy))
        if by_user:
            await house.containers.stop("web")
        else:
            await house.containers._context.background.close()
            house.tasks.known[id_].end(0)
        await crash(house)
        container = house.containers.get("web")
        if runs:
            await container.until(lambda: container.state is State.RUNNING)
        else:
            assert container.state is State.EXITED

    story_with(tmp_path, story)


def test_stopped_with_the_daemon_is_not_stopped_by_the_user(tmp_path):
    async def story(house):
        await begin(house, restart_policy=RestartPolicy(name="unless-stopped"))
        await house.containers.close(timeout=1)
        house.reopen()
        await house.containers.open()
        container = house.containers.get("web")
        await container.until(lambda: container.state is State.RUNNING)

    story_with(tmp_path, story)


def test_half_made_and_half_removed(tmp_path):
    async def story(house):
        id_, _ = await house.containers.create("web", CreateBody(image="busybox"))
        container = house.containers.get(id_)
        container.record.state = State.REMOVING
        await house.containers._context.save(container)
        (house.root / "containers" / ("f" * 64)).mkdir()
        (house.root / "containers" / ("e" * 64 + ".removing")).mkdir()
        house.snapshots.prepare("d" * 64, None)
        await crash(house)
        gone = house.containers._context.containers.get(id_)
        if gone is not None:
            await gone.until(lambda: gone.removed)
        with pytest.raises(NoSuchContainer):
            house.containers.get(id_)
        await house.saved()
        assert not list((house.root / "containers").iterdir())
        assert not list(house.snapshots.root.iterdir())

    story_with(tmp_path, story)


def test_auto_remove_of_what_ended_meanwhile(tmp_path):
    async def story(house):
        id_ = await begin(house, auto_remove=True)
        await house.containers._context.background.close()
        house.tasks.known[id_].end(0)
        await crash(house)
        gone = house.containers._context.containers.get(id_)
        if gone is not None:
            await gone.until(lambda: gone.removed)
        assert house.containers.count_by_state() == {}

    story_with(tmp_path, story)


def test_a_record_nobody_can_read_does_not_stop_the_others(tmp_path):
    async def story(house):
        id_, _ = await house.containers.create("web", CreateBody(image="busybox"))
        other, _ = await house.containers.create("other", CreateBody(image="busybox"))
        (house.root / "containers" / id_ / "config.json").write_text("{")
        await crash(house)
        assert house.containers.get(other).name == "other"
        assert (house.root / "containers" / id_ / "config.json").exists()

    story_with(tmp_path, story)
