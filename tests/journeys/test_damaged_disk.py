"""Files of the engine's that are damaged on disk: it starts, says what it set aside, and loses nothing else."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from support.world import BIN, World

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

NOISE = b"\x00\xff{ not what it was"


@pytest.fixture
def furnished(own_world: World, tmp_path: Path) -> World:
    """Stopped, with one of everything."""
    own_world.start()
    own_world.scow("image", "bootstrap", "busybox")
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo built > /built\n")
    own_world.scow("build", "-q", "-t", "built", str(context))
    own_world.scow("volume", "create", "precious")
    own_world.scow("network", "create", "mine")
    own_world.scow("run", "--name", "one", "-v", "precious:/v", "built", "sh", "-c", "echo kept > /v/f; echo own > /o")
    own_world.scow("create", "--name", "two", "--network", "mine", "busybox", "cat", "/etc/hostname")
    assert own_world.stop() == 0
    return own_world


def damage(path: Path, data: bytes = NOISE) -> None:
    path.chmod(0o600)
    path.write_bytes(data)


def names(world: World) -> set[str]:
    return set(world.scow("ps", "-a", "--format", "{{.Names}}").split())


def images(world: World) -> set[str]:
    return set(world.scow("images", "--format", "{{.Repository}}").split())


@pytest.mark.parametrize(
    "data", [NOISE, b"", b"{}", b"[]", b'{"id": 5}'], ids=["noise", "empty", "object", "list", "type"]
)
def test_a_container(furnished: World, data: bytes) -> None:
    folder = container_folder(furnished, "one")
    record = (folder / "config.json").read_bytes()
    damage(folder / "config.json", data)
    furnished.start()
    assert folder.name in furnished.log
    assert names(furnished) == {"two"}
    assert images(furnished) == {"busybox", "built"}
    assert furnished.scow("run", "--rm", "-v", "precious:/v", "busybox", "cat", "/v/f") == "kept\n"
    furnished.stop()
    damage(folder / "config.json", record)
    furnished.start()
    assert names(furnished) == {"one", "two"}, "put right by hand it is back"
    assert furnished.scow("cp", "one:/o", "-").count("own\n") == 1, "with its files"


def container_folder(world: World, name: str) -> Path:
    for path in (world.root / "data/containers").glob("*/config.json"):
        if json.loads(path.read_bytes())["name"] == name:
            return path.parent
    raise AssertionError(name)


@pytest.mark.parametrize("data", [NOISE, b"[1]", b'{"name": 5}'], ids=["noise", "list", "type"])
def test_a_network(furnished: World, data: bytes) -> None:
    found = [path for path in (furnished.root / "data/networks").glob("*.json") if b'"mine"' in path.read_bytes()]
    damage(found[0], data)
    furnished.start()
    assert found[0].name in furnished.log
    assert set(furnished.scow("network", "ls", "--format", "{{.Name}}").split()) == {"bridge", "host", "none"}
    assert names(furnished) == {"one", "two"}
    furnished.scow("start", "two", status=1)
    assert "network mine not found" in furnished.errors
    furnished.scow("network", "create", "mine")
    furnished.scow("start", "two")


def test_the_default_network(furnished: World) -> None:
    found = [
        path for path in (furnished.root / "data/networks").glob("*.json") if b'"bridge","driver"' in path.read_bytes()
    ]
    damage(found[0])
    furnished.start()
    assert found[0].name in furnished.log
    furnished.scow("run", "--rm", "busybox", "ip", "address", "show", "eth0")


@pytest.mark.parametrize("data", [NOISE, b"", b'{"labels": 5, "options": {}}'], ids=["noise", "empty", "type"])
def test_a_volume(furnished: World, data: bytes) -> None:
    record = furnished.root / "data/volumes/precious/volume.json"
    damage(record, data)
    furnished.start()
    assert "precious" in furnished.log
    assert record.with_name("volume.json.damaged").read_bytes() == data
    assert furnished.scow("run", "--rm", "-v", "precious:/v", "busybox", "cat", "/v/f") == "kept\n"
    furnished.scow("volume", "rm", "precious", status=1)
    assert "in use" in furnished.errors


def test_the_names_of_images(furnished: World) -> None:
    index = furnished.root / "data/content/index.json"
    damage(index)
    furnished.start()
    assert f"{index}.damaged" in furnished.log
    assert len(furnished.scow("images", "-aq").split()) == 2, "found again by their manifests"
    assert names(furnished) == {"one", "two"}
    furnished.scow("start", "-a", "one")
    one = json.loads(furnished.scow("inspect", "one"))[0]["Image"]
    furnished.scow("tag", one, "built")
    assert furnished.scow("run", "--rm", "built", "cat", "/built") == "built\n"


def test_one_entry_among_the_names_of_images(furnished: World) -> None:
    index = furnished.root / "data/content/index.json"
    document = json.loads(index.read_bytes())
    document["manifests"] = ["nonsense", {"digest": 5}, *document["manifests"]]
    damage(index, json.dumps(document).encode())
    furnished.start()
    assert "left out" in furnished.log
    assert images(furnished) == {"busybox", "built"}


@pytest.mark.parametrize("where", ["all", "head", "pages", "empty"])
def test_the_build_cache(furnished: World, tmp_path: Path, where: str) -> None:
    path = furnished.root / "data/build/cache.db"
    data = bytearray(path.read_bytes())
    if where == "all":
        data = bytearray(NOISE * 100)
    elif where == "head":
        data[:16] = NOISE[:16]
    elif where == "pages":
        data[4096:] = os.urandom(len(data) - 4096)
    else:
        data.clear()
    damage(path, bytes(data))
    furnished.start()
    assert where == "empty" or "cache.db" in furnished.log
    context = tmp_path / "again"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo once more > /more\n")
    for _ in range(2):
        shown = furnished.scow("build", "-t", "more", str(context))
    assert "Using cache" in shown
    furnished.scow("system", "df")


def test_a_snapshot(furnished: World) -> None:
    """A layer whose record is damaged takes what stands on it out of use, and none of it off the disk."""
    built = json.loads(container_folder(furnished, "one").joinpath("config.json").read_bytes())["id"]
    found = [
        path
        for path in (furnished.root / "data/snapshots").glob("*/meta.json")
        if json.loads(path.read_bytes())["name"] == built
    ]
    own = found[0].parent / "fs/o"
    assert own.read_text() == "own\n"
    damage(found[0])
    furnished.start()
    assert "damaged-" in furnished.log
    kept = furnished.root / "data/snapshots" / f"damaged-{own.parents[1].name}" / "fs/o"
    assert kept.read_text() == "own\n"
    assert names(furnished) == {"one", "two"}
    furnished.scow("start", "one", status=1)
    assert furnished.errors.strip()
    furnished.scow("rm", "one")
    furnished.scow("start", "two")


def test_the_engine_id(furnished: World) -> None:
    damage(furnished.root / "data/engine-id", b"\xff\xfe")
    furnished.start()
    assert len(json.loads(furnished.scow("info", "--format", "{{json .ID}}"))) == 36


# -- starting --


def refused(world: World, *options: str) -> str:
    """What a daemon says that does not start."""
    done = subprocess.run(world.inside(*world.daemon(*options)), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_second_daemon_on_one_data_root(own_world: World) -> None:
    own_world.start()
    assert own_world.process is not None
    told = refused(own_world)
    assert "is already in use by process" in told
    assert str(own_world.process.pid) in told
    elsewhere = refused(own_world, "--exec-root", str(own_world.root / "other"))
    assert f"{own_world.root}/data is already in use" in elsewhere
    own_world.scow("ps")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "daemon.json"),
        ("[]", "daemon.json"),
        ('{"no-such-key": 1}', "no-such-key"),
        ('{"debug": "perhaps"}', "debug"),
        ('{"log-level": "loud"}', "log-level"),
        ('{"bip": "300.1.1.1/24"}', "300.1.1.1"),
        ('{"dns": "1.1.1.1"}', "dns"),
        ('{"default-shm-size": "much"}', "much"),
        ('{"insecure-registries": [5]}', "insecure-registries"),
        ('{"default-address-pools": [{"base": "x", "size": 24}]}', "default-address-pool"),
        ('{"max-concurrent-downloads": -1}', "max-concurrent-downloads"),
        ('{"log-driver": "pigeon"}', "pigeon"),
        ('{"hosts": ["carrier://x"]}', "hosts"),
        ('{"shutdown-timeout": "soon"}', "shutdown-timeout"),
        ('{"mtu": 1e99}', "mtu"),
    ],
)
def test_a_configuration_with_errors(own_world: World, text: str, words: str) -> None:
    own_world.config_file().write_text(text)
    assert words in refused(own_world)


# -- without permission --


def test_nobody_may_use_the_socket_and_is_told_what_to_do(world: World) -> None:
    """As another user, who may read every file (the interpreter of a test may lie in root's home) and write none."""
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    reader = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--bounding-set=-all,+dac_read_search"]
    done = subprocess.run(
        [*other, *reader, str(BIN / "scow"), "-H", f"unix://{world.socket}", "ps"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "permission denied" in done.stderr.lower()
    assert "sudo" in done.stderr or "group" in done.stderr
    assert "Traceback" not in done.stderr
