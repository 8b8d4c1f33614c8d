"""The life of containers on fake rooms: states, events, exits, policies, and what a failure leaves behind."""

import asyncio
import json

import pytest

from scow.api.containers import (
    CreateBody,
    HealthConfig,
    HostConfig,
    RestartPolicy,
    ThrottleDevice,
    UpdateBody,
    parse_create,
)
from scow.api.filters import Filters
from scow.containers import exits, health, stop
from scow.containers.listing import Selection
from scow.containers.state import State
from scow.errors import Conflict, InvalidArgument, NoSuchContainer, NoSuchImage, NotFound, NotModified, System
from support.fake_rooms import FakeNetwork, House
from support.fake_tasks import not_found

LATEST = (1, 55)


@pytest.fixture
def live(tmp_path):
    """Run a coroutine function with a house, and close it afterwards."""

    def run(story, **config):
        async def main():
            house = House(tmp_path, **config)
            try:
                async with asyncio.timeout(20):
                    await story(house)
            finally:
                house.tasks.deadly = {9, 15}
                await house.containers.close(timeout=1)

        asyncio.run(main())

    return run


async def made(house, name="web", image="busybox", host=None, **config):
    body = CreateBody(image=image, host_config=HostConfig(**(host or {})), **config)
    id_, _ = await house.containers.create(name, body)
    return house.containers.get(id_)


async def state_is(container, state):
    await container.until(lambda: container.state is state)


def test_a_whole_life(live):
    async def story(house):
        container = await made(house)
        waiting = asyncio.ensure_future(house.waits("web", "next-exit"))
        await house.containers.start("web")
        assert container.state is State.RUNNING
        with pytest.raises(NotModified):
            await house.containers.start("web")
        house.task().end(3)
        assert await waiting == {"StatusCode": 3}
        await house.no_tasks()
        await house.containers.remove("web")
        assert house.told() == ["create", "start", "die", "destroy"]
        await house.until(lambda: not house.leaked())
        await house.saved()
        assert not list((house.root / "containers").iterdir())
        assert not list(house.snapshots.root.iterdir())
        with pytest.raises(NoSuchContainer, match="No such container: web"):
            house.containers.get("web")

    live(story)


def test_die_says_how(live):
    async def story(house):
        container = await made(house, labels={"team": "blue"})
        await house.containers.start("web")
        house.task().end(137, oom_killed=True)
        await state_is(container, State.EXITED)
        *_, oom, die = house.events.past({"type": ["container"]}, 0)
        assert (oom.action, die.action) == ("oom", "die")
        assert die.attributes["exitCode"] == "137"
        assert die.attributes["image"] == "busybox"
        assert die.attributes["team"] == "blue"
        assert (await house.containers.inspect("web", LATEST))["State"]["OOMKilled"]

    live(story)


@pytest.mark.parametrize(
    ("failure", "kind", "sentence", "code"),
    [
        (not_found("sh"), InvalidArgument, "executable file not found in $PATH", 127),
        (System("pool is empty"), System, "pool is empty", 128),
    ],
)
def test_a_start_that_fails_leaves_nothing(live, failure, kind, sentence, code):
    async def story(house):
        container = await made(house)
        session = await house.containers.attach("web", stream_of())
        house.tasks.failure = failure
        with pytest.raises(kind) as caught:
            await house.containers.start("web")
        assert sentence in str(caught.value)
        assert house.networks.connected == {}
        assert all(sandbox.closed for sandbox in house.networks.sandboxes)
        await house.until(lambda: not house.leaked())
        shown = (await house.containers.inspect("web", LATEST))["State"]
        assert (shown["Status"], shown["ExitCode"]) == ("created", code)
        assert sentence in shown["Error"]
        assert await session._attachment.read() == b""
        session.close()
        house.tasks.failure = None
        await house.containers.start("web")
        assert container.record.error == ""

    live(story)


