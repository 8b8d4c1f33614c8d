"""--mount and --network in their long form."""

import pytest

from scow.cli.mounts import mount, network
from scow.errors import InvalidArgument


def test_mounts() -> None:
    assert mount("type=bind,src=/a,dst=/b,ro,bind-propagation=rslave,bind-recursive=disabled") == {
        "Type": "bind",
        "Source": "/a",
        "Target": "/b",
        "ReadOnly": True,
        "BindOptions": {"Propagation": "rslave", "NonRecursive": True},
    }
    assert mount("source=v,target=/d,volume-nocopy,volume-driver=local,volume-opt=type=tmpfs,volume-label=a=b") == {
        "Type": "volume",
        "Source": "v",
        "Target": "/d",
        "VolumeOptions": {
            "NoCopy": True,
            "DriverConfig": {"Name": "local", "Options": {"type": "tmpfs"}},
            "Labels": {"a": "b"},
        },
    }
    assert mount("type=tmpfs,destination=/t,tmpfs-size=1m,tmpfs-mode=1777")["TmpfsOptions"] == {
        "SizeBytes": 1 << 20,
        "Mode": 0o1777,
    }
    assert mount('type=bind,"source=/a,b",target=/c')["Source"] == "/a,b"
    assert mount("type=image,source=busybox,target=/i,image-subpath=x")["ImageOptions"] == {"Subpath": "x"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=bind", "target is required"),
        ("type=bind,target=/x", "needs a source"),
        ("type=odd,target=/x", "invalid mount type 'odd'"),
        ("target=/x,nope=1", "unexpected key 'nope'"),
        ("target", "must be a key=value pair"),
        ("target=/x,readonly=maybe", "invalid value for readonly: maybe"),
        ("type=tmpfs,target=/x,tmpfs-size=zz", "invalid value for tmpfs-size"),
        ("type=tmpfs,target=/x,tmpfs-mode=9", "invalid value for tmpfs-mode"),
        ("type=bind,source=/a,target=/x,volume-nocopy", r"cannot mix 'volume-\*' options with mount type 'bind'"),
        ("type=bind,source=/a,target=/x,bind-recursive=odd", "invalid value for bind-recursive"),
    ],
)
def test_mounts_that_are_none(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        mount(text)


def test_networks() -> None:
    assert network("net")["Target"] == "net"
    found = network("name=net,alias=a,alias=b,ip=10.0.0.2,mac-address=02:00:00:00:00:01,driver-opt=K=v,gw-priority=-1")
    assert (found["Target"], found["Aliases"], found["IPv4"]) == ("net", ["a", "b"], "10.0.0.2")
    assert (found["Mac"], found["DriverOpts"], found["Priority"]) == ("02:00:00:00:00:01", {"k": "v"}, -1)
    for text, message in (
        ("alias=a", "not specified"),
        ("name=a,b=c", "invalid field key b"),
        ("name=a,b", "key/value"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            network(text)
