"""Images in archives: both layouts, other programs' and hostile ones."""

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from scow.errors import DataLoss, DigestMismatch, EngineError, InvalidArgument, NoSuchImage
from scow.oci.digest import digest_of
from scow.oci.reference import Reference
from support.imagestore import ImageWorld
from support.tars import tar

pytestmark = pytest.mark.root


@pytest.fixture
def world(tmp_path: Path) -> ImageWorld:
    return ImageWorld(tmp_path / "one")


@pytest.fixture
def other(tmp_path: Path) -> ImageWorld:
    return ImageWorld(tmp_path / "two")


def saved(world: ImageWorld, *refs: str) -> bytes:
    out = io.BytesIO()
    world.images.save(refs, out.write)
    return out.getvalue()


def load(world: ImageWorld, data: bytes) -> list[str]:
    return world.images.load(io.BytesIO(data), lambda _: None)


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {info.name: archive.extractfile(info).read() for info in archive if info.isfile()}  # type: ignore[union-attr]


def repacked(found: dict[str, bytes]) -> bytes:
    return tar(*found.items()).getvalue()


def docker_archive(*layers: bytes, tags: tuple[str, ...] = ("old:1",), **changes: Any) -> dict[str, bytes]:
    """What docker save wrote before it knew OCI: uncompressed layers in folders."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        "history": [{"created_by": "x"} for _ in layers],
    }
    data = json.dumps(config).encode()
    name = hashlib.sha256(data).hexdigest() + ".json"
    paths = [f"{number:064x}/layer.tar" for number, _ in enumerate(layers)]
    entry = {"Config": name, "RepoTags": list(tags) or None, "Layers": paths} | changes
    found = dict(zip(paths, layers, strict=True))
    return found | {name: data, "manifest.json": json.dumps([entry]).encode(), "repositories": b"{}"}


LAYER = tar(("etc/motd", b"hello")).getvalue()


# ── round trips ──


def test_saved_and_loaded_is_the_same_to_the_last_digest(world: ImageWorld, other: ImageWorld) -> None:
    first = world.make("app:v1", world.blob(tar(("a", b"1"))), world.blob(tar(("b", b"2")), "zstd"))
    world.images.tag("app:v1", Reference.parse("reg.example:5000/app:v2"))
    world.make("second", world.blob(tar(("c", b"3")), ""))
    data = saved(world, "app:v1", "reg.example:5000/app:v2", "second")
    assert load(other, data) == [
        "Loaded image: app:v1",
        "Loaded image: reg.example:5000/app:v2",
        "Loaded image: second:latest",
    ]
    again = other.images.resolve("app:v1")
    assert (again.id, again.manifest, again.layers) == (first.id, first.manifest, first.layers)
    assert saved(other, "app:v1", "reg.example:5000/app:v2", "second") == data


def test_a_repository_means_all_its_tags(world: ImageWorld, other: ImageWorld) -> None:
    world.make("app:v1")
    world.make("app:v2")
    world.make("apple:v3")
    assert sorted(load(other, saved(world, "app"))) == ["Loaded image: app:v1", "Loaded image: app:v2"]


def test_an_id_is_saved_without_a_name(world: ImageWorld, other: ImageWorld) -> None:
    image = world.make("app:v1")
    assert load(other, saved(world, image.id.short)) == [f"Loaded image ID: {image.id}"]
    assert other.names() == [[]]


def test_every_blob_is_in_it_once(world: ImageWorld) -> None:
    base = world.blob(tar(("base", b"1")))
    world.make("one", base)
    world.make("two", base, world.blob(tar(("two", b"2"))))
    with tarfile.open(fileobj=io.BytesIO(saved(world, "one", "two"))) as archive:
        names = archive.getnames()
    assert len(names) == len(set(names))


def test_what_is_not_there_writes_nothing(world: ImageWorld) -> None:
    out = io.BytesIO()
    with pytest.raises(NoSuchImage, match="No such image: nope:latest"):
        world.images.save(["nope"], out.write)
    assert out.getvalue() == b""


@pytest.mark.parametrize("tool", ["gzip -c", "zstd -c", "xz -c"])
def test_a_packed_archive(world: ImageWorld, other: ImageWorld, tool: str) -> None:
    world.make("app:v1")
    packed = subprocess.run(tool.split(), input=saved(world, "app:v1"), capture_output=True, check=True).stdout
    assert load(other, packed) == ["Loaded image: app:v1"]


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_skopeo_reads_and_writes_them(world: ImageWorld, other: ImageWorld, tmp_path: Path, kind: str) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("needs skopeo")
    image = world.make("app:v1", world.blob(tar(("a", b"1"))), world.blob(tar(("b", b"2"))))
    (tmp_path / "ours.tar").write_bytes(saved(world, "app:v1"))
    name = "app:v1" if kind == "docker-archive" else "v1"
    subprocess.run(
        [
            "skopeo",
            "copy",
            f"{kind}:{tmp_path}/ours.tar:{name}",
            f"{kind}:{tmp_path}/theirs.tar:docker.io/library/app:v1",
        ],
        check=True,
        capture_output=True,
    )
    assert load(other, (tmp_path / "theirs.tar").read_bytes()) == ["Loaded image: app:v1"]
    again = other.images.resolve("app:v1")
    assert again.config.diff_ids == image.config.diff_ids
    if kind == "docker-archive":
        assert again.id == image.id


# ── older layouts ──


def test_dockers_old_layout(other: ImageWorld) -> None:
    found = docker_archive(LAYER, tar(("b", b"2")).getvalue(), tags=("old:1", "reg.example/old:2"))
    assert load(other, repacked(found)) == ["Loaded image: old:1", "Loaded image: reg.example/old:2"]
    image = other.images.resolve("old:1")
    assert image.id.hex + ".json" in found
    assert {layer.media_type.rpartition("+")[2] for layer in image.layers} == {"gzip"}
    assert (other.snapshots.upper(other.images.list()[0].top or "") / "b").read_text() == "2"


def test_layers_that_are_links_to_each_other(other: ImageWorld) -> None:
    found = docker_archive(LAYER, LAYER)
    paths = sorted(path for path in found if path.endswith("layer.tar"))
    listed: list[tuple[Any, ...]] = [(path, data) for path, data in found.items() if path != paths[1]]
    listed.insert(0, (paths[1], f"->../{paths[0]}"))
    assert load(other, tar(*listed).getvalue()) == ["Loaded image: old:1"]


def test_without_tags(other: ImageWorld) -> None:
    [line] = load(other, repacked(docker_archive(LAYER, tags=())))
    assert line.startswith("Loaded image ID: sha256:")


def test_an_oci_layout_without_names(world: ImageWorld, other: ImageWorld) -> None:
    image = world.make("app")
    found = members(saved(world, "app"))
    del found["manifest.json"]
    index = json.loads(found["index.json"])
    index["manifests"][0].pop("annotations")
    found["index.json"] = json.dumps(index).encode()
    assert load(other, repacked(found)) == [f"Loaded image ID: {image.id}"]


def test_an_index_in_the_layout_gives_this_machines_image(world: ImageWorld, other: ImageWorld) -> None:
    image = world.make("app")
    found = members(saved(world, "app"))
    outer = json.loads(found["index.json"])
    inner = json.dumps({"schemaVersion": 2, "manifests": [outer["manifests"][0]]}).encode()
    found[f"blobs/sha256/{digest_of(inner).hex}"] = inner
    entry = {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest_of(inner), "size": len(inner)}
    found["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    assert load(other, repacked(found)) == ["Loaded image: app:latest"]
    assert other.images.resolve("app").id == image.id
    index = other.images.resolve("app").index
    assert index is not None
    assert index.digest == digest_of(inner)


# ── hostile ones ──


def refused(
    world: ImageWorld, data: bytes, error: type[EngineError] = InvalidArgument, match: str | None = None
) -> None:
    with pytest.raises(error, match=match):
        load(world, data)
    assert world.empty(), "nothing of a refused archive may stay"
    assert world.names() == []


def test_a_blob_under_another_name(world: ImageWorld, other: ImageWorld) -> None:
    world.make("app")
    found = members(saved(world, "app"))
    name = next(name for name in found if name.startswith("blobs/"))
    refused(other, repacked(found | {name: found[name] + b"x"}), DigestMismatch)


def test_a_layer_that_is_not_what_the_config_says(other: ImageWorld) -> None:
    found = docker_archive(LAYER)
    path = next(path for path in found if path.endswith("layer.tar"))
    refused(other, repacked(found | {path: tar(("etc/motd", b"other")).getvalue()}), DigestMismatch)


def test_a_packed_layer_that_is_not_what_the_config_says(other: ImageWorld) -> None:
    import gzip

    found = docker_archive(LAYER)
    path = next(path for path in found if path.endswith("layer.tar"))
    refused(other, repacked(found | {path: gzip.compress(tar(("x", b"y")).getvalue())}), DigestMismatch)


def test_a_cut_off_archive(world: ImageWorld, other: ImageWorld) -> None:
    world.make("app", world.blob(tar(("a", bytes(10_000)))))
    data = saved(world, "app")
    for cut in (700, 2000, len(data) // 2):
        refused(other, data[:cut], EngineError)


def test_a_cut_off_packed_archive(world: ImageWorld, other: ImageWorld) -> None:
    import gzip

    world.make("app")
    packed = gzip.compress(saved(world, "app"))
    refused(other, packed[: len(packed) // 2], DataLoss)


@pytest.mark.parametrize(
    "change",
    [
        {"Config": "../../etc/passwd"},
        {"Config": "missing.json"},
        {"Config": None},
        {"Layers": ["missing"]},
        {"Layers": []},
        {"Layers": "x"},
        {"RepoTags": ["NOT VALID"]},
        {"RepoTags": [5]},
        {"Config": "manifest.json"},
    ],
)
def test_a_manifest_that_lies(other: ImageWorld, change: dict[str, Any]) -> None:
    refused(other, repacked(docker_archive(LAYER, **change)))


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b"[" * 100_000, b"null", b"[{}]"])
def test_a_manifest_that_is_none(other: ImageWorld, text: bytes) -> None:
    refused(other, repacked(docker_archive(LAYER) | {"manifest.json": text}))


def test_links_that_go_in_circles(other: ImageWorld) -> None:
    found = docker_archive(LAYER, Layers=["a"])
    refused(other, tar(*found.items(), ("a", "->b"), ("b", "->a")).getvalue(), match="has no file")


def test_a_hostile_layer(other: ImageWorld) -> None:
    refused(other, repacked(docker_archive(tar(("../../evil", b"x")).getvalue())), match="outside its root")


def test_two_files_of_one_name(other: ImageWorld) -> None:
    refused(other, tar(*docker_archive(LAYER).items(), ("manifest.json", b"[]")).getvalue(), match="two files")


@pytest.mark.parametrize("data", [b"", b"hello", bytes(10240), tar(("a", b"b")).getvalue()])
def test_what_is_no_archive(other: ImageWorld, data: bytes) -> None:
    refused(other, data, EngineError)


def test_a_refused_archive_leaves_what_was_there(world: ImageWorld) -> None:
    image = world.make("app")
    found = members(saved(world, "app"))
    found["index.json"] = b"{"
    with pytest.raises(InvalidArgument):
        load(world, repacked(found))
    assert world.images.resolve("app") == image
    assert {digest for digest, _ in world.content.walk()} >= {
        image.manifest.digest,
        *(layer.digest for layer in image.layers),
    }
