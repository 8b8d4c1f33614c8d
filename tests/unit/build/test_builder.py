"""Real builds: containers, overlays, the cache; what a user of POST /build would notice."""

import asyncio
import bz2
import gzip
import lzma
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import zstandard

from scow.build import context as contexts
from scow.build.options import BuildOptions, Limits
from scow.build.prune import Pruned
from scow.build.steps.run import CommandFailed
from scow.errors import Cancelled, EngineError, Forbidden, InvalidArgument, NotFound, Unsupported
from support.building import Yard, chunks, in_yard, tar_of

pytestmark = pytest.mark.root

Run = Callable[[Callable[[Yard], Awaitable[None]]], None]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def go(scenario: Callable[[Yard], Awaitable[None]]) -> None:
        in_yard(tmp_path, scenario)
        assert os.listdir(tmp_path / "build" / "tmp") == []
        assert os.listdir(tmp_path / "run" / "tasks") == []

    return go


def cached(yard: Yard) -> int:
    return yard.text.count(" ---> Using cache")


def test_the_same_context_twice_is_the_same_image(run: Run):
    async def scenario(yard: Yard) -> None:
        files = {"Dockerfile": 'FROM busybox\nENV a=b\nWORKDIR /w\nCOPY x .\nRUN cat x > y\nCMD ["y"]', "x": "one"}
        first = await yard.build(files, tags=("app:1", "other/app"))
        assert "Successfully tagged app:1\nSuccessfully tagged other/app:latest" in yard.text
        assert cached(yard) == 0
        second = await yard.build(files, mtime=5, tags=("app:1",))
        assert second.id == first.id
        assert cached(yard) == 5
        assert yard.cat("app:1", "/w/y") == "one"
        third = await yard.build({**files, "x": "two"})
        assert cached(yard) == 2
        assert third.id != first.id
        assert yard.cat(third, "/w/y") == "two"
        again = await yard.build(files, no_cache=True)
        assert cached(yard) == 0
        assert again.config.config == first.config.config

    run(scenario)


def test_what_the_classic_builder_says(run: Run):
    async def scenario(yard: Yard) -> None:
        image = await yard.build({"Dockerfile": "ARG V=latest\nFROM busybox:$V\nRUN echo hi\n"}, tags=("t",))
        short = str(image.id)[7:19]
        streams = [line["stream"] for line in yard.lines if "stream" in line]
        assert streams[0] == "Step 1/3 : ARG V=latest"
        assert streams[2] == "Step 2/3 : FROM busybox:$V"
        assert any(text.startswith(" ---> Running in ") for text in streams)
        assert "hi\n" in streams
        assert {"aux": {"ID": str(image.id)}} in yard.lines
        assert streams[-2:] == [f"Successfully built {short}\n", "Successfully tagged t:latest\n"]

    run(scenario)


def test_history_and_layers(run: Run):
    async def scenario(yard: Yard) -> None:
        dockerfile = "FROM busybox\nARG N=1\nRUN true\nRUN touch /made\nEXPOSE 80\nCOPY Dockerfile /d/\n"
        image = await yard.build({"Dockerfile": dockerfile})
        history = [(entry.created_by, entry.empty_layer) for entry in image.config.history[1:]]
        assert history == [
            ("ARG N=1", True),
            ("RUN |1 N=1 /bin/sh -c true # buildkit", True),
            ("RUN |1 N=1 /bin/sh -c touch /made # buildkit", False),
            ("EXPOSE [80/tcp]", True),
            ("COPY Dockerfile /d/ # buildkit", False),
        ]
        assert len(image.layers) == len(image.config.diff_ids) == 3
        assert image.config.config["ExposedPorts"] == {"80/tcp": {}}

    run(scenario)


def test_a_command_that_fails(run: Run):
    async def scenario(yard: Yard) -> None:
        with pytest.raises(CommandFailed) as failed:
            await yard.build({"Dockerfile": "FROM busybox\nRUN echo before; exit 7"})
        assert str(failed.value) == "The command '/bin/sh -c echo before; exit 7' returned a non-zero code: 7"
        assert failed.value.code == 7
        assert "before\n" in yard.text
        with pytest.raises(CommandFailed) as failed:
            await yard.build({"Dockerfile": 'FROM busybox\nRUN ["/nothing"]'})
        assert failed.value.code == 127
        assert [info.name for info in yard.snapshots.walk() if info.name.startswith("build-")] == []

    run(scenario)