@pytest.mark.parametrize("where", ["network", "disk", "both"])
def test_network_and_disk_unwind_each_other(live, where):
    async def story(house):
        container = await made(house)
        if where != "network":
            house.containers._context.roots.drop(container.id)  # as if the daemon had been restarted meanwhile
        house.networks.failure = System("no addresses") if where in ("network", "both") else None
        house.snapshots.fail_mount = where in ("disk", "both")
        with pytest.raises(System):
            await house.containers.start("web")
        assert house.networks.connected == {}
        assert all(sandbox.closed for sandbox in house.networks.sandboxes)
        await house.until(lambda: not house.leaked())

    live(story)


def stream_of(**more):
    from scow.containers.attach import AttachRequest

    return AttachRequest(stream=True, stdout=True, stderr=True, **more)


def test_what_was_attached_before_the_start_gets_the_first_byte(live):
    async def story(house):
        await made(house)
        session = await house.containers.attach("web", stream_of())
        await house.containers.start("web")
        late = await house.containers.attach("web", stream_of())
        house.task().say(b"hello")
        assert await session._attachment.read() == b"hello"
        assert await late._attachment.read() == b"hello"
        house.task().end(0)
        assert await session._attachment.read() == b""
        session.close()
        late.close()

    live(story)


def test_an_attachment_given_up_before_the_start_is_forgotten(live):
    async def story(house):
        container = await made(house)
        session = await house.containers.attach("web", stream_of())
        session.close()
        assert container.pending == []
        await house.containers.start("web")
        assert house.task().attached == []

    live(story)


def test_stop_is_kind_then_not(live, monkeypatch):
    async def story(house):
        house.tasks.deadly = {9}
        await made(house, stop_signal="SIGUSR1")
        await house.containers.start("web")
        await house.containers.stop("web", grace=0)
        assert house.task().signals == [9]
        await house.containers.start("web")
        monkeypatch.setattr(stop, "GRACE", 0.01)
        monkeypatch.setattr(stop, "grace_of", lambda container, asked: 0.01)
        await house.containers.stop("web")
        assert house.task().signals == [10, 9]
        with pytest.raises(NotModified):
            await house.containers.stop("web")
        assert house.told()[-4:] == ["kill", "kill", "die", "stop"]

    live(story)


def test_stopping_a_paused_container(live):
    async def story(house):
        container = await made(house)
        await house.containers.start("web")
        await house.containers.pause("web")
        with pytest.raises(Conflict, match="already paused"):
            await house.containers.pause("web")
        with pytest.raises(Conflict, match="unpause the container before exec"):
            house.containers.exec_create("web", exec_config(["true"]))
        await house.containers.stop("web")
        assert container.state is State.EXITED
        assert container.record.exit_code == 143

    live(story)


def test_kill(live):
    async def story(house):
        container = await made(house)
        with pytest.raises(Conflict, match="is not running"):
            await house.containers.kill("web")
        await house.containers.start("web")
        await house.containers.kill("web", 1)
        assert container.state is State.RUNNING
        assert not container.record.stopped_by_user
        await house.containers.kill("web")
        assert container.state is State.EXITED

    live(story)


def test_a_container_that_cannot_be_killed_says_so(live, monkeypatch):
    async def story(house):
        monkeypatch.setattr(stop, "AFTER_KILL", 0.01)
        house.tasks.deadly = set()
        await made(house)
        await house.containers.start("web")
        with pytest.raises(System, match="did not receive an exit event"):
            await house.containers.kill("web")
        house.task().end(0)

    live(story)


def test_restart_policy_backs_off_counts_and_gives_up(live, monkeypatch):
    async def story(house):
        policy = RestartPolicy(name="on-failure", maximum_retry_count=2)
        container = await made(house, host={"restart_policy": policy})
        monkeypatch.setattr(exits.restart, "FIRST", 1_000_000)
        await house.containers.start("web")
        for count in (1, 2):
            task = house.task()
            task.end(1)
            await container.until(
                lambda count=count: container.record.restart_count == count and container.task is not None
            )
        house.task().end(1)
        await state_is(container, State.EXITED)
        assert len(house.tasks.launched) == 3
        await house.containers.start("web")
        assert container.record.restart_count == 0

    live(story)


