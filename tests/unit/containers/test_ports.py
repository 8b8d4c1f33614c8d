import pytest

from scow.api.containers import PortBinding
from scow.containers import ports
from scow.containers.ports import Port
from scow.errors import InvalidArgument


def test_parse():
    assert ports.parse("80") == Port(80, "tcp")
    assert str(ports.parse("53/UDP")) == "53/udp"


@pytest.mark.parametrize("text", ["", "0", "65536", "x", "80/icmp", "-1", "8 0", "١"])
def test_bad_ports(text):
    with pytest.raises(InvalidArgument):
        ports.parse(text)


def test_ranges():
    assert ports.host_range("") == (0, 0)
    assert ports.host_range("8000-8010") == (8000, 8010)
    assert ports.parse_range("1-3/udp") == (1, 3, "udp")
    for text in ("9-1", "1-", "a"):
        with pytest.raises(InvalidArgument):
            ports.host_range(text)


def test_to_publish():
    wanted = ports.bindings({"80/tcp": [PortBinding(host_port="8080"), PortBinding()]})
    exposed = ports.exposed({"80/tcp": {}, "81/tcp": {}})
    assert [str(port) for port, _ in ports.to_publish(exposed, wanted, publish_all=False)] == ["80/tcp", "80/tcp"]
    assert [str(port) for port, _ in ports.to_publish(exposed, wanted, publish_all=True)] == [
        "80/tcp",
        "80/tcp",
        "81/tcp",
    ]
    with pytest.raises(InvalidArgument):
        ports.bindings({"80/tcp": [PortBinding(host_port="http")]})