def test_the_files_of_the_container_do_not_enter_the_layer(run: Run):
    async def scenario(yard: Yard) -> None:
        dockerfile = "FROM busybox\nRUN --mount=type=cache,target=/var/c/d --mount=type=tmpfs,target=/t touch /made\n"
        image = await yard.build({"Dockerfile": dockerfile})
        assert yard.names(image) == ["bin", "dev", "etc", "made", "proc", "root", "sys", "tmp"]
        assert yard.names(image, "/etc") == ["group", "passwd"]
        assert yard.names(image, "/dev") == []

    run(scenario)


def test_user_workdir_environment_and_arguments(run: Run):
    async def scenario(yard: Yard) -> None:
        dockerfile = (
            "FROM busybox\nARG WHO\nENV WHERE=/home/bob\nWORKDIR $WHERE\nUSER bob\n"
            "RUN echo $WHO $HOME $(pwd) $(id -u):$(id -g):$(id -G) $HTTP_PROXY\nUSER 7:8\nRUN id -u; id -g\n"
        )
        await yard.build({"Dockerfile": dockerfile}, build_args={"WHO": "me", "HTTP_PROXY": "http://p", "X": "y"})
        assert "me /home/bob /home/bob 1000:1001:1001 50 http://p\n" in yard.text
        assert "7\n8\n" in yard.text
        assert "[Warning] One or more build-args [X] were not consumed" in yard.text
        await yard.build({"Dockerfile": dockerfile}, build_args={"WHO": "me", "HTTP_PROXY": "http://other"})
        assert cached(yard) == 7
        await yard.build({"Dockerfile": dockerfile}, build_args={"WHO": "you"})
        # The ARG, the commands after it see another value; ENV, WORKDIR and USER do not look at it.
        assert "you /home/bob" in yard.text

    run(scenario)


def test_stages_are_built_only_when_needed_and_side_by_side(run: Run):
    async def scenario(yard: Yard) -> None:
        dockerfile = (
            "FROM busybox AS one\nRUN echo 1 > /one\nFROM busybox AS two\nRUN echo 2 > /two\n"
            "FROM busybox AS never\nRUN exit 1\nFROM scratch\nCOPY --from=one /one /\nCOPY --from=1 /two /x/\n"
        )
        image = await yard.build({"Dockerfile": dockerfile})
        assert yard.names(image) == ["one", "x"]
        assert yard.cat(image, "/x/two") == "2\n"
        assert image.config.config["Env"][0].startswith("PATH=")
        steps = [line["stream"] for line in yard.lines if line.get("stream", "").startswith("Step ")]
        assert [step.split(" : ")[0] for step in steps] == [f"Step {n}/7" for n in range(1, 8)]
        one = await yard.build({"Dockerfile": dockerfile}, target="ONE")
        assert yard.cat(one, "/one") == "1\n"
        with pytest.raises(InvalidArgument, match="target stage nine could not be found"):
            await yard.build({"Dockerfile": dockerfile}, target="nine")

    run(scenario)


def test_heredocs(run: Run):
    async def scenario(yard: Yard) -> None:
        dockerfile = (
            "FROM busybox\nENV name=world\nCOPY <<one <<'two' /d/\nhello $name\none\nhello $name\ntwo\n"
            "RUN <<EOF\necho first > /a\necho second >> /a\nEOF\n"
            "RUN <<EOF\n#!/bin/cat\nshown\nEOF\n"
            "RUN cat <<EOF > /b && cat <<-X >> /b\nup $name\nEOF\n\tdown\n\tX\n"
        )
        image = await yard.build({"Dockerfile": dockerfile})
        assert yard.cat(image, "/d/one") == "hello world\n"
        assert yard.cat(image, "/d/two") == "hello $name\n"
        assert yard.cat(image, "/a") == "first\nsecond\n"
        assert yard.cat(image, "/b") == "up world\ndown\n"
        assert "#!/bin/cat\nshown\n" in yard.text

    run(scenario)


def test_ignored_files_take_no_part(run: Run):
    async def scenario(yard: Yard) -> None:
        files = {
            "Dockerfile": "FROM busybox\nCOPY . /c/\n",
            ".dockerignore": "*.log\nsecret\n!keep.log\n",
            "a.log": "x", "keep.log": "y", "secret/key": "z", "d/b.log": "w",
        }  # fmt: skip
        image = await yard.build(files)
        assert yard.names(image, "/c") == [".dockerignore", "Dockerfile", "d", "keep.log"]
        changed = await yard.build({**files, "a.log": "changed"})
        assert changed.id == image.id
        with pytest.raises(
            NotFound, match=r"COPY failed: file not found in build context or excluded by .dockerignore"
        ):
            await yard.build({**files, "Dockerfile": "FROM busybox\nCOPY secret/key /"})
        own = await yard.build({**files, "Dockerfile.dockerignore": "d\n"})
        assert "a.log" in yard.names(own, "/c")

    run(scenario)