def test_a_container_waiting_for_its_restart_can_be_stopped_and_removed(live):
    async def story(house):
        container = await made(house, host={"restart_policy": RestartPolicy(name="always")})
        await house.containers.start("web")
        house.task().end(0)
        await house.until(lambda: container.timer is not None)
        assert container.state is State.RESTARTING
        with pytest.raises(Conflict, match="container is restarting"):
            await house.containers.remove("web")
        await house.containers.stop("web")
        assert container.state is State.EXITED
        assert container.timer is None
        await house.containers.start("web")
        house.task().end(0)
        await house.until(lambda: container.timer is not None)
        await house.containers.remove("web", force=True)
        assert len(house.tasks.launched) == 2

    live(story)


def test_restart_keeps_a_container_that_removes_itself(live):
    async def story(house):
        container = await made(house, host={"auto_remove": True})
        await house.containers.start("web")
        removed = asyncio.ensure_future(house.waits("web", "removed"))
        await house.containers.restart("web")
        assert container.state is State.RUNNING
        assert "restart" in house.told()
        house.task().end(4)
        assert await removed == {"StatusCode": 4}
        with pytest.raises(NoSuchContainer):
            house.containers.get("web")

    live(story)


def test_auto_remove_after_a_failed_start(live):
    async def story(house):
        await made(house, host={"auto_remove": True})
        removed = asyncio.ensure_future(house.waits("web", "removed"))
        house.tasks.failure = not_found("sh")
        with pytest.raises(InvalidArgument):
            await house.containers.start("web")
        assert await removed == {"StatusCode": 127}

    live(story)


def test_wait_conditions(live):
    async def story(house):
        await made(house)
        assert await house.containers.wait("web") == {"StatusCode": 0}
        with pytest.raises(InvalidArgument, match="invalid condition"):
            house.containers.wait("web", "bored")
        next_exit = asyncio.ensure_future(house.waits("web", "next-exit"))
        await asyncio.sleep(0)
        assert not next_exit.done()
        await house.containers.remove("web")
        assert await next_exit == {"StatusCode": 0}

    live(story)


def test_an_exit_between_asking_and_awaiting_is_not_missed(live):
    async def story(house):
        container = await made(house)
        await house.containers.start("web")
        asked = house.containers.wait("web")
        house.task().end(9)
        await state_is(container, State.EXITED)
        await house.no_tasks()
        await house.containers.start("web")
        assert (await asked)["StatusCode"] in (0, 9)

    live(story)


def test_removal(live):
    async def story(house):
        await made(house, host={"binds": ["keep:/keep", "/anonymous"]}, volumes={"/image": {}})
        await house.containers.start("web")
        with pytest.raises(Conflict, match=r'cannot remove container "/web": container is running'):
            await house.containers.remove("web")
        await asyncio.gather(
            house.containers.remove("web", force=True, volumes=True),
            house.containers.remove("web", force=True, volumes=True),
            return_exceptions=True,
        )
        assert [volume.name for volume in house.volumes.list()] == ["keep"]
        assert house.told().count("destroy") == 1

    live(story)


def test_a_removal_that_fails_can_be_repeated(live, monkeypatch):
    async def story(house):
        container = await made(house)
        waiting = asyncio.ensure_future(house.waits("web", "removed"))
        with monkeypatch.context() as patch:
            patch.setattr(house.snapshots, "discard", lambda key: (_ for _ in ()).throw(System("busy")))
            with pytest.raises(System, match="busy"):
                await house.containers.remove("web")
        assert container.state is State.DEAD
        with pytest.raises(Conflict):
            await house.containers.start("web")
        await house.containers.remove("web")
        assert (await waiting)["Error"] == {"Message": "busy"}

    live(story)


