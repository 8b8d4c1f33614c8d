import pytest

from scow.api.containers import ContainerConfig, HostConfig
from scow.containers.container import Container, Mount, Record
from scow.containers.mounts import plan, to_oci
from scow.errors import InvalidArgument, NoSuchContainer


def other(*mounts):
    record = Record(
        id="o" * 64, name="other", created=1, image_ref="i", image_id="sha256:1", path="x", args=[],
        config=ContainerConfig(), host=HostConfig(), mounts=list(mounts),
    )  # fmt: skip
    return Container(record)


def nobody(ref):
    raise NoSuchContainer(ref)


def test_everything_together():
    host = HostConfig(
        binds=["/srv:/srv:ro", "data:/data", "/cache"],
        mounts=[{"Type": "tmpfs", "Target": "/tmp/x"}],
        tmpfs={"/run": "size=64k"},
    )
    found = plan(host, {"/data": {}, "/image": {}}, nobody)
    shown = {m.destination: (m.type, m.name, m.source, m.readonly, m.anonymous) for m in found.mounts}
    assert shown == {
        "/srv": ("bind", "", "/srv", True, False),
        "/data": ("volume", "data", "", False, False),
        "/cache": ("volume", "", "", False, True),
        "/tmp/x": ("tmpfs", "", "", False, False),
        "/run": ("tmpfs", "", "", False, False),
        "/image": ("volume", "", "", False, True),
    }
    assert sorted(found.wishes) == ["/cache", "/data", "/image"]


@pytest.mark.parametrize(
    "host",
    [
        HostConfig(binds=["/a:/x", "/b:/x/"]),
        HostConfig(binds=["/a:/x"], mounts=[{"Type": "tmpfs", "Target": "/x"}]),
        HostConfig(binds=["/a:/x"], tmpfs={"/x": ""}),
    ],
)
def test_two_at_one_place(host):
    with pytest.raises(InvalidArgument, match="Duplicate mount point: /x"):
        plan(host, None, nobody)


def test_volumes_from():
    source = other(
        Mount(type="volume", destination="/data", name="d", source="/v/d", anonymous=True),
        Mount(type="tmpfs", destination="/run"),
        Mount(type="bind", destination="/srv", source="/srv"),
    )
    found = plan(HostConfig(volumes_from=["other:ro"], binds=["/mine:/srv"]), None, lambda ref: source)
    assert {m.destination: (m.source, m.readonly, m.anonymous) for m in found.mounts} == {
        "/data": ("/v/d", True, False),
        "/srv": ("/mine", False, False),
    }
    assert not found.wishes
    with pytest.raises(NoSuchContainer):
        plan(HostConfig(volumes_from=["nope"]), None, nobody)
    with pytest.raises(InvalidArgument):
        plan(HostConfig(volumes_from=["other:what"]), None, lambda ref: source)


def test_to_oci():
    assert to_oci(Mount(type="bind", destination="/a", readonly=True), "/b") == {
        "destination": "/a", "type": "bind", "source": "/b", "options": ["rbind", "rprivate", "rro"],
    }  # fmt: skip
    tmpfs = to_oci(Mount(type="tmpfs", destination="/run", options=["exec", "size=64k"]), "")
    assert tmpfs["options"] == ["nosuid", "nodev", "noexec", "exec", "size=64k"]