def test_onbuild_triggers_of_the_base(run: Run):
    async def scenario(yard: Yard) -> None:
        base = await yard.build(
            {"Dockerfile": "FROM busybox\nONBUILD COPY in /out\nONBUILD RUN cat /out > /again\n"}, tags=("base",)
        )
        assert base.config.config["OnBuild"] == ["COPY in /out", "RUN cat /out > /again"]
        image = await yard.build({"Dockerfile": "FROM base\nRUN true\n", "in": "I"})
        assert "# Executing 2 build triggers" in yard.text
        assert yard.cat(image, "/again") == "I"
        assert "OnBuild" not in image.config.config

    run(scenario)


def test_mounts_of_run(run: Run):
    async def scenario(yard: Yard) -> None:
        counting = (
            "FROM busybox AS src\nRUN mkdir /s && echo from stage > /s/f\nFROM busybox\n"
            "RUN --mount=type=cache,target=/c echo x >> /c/n; cat /c/n > /seen\n"
            "RUN --mount=type=bind,target=/ctx,source=sub cat /ctx/in > /in; touch /ctx/no || echo ro > /ro\n"
            "RUN --mount=type=bind,from=src,source=/s,target=/m,rw cat /m/f > /f; echo y > /m/f\n"
        )
        files = {"Dockerfile": counting, "sub/in": "inside"}
        image = await yard.build(files)
        assert yard.cat(image, "/seen") == "x\n"
        assert yard.cat(image, "/in") == "inside"
        assert yard.cat(image, "/ro") == "ro\n"
        assert yard.cat(image, "/f") == "from stage\n"
        again = await yard.build(files, no_cache=True)
        assert yard.cat(again, "/seen") == "x\nx\n"
        other = await yard.build({**files, "sub/in": "other"})
        assert yard.cat(other, "/in") == "other"
        with pytest.raises(Unsupported, match="session"):
            await yard.build({"Dockerfile": "FROM busybox\nRUN --mount=type=secret,id=s cat /run/secrets/s\n"})

    run(scenario)


def test_limits_and_hosts_reach_the_command(run: Run):
    async def scenario(yard: Yard) -> None:
        dockerfile = "FROM busybox\nRUN cat /etc/hosts; ulimit -n; stat -f /dev/shm\n"
        limits = Limits(shm_size=1 << 20, ulimits=(("nofile", 77, 88),))
        await yard.build({"Dockerfile": dockerfile}, limits=limits, extra_hosts=("db:10.1.2.3",))
        assert "10.1.2.3\tdb\n" in yard.text
        assert "77\n" in yard.text
        assert "Blocks: Total: 256 " in yard.text

    run(scenario)


def test_a_network_of_its_own_by_default(run: Run):
    async def scenario(yard: Yard) -> None:
        dockerfile = "FROM busybox\nRUN ip -o addr\nRUN --network=none ip -o link\n"
        await yard.build({"Dockerfile": dockerfile}, network="default")
        assert "10.177.0." in yard.text
        assert "eth0" not in yard.text.split("--network=none")[1]
        assert yard.networks.get("bridge") is not None

    run(scenario)


def test_cancelling_kills_the_command_and_leaves_nothing(run: Run):
    async def scenario(yard: Yard) -> None:
        ready = asyncio.Event()

        def tell(line: dict[str, object]) -> None:
            if line.get("stream") == "started\n":
                ready.set()

        context = chunks(tar_of({"Dockerfile": "FROM busybox\nRUN echo started; sleep 600\n"}))
        build = await yard.builder.receive(context, BuildOptions(network="none"))
        work = asyncio.ensure_future(yard.builder.carry_out(build, tell, "mine"))
        await ready.wait()
        assert len(yard.tasks.all()) == 1
        assert yard.builder.cancel("mine")
        with pytest.raises(Cancelled):
            await work
        assert yard.tasks.all() == []
        assert [info.name for info in yard.snapshots.walk() if info.name.startswith("build-")] == []
        assert not yard.builder.cancel("mine")

    run(scenario)