def test_create_checks_everything_before_it_changes_anything(live):
    async def story(house):
        bad = [
            ({"image": "nothing"}, {}, NoSuchImage),
            ({}, {"memory": 5}, InvalidArgument),
            ({}, {"binds": ["relative:path"]}, InvalidArgument),
            ({}, {"mounts": [{"Type": "bind", "Source": "/nope/nope", "Target": "/x"}]}, InvalidArgument),
            ({}, {"network_mode": "nowhere"}, InvalidArgument),
            ({}, {"network_mode": "container:nobody"}, InvalidArgument),
            ({}, {"volumes_from": ["nobody"]}, InvalidArgument),
            ({}, {"log_config": {"Type": "pigeon"}}, InvalidArgument),
            ({"entrypoint": [""]}, {}, InvalidArgument),
        ]
        for config, host, kind in bad:
            body = parse_create(json.dumps({"Image": "busybox", "HostConfig": {}}).encode())
            for key, value in config.items():
                setattr(body, key, value)
            body.host_config = HostConfig(**{k: v for k, v in host.items() if k != "log_config"})
            if "log_config" in host:
                body.host_config.log_config.type = "pigeon"
            with pytest.raises(kind):
                await house.containers.create("web", body)
        assert house.told() == []
        assert not list(house.volumes.list())
        assert not list(house.snapshots.root.iterdir())
        assert not list((house.root / "containers").iterdir())

    live(story)


def test_a_create_that_fails_half_way_takes_everything_back(live, monkeypatch):
    async def story(house):
        def full(record, files):
            raise System("no space")

        with monkeypatch.context() as patch:
            patch.setattr(house.containers._context.store, "create", full)
            with pytest.raises(System):
                await made(house, host={"binds": ["/anonymous"]})
        assert not list(house.volumes.list())
        assert not list(house.snapshots.root.iterdir())
        await house.until(lambda: not house.leaked())
        await made(house)

    live(story)


def test_names(live):
    async def story(house):
        container = await made(house)
        with pytest.raises(
            Conflict, match=f'The container name "/web" is already in use by container "{container.id}"'
        ):
            await made(house)
        other = await made(house, name="")
        assert "_" in other.name
        with pytest.raises(Conflict):
            await house.containers.rename(other.id, "web")
        await house.containers.rename("web", "/api")
        assert house.containers.get("/api") is container
        assert house.told()[-1] == "rename"
        assert house.networks.renamed == [(container.id, "api")]
        await made(house, name="web")
        for bad in ("", "a b", "api"):
            with pytest.raises(InvalidArgument):
                await house.containers.rename("api", bad)

    live(story)


