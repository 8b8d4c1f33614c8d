"""What is made before it is asked for, and what comes after the answer: mounts ahead, saving later, burying."""

import asyncio
import os
import resource

import pytest

from scow.api.containers import CreateBody, HostConfig, RestartPolicy
from scow.containers import archive, janitor
from scow.containers.roots import Root, Roots
from scow.containers.state import State
from scow.containers.users import Identity
from scow.errors import System
from scow.tasks.task import ExitStatus
from support.fake_rooms import House


@pytest.fixture
def live(tmp_path):
    def run(story):
        async def main():
            house = House(tmp_path)
            try:
                async with asyncio.timeout(20):
                    await story(house)
            finally:
                await house.containers.close(timeout=1)

        asyncio.run(main())

    return run


async def made(house, **host):
    id_, _ = await house.containers.create("web", CreateBody(image="busybox", host_config=HostConfig(**host)))
    return house.containers.get(id_)


def root():
    return Root(os.open("/", os.O_PATH | os.O_CLOEXEC), Identity())


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_the_oldest_mounts_go_first_and_all_at_the_end():
    roots = Roots(limit=2)
    held = {name: root() for name in "abc"}
    numbers = {name: one.fd for name, one in held.items()}
    for name, one in held.items():
        roots.hold(name, one)
    assert [name for name in "abc" if name in roots] == ["b", "c"]
    assert not is_open(numbers["a"])
    taken = roots.take("b")
    assert taken is held["b"]
    assert roots.take("b") is None
    roots.close()
    assert (is_open(numbers["b"]), is_open(numbers["c"])) == (True, False)
    taken.close()


def test_a_container_is_mounted_once_before_its_start(live):
    async def story(house):
        await made(house)
        await house.containers.start("web")
        assert len(house.snapshots.open_fds) == 1
        assert len(house.containers._context.roots) == 0
        await house.until(lambda: not house.leaked())

    live(story)


def test_removing_what_never_ran_lets_go_of_its_mount(live):
    async def story(house):
        await made(house)
        await house.containers.remove("web")
        assert len(house.containers._context.roots) == 0
        await house.until(lambda: not house.leaked())

    live(story)


def test_a_copy_into_it_is_seen_by_the_start(live):
    """The user is looked up again: the copy may have brought another passwd."""

    async def story(house):
        id_, _ = await house.containers.create("web", CreateBody(image="busybox", user="app"))
        with archive.root_of(house.containers._context, house.containers.get(id_)):
            (house.snapshots.root / id_ / "etc/passwd").write_text("app:x:77:78::/:/bin/sh\n")
        await house.containers.start("web")
        assert house.task().request.spec["process"]["user"]["uid"] == 77

    live(story)


def test_a_restart_of_the_daemon_between_create_and_start(live):
    async def story(house):
        await made(house)
        await house.die()
        house.reopen()
        await house.containers.open()
        await house.containers.start("web")
        assert house.containers.get("web").state is State.RUNNING
        await house.until(lambda: not house.leaked())

    live(story)


def test_create_syncs_two_things_and_a_short_life_none(live, monkeypatch):
    async def story(house):
        synced = []
        monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
        container = await made(house)
        folder = str(house.root / "containers")
        assert synced == [f"{folder}/{container.id}.new/config.json", folder]
        await house.containers.start("web")
        house.task().end(0)
        await container.until(lambda: container.state is State.EXITED)
        await house.containers.remove("web")
        await house.saved()
        assert len(synced) == 2

    live(story)


def test_what_lives_on_is_durable_soon(live):
    async def story(house):
        container = await made(house)
        assert house.snapshots.unsynced == [container.id]
        await house.containers.start("web")
        await house.saved()
        assert house.snapshots.unsynced == []
        assert house.containers._context.store.load()[0].state is State.RUNNING

    live(story)


