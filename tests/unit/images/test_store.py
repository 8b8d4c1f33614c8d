"""The image store: names that move, images that go, and what stays behind."""

import io
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from scow.api.filters import Filters
from scow.errors import Conflict, DigestMismatch, InvalidArgument, NoSuchImage, NotFound
from scow.images.layer import EMPTY_DIFF_ID
from scow.oci.descriptor import Descriptor
from scow.oci.digest import digest_of
from scow.oci.manifest import Index, Manifest
from scow.oci.mediatypes import OCI_INDEX, OCI_MANIFEST
from scow.oci.platform import host_platform
from scow.oci.reference import Reference
from scow.snapshots.plain import PlainSnapshotter
from support.imagestore import ImageWorld
from support.tars import tar

pytestmark = pytest.mark.root


@pytest.fixture
def world(tmp_path: Path) -> ImageWorld:
    return ImageWorld(tmp_path)


def test_an_image_is_found_by_everything_that_names_it(world: ImageWorld) -> None:
    image = world.make("app:v1", Cmd=["sh"])
    for ref in (
        "app:v1",
        "docker.io/library/app:v1",
        image.id,
        image.id.hex,
        image.id.short,
        image.id.hex[:1],
        f"sha256:{image.id.hex[:9]}",
        f"app@{image.manifest.digest}",
        image.manifest.digest,
    ):
        assert world.images.resolve(ref).id == image.id, ref
    assert image.top is not None
    assert world.snapshots.exists(image.top)
    assert (image.names, image.config.config) == (("docker.io/library/app:v1",), {"Cmd": ["sh"]})


def test_what_is_not_there_is_named_as_docker_does(world: ImageWorld) -> None:
    world.make("app:v1")
    for ref, shown in (
        ("nope", "nope:latest"),
        ("app", "app:latest"),
        ("f" * 12, "f" * 12 + ":latest"),
        ("x/y:z", "x/y:z"),
    ):
        with pytest.raises(NoSuchImage, match=f"^No such image: {shown}$"):
            world.images.resolve(ref)
    with pytest.raises(InvalidArgument, match="invalid reference format"):
        world.images.resolve("No Name")


def test_a_beginning_that_fits_several_is_refused(world: ImageWorld) -> None:
    ids = [world.make(f"app{number}").id.hex for number in range(17)]
    first = next(letter for letter in "0123456789abcdef" if sum(name.startswith(letter) for name in ids) > 1)
    with pytest.raises(InvalidArgument, match="multiple IDs found"):
        world.images.resolve(first)


def test_everything_is_there_after_a_restart(world: ImageWorld) -> None:
    image = world.make("app:v1")
    world.images.tag("app:v1", Reference.parse("reg.example:5000/other:v2"))
    world.images.note_digest(image.id, Reference.parse(f"reg.example:5000/other@{image.manifest.digest}"))
    before = world.images.resolve("app:v1")
    world.reopen()
    assert world.images.resolve("app:v1") == before
    assert len(before.names) == 2


def test_a_name_that_moves_leaves_the_old_image_dangling(world: ImageWorld) -> None:
    old = world.make("app", Cmd=["old"])
    new = world.make("app", Cmd=["new"])
    assert world.images.resolve("app").id == new.id
    assert world.images.resolve(old.id).names == ()
    world.reopen()
    assert world.images.resolve(old.id).names == ()
    assert [image.id for image in world.images.select(Filters({"dangling": ["true"]}))] == [old.id]


def test_an_image_that_gets_a_name_is_no_longer_dangling(world: ImageWorld) -> None:
    image = world.make(None)
    world.images.tag(image.id.short, Reference.parse("app"))
    assert world.names() == [["app:latest"]]
    index = json.loads((world.root / "content/index.json").read_text())
    assert len(index["manifests"]) == 1


def test_tagging_with_a_digest_is_refused(world: ImageWorld) -> None:
    world.make("app")
    with pytest.raises(InvalidArgument, match="digest reference"):
        world.images.tag("app", Reference.parse(f"x@{digest_of(b'')}"))


def test_an_image_without_layers(world: ImageWorld) -> None:
    from scow.oci.config import ImageConfig

    image = world.images.add(ImageConfig("amd64", "linux"), [], Reference.parse("scratch-like"))
    assert (image.top, image.size) == (None, 0)
    assert world.images.inspect("scratch-like")["RootFS"] == {"Type": "layers", "Layers": []}