def test_a_caller_who_goes_away_cancels_his_build(run: Run):
    async def scenario(yard: Yard) -> None:
        ready = asyncio.Event()

        def tell(line: dict[str, object]) -> None:
            if line.get("stream") == "started\n":
                ready.set()

        context = chunks(tar_of({"Dockerfile": "FROM busybox\nRUN echo started; sleep 600\n"}))
        work = asyncio.ensure_future(yard.builder.build(context, BuildOptions(network="none"), tell))
        await ready.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert yard.tasks.all() == []

    run(scenario)


def test_squash_makes_one_layer_of_many(run: Run):
    async def scenario(yard: Yard) -> None:
        dockerfile = 'FROM busybox\nRUN echo a > /a\nRUN rm /a /bin/touch; echo b > /b\nCMD ["x"]\n'
        image = await yard.build({"Dockerfile": dockerfile}, squash=True, tags=("s",))
        assert len(image.layers) == 2
        names = yard.names(image)
        assert "a" not in names
        assert "b" in names
        assert "touch" not in yard.names(image, "/bin")
        assert len([entry for entry in image.config.history if not entry.empty_layer]) == 2

    run(scenario)


def test_only_from_names_the_base(run: Run):
    async def scenario(yard: Yard) -> None:
        base = yard.images.resolve("busybox")
        image = await yard.build({"Dockerfile": "FROM busybox\n"}, tags=("again", "and:again"))
        assert image.id == base.id
        assert yard.images.resolve("and:again").id == base.id
        labelled = await yard.build({"Dockerfile": "FROM busybox\n"}, labels={"k": "v"})
        assert labelled.config.config["Labels"] == {"k": "v"}
        assert "LABEL k=v" in yard.text

    run(scenario)


def test_cache_from_an_image_whose_records_are_gone(run: Run):
    async def scenario(yard: Yard) -> None:
        files = {"Dockerfile": "FROM busybox\nCOPY x /\nRUN echo made > /made\nENV a=b\n", "x": "1"}
        first = await yard.build(files, tags=("app",))
        await yard.builder.prune(pruned_all())
        second = await yard.build(files, cache_from=("app", "missing:1"))
        assert cached(yard) == 3
        assert second.id == first.id
        await yard.builder.prune(pruned_all())
        await yard.build({**files, "x": "2"}, cache_from=("app",))
        assert cached(yard) == 0

    run(scenario)


def pruned_all() -> Pruned:
    return Pruned(everything=True)


def test_prune_frees_what_no_image_has(run: Run):
    async def scenario(yard: Yard) -> None:
        await yard.build(
            {"Dockerfile": "FROM busybox AS b\nRUN echo big > /b\nFROM scratch\nCOPY --from=b /b /\n"}, tags=("k",)
        )
        before = {info.name for info in yard.snapshots.walk()}
        usage = await yard.builder.disk_usage()
        assert [item["Shared"] for item in usage if str(item["Description"]).startswith("RUN")] == [False]
        deleted, freed = await yard.builder.prune(Pruned())
        assert deleted
        assert freed > 0
        gone = before - {info.name for info in yard.snapshots.walk()}
        assert len(gone) == 1
        assert yard.cat("k", "/b") == "big\n"
        yard.images.remove("k")
        await yard.builder.prune(Pruned(everything=True))
        assert len(list(yard.snapshots.walk())) == 1

    run(scenario)


def test_garbage_collection_of_images_leaves_the_cache_alone(run: Run):
    async def scenario(yard: Yard) -> None:
        files = {"Dockerfile": "FROM busybox\nRUN echo a > /a\nRUN echo b > /b\n"}
        first = await yard.build(files, tags=("app",))
        yard.images.remove("app")
        yard.images.prune(dangling=False, keep=lambda image: "docker.io/library/busybox:latest" in image.names)
        second = await yard.build(files)
        assert cached(yard) == 2
        assert second.id == first.id

    run(scenario)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "Cannot locate specified Dockerfile: Dockerfile"),
        (b"FROM busybox\n" * 100, "not a tar archive"),
        (tar_of({"Dockerfile": " \n"}), "cannot be empty"),
        (tar_of({"Dockerfile": "FROM busybox\nRUNN x"}), "unknown instruction: RUNN"),
        (tar_of({"a": "FROM busybox"}), "Cannot locate specified Dockerfile"),
        (b"\x1f\x8b\x08\x00garbage", "gzip data"),
    ],
)
def test_contexts_that_are_refused(run: Run, data: bytes, words: str):
    async def scenario(yard: Yard) -> None:
        with pytest.raises(EngineError, match=words):
            await yard.builder.build(chunks(data), BuildOptions(), yard.lines.append)

    run(scenario)