def test_the_end_of_the_daemon_saves_what_is_not(live):
    async def story(house):
        container = await made(house)
        await house.containers.start("web")
        house.task().end(4)
        await container.until(lambda: container.state is State.EXITED)
        await house.containers.close(timeout=1)
        stored = house.containers._context.store.load()[0]
        assert (stored.state, stored.exit_code) == (State.EXITED, 4)
        assert house.tasks.known == {}

    live(story)


def test_an_end_nobody_saved_is_found_by_the_next_daemon(live):
    async def story(house):
        container = await made(house)
        await house.containers.start("web")
        house.task().end(4)
        await container.until(lambda: container.state is State.EXITED)
        await house.die()
        house.reopen()
        await house.containers.open()
        again = house.containers.get("web").record
        assert (again.state, again.exit_code) == (State.EXITED, 4)
        assert again.started

    live(story)


def test_who_stopped_it_is_not_forgotten_with_the_daemon(live):
    async def story(house):
        await made(house, restart_policy=RestartPolicy(name="unless-stopped"))
        await house.containers.start("web")
        await house.containers.stop("web")
        await house.die()
        house.reopen()
        await house.containers.open()
        assert house.containers.get("web").state is State.EXITED

    live(story)


def test_a_removal_waits_for_no_cgroup(live):
    """The answer comes when record and snapshot are out of the way; the rest follows when the task is gone."""

    async def story(house):
        container = await made(house)
        await house.containers.start("web")
        task = house.task()
        task.removed.cancel()
        task.removed = gone = asyncio.get_running_loop().create_future()
        task.ended.set_result(ExitStatus(0, 1))
        await container.until(lambda: container.state is State.EXITED)
        await house.containers.remove("web")
        assert list(house.snapshots.root.iterdir()) == [house.snapshots.root / f"rm-{container.id}"]
        gone.set_result(None)
        await house.saved()
        assert list(house.snapshots.root.iterdir()) == []
        assert task.deleted

    live(story)


def test_a_snapshot_lost_in_a_power_cut_is_made_anew(live):
    async def story(house):
        container = await made(house)
        await house.die()
        house.snapshots.remove(container.id)
        house.reopen()
        await house.containers.open()
        await house.containers.start("web")
        assert house.containers.get("web").state is State.RUNNING

    live(story)


def test_tasks_of_removed_containers_are_forgotten_by_the_next_daemon(live):
    async def story(house):
        container = await made(house)
        await house.containers.start("web")
        house.task().end(0)
        await container.until(lambda: container.state is State.EXITED)
        await house.containers.remove("web")
        await house.die()
        house.reopen()
        await house.containers.open()
        await house.no_tasks()

    live(story)


def test_a_record_that_could_not_be_saved_is_tried_again(live, monkeypatch):
    async def story(house):
        monkeypatch.setattr(janitor, "RETRY", 0)
        container = await made(house)
        await house.saved()
        failures = iter([System("no space left"), System("no space left")])
        write = house.containers._context.store.write

        def failing(*arguments, **options):
            for failure in failures:
                raise failure
            return write(*arguments, **options)

        monkeypatch.setattr(house.containers._context.store, "write", failing)
        await house.containers.start("web")
        await house.saved()
        assert house.containers._context.store.load()[0].state is State.RUNNING
        assert container.state is State.RUNNING

    live(story)


def test_where_files_are_few_nothing_is_held(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    roots = Roots()
    one = root()
    roots.hold("a", one)
    assert "a" not in roots
    assert one.fd == -1


def test_files_are_there_before_the_start_and_made_anew_at_the_next(live):
    async def story(house):
        container = await made(house)
        folder = house.root / "containers" / container.id
        assert (folder / "hostname").read_text() == f"{container.record.config.hostname}\n"
        assert (folder / "resolv.conf").stat().st_mode & 0o777 == 0o644
        await house.containers.start("web")
        assert (folder / "hosts").exists()
        (folder / "hostname").write_text("what the container made of it\n")
        house.task().end(0)
        await container.until(lambda: container.state is State.EXITED)
        await house.containers.start("web")
        assert (folder / "hostname").read_text() == f"{container.record.config.hostname}\n"

    live(story)