def test_two_creates_of_one_name_at_once(live):
    async def story(house):
        results = await asyncio.gather(made(house), made(house), return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["Conflict", "Container"]

    live(story)


def test_lookup(live):
    async def story(house):
        first = await made(house)
        context = house.containers._context
        twin = await made(house, name="twin")
        context.containers["ab" + twin.id[2:]] = twin
        context.containers["ab" + first.id[2:]] = first
        with pytest.raises(InvalidArgument, match="Multiple IDs found with provided prefix: ab"):
            context.get("ab")
        assert context.get(first.id[:20]) is first
        with pytest.raises(InvalidArgument):
            context.get("")

    live(story)


def exec_config(cmd, **more):
    from scow.api.containers import ExecConfig

    return ExecConfig(cmd=cmd, **more)


class Peer:
    """A client's stream: what it sends, then silence until closed."""

    def __init__(self, *data, closes=False):
        self.data = list(data)
        self.got = b""
        self.closed = asyncio.Event()
        self.closes = closes

    async def read(self, limit=0):
        if self.data:
            return self.data.pop(0)
        if not self.closes:
            await self.closed.wait()
        return b""

    async def write(self, data):
        self.got += data

    async def wait_closed(self):
        await self.closed.wait()


def test_exec(live):
    async def story(house):
        from scow.api.containers import ExecStart

        await made(house, env=["A=1"], user="app")
        with pytest.raises(Conflict, match="is not running"):
            house.containers.exec_create("web", exec_config(["true"]))
        await house.containers.start("web")
        (house.tasks.root / house.task().id / "etc").mkdir()
        (house.tasks.root / house.task().id / "etc/passwd").write_text("app:x:10:20::/home/app:/bin/sh\n")
        found = house.containers.exec_create("web", exec_config(["echo", "hi"], attach_stdout=True, env=["B=2"]))
        session = house.containers.exec_session(found.id, ExecStart())
        with pytest.raises(Conflict, match="already run"):
            house.containers.exec_session(found.id, ExecStart())
        peer = Peer()
        running = asyncio.ensure_future(session.run(peer))
        while not house.task().execs:
            await asyncio.sleep(0)
        process = house.task().execs[0].process
        assert process["user"]["uid"] == 10
        assert {"A=1", "B=2", "HOME=/home/app"} <= set(process["env"])
        assert house.containers.exec_inspect(found.id)["ExitCode"] is None
        house.task().execs[0].say(b"frames")
        house.task().execs[0].end(5)
        await running
        assert peer.got == b"frames"
        shown = house.containers.exec_inspect(found.id)
        assert (shown["ExitCode"], shown["Running"]) == (5, False)
        assert [a.partition(":")[0] for a in house.told()[-3:]] == ["exec_create", "exec_start", "exec_die"]

    live(story)


def test_an_exec_that_cannot_start_says_why_on_its_stream(live):
    async def story(house):
        from scow.api.containers import ExecStart

        await made(house)
        await house.containers.start("web")
        house.tasks.exec_failure = not_found()
        found = house.containers.exec_create("web", exec_config(["nope"]))
        peer = Peer()
        await house.containers.exec_session(found.id, ExecStart()).run(peer)
        assert b"no such file" in peer.got
        assert peer.got[0] == 1
        assert house.containers.exec_inspect(found.id)["ExitCode"] == 127
        again = house.containers.exec_create("web", exec_config(["nope"]))
        with pytest.raises(InvalidArgument, match="OCI runtime exec failed"):
            await house.containers.exec_start(again.id, ExecStart(detach=True))

    live(story)


def test_exec_size_before_and_after_the_start(live):
    async def story(house):
        from scow.api.containers import ExecStart

        await made(house)
        await house.containers.start("web")
        found = house.containers.exec_create("web", exec_config(["sh"], tty=True))
        await house.containers.exec_resize(found.id, 24, 80)
        await house.containers.exec_start(found.id, ExecStart(detach=True))
        assert house.task().execs[0].process["consoleSize"] == {"height": 24, "width": 80}
        await house.containers.exec_resize(found.id, 30, 90)
        assert house.task().execs[0].sizes == [(30, 90)]
        house.task().execs[0].end(0)

    live(story)


def test_attach_detaches_by_keys(live):
    async def story(house):
        await made(house, tty=True, open_stdin=True)
        await house.containers.start("web")
        session = await house.containers.attach("web", stream_of(stdin=True, keys="ctrl-a,d"))
        peer = Peer(b"ls\n\x01", b"d")
        await session.run(peer)
        assert house.task().attached[0].recv(100) == b"ls\n"
        assert house.told()[-1] == "detach"
        with pytest.raises(InvalidArgument):
            await house.containers.attach("web", stream_of(keys="nonsense"))

    live(story)


def test_attach_ends_with_the_client(live):
    async def story(house):
        await made(house)
        await house.containers.start("web")
        session = await house.containers.attach("web", stream_of())
        peer = Peer()
        running = asyncio.ensure_future(session.run(peer))
        await asyncio.sleep(0)
        peer.closed.set()
        await running
        assert house.task().attached[0].recv(10) == b""

    live(story)


def test_size_is_remembered_for_the_start(live):
    async def story(house):
        await made(house, tty=True)
        await house.containers.resize("web", 33, 111)
        await house.containers.start("web")
        await house.containers.resize("web", 34, 112)
        assert house.task().sizes == [(33, 111), (34, 112)]

    live(story)


def test_update(live):
    async def story(house):
        container = await made(house, host={"memory": 64 << 20})
        await house.containers.start("web")
        with pytest.raises(Conflict, match=r"Cannot update container .*update the memoryswap at the same time"):
            await house.containers.update("web", UpdateBody(memory=256 << 20))
        await house.containers.update("web", UpdateBody(memory=256 << 20, memory_swap=-1, pids_limit=50))
        assert house.task().updates == [{"memory": {"limit": 256 << 20, "swap": -1}, "pids": {"limit": 50}}]
        await house.containers.update("web", UpdateBody(restart_policy=RestartPolicy(name="always")))
        assert container.record.host.restart_policy.name == "always"
        assert len(house.task().updates) == 1
        await house.containers.update("web", UpdateBody(pids_limit=0))
        assert house.task().updates[1:] == [{"pids": {"limit": -1}}]
        assert container.record.host.pids_limit == 0
        read = [ThrottleDevice(path="/dev/loop0", rate=5), ThrottleDevice(path="/dev/loop1", rate=6)]
        await house.containers.update("web", UpdateBody(blkio_device_read_bps=read))
        await house.containers.update("web", UpdateBody(blkio_device_read_bps=[ThrottleDevice(path="/dev/loop0")]))
        assert house.task().updates[-1] == {"blockIO": {"throttleReadBpsDevice": [{"major": 7, "minor": 0, "rate": 0}]}}
        assert container.record.host.blkio_device_read_bps == read[1:]
        with pytest.raises(InvalidArgument):
            await house.containers.update("web", UpdateBody(restart_policy=RestartPolicy(name="often")))

    live(story)


def test_health(live, monkeypatch):
    async def story(house):
        monkeypatch.setattr(health, "INTERVAL", 1_000_000)
        probe = HealthConfig(test=["CMD", "ok"], retries=1, interval=1_000_000)
        container = await made(house, healthcheck=probe)
        await house.containers.start("web")
        assert container.record.health.status == "starting"
        for code, status in ((0, "healthy"), (1, "unhealthy")):
            await exec_number(house, 1 if code == 0 else 2)
            house.task().execs[-1].end(code)
            await container.until(lambda status=status: container.record.health.status == status)
        assert [a for a in house.told() if a.startswith("health")] == [
            "health_status: healthy",
            "health_status: unhealthy",
        ]
        monitor = container.monitor
        await house.containers.pause("web")
        await asyncio.wait({monitor})
        assert container.monitor is None
        await house.containers.unpause("web")
        assert container.monitor is not None
        assert "(unhealthy)" in (await house.containers.list(everything(), LATEST))[0]["Status"]

    live(story)


async def exec_number(house, count):
    while len(house.task().execs) < count or house.task().execs[-1].ended.done():
        await asyncio.sleep(0.001)


def everything(**filters):
    return Selection(everything=True, limit=0, filters=Filters(filters))


def test_lists(live):
    async def story(house):
        house.images.put("other", Cmd=["x"])
        first = await made(house, labels={"a": "1"}, host={"binds": ["data:/data"]})
        second = await made(house, name="db", image="other", exposed_ports={"80/tcp": {}})
        await house.containers.start("db")

        async def names(all_=True, limit=0, **filters):
            rows = await house.containers.list(Selection(all_, limit, Filters(filters)), LATEST)
            return [row["Names"][0] for row in rows]

        assert await names() == ["/db", "/web"]
        assert await names(False) == ["/db"]
        assert await names(False, 1) == ["/db"]
        assert await names(False, status=["created"]) == ["/web"]
        assert await names(label=["a=1"]) == ["/web"]
        assert await names(name=["^we"]) == ["/web"]
        assert await names(id=[second.id[:12]]) == ["/db"]
        assert await names(volume=["data"]) == ["/web"]
        assert await names(volume=["/data"]) == ["/web"]
        assert await names(ancestor=["other"]) == ["/db"]
        assert await names(ancestor=["nothing"]) == []
        assert await names(before=["db"]) == ["/web"]
        assert await names(since=[first.id]) == ["/db"]
        assert await names(expose=["70-90/tcp"]) == ["/db"]
        assert await names(publish=["80"]) == []
        assert await names(network=["bridge"]) == ["/db", "/web"]
        assert await names(health=["none"]) == ["/db", "/web"]
        assert await names(**{"is-task": ["true"]}) == []
        house.task().end(7)
        await state_is(second, State.EXITED)
        assert await names(exited=["7"]) == ["/db"]
        for bad in ({"status": ["odd"]}, {"exited": ["x"]}, {"health": ["ill"]}, {"colour": ["red"]}):
            with pytest.raises(InvalidArgument, match="invalid filter"):
                await names(**bad)
        del house.images.known["other"]
        row = (await house.containers.list(everything(id=[second.id]), LATEST))[0]
        assert row["Image"] == second.record.image_id
        assert row["Health"]["Status"] == "none"
        assert row["Status"].startswith("Exited (7) ")
        assert "Health" not in (await house.containers.list(everything(), (1, 40)))[0]

    live(story)


def test_inspect_shapes(live):
    async def story(house):
        await made(house, host={"binds": ["data:/data:ro"], "cap_add": ["NET_ADMIN"]}, stop_timeout=3)
        new = await house.containers.inspect("web", LATEST, size=True)
        assert new["Name"] == "/web"
        assert new["HostConfig"]["NetworkMode"] == "bridge"
        assert new["HostConfig"]["Binds"] == ["data:/data:ro"]
        assert new["HostConfig"]["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}
        assert new["Config"]["StopTimeout"] == 3
        assert new["Mounts"][0]["RW"] is False
        assert new["SizeRw"] == 7
        assert "IPAddress" not in new["NetworkSettings"]
        assert "MacAddress" not in new["Config"]
        assert new["State"]["StartedAt"] == "0001-01-01T00:00:00Z"
        old = await house.containers.inspect("web", (1, 40))
        assert old["NetworkSettings"]["IPAddress"] == ""
        assert json.dumps(new)

    live(story)


def test_warnings(live):
    async def story(house):
        house.images.put("arm", architecture="s390x", Cmd=["x"])
        _, warnings = await house.containers.create("a1", CreateBody(image="arm"))
        assert "does not match the detected host platform" in warnings[0]
        with pytest.raises(NotFound, match="does not match the specified platform"):
            await house.containers.create("a2", CreateBody(image="arm"), "linux/amd64")

    live(story)


def test_networks_of_a_stopped_and_a_running_container(live):
    async def story(house):
        house.networks.known["blue"] = FakeNetwork("blue", "id-blue", True)
        container = await made(house)
        await house.containers.connect_network("web", "blue")
        assert house.networks.connected == {}
        await house.containers.start("web")
        assert set(house.networks.connected[container.id]) == {"bridge", "blue"}
        settings = (await house.containers.inspect("web", LATEST))["NetworkSettings"]["Networks"]
        assert set(settings) == {"bridge", "blue"}
        await house.containers.stop("web")
        await house.containers.disconnect_network("web", "id-blue")
        assert set(container.record.endpoints) == {"bridge"}

    live(story)


def test_prune(live):
    async def story(house):
        await made(house, labels={"x": "1"})
        await made(house, name="keep")
        await made(house, name="up")
        await house.containers.start("up")
        removed, reclaimed = await house.containers.prune(Filters({"label": ["x"]}))
        assert (len(removed), reclaimed) == (1, 7)
        assert (await house.containers.prune(Filters({"until": ["1h"]})))[0] == []
        assert len((await house.containers.prune(Filters()))[0]) == 1
        with pytest.raises(InvalidArgument):
            await house.containers.prune(Filters({"name": ["x"]}))

    live(story)


def test_counts_and_users(live):
    async def story(house):
        container = await made(house)
        await house.containers.start("web")
        await made(house, name="idle")
        assert house.containers.count_by_state() == {"running": 1, "created": 1}
        assert {str(k): len(v) for k, v in house.containers.users().items()} == {container.record.image_id: 2}
        assert house.containers.running() == {container.id}

    live(story)


def test_defaults_of_the_daemon(live):
    async def story(house):
        container = await made(house)
        assert container.record.host.init is True
        assert container.record.host.shm_size == 1 << 20
        assert container.record.host.log_config.type == "local"
        await house.containers.start("web")
        process = house.task().request.spec["process"]
        assert process["noNewPrivileges"] is True

    live(story, init=True, shm_size=1 << 20, log_driver="local", no_new_privileges=True)