def test_a_killed_daemon_leaves_nothing_visible(run: Run, tmp_path: Path):
    async def scenario(yard: Yard) -> None:
        yard.snapshots.prepare("build-0123-4", None)
        deep = tmp_path / "build" / "tmp" / "0123" / "context"
        deep.mkdir(parents=True)
        (deep / "f").write_text("x")
        await yard.builder.open()
        assert not yard.snapshots.exists("build-0123-4")

    run(scenario)


def packed(kind: str, data: bytes) -> bytes:
    makers = {
        "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstandard.ZstdCompressor().compress,
        "tar": bytes,
    }  # fmt: skip
    return makers[kind](data)


@pytest.mark.parametrize("kind", ["tar", "gz", "bz2", "xz", "zst"])
def test_contexts_and_archives_in_every_packing(run: Run, kind: str):
    async def scenario(yard: Yard) -> None:
        inner = packed(kind, tar_of({"in/f": "inner", "g": "2"}))
        files: dict[str, bytes | str] = {
            "Dockerfile": "FROM busybox\nADD --chown=bob a.bin plain.txt /x/\nCOPY a.bin /y/\n"
            "ADD --unpack=false a.bin /z/\n",
            "a.bin": inner,
            "plain.txt": "text",
        }
        context = chunks(packed(kind, tar_of(files)))
        image = await yard.builder.build(context, BuildOptions(), yard.lines.append)
        assert yard.names(image, "/x") == ["g", "in", "plain.txt"]
        assert yard.cat(image, "/x/in/f") == "inner"
        assert (yard.stat(image, "/x/g").st_uid, yard.stat(image, "/x/plain.txt").st_gid) == (1000, 1001)
        assert yard.names(image, "/y") == yard.names(image, "/z") == ["a.bin"]

    run(scenario)


def test_owners_and_modes(run: Run):
    async def scenario(yard: Yard) -> None:
        dockerfile = (
            "FROM busybox AS src\nRUN mkdir /d && echo x > /d/f && chown 7:8 /d/f && ln -s f /d/l\n"
            "FROM busybox\nARG WHO=bob\n"
            "COPY f /plain\nCOPY --chown=$WHO --chmod=750 f /owned/sub/\nCOPY --from=src /d /kept\n"
            "COPY --from=src --chown=5 /d /changed\nCOPY --chown=0:staff <<doc /doc\nhi\ndoc\n"
        )
        image = await yard.build({"Dockerfile": dockerfile, "f": "x"})

        def of(path: str) -> tuple[int, int, str]:
            found = yard.stat(image, path)
            return found.st_uid, found.st_gid, oct(found.st_mode & 0o7777)

        assert of("/plain") == (0, 0, "0o644")
        assert of("/owned/sub/f") == (1000, 1001, "0o750")
        assert of("/owned/sub") == (1000, 1001, "0o755")
        assert of("/kept/f")[:2] == (7, 8)
        assert of("/changed/f")[:2] == of("/changed/l")[:2] == (5, 5)
        assert of("/doc") == (0, 50, "0o644")
        with pytest.raises(InvalidArgument, match="unable to convert uid/gid chown string"):
            await yard.build({"Dockerfile": "FROM busybox\nCOPY --chown=nobody f /", "f": ""})

    run(scenario)


def test_copying_from_an_image_is_remembered(run: Run):
    async def scenario(yard: Yard) -> None:
        await yard.build({"Dockerfile": "FROM busybox\nRUN mkdir /t && echo tool > /t/tool\n"}, tags=("tools",))
        dockerfile = "FROM scratch\nCOPY --from=tools /t /\nCOPY --from=tools:latest /bin/s* /bin/\n"
        image = await yard.build({"Dockerfile": dockerfile})
        assert yard.cat(image, "/tool") == "tool\n"
        assert yard.names(image, "/bin") == ["sh", "sleep", "stat"]
        await yard.build({"Dockerfile": dockerfile})
        assert cached(yard) == 2
        await yard.build({"Dockerfile": "FROM busybox\nRUN mkdir /t && echo other > /t/tool\n"}, tags=("tools",))
        await yard.build({"Dockerfile": dockerfile})
        assert cached(yard) == 0
        with pytest.raises(NotFound, match="COPY failed: stat nothing: file does not exist"):
            await yard.build({"Dockerfile": "FROM scratch\nCOPY --from=tools /nothing /\n"})

    run(scenario)