# ── putting what came from elsewhere ──


def test_an_index_stays_what_the_name_leads_to(world: ImageWorld) -> None:
    image = world.make(None)
    entry = Descriptor(OCI_MANIFEST, image.manifest.digest, image.manifest.size, host_platform())
    elsewhere = Descriptor(OCI_MANIFEST, digest_of(b"not here"), 8, None)
    index = world.content.write(Index(OCI_INDEX, (entry, elsewhere)).to_bytes(), OCI_INDEX)
    put = world.images.put(image.manifest, Reference.parse("reg.example/app:v1"), index)
    assert put.digests == (f"reg.example/app@{index.digest}",)
    assert put.index == index
    world.reopen()
    again = world.images.resolve(f"reg.example/app@{index.digest}")
    assert (again.id, again.index) == (image.id, index)
    world.images.remove("reg.example/app:v1")
    assert world.empty()


def test_by_digest_without_a_tag(world: ImageWorld) -> None:
    image = world.make(None)
    name = Reference.parse(f"app@{image.manifest.digest}")
    put = world.images.put(image.manifest, name)
    assert (put.names, put.digests) == ((), (f"docker.io/library/app@{image.manifest.digest}",))
    assert world.images.remove(f"app@{image.manifest.digest}")[-1]["Deleted"].startswith("sha256:")
    assert world.empty()


def test_a_lying_diff_id_leaves_no_image(world: ImageWorld) -> None:
    layer, _ = world.blob(tar(("a", b"1")))
    with pytest.raises(DigestMismatch, match="unpacked layer"):
        world.make("app", (layer, digest_of(b"something else")))
    assert world.names() == []
    assert list(world.snapshots.walk()) == []


def test_a_missing_layer_is_named(world: ImageWorld) -> None:
    layer, diff_id = world.blob(tar(("a", b"1")))
    world.content.delete(layer.digest)
    with pytest.raises(NotFound, match=layer.digest):
        world.make("app", (layer, diff_id))
    assert world.names() == []


def test_as_many_diff_ids_as_layers(world: ImageWorld) -> None:
    layer, _ = world.blob(tar(("a", b"1")))
    image = world.make(None)
    manifest = Manifest(OCI_MANIFEST, Manifest.parse(world.content.read(image.manifest.digest)).config, (layer, layer))
    with pytest.raises(InvalidArgument, match="2 layers but its config lists 1"):
        world.images.put(world.content.write(manifest.to_bytes(), OCI_MANIFEST), None)


def test_shared_layers_are_unpacked_once(world: ImageWorld) -> None:
    base = world.blob(tar(("base", b"1")))
    world.make("one", base, world.blob(tar(("one", b"1"))))
    world.make("two", base, world.blob(tar(("two", b"1"))))
    assert len(list(world.snapshots.walk())) == 3


def test_two_threads_put_the_same_image(world: ImageWorld) -> None:
    layers = [world.blob(tar((f"f{number}", os.urandom(20_000)))) for number in range(4)]
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            world.make(f"app:{number}", *layers)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(world.names()) == 1
    assert len(world.names()[0]) == 5
    assert len(list(world.snapshots.walk())) == 4


def test_an_interrupted_unpacking_is_swept_at_the_next_start(world: ImageWorld) -> None:
    world.snapshots.prepare("unpack-abc-123", None)
    world.snapshots.prepare("container", None)
    world.reopen()
    assert [info.name for info in world.snapshots.walk()] == ["container"]


def test_an_image_whose_blobs_are_gone_does_not_stop_the_start(world: ImageWorld) -> None:
    image = world.make("broken")
    world.make("fine")
    world.content.delete(image.manifest.digest)
    world.reopen()
    assert world.names() == [["fine:latest"]]


# ── removing ──


def test_removing_the_last_name_removes_everything(world: ImageWorld) -> None:
    image = world.make("app", world.blob(tar(("a", b"1"))), world.blob(tar(("b", b"2"))))
    chain = [info.name for info in world.snapshots.walk()]
    lines = world.images.remove("app")
    assert lines == [
        {"Untagged": "app:latest"},
        {"Deleted": str(image.id)},
        {"Deleted": chain[1]},
        {"Deleted": chain[0]},
    ]
    assert world.empty()
    with pytest.raises(NoSuchImage):
        world.images.resolve("app")