def test_large_contexts_go_to_the_disk(run: Run, monkeypatch: pytest.MonkeyPatch):
    async def scenario(yard: Yard) -> None:
        files = {
            "Dockerfile": "FROM busybox\nCOPY d /d\nRUN --mount=target=/ctx cat /ctx/d/f9 > /seen\n",
            **{f"d/f{number}": "x" * 5000 for number in range(20)},
        }
        monkeypatch.setattr(contexts, "SMALL", 20_000)
        on_disk = await yard.build(files)
        assert yard.cat(on_disk, "/seen") == "x" * 5000
        monkeypatch.setattr(contexts, "SMALL", 1 << 20)
        monkeypatch.setattr(contexts, "MEMORY", 50_000)
        fallen_back = await yard.build(files)
        assert cached(yard) == 2
        assert fallen_back.id == on_disk.id
        hostile = {"Dockerfile": "FROM busybox\nCOPY abs /", "/abs": "y"}
        image = await yard.build(hostile)
        assert yard.cat(image, "/abs") == "y"
        assert not Path("/abs").exists()
        with pytest.raises(InvalidArgument, match="outside its root"):
            await yard.build({**hostile, "../../up": "x"})

    run(scenario)


def test_output_without_end_waits_for_its_reader(run: Run):
    async def scenario(yard: Yard) -> None:
        released = asyncio.Event()
        said = 0

        def tell(line: dict[str, object]) -> None:
            nonlocal said
            said += len(str(line.get("stream", "")))

        async def pace() -> None:
            if said > 500_000:
                await released.wait()

        dockerfile = "FROM busybox\nRUN i=0; while [ $i -lt 70000 ]; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; "
        context = chunks(tar_of({"Dockerfile": dockerfile + "i=$((i+1)); done\n"}))
        build = await yard.builder.receive(context, BuildOptions(network="none"))
        work = asyncio.ensure_future(yard.builder.carry_out(build, tell, pace=pace))
        done, _ = await asyncio.wait([work], timeout=3)
        assert not done
        assert said < 2_000_000
        released.set()
        await work
        assert said > 2_400_000

    run(scenario)


def test_two_builds_of_the_same_at_once(run: Run):
    async def scenario(yard: Yard) -> None:
        files = {"Dockerfile": "FROM busybox\nCOPY x /x\nRUN cat /x > /y\n", "x": "1"}
        options = BuildOptions(network="none")
        one, two = await asyncio.gather(
            *(yard.builder.build(chunks(tar_of(files)), options, lambda line: None) for _ in range(2))
        )
        assert yard.cat(one, "/y") == yard.cat(two, "/y") == "1"

    run(scenario)


def test_a_base_that_is_being_built_on_is_not_pruned(run: Run):
    async def scenario(yard: Yard) -> None:
        ready, go_on = asyncio.Event(), asyncio.Event()

        def tell(line: dict[str, object]) -> None:
            if line.get("stream") == "started\n":
                ready.set()

        async def pace() -> None:
            await go_on.wait()

        files = {"Dockerfile": "FROM busybox\nRUN echo 1 > /1\nRUN echo started; echo 2 > /2\nRUN cat /1 > /3\n"}
        build = await yard.builder.receive(chunks(tar_of(files)), BuildOptions(network="none"))
        work = asyncio.ensure_future(yard.builder.carry_out(build, tell, pace=pace))
        go_on.set()
        await ready.wait()
        await yard.builder.prune(Pruned(everything=True))
        yard.images.prune(dangling=False, keep=lambda image: False)
        assert yard.cat(await work, "/3") == "1\n"

    run(scenario)


def test_leaving_the_sandbox_must_be_allowed(run: Run):
    async def scenario(yard: Yard) -> None:
        insecure = {"Dockerfile": "FROM busybox\nRUN --security=insecure cat /proc/self/status\n"}
        host = {"Dockerfile": "FROM busybox\nRUN --network=host ip -o link\n"}
        with pytest.raises(Forbidden, match=r"security.insecure is not allowed: line 2"):
            await yard.build(insecure)
        with pytest.raises(Forbidden, match=r"network.host is not allowed"):
            await yard.build(host)
        await yard.build(host, network="host")
        assert "scowt0" in yard.text
        await yard.build(insecure, allow=frozenset({"security.insecure"}))
        assert "CapEff:\t00000000a80425fb" not in yard.text
        assert "Seccomp:\t0" in yard.text

    run(scenario)