def test_one_name_of_several(world: ImageWorld) -> None:
    world.make("app")
    world.images.tag("app", Reference.parse("other"))
    assert world.images.remove("app") == [{"Untagged": "app:latest"}]
    assert world.names() == [["other:latest"]]


def test_what_others_share_stays(world: ImageWorld) -> None:
    base = world.blob(tar(("base", b"1")))
    world.make("base", base)
    top = world.make("top", base, world.blob(tar(("top", b"1"))))
    lines = world.images.remove("top")
    assert lines == [{"Untagged": "top:latest"}, {"Deleted": str(top.id)}, {"Deleted": top.top}]
    assert world.images.resolve("base").top is not None
    world.images.remove("base")
    assert world.empty()


def test_an_image_in_use_is_refused_with_dockers_words(world: ImageWorld) -> None:
    image = world.make("app")
    users = {image.id: ["c" * 64]}
    with pytest.raises(Conflict) as raised:
        world.images.remove("app", users=users)
    assert str(raised.value) == (
        f'conflict: unable to remove repository reference "app:latest" (must force) - container {"c" * 12} is using '
        f"its referenced image {image.id.short}"
    )
    with pytest.raises(Conflict, match=r"\(must be forced\) - image is being used by stopped container cccccccccccc"):
        world.images.remove(image.id.short, users=users)
    with pytest.raises(Conflict, match=r"\(cannot be forced\) - image is being used by running container cccccccccccc"):
        world.images.remove(image.id.short, force=True, users=users, running=["c" * 64])
    assert world.names() == [["app:latest"]]


def test_force_takes_the_image_and_leaves_the_containers_layers(world: ImageWorld) -> None:
    image = world.make("app")
    world.snapshots.prepare("container", image.top)
    lines = world.images.remove("app", force=True, users={image.id: ["container"]})
    assert lines == [{"Untagged": "app:latest"}, {"Deleted": str(image.id)}]
    assert world.snapshots.exists(str(image.top))
    world.snapshots.remove("container")
    world.images.prune(dangling=True, keep=lambda _: False)
    assert world.empty()


def test_an_id_with_several_repositories_must_be_forced(world: ImageWorld) -> None:
    image = world.make("app")
    world.images.tag("app", Reference.parse("other"))
    with pytest.raises(Conflict) as raised:
        world.images.remove(image.id.short)
    assert str(raised.value) == (
        f"conflict: unable to delete {image.id.short} (must be forced) - image is referenced in multiple repositories"
    )
    lines = world.images.remove(image.id.short, force=True)
    assert lines[:3] == [{"Untagged": "app:latest"}, {"Untagged": "other:latest"}, {"Deleted": str(image.id)}]
    assert world.empty()


def test_blobs_of_work_under_way_are_not_collected(world: ImageWorld) -> None:
    layer = world.blob(tar(("shared", b"1")))
    world.make("app", layer)
    with world.content.leases.hold():
        assert world.content.has(layer[0].digest)
        world.images.remove("app")
        world.make("again", layer)
    assert world.images.resolve("again").top is not None


def test_claims_keep_blobs_and_snapshots(world: ImageWorld) -> None:
    image = world.make("app")
    world.images.claim(lambda: [image.layers[0].digest, str(image.top)])
    world.images.remove("app")
    world.images.prune(dangling=False, keep=lambda _: False)
    assert [digest for digest, _ in world.content.walk()] == [image.layers[0].digest]
    assert [info.name for info in world.snapshots.walk()] == [image.top]


def test_pruning(world: ImageWorld) -> None:
    dangling = world.make(None, Cmd=["1"])
    used = world.make(None, Cmd=["2"])
    kept = world.make(None, Cmd=["3"])
    world.make("named", world.blob(tar(("big", os.urandom(100_000)))))
    lines, freed = world.images.prune(dangling=True, keep=lambda image: image.id == kept.id, users={used.id: ["c"]})
    assert {"Deleted": str(dangling.id)} in lines
    assert {image.id for image in world.images.list()} >= {used.id, kept.id}
    assert freed > 0
    lines, freed = world.images.prune(dangling=False, keep=lambda _: False)
    assert {"Untagged": "named:latest"} in lines
    assert freed >= 200_000
    assert world.empty()


def test_pruning_takes_what_a_failed_pull_left_when_its_time_is_up(world: ImageWorld) -> None:
    layer, _ = world.blob(tar(("a", b"1")))
    world.images.prune(dangling=True, keep=lambda _: False)
    assert world.content.has(layer.digest)
    world.reopen()
    world.images.prune(dangling=True, keep=lambda _: False)
    assert world.empty()


# ── making layers ──


def test_a_layer_of_what_a_container_changed(world: ImageWorld) -> None:
    base = world.make("base", world.blob(tar(("a", b"1"), ("b", b"2"))))
    world.snapshots.prepare("work", base.top)
    (world.snapshots.upper("work") / "new").write_text("n")
    layer, diff_id, chain = world.images.add_layer("work")
    assert (world.snapshots.exists(chain), world.snapshots.exists("work")) == (True, False)
    top = world.make("top", (base.layers[0], base.config.diff_ids[0]), (layer, diff_id))
    assert top.top == chain


def test_a_layer_beside_a_container_that_goes_on(world: ImageWorld) -> None:
    base = world.make("base")
    world.snapshots.prepare("container", base.top)
    (world.snapshots.upper("container") / "new").write_text("n")
    _, _, chain = world.images.add_layer("container", keep=True)
    assert world.snapshots.info("container").kind == "active"
    assert (world.snapshots.upper(chain) / "new").read_text() == "n"
    assert world.snapshots.info(chain).parent == base.top


def test_equal_changes_make_equal_layers(world: ImageWorld) -> None:
    base = world.make("base")
    made = []
    for key in ("one", "two"):
        world.snapshots.prepare(key, base.top)
        (world.snapshots.upper(key) / "new").write_text("n")
        os.utime(world.snapshots.upper(key) / "new", (5, 5))
        made.append(world.images.add_layer(key))
    assert made[0] == made[1]


def test_no_changes_are_known_as_such(world: ImageWorld) -> None:
    base = world.make("base")
    world.snapshots.prepare("work", base.top)
    assert world.images.add_layer("work")[1] == EMPTY_DIFF_ID


@pytest.mark.parametrize("tool", ["cat", "gzip -c", "bzip2 -c", "xz -c", "zstd -c"])
def test_importing_a_root_however_packed(world: ImageWorld, tool: str) -> None:
    data = tar(("bin", "dir"), ("bin/sh", b"#!", {"mode": 0o755}), ("etc/x", b"y")).getvalue()
    packed = subprocess.run(tool.split(), input=data, capture_output=True, check=True).stdout
    image = world.images.import_rootfs(io.BytesIO(packed), Reference.parse("root"), {"Cmd": ["sh"]}, "from a test")
    assert image.config.diff_ids == (digest_of(data),)
    assert (world.snapshots.upper(str(image.top)) / "etc/x").read_text() == "y"
    assert world.images.inspect("root")["Comment"] == "from a test"


@pytest.mark.parametrize("data", [b"no tar at all" * 100, tar(("../evil", b"x")).getvalue()])
def test_importing_what_is_no_root_leaves_no_image(world: ImageWorld, data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        world.images.import_rootfs(io.BytesIO(data), Reference.parse("root"))
    assert world.names() == []
    assert list(world.snapshots.walk()) == []


def test_the_plain_snapshotter_holds_images_too(tmp_path: Path) -> None:
    world = ImageWorld(tmp_path, PlainSnapshotter)
    image = world.make("app", world.blob(tar(("a", b"1"), ("b", b"2"))), world.blob(tar((".wh.a", b""), ("c", b"3"))))
    assert sorted(os.listdir(world.snapshots.upper(str(image.top)))) == ["b", "c"]
    world.images.remove("app")
    assert world.empty()


# ── other programs ──


@pytest.mark.peer
def test_skopeo_reads_the_store(world: ImageWorld) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("needs skopeo")
    image = world.make("app:v1", Labels={"a": "b"})
    done = subprocess.run(
        ["skopeo", "inspect", f"oci:{world.content.root}:docker.io/library/app:v1"], capture_output=True, check=True
    )
    found = json.loads(done.stdout)
    assert (found["Digest"], found["Labels"]) == (image.manifest.digest, {"a": "b"})
